"""The commands as a user types them, from another folder, without PYTHONPATH."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from configs import common
from tests import commands

NAMES = ('phantom', 'prepare', 'main', 'generate_masks', 'grid', 'evaluate', 'predict',
         'export', 'report', 'benchmark')


@pytest.mark.slow
def test_train_evaluate_and_report(home, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('ATTNMEL_DATA', str(home / 'attnmel_data'))
  shutil.copytree(home / 'run', 'run')
  first, messages = ((home / f'run.{stream}').read_text()
                     for stream in ('stdout', 'stderr'))
  assert first.count('\n') == 1
  assert 'run: test (16 synthetic images)' in first
  assert re.search(r'train: \d+ of \d+ steps, .*images/s, .* left', messages)
  again = commands.run(home, 'main', *commands.TINY, '--workdir=run', '--quiet',
                       cwd=tmp_path)
  assert (again.returncode, again.stdout, again.stderr) == (0, first, '')
  scored = commands.in_process('evaluate', '--run=run', '--split=test')
  assert scored.returncode == 0, scored.stderr
  later, summary = (
      json.loads((tmp_path / 'run' / folder / 'summary.json').read_text())
      for folder in ('evaluations/isic2017-test', '.'))
  assert later['test'] == summary['test']
  reported = commands.in_process('report', '--runs=run', '--out=report')
  assert reported.returncode == 0, reported.stderr
  text = (tmp_path / 'report' / 'report.md').read_text()
  assert f'{summary["test"]["auc"]["estimate"]:.3f} [' in text
  for picture in re.findall(r'!\[.*?\]\((.*?)\)', text):
    assert (tmp_path / 'report' / picture).is_file()


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_resume(home, tmp_path):
  folder = tmp_path / 'stopped'
  with subprocess.Popen(
      commands.command('main', *commands.TINY, f'--workdir={folder}',
                       '--config.num_epochs=200'),
      cwd=tmp_path, env=commands.environment(home), stderr=subprocess.PIPE, text=True
  ) as process:
    for line in process.stderr:
      if re.match(r'train: \d+ of \d+ steps', line):
        break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=120) == 130
  assert 'Traceback' not in rest
  step = re.search(r'error: stopped after step (\d+); the same command',
                   rest.splitlines()[-1])[1]
  *_, last = (folder / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(last)['step'] == int(step)


@pytest.mark.parametrize('name, arguments, words', [
    ('main', ['--config=configs/isic2017.py'], ['launch/prepare.py']),
    ('main', [*commands.TINY, '--config.roi=leson'], ["'leson'", "'lesion'"]),
    ('main', [*commands.TINY, '--num_processes=2'],
     ['give either --distributed alone or all of']),
    ('main', [*commands.TINY, '--distributed', '--process_id=0'],
     ['give either --distributed alone or all']),
    ('main', [*commands.TINY, '--coordinator=localhost', '--num_processes=2',
              '--process_id=1'], ['--coordinator=localhost is not host:port']),
    ('main', [*commands.TINY, '--coordinator=localhost:1', '--num_processes=2',
              '--process_id=2'], ['--process_id=2 is out of range']),
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
  done = commands.in_process(name, *arguments)
  assert done.returncode == 2
  last = done.stderr.splitlines()[-1]
  assert last.startswith('error: ')
  for word in words:
    assert word in last


def test_help_and_errors_of_every_command_are_those_of_its_own_flags():
  for name in NAMES:
    done = commands.in_process(name, '--help')
    assert (done.returncode, done.stderr) == (0, '')
    assert f'launch/{name}.py' in done.stdout and '--[no]quiet' in done.stdout
    done = commands.in_process(name, '--flod=1')
    assert done.returncode == 2 and done.stderr.startswith('error: ')
    assert "'flod'" in done.stderr and done.stderr.count('\n') == 1


def catches_sigterm(pid: int) -> bool:
  """Whether a process handles SIGTERM, for which Python itself has no handler."""
  text = pathlib.Path(f'/proc/{pid}/status').read_text()
  caught = int(re.search(r'SigCgt:\s*([0-9a-f]+)', text).group(1), 16)
  return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path('/proc/self/status').exists(),
                    reason='reads from /proc when a command begins to answer')
def test_ctrl_c_while_it_starts_is_one_line(home, tmp_path):
  stopped = 0
  for delay in (0.0, 1.0):
    with subprocess.Popen(commands.command('main', '--help'), cwd=tmp_path, text=True,
                          env=commands.environment(home), stdout=subprocess.DEVNULL,
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
