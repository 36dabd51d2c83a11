"""launch/generate_masks.py as a user types it, on phantom data."""

import json
import signal
import subprocess
import time

import pytest

from tests.commands import UNET
from tests.commands import command
from tests.commands import environment
from tests.commands import masks_folder
from tests.commands import train_unet


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A home folder with prepared phantom data and a U-Net's run."""
  home = tmp_path_factory.mktemp('home')
  said = train_unet(home, images=400)
  assert f'{UNET}: test (6 synthetic images) jaccard ' in said
  return home


def _start(home, name):
  return subprocess.Popen(
      command('generate_masks', f'--run={UNET}', '--dataset=isic2018',
              f'--name={name}'),
      cwd=home, env=environment(home), text=True, stdout=subprocess.PIPE,
      stderr=subprocess.PIPE)


@pytest.mark.slow
def test_stopped_at_any_moment_it_resumes(home):
  whole = _start(home, 'whole')
  assert whole.communicate(timeout=300)[0] == (
      f'train: 400 masks in {masks_folder(home, "whole")}\n')
  folder = masks_folder(home, 'stopped')
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
  indices = [json.loads((masks_folder(home, name) / 'index.json').read_text())
             for name in ('whole', 'stopped')]
  assert indices[0] == indices[1]
  output, messages = _start(home, 'stopped').communicate(timeout=120)
  assert 'all 400 masks are in' in output and messages == ''
