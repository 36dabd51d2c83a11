"""What every command does with a mistake: one line, status 2, no traceback."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = r'''
import os, pathlib, signal, sys
sys.path[0] = {root!r}
from absl import flags
from ml_collections import config_flags
from attnmel_jax import errors
from launch import command
CONFIG = config_flags.DEFINE_config_file('config', lock_config=True)
ACT = flags.DEFINE_string('act', 'print', 'what to do')
LOUD = flags.DEFINE_bool('loud', True, 'in capitals')
FILE = flags.DEFINE_string('file', 'x', 'a file')

class Last:
  def __del__(self, kill=os.kill, pid=os.getpid(), signum=signal.SIGINT):
    kill(pid, signum)  # modules go after Python's own handlers have gone

def main():
  if ACT.value == 'user':
    raise errors.UserError('two\nlines')
  if ACT.value == 'escape':
    raise errors.UserError('a\x1b[2Jb\0 c\udcff \xfc')
  if ACT.value == 'chatter':
    print('a notice', file=sys.stderr)
    print('a result')
    command.complain('a file that is damaged')
    command.fail('and the end', 1)
  if ACT.value == 'interrupt':
    raise KeyboardInterrupt
  if ACT.value == 'full':
    with open('/dev/full', 'w') as file:
      file.write('x')
  if ACT.value == 'end':
    signal.last = Last()
    return
  if ACT.value == 'loud':
    print(LOUD.value)
    return
  if ACT.value == 'path':
    print(command.path(FILE.value), command.paths(FILE.value))
    return
  if ACT.value == 'bug':
    raise ZeroDivisionError('a bug')
  config = command.require_config(CONFIG.value)
  print(config['fold'], config['dice_weights'], 'jax' in sys.modules)

command.run(main)
'''


@pytest.fixture(scope='module')
def program(tmp_path_factory):
  """Runs a command in a folder that is not the repository."""
  folder = tmp_path_factory.mktemp('elsewhere')
  path = folder / 'program.py'
  path.write_text(PROGRAM.format(root=str(ROOT)))
  return lambda *arguments: subprocess.run(
      [sys.executable, path, *arguments], cwd=folder, capture_output=True, text=True,
      check=False, timeout=60)


def test_runs_from_another_folder_without_waiting_for_jax(program):
  for config in (['--config=configs/isic2017.py'], ['-config', 'configs/isic2017.py'],
                 [f'--config={ROOT}/configs/isic2017.py']):
    done = program(*config, '--config.dice_weights=(0.5, 1.0)')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == '0 (0.5, 1.0) False\n'


@pytest.mark.parametrize(('arguments', 'words'), [
    ([], ['--config is missing', 'configs/isic2017.py']),
    (['--config=configs/isic2071.py'],
     ['--config=configs/isic2071.py', 'no such file', 'configs/isic2017.py']),
    (['--config=configs/isic2017.py', '--config.flod=1'],
     ["'flod'", 'Did you mean "fold"']),
    (['--config=configs/isic2017.py', '--config.fold=one'], ['--config.fold', "'one'"]),
    (['--config=configs/isic2017.py', '--config.fold.x=1'], ['fold.x']),
    (['--config=configs/isic2017.py', '--config.nesterov=maybe'],
     ['--config.nesterov', 'maybe']),
    (['--config'], ['Missing value', '--config']),
    (['--no-act'], ['no-act']),  # not one that is on or off
    (['--acd=print'], ["'acd'", 'Did you mean', 'act']),
    (['config=configs/isic2017.py'], ["'config=configs/isic2017.py'", '--name=value']),
    (['--act=full'], ['No space left on device', 'space left']),
    (['--act=user'], ['two lines'])])
def test_a_mistake_gets_one_line_and_status_2(program, arguments, words):
  done = program(*arguments)
  assert done.returncode == 2, done.stderr
  assert done.stdout == ''
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
  for word in words:
    assert word in done.stderr


@pytest.mark.parametrize('argument', ['--no-loud', '--noloud', '--loud=false'])
def test_what_is_on_can_be_turned_off_with_a_hyphen_too(program, argument):
  done = program('--act=loud', argument)
  assert (done.returncode, done.stderr, done.stdout) == (0, '', 'False\n')
  assert program('--act=loud', '--loud').stdout == 'True\n'


def test_quiet_leaves_results_and_errors(program):
  loud, quiet = program('--act=chatter'), program('--act=chatter', '--quiet')
  assert loud.stderr == 'a notice\na file that is damaged\nerror: and the end\n'
  assert quiet.stderr == 'a file that is damaged\nerror: and the end\n'
  assert loud.stdout == quiet.stdout == 'a result\n'
  assert loud.returncode == quiet.returncode == 1
  assert program('--act=user', '--quiet').stderr == 'error: two lines\n'
  assert 'ZeroDivisionError' in program('--act=bug', '--quiet').stderr
  assert '--[no]quiet: print only results and errors' in program('--help').stdout


START = 'from configs import common\ndef get_config():\n  c = common.get_config()\n'


@pytest.mark.parametrize(('lines', 'words'), [
    ('c.learnig_rate = 0.1', ['learnig_rate is not a field', 'did you mean']),
    ('c.batch_size = 0', ['batch_size=0 is out of range']),
    ('c = {}', ['returns a dict', 'ConfigDict']),
    ('c = common.configs', ['common', 'configs'])])
def test_a_config_file_with_a_mistake(program, tmp_path, lines, words):
  path = tmp_path / 'mine.py'
  path.write_text(f'{START}  {lines}\n  return c\n')
  done = program(f'--config={path}')
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
  for word in words:
    assert word in done.stderr


def test_numbers_of_a_config_file_may_be_whole(program, tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(f'{START}  c.learning_rate = 1\n  c.positive = ()\n  return c\n')
  assert program(f'--config={path}').returncode == 0


def test_what_does_not_print_is_escaped(program):
  done = program('--act=escape')
  assert done.returncode == 2
  assert done.stderr == 'error: a\\x1b[2Jb\\x00 c\\udcff ü\n'


def test_ctrl_c_ends_with_its_own_status(program):
  done = program('--act=interrupt')
  assert done.returncode == 130
  assert 'Ctrl-C' in done.stderr
  assert 'Traceback' not in done.stderr


def test_a_bug_keeps_its_traceback(program):
  done = program('--act=bug')
  assert done.returncode == 1
  assert 'ZeroDivisionError: a bug' in done.stderr


def test_help_lists_the_flags_and_is_no_failure(program):
  done = program('--help')
  assert done.returncode == 0
  assert '--act' in done.stdout


def test_several_paths_are_written_with_commas_and_wildcards(tmp_path):
  for name in ('a.jpg', 'b.jpg', 'odd, name.jpg', 'c[1].jpg'):
    (tmp_path / name).touch()
  code = ('from launch import command\n'
          'for text in ("a.jpg, b.jpg", "?.jpg,gone.jpg", "odd, name.jpg", "c[1].jpg",'
          ' ",", "~"):\n'
          '  print(*command.paths(text), sep="|")')
  done = subprocess.run(
      [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True,
      check=True, timeout=60, env={'PYTHONPATH': str(ROOT), 'HOME': '/home/me'})
  assert done.stdout.splitlines() == [
      'a.jpg|b.jpg', 'a.jpg|b.jpg|gone.jpg', 'odd, name.jpg', 'c[1].jpg', '',
      '/home/me']


@pytest.mark.parametrize('arguments, words', [
    (['--file='], '--file= is empty; name a path'), (['--file= '], '--file= is empty'),
    (['--loud=perhaps'], '--loud=perhaps: it is a switch; give true or false'),
    (['--file=~nobody_at_all/x'], 'the home folder of a user who does not exist')])
def test_a_path_is_not_the_current_folder_by_mistake(program, arguments, words):
  done = program('--act=path', *arguments)
  assert done.returncode == 2
  assert words in done.stderr and done.stderr.count('\n') == 1


def test_ctrl_c_after_everything_is_done_does_not_undo_it(program):
  done = program('--act=end')
  assert (done.returncode, done.stderr) == (0, '')
