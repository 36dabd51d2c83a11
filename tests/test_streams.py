"""A command whose output is closed, full or of another encoding."""

import os
import subprocess
import sys

import pytest

from tests import commands

PROGRAM = f'''
import os, sys
sys.path[0] = {str(commands.ROOT)!r}
from absl import flags
from launch import command
NAME = flags.DEFINE_string('name', 'done', 'what is left')

def main():
  print('progress', file=sys.stderr, flush=True)
  print('N\xe4vus \\udcff \\x1b[2J', flush=True)
  open(NAME.value, 'w').close()
  print('result')

command.run(main)
'''


@pytest.fixture
def run(tmp_path):
  """Runs the program in a shell: its status, the file it left, stdout and stderr."""
  (tmp_path / 'program.py').write_text(PROGRAM)

  def run(line, **environment):
    done = subprocess.run(
        ['bash', '-c', line.replace('PROGRAM', f'{sys.executable} program.py')],
        cwd=tmp_path, env=os.environ | {'PYTHONUNBUFFERED': ''} | environment,
        capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, (tmp_path / 'done').exists(), done.stdout, done.stderr

  return run


STATUS = '; exit ${PIPESTATUS[0]}'


@pytest.mark.parametrize(('line', 'expected'), [
    ('PROGRAM | true' + STATUS, (141, False, '', 'progress\n')),
    ('PROGRAM --help | true' + STATUS, (141, False, '', '')),
    ('PROGRAM --no | true' + STATUS,
     (2, False, '', "error: Unknown command line flag 'no'; see --help\n")),
    ('PROGRAM 2>&1 >out | true' + STATUS, (0, True, '', '')),
    ('PROGRAM >&-', (0, True, '', 'progress\n')),
    ('PROGRAM >out 2>&-', (0, True, '', '')),
    ('PROGRAM >out 2>/dev/full', (0, True, '', '')),
    ('PROGRAM >/dev/full', (
        2, False, '', 'progress\nerror: stdout cannot be written (No space left on '
        'device); redirect it to another place\n'))])
def test_output_that_goes_nowhere(run, line, expected):
  assert run(line) == expected


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1:strict'])
def test_characters_that_the_terminal_lacks_are_escaped(run, encoding):
  status, left, printed, _ = run('PROGRAM | iconv -f latin1', PYTHONIOENCODING=encoding)
  name = 'Nävus' if 'latin' in encoding else 'N\\xe4vus'
  assert (status, left, printed) == (0, True, f'{name} \\udcff \\x1b[2J\nresult\n')


@pytest.mark.slow
@pytest.mark.parametrize('command', [
    'main --help', 'grid --grid=configs/grids/table_3_2.py --dry_run'])
def test_a_command_ends_quietly_when_nobody_reads_it(run, command):
  name, _, arguments = command.partition(' ')
  script = commands.ROOT / 'launch' / f'{name}.py'
  assert run(f'{sys.executable} {script} {arguments} | true{STATUS}') == (
      141, False, '', '')
