"""What every command does with a mistake: one line, status 2, no traceback."""

import functools
import subprocess
import sys

import pytest

from launch import command
from tests import commands

PROGRAM = f'''
import os, signal, sys
sys.path[0] = {str(commands.ROOT)!r}
''' + r'''
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
    raise errors.UserError('a\x1b[2Jb\0\nc\udcff \xfc')
  if ACT.value == 'chatter':
    print('a notice', file=sys.stderr)
    print('a result')
    command.complain('a file that is damaged')
    command.fail('and the end', 1)
  if ACT.value == 'interrupt':
    raise KeyboardInterrupt
  if ACT.value == 'write':
    with open(FILE.value, 'w') as file:
      file.write('x')
  if ACT.value == 'end':
    signal.last = Last()
  if ACT.value == 'bug':
    raise ZeroDivisionError('a bug')
  if ACT.value == 'memory':
    raise RuntimeError('RESOURCE_EXHAUSTED: 9 GiB')
  if ACT.value == 'gone':
    os.rmdir(os.getcwd())
    open(FILE.value)
  if ACT.value == 'path':
    command.path(FILE.value)
  config = command.require_config(CONFIG.value)
  print(config['fold'], config['dice_weights'], LOUD.value, 'jax' in sys.modules)

command.run(main)
'''
CONFIG = '--config=configs/isic2017.py'


@pytest.fixture
def program(tmp_path, monkeypatch):
  """Runs a command in a folder that is not the repository."""
  (tmp_path / 'program.py').write_text(PROGRAM)
  monkeypatch.chdir(tmp_path)
  return functools.partial(commands.in_process, tmp_path / 'program.py')


@pytest.mark.usefixtures('program')
def test_a_process_does_not_wait_for_jax_and_ctrl_c_at_its_end_undoes_nothing():
  done = subprocess.run([sys.executable, 'program.py', '--act=end', CONFIG],
                        capture_output=True, text=True, check=False, timeout=60)
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout == '0 (0.001, 0.01) True False\n'


@pytest.mark.parametrize('arguments, printed', [
    ([CONFIG, '--config.dice_weights=(0.5, 1.0)'], '0 (0.5, 1.0) True '),
    (['-config', 'configs/isic2017.py'], '0 (0.001, 0.01) True '),
    ([f'--config={commands.ROOT}/configs/isic2017.py', '--no-loud'],
     '0 (0.001, 0.01) False '), ([CONFIG, '--noloud'], '0 (0.001, 0.01) False ')])
def test_configs_and_switches_may_be_written_in_several_ways(
    program, arguments, printed):
  done = program(*arguments)
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.startswith(printed)


@pytest.mark.parametrize('arguments, words', [
    ([], ['--config is missing', 'configs/isic2017.py']),
    (['--config=configs/isic2071.py'],
     ['--config=configs/isic2071.py', 'no such file', 'configs/isic2017.py']),
    ([CONFIG, '--config.flod=1'], ["'flod'", 'Did you mean "fold"']),
    ([CONFIG, '--config.fold=one'], ['--config.fold', "'one'"]),
    ([CONFIG, '--config.fold.x=1'], ['fold.x']),
    ([CONFIG, '--config.nesterov=maybe'], ['--config.nesterov', 'maybe']),
    (['--config'], ['Missing value', '--config']),
    (['--no-act'], ['no-act']),  # not one that is on or off
    (['--loud=perhaps'], ['--loud=perhaps: it is a switch; give true or false']),
    (['--acd=print'], ["'acd'", 'Did you mean', 'act']),
    (['config=configs/isic2017.py'], ["'config=configs/isic2017.py'", '--name=value']),
    (['--act=write', '--file=/dev/full'], ['No space left on device', 'space left']),
    (['--act=write', '--file=/dev/null/x'], ['/dev/null/x: Not a directory; check']),
    (['--act=user'], ['a\\x1b[2Jb\\x00 c\\udcff ü\n']),
    (['--act=memory'], ['out of memory (RESOURCE_EXHAUSTED: 9 GiB)', 'batch_size']),
    (['--act=path', '--file='], ['--file= is empty; name a path']),
    (['--act=path', '--file= '], ['--file= is empty']),
    (['--act=path', '--file=~nobody_at_all/x'],
     ['the home folder of a user who does not exist'])])
def test_a_mistake_gets_one_line_and_status_2(program, arguments, words):
  _assert_refused(program(*arguments), words)


def _assert_refused(done, words):
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  for word in words:
    assert word in done.stderr


@pytest.mark.parametrize('lines, words', [
    ('c.learnig_rate = 0.1', ['learnig_rate is not a field', 'did you mean']),
    ('c.batch_size = 0', ['batch_size=0 is out of range']),
    ('c = {}', ['returns a dict', 'ConfigDict']),
    ('c = common.configs', ['common', 'configs']),
    ('c.learning_rate = 1; c.positive = ()', None)])  # a whole number will do
def test_a_config_file_with_a_mistake(program, tmp_path, lines, words):
  (tmp_path / 'mine.py').write_text(
      'from configs import common\n'
      f'def get_config():\n  c = common.get_config()\n  {lines}\n  return c\n')
  done = program('--config=mine.py')
  if words is None:
    assert done.returncode == 0
  else:
    _assert_refused(done, words)


def test_quiet_leaves_results_and_errors(program):
  loud, quiet = program('--act=chatter'), program('--act=chatter', '--quiet')
  assert loud.stderr == 'a notice\na file that is damaged\nerror: and the end\n'
  assert quiet.stderr == 'a file that is damaged\nerror: and the end\n'
  assert loud.stdout == quiet.stdout == 'a result\n'
  assert loud.returncode == quiet.returncode == 1
  assert program('--act=user', '--quiet').stderr.startswith('error: a')


def test_a_current_folder_that_is_deleted_is_named(program, tmp_path, monkeypatch):
  (tmp_path / 'sub').mkdir()
  monkeypatch.chdir(tmp_path / 'sub')
  _assert_refused(program('--act=gone'), ['the current folder no longer exists'])


def test_a_required_flag_that_is_missing_is_explained():
  _assert_refused(commands.in_process('grid'), [
      '--grid is missing: grid file, such as configs/grids/table_3_2.py'])


def test_ctrl_c_has_its_own_status_and_a_bug_keeps_its_traceback(program):
  done = program('--act=interrupt')
  assert done.returncode == 130
  assert done.stderr.startswith('error: stopped by Ctrl-C')
  done = program('--act=bug', '--quiet')
  assert done.returncode == 70
  assert done.stderr.startswith('Traceback')
  assert 'ZeroDivisionError: a bug\nerror: this is a fault of' in done.stderr


def test_several_paths_are_written_with_commas_and_wildcards(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', '/home/me')
  for name in ('a.jpg', 'b.jpg', 'odd, name.jpg', 'c1.jpg', 'c[1].jpg'):
    (tmp_path / name).touch()
  for text, expected in (
      ('a.jpg, b.jpg', ['a.jpg', 'b.jpg']),
      ('?.jpg,gone.jpg', ['a.jpg', 'b.jpg', 'gone.jpg']),
      ('odd, name.jpg', ['odd, name.jpg']), ('c[1].jpg', ['c[1].jpg']),
      ('c[1].jpg,a.jpg', ['c[1].jpg', 'a.jpg']), (',', []), ('~', ['/home/me'])):
    assert [str(path) for path in command.paths(text)] == expected
