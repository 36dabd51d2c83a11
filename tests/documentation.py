"""The commands that the documentation shows."""

import dataclasses
import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md',
         *sorted((ROOT / 'docs').glob('*.md'))]
# A fence, after `<!-- needs a GPU -->` where no test can run what is in it.
_FENCE = re.compile(r'^( *)(?:<!-- (needs [^\n]+?) -->\n\1)?```(\w*)\n(.*?)^\1```$',
                    re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Command:
  """One command of a shell, with its continued lines, or a whole loop."""

  text: str
  needs: str  # '' where a test runs it


def blocks(text: str, language: str) -> list[str]:
  """Fenced blocks of a page; the language of a plain fence is ''."""
  return [textwrap.dedent(body) for _, _, tag, body in _FENCE.findall(text)
          if tag == language]


def commands(text: str) -> list[Command]:
  """Those in plain fences; a script, from `#!` on, is one."""
  return [Command(command, needs) for _, needs, tag, body in _FENCE.findall(text)
          if not tag for command in _split(textwrap.dedent(body))]


def _split(block: str) -> list[str]:
  if block.startswith('#!'):
    return [block]
  found, waiting = [], ''
  for line in block.splitlines():
    code = re.sub(r'(^|\s+)#.*', '', line)
    if not waiting and not code.strip():
      continue
    waiting += code + '\n'
    if (not code.endswith('\\') and waiting.count("'") % 2 == 0
        and not re.search(r'^for .*(?<!\ndone)\n$', waiting, re.DOTALL)):
      found.append(waiting)
      waiting = ''
  assert not waiting, f'unfinished: {waiting}'
  return found
