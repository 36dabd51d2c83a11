"""The steps for a lent machine: their commands, their time limit, their report."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from attnmel_jax import errors
from attnmel_jax.experiments import accelerator
from attnmel_jax.experiments import speed
from configs import accelerator as config_file

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _setup(work, **changed):
  return accelerator.Setup(**{
      'config': config_file.get_config().to_dict(),
      'config_file': ROOT / 'configs' / 'accelerator.py',
      'overrides': ('--config.batch_size=64',), 'source': None, 'weights': None,
      'work': work, 'against_torch': True, 'limits': speed.Limits(5, 2.)} | changed)


def test_throughput_is_measured_in_both_types_against_torch(tmp_path, monkeypatch):
  setup = _setup(tmp_path)
  commands = list(accelerator.commands('throughput', setup))
  assert [[a for a in c if 'dtype' in a] for c in commands] == [
      ['--config.dtype=bfloat16'], ['--config.dtype=float32']]
  for command in commands:
    assert pathlib.Path(command[0]).is_file()
    assert {'--config.batch_size=64', '--against=torch', '--steps=5'} <= set(command)
  # A cell that the file holds already is not measured again.
  monkeypatch.setattr(
      accelerator.benchmark, 'find_cell',
      lambda cells, config, against_torch: config['dtype'] == 'bfloat16')
  command, = accelerator.commands('throughput', setup)
  assert '--config.dtype=float32' in command


def test_training_takes_the_weights_and_the_prepared_data(tmp_path):
  weights = tmp_path / 'weights.safetensors'
  with pytest.raises(errors.UserError, match='--weights'):
    list(accelerator.commands('train', _setup(tmp_path, weights=weights)))
  weights.touch()
  command, = accelerator.commands('train', _setup(tmp_path, weights=weights))
  assert command[1:] == [
      f'--config={ROOT}/configs/accelerator.py', '--config.batch_size=64',
      f'--config.pretrained={weights}', f'--config.data_dir={tmp_path}/data',
      f'--workdir={tmp_path}/run']


def test_archives_may_stay_behind_once_they_are_prepared(tmp_path, monkeypatch):
  with pytest.raises(errors.UserError, match='--source'):
    list(accelerator.commands('prepare', _setup(tmp_path)))
  command, = accelerator.commands('prepare', _setup(tmp_path, source=tmp_path))
  assert {f'--source={tmp_path}', '--crop_ratio=0.8', '--resize_size=256'} <= set(
      command)
  monkeypatch.setattr(
      accelerator.builders, 'available_splits', lambda *args, **kwargs: ('train',))
  assert not list(accelerator.commands('prepare', _setup(tmp_path)))


def _run(tmp_path, monkeypatch, program, minutes):
  monkeypatch.setattr(
      accelerator, 'commands', lambda step, setup: [['-c', program]])
  accelerator.run(_setup(tmp_path), ['train'], minutes=minutes, say=lambda text: None)


# Says that it runs, and saves its state when it is told to stop.
_SAVING = '''
import pathlib, signal, sys, time
def save(*_):
  pathlib.Path('{0}').write_text('saved')
  sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path('{0}').write_text('running')
time.sleep(60)
'''


def test_time_that_is_up_stops_a_command_which_saves(tmp_path, monkeypatch):
  state = tmp_path / 'state'
  started = time.monotonic()
  with pytest.raises(accelerator.TimeUp):
    _run(tmp_path, monkeypatch, _SAVING.format(state), minutes=1.5 / 60)
  assert state.read_text() == 'saved'
  assert time.monotonic() - started < 30
  with pytest.raises(accelerator.TimeUp):
    _run(tmp_path, monkeypatch, 'raise SystemExit(1)', minutes=0.)  # not started


def test_one_that_does_not_stop_is_killed(tmp_path, monkeypatch):
  monkeypatch.setattr(accelerator, '_GRACE', 0.2)
  program = ('import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
             'time.sleep(60)')
  with pytest.raises(accelerator.TimeUp):
    _run(tmp_path, monkeypatch, program, minutes=1 / 60)


def test_a_stop_reaches_the_command(tmp_path, monkeypatch):
  state = tmp_path / 'state'

  def stop():
    while not (state.exists() and state.read_text()):
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

  before = signal.getsignal(signal.SIGTERM)
  stopper = threading.Thread(target=stop)
  stopper.start()
  with pytest.raises(accelerator.Failed) as failed:
    _run(tmp_path, monkeypatch, _SAVING.format(state), minutes=1.)
  stopper.join()
  assert (failed.value.status, state.read_text()) == (143, 'saved')
  assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize('program, status', [
    ('raise SystemExit(2)', 2), ('import os; os.kill(os.getpid(), 9)', 137)])
def test_a_command_that_fails_ends_the_steps(tmp_path, monkeypatch, program, status):
  with pytest.raises(accelerator.Failed) as failed:
    _run(tmp_path, monkeypatch, program, minutes=1.)
  assert failed.value.status == status


def test_an_unknown_step_is_refused_before_the_first_begins(tmp_path):
  with pytest.raises(errors.UserError, match="'trian'.*'train'"):
    accelerator.run(_setup(tmp_path / 'work'), ['prepare', 'trian'], minutes=9.,
                    say=lambda text: None)
  assert not (tmp_path / 'work').exists()


def test_the_report_holds_what_there_is(tmp_path):
  setup = _setup(tmp_path)
  text = accelerator.write_report(setup).read_text()
  assert 'not measured yet' in text
  assert 'not finished' in text
  setup.run_folder.mkdir()
  (setup.run_folder / 'timing.jsonl').write_text(''.join(
      json.dumps(line) + '\n' for line in (
          {'step': 1, 'what': 'first_step', 'seconds': 30., 'images': 32},
          {'step': 11, 'what': 'steps', 'seconds': 2., 'images': 320},
          {'step': 11, 'what': 'validation', 'seconds': 7.})))
  text = accelerator.write_report(setup).read_text()
  for line in ('11 training steps, in 1 starts', 'steps: 2.0 s (320 images, 160 images',
               'included: 30.0 s', 'validation: 7.0 s', 'not finished'):
    assert line in text
  content = json.loads((tmp_path / 'report.json').read_text())
  assert content['time']['validation_seconds'] == 7.
  assert content['scores'] is None


TINY = ['--notorch', '--measurements=3', '--seconds=0', '--config.resize_size=36',
        '--config.image_size=32', '--config.width=0.0625', '--config.gate_width=8',
        '--config.pretrained=', '--config.batch_size=8', '--config.num_epochs=2',
        '--config.passes_per_epoch=2', '--config.bootstrap_draws=100',
        '--config.overlay_images=2', "--config.dice_weights=(0.1, 1.0)"]


def _command(folder, name, *arguments):
  environment = {name: os.environ[name] for name in ('PATH', 'LANG')
                 if name in os.environ} | {'HOME': str(folder)}
  return subprocess.run(
      [sys.executable, str(ROOT / 'launch' / f'{name}.py'), *arguments], cwd=folder,
      env=environment, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.slow
def test_the_command_stops_goes_on_and_reports(tmp_path):
  done = _command(tmp_path, 'phantom', '--year=2017', '--out=archives', '--train=40',
                  '--validation=16', '--test=16', '--size=60')
  assert done.returncode == 0, done.stderr
  refused = _command(tmp_path, 'accelerator', *TINY, '--steps=prepare')
  assert refused.returncode == 2
  assert refused.stderr.startswith('error: nothing is prepared')
  assert refused.stderr.count('\n') == 1
  prepared = _command(
      tmp_path, 'accelerator', *TINY, '--steps=prepare', '--source=archives')
  assert prepared.returncode == 0, prepared.stderr
  # From here on without the archives; at first in too little time for a cell.
  stopped = _command(tmp_path, 'accelerator', *TINY, '--minutes=0.1')
  assert stopped.returncode == 75
  assert 'Traceback' not in stopped.stderr
  assert '0.1 minutes are over; the same command goes on\n' in stopped.stderr
  done = _command(tmp_path, 'accelerator', *TINY)
  assert done.returncode == 0, done.stderr
  for pattern in ('batch 8, bfloat16', 'batch 8, float32', '- 28 training steps',
                  r'run: test \(16 synthetic images\)'):
    assert re.search(pattern, done.stdout), pattern
  work = tmp_path / 'runs' / 'accelerator'
  assert len(json.loads((work / 'report.json').read_text())['throughput']) == 2
