"""Event files against metrics.jsonl, through kills and cut files."""

import io
import json

import numpy as np
from PIL import Image
import pytest

from attnmel_jax.training import checkpoint
from attnmel_jax.training import tensorboard
from tests.training import event_files
from tests.training import test_loop


def _rate(step):
  return 0.5 ** (step // 4)


def _open(folder, step=0):
  return tensorboard.Events(folder / 'tensorboard', step, learning_rate_at=_rate)


def _scalars(folder):
  """(step, tag, value) as TensorBoard shows them."""
  return [(event.step, value.tag, value.simple_value)
          for event in event_files.read(folder / 'tensorboard')
          for value in event.summary.value]


def _expected(folder):
  """The same from metrics.jsonl."""
  rows = []
  for text in (folder / 'metrics.jsonl').read_text().splitlines():
    line = json.loads(text)
    step = line.pop('step')
    for name, value in line.items():
      tag = (f'validation/{name[11:]}' if name.startswith('validation_')
             else f'train/{name}')
      rows.append((step, tag, float(np.float32(value))))
    if 'loss' in line:
      rows.append((step, 'train/learning_rate', float(np.float32(_rate(step - 1)))))
  return rows


def _train(folder, start=0, at=None):
  """Twelve steps with a checkpoint at 3, 4, 6, 8, 9 and 12, after `start`."""
  state, events = test_loop._start(), _open(folder, start)
  if start:
    with checkpoint.Checkpoints(folder / 'checkpoints', create=True) as checkpoints:
      state, _ = checkpoints.restore_latest(state)
    assert int(state.step) == start
  try:
    test_loop._train(
        folder, state, events=events, at=at, validate=lambda state: {
            'auc': int(state.step) / 100, 'score': int(state.step) / 100})
  finally:
    events.close()


class _Killed(Exception):
  """Ends training without a save, as a kill does."""


def test_a_killed_run_shows_every_step_of_its_metrics_once(tmp_path):
  def kill():
    raise _Killed

  with pytest.raises(_Killed):
    _train(tmp_path, at={11: kill})  # step 10 is reported, 9 is saved
  assert _scalars(tmp_path) == _expected(tmp_path)
  assert _scalars(tmp_path)[-1][0] == 10
  _train(tmp_path, 9)
  assert _scalars(tmp_path) == _expected(tmp_path)
  assert len(_expected(tmp_path)) == 12 * 2 + 3 * 2


def test_events_are_on_disk_before_the_state_is_saved(tmp_path, monkeypatch):
  save, seen = checkpoint.Checkpoints.save_latest, []

  def saving(self, state, meta):
    seen.append((int(state.step), max(step for step, _, _ in _scalars(tmp_path))))
    save(self, state, meta)

  monkeypatch.setattr(checkpoint.Checkpoints, 'save_latest', saving)
  _train(tmp_path)
  assert seen == [(step, step) for step in (3, 4, 6, 8, 9, 12)]


def test_a_start_follows_a_file_that_a_kill_cut_short(tmp_path, monkeypatch):
  """Also within its second, and where the clock was set back."""
  for now, step in ((200., 0), (200., 2), (100., 3)):
    monkeypatch.setattr(tensorboard.time, 'time', lambda now=now: now)
    events = _open(tmp_path, step)
    for following in (step + 1, step + 2, step + 3):
      events.scalars(following, {'validation_auc': step})
    events.close()
    newest = max((tmp_path / 'tensorboard').iterdir())
    newest.write_bytes(newest.read_bytes()[:-5])  # the last event is lost
  assert _scalars(tmp_path) == [
      (step, 'validation/auc', start)
      for step, start in ((1, 0), (2, 0), (3, 2), (4, 3), (5, 3))]


def test_a_picture_comes_back_as_it_was(tmp_path):
  file = io.BytesIO()
  Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(file, 'PNG')
  events = _open(tmp_path)
  events.image(7, 'maps/validation', file.getvalue())
  events.close()
  event, = event_files.read(tmp_path / 'tensorboard')
  value, = event.summary.value
  assert (event.step, value.tag) == (7, 'maps/validation')
  assert (value.image.height, value.image.width, value.image.colorspace) == (4, 5, 3)
  assert value.image.encoded_image_string == file.getvalue()
