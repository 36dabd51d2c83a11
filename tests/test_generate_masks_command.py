"""launch/generate_masks.py as a user types it, on phantom data."""

import json
import signal
import subprocess
import time

import pytest

from tests.commands import command
from tests.commands import environment

_SMALL = ('resize_size=36', 'image_size=32', 'width=0.0625', 'batch_size=8',
          'num_epochs=1', 'num_folds=4', 'bootstrap_draws=100', 'overlay_images=0')
_UNET = 'runs/isic2018_task1/unet-lesion-fold0-seed0'
_MASKS = 'attnmel_data/isic2018/train-crop1.0-side36-bilinear-generated-'


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A home folder with prepared phantom data and a U-Net's run."""
  home = tmp_path_factory.mktemp('home')
  prepare = ('prepare', '--source=archives', '--resize_size=36', '--crop_ratio=1')
  for name, *arguments in (
      ('phantom', '--year=2018', '--out=archives', '--train=400', '--validation=0',
       '--test=0', '--segmentation=24', '--size=48'),
      (*prepare, '--dataset=isic2018'), (*prepare, '--dataset=isic2018_task1'),
      ('main', '--config=configs/isic2018_task1.py', '--quiet',
       *(f'--config.{setting}' for setting in _SMALL))):
    done = subprocess.run(command(name, *arguments), cwd=home, timeout=300, text=True,
                          env=environment(home), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
  assert f'{_UNET}: test (6 synthetic images) jaccard ' in done.stdout
  return home


def _start(home, name):
  return subprocess.Popen(
      command('generate_masks', f'--run={_UNET}', '--dataset=isic2018',
              f'--name={name}'),
      cwd=home, env=environment(home), text=True, stdout=subprocess.PIPE,
      stderr=subprocess.PIPE)


@pytest.mark.slow
def test_stopped_at_any_moment_it_goes_on(home):
  whole = _start(home, 'whole')
  assert whole.communicate(timeout=300)[0] == (
      f'train: 400 masks in {home / _MASKS}whole\n')
  folder = home / f'{_MASKS}stopped'
  for signum, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130),
                         (signal.SIGKILL, -9)):
    made = len(list(folder.glob('*.png')))
    process = _start(home, 'stopped')
    deadline = time.monotonic() + 120
    while len(list(folder.glob('*.png'))) == made and time.monotonic() < deadline:
      time.sleep(0.002)
    process.send_signal(signum)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == status, messages
    if signum != signal.SIGKILL:
      assert messages.splitlines()[-1].startswith('error: stopped by')
      assert 'Traceback' not in messages
    assert made < len(list(folder.glob('*.png'))) < 400
  last = _start(home, 'stopped')
  output, _ = last.communicate(timeout=300)
  assert last.returncode == 0 and output.startswith('train: 400 masks')
  indices = [json.loads((home / f'{_MASKS}{name}' / 'index.json').read_text())
             for name in ('whole', 'stopped')]
  assert indices[0] == indices[1]
  output, messages = _start(home, 'stopped').communicate(timeout=120)
  assert 'all 400 masks are in' in output and messages == ''
