"""launch/generate_masks.py as a user types it, on phantom data."""

import json
import signal
import subprocess
import time

import pytest

from tests import commands


def _start(home, name):
  return subprocess.Popen(
      commands.command('generate_masks', f'--run={commands.UNET}',
                       '--dataset=isic2018', f'--name={name}'),
      cwd=home, env=commands.environment(home), text=True, stdout=subprocess.PIPE,
      stderr=subprocess.PIPE)


@pytest.mark.slow
def test_stopped_by_a_signal_it_resumes(tmp_path):
  """That masks end with the same bits is looked at in tests/kills.py."""
  said = commands.train_unet(tmp_path, images=160)
  assert f'{commands.UNET}: test (6 synthetic images) jaccard ' in said
  folder = commands.masks_folder(tmp_path, 'stopped')
  process = _start(tmp_path, 'stopped')
  while not list(folder.glob('*.png')):
    assert process.poll() is None
    time.sleep(0.002)
  process.send_signal(signal.SIGTERM)
  _, messages = process.communicate(timeout=60)
  assert process.returncode == 143, messages
  assert messages.splitlines()[-1].startswith('error: stopped by')
  assert 'Traceback' not in messages
  assert 0 < len(list(folder.glob('*.png'))) < 160
  output, messages = _start(tmp_path, 'stopped').communicate(timeout=300)
  assert output == f'train: 160 masks in {folder}\n', messages
  assert len(json.loads((folder / 'index.json').read_text())['ids']) == 160
  output, messages = _start(tmp_path, 'stopped').communicate(timeout=120)
  assert 'all 160 masks are in' in output and messages == ''
