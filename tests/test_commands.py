"""The commands as a user types them, from another folder, without PYTHONPATH."""

import json
import pathlib
import re
import signal
import subprocess
import time

import pytest

from configs import common
from tests.commands import TINY
from tests.commands import command
from tests.commands import environment
from tests.commands import in_process
from tests.commands import prepare_phantom


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A home folder with prepared phantom data in the default place."""
  home = tmp_path_factory.mktemp('home')
  prepare_phantom(home, train=40, validation=16, test=16)
  assert (home / 'attnmel_data' / 'isic2017').is_dir()
  return home


@pytest.fixture
def run(home, tmp_path):
  """Runs a command in an empty folder; returns the finished process."""

  def call(name, *arguments):
    return subprocess.run(command(name, *arguments), cwd=tmp_path, timeout=600,
                          env=environment(home), capture_output=True, text=True,
                          check=False)
  return call


@pytest.mark.slow
def test_train_evaluate_and_report(run, tmp_path):
  first = run('main', *TINY)
  assert first.returncode == 0, first.stderr
  folder = tmp_path / 'runs' / 'isic2017' / 'attnmel_cnn-lesion-fold0-seed0'
  assert (folder / 'summary.json').is_file()
  assert first.stdout.count('\n') == 1
  assert 'test (16 synthetic images)' in first.stdout
  assert re.search(r'step \d+/\d+ .*images/s .* left', first.stderr)
  again = run('main', *TINY, '--quiet')
  assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, '')
  relative = folder.relative_to(tmp_path)
  scored = run('evaluate', f'--run={relative}', '--split=test')
  assert scored.returncode == 0, scored.stderr
  later = json.loads((folder / 'evaluations' / 'isic2017-test' / 'summary.json')
                     .read_text())
  summary = json.loads((folder / 'summary.json').read_text())
  assert later['test'] == summary['test']
  reported = run('report', '--runs=runs', '--out=report')
  assert reported.returncode == 0, reported.stderr
  text = (tmp_path / 'report' / 'report.md').read_text()
  assert f'{summary["test"]["auc"]["estimate"]:.3f} [' in text
  for picture in re.findall(r'!\[.*?\]\((.*?)\)', text):
    assert (tmp_path / 'report' / picture).is_file()


@pytest.mark.slow
def test_the_plan_of_the_plaincommand(run):
  done = run('main', '--config=configs/isic2017.py', '--config.resize_size=36',
             '--config.image_size=32', '--dry_run')
  assert done.returncode == 0, done.stderr
  for line in ('parameters: 15184964', "pretrained = 'imagenet'", 'test: images 16'):
    assert line in done.stdout


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(home, run, tmp_path):
  folder = tmp_path / 'stopped'
  with subprocess.Popen(
      command('main', *TINY, f'--workdir={folder}', '--config.num_epochs=200'),
      cwd=tmp_path, env=environment(home), stderr=subprocess.PIPE, text=True
  ) as process:
    for line in process.stderr:
      if line.startswith('step '):
        break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=120) == 130
  last = rest.splitlines()[-1]
  step = int(re.search(r'error: stopped after step (\d+); the same command', last)[1])
  assert 'Traceback' not in rest
  refused = run('main', *TINY, f'--workdir={folder}', '--config.num_epochs=199')
  assert refused.returncode == 2
  assert 'num_epochs: 200 -> 199' in refused.stderr
  steps = [json.loads(line)['step']
           for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  assert max(steps) == step


@pytest.mark.parametrize('name, arguments, words', [
    ('main', [*TINY, '--config.roi=leson'], ["'leson'", "'lesion'"]),
    ('main', ['--config=configs/isic2017.py'], ['launch/prepare.py']),
    ('grid', ['--grid=configs/grids/table_3_9.py'],
     ['table_3_9', 'configs/grids/table_3_2.py']),
    ('grid', ['--grid=configs/grids/table_3_2.py', '--set=imgae_size=96'],
     ['imgae_size', 'image_size']),
    ('grid', ['--grid=configs/grids/table_3_2.py', '--index=21'], ['--index=21', '20']),
    ('evaluate', ['--run=nowhere'], ['nowhere', 'launch/main.py']),
    ('evaluate', ['--run=older'], ['older', 'tta']),
    ('generate_masks', ['--run=nowhere', '--dataset=isic2018'], ['nowhere']),
    ('report', ['--runs=nowhere'], ['nowhere']),
    ('prepare', ['--dataset=isic2017', '--source=nowhere'], ['nowhere']),
])
def test_a_mistake_is_one_line(monkeypatch, tmp_path, name, arguments, words):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('ATTNMEL_DATA', str(tmp_path / 'data'))
  config = common.get_config().to_dict()
  del config['tta']  # a run folder of another version
  (tmp_path / 'older').mkdir()
  (tmp_path / 'older' / 'config.json').write_text(json.dumps(config))
  done = in_process(name, *arguments)
  assert done.returncode == 2
  last = done.stderr.splitlines()[-1]
  assert last.startswith('error: ')
  for word in words:
    assert word in last


def test_help_and_errors_of_every_command_are_those_of_its_own_flags():
  for name in ('phantom', 'prepare', 'main', 'generate_masks', 'grid', 'evaluate',
               'predict', 'export', 'report', 'benchmark'):
    done = in_process(name, '--help')
    assert (done.returncode, done.stderr) == (0, '')
    assert f'launch/{name}.py' in done.stdout and '--[no]quiet' in done.stdout
    done = in_process(name, '--flod=1')
    assert done.returncode == 2 and done.stderr.startswith('error: ')
    assert "'flod'" in done.stderr and done.stderr.count('\n') == 1


@pytest.mark.slow
def test_outputs_that_cannot_be_written_are_one_line(run, tmp_path):
  assert run('main', *TINY, '--workdir=run', '--quiet').returncode == 0
  for name, arguments in (
      ('main', [*TINY, '--workdir=/dev/null/x']),
      ('evaluate', ['--run=run', '--out=/dev/null/x']),
      ('report', ['--runs=run', '--out=/dev/null/x'])):
    done = run(name, *arguments)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert '/dev/null/x' in done.stderr.splitlines()[-1]
  (tmp_path / 'bad.py').write_text('def get_config(:\n')
  done = run('main', '--config=bad.py')
  assert done.returncode == 2
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1


def catches_sigterm(pid: int) -> bool:
  """Whether a process has a handler of its own; Python itself has none for SIGTERM."""
  text = pathlib.Path(f'/proc/{pid}/status').read_text()
  caught = int(re.search(r'SigCgt:\s*([0-9a-f]+)', text).group(1), 16)
  return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path('/proc/self/status').exists(),
                    reason='reads from /proc when a command begins to answer')
@pytest.mark.parametrize('name', ['main', 'evaluate', 'prepare', 'phantom',
                                  'generate_masks'])
def test_ctrl_c_while_it_starts_is_one_line(home, tmp_path, name):
  stopped = 0
  for delay in (0.0, 0.5, 1.0, 2.0):
    with subprocess.Popen(command(name, '--help'), cwd=tmp_path, text=True,
                          env=environment(home), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE) as process:
      while process.poll() is None and not catches_sigterm(process.pid):
        time.sleep(0.001)
      time.sleep(delay)
      process.send_signal(signal.SIGINT)
      text = process.stderr.read()
      status = process.wait(timeout=60)
    assert (status, text) == (0, '') or (
        status == 130 and text.startswith('error: stopped by Ctrl-C'))
    assert text.count('\n') <= 1
    stopped += status == 130
  assert stopped
