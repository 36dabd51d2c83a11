"""The commands that the documentation shows."""

import dataclasses
import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md',
         *sorted((ROOT / 'docs').glob('*.md'))]
# What is said of a command that no test runs, after it or in the line before it.
_NEEDS = re.compile(r'#\s*(needs .+)')


@dataclasses.dataclass(frozen=True)
class Command:
  """One command of a shell, with its continued lines, or a whole loop."""

  text: str
  needs: str  # '' where a test runs it


def blocks(text: str, language: str) -> list[str]:
  """Fenced blocks of a page; the language of a plain fence is ''."""
  found = re.findall(r'^( *)```(\w*)\n(.*?)^\1```$', text, re.MULTILINE | re.DOTALL)
  return [textwrap.dedent(body) for _, tag, body in found if tag == language]


def commands(text: str) -> list[Command]:
  """Those in plain fences; a script, from `#!` on, is one."""
  return [command for block in blocks(text, '') for command in _split(block)]


def _split(block: str) -> list[Command]:
  if block.startswith('#!'):
    needs = _NEEDS.search(block)
    return [Command(block, needs[1] if needs else '')]
  found, waiting, needs = [], '', ''
  for line in block.splitlines():
    said = _NEEDS.search(line)
    needs = said[1] if said else needs
    code = re.sub(r'(^|\s+)#.*', '', line)
    if not waiting and not code.strip():
      continue
    waiting += code + '\n'
    if (not code.endswith('\\') and waiting.count("'") % 2 == 0
        and not re.search(r'^for .*(?<!\ndone)\n$', waiting, re.DOTALL)):
      found.append(Command(waiting, needs))
      waiting, needs = '', ''
  assert not waiting, f'unfinished: {waiting}'
  return found
