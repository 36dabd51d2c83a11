"""Event files against metrics.jsonl, through stops, kills and cut files."""

import io
import json
import os
import pathlib
import signal

import numpy as np
from PIL import Image
import pytest
from tensorboardX.proto import event_pb2

from attnmel_jax.training import checkpoint
from attnmel_jax.training import loop
from attnmel_jax.training import tensorboard
from tests.training import test_loop


def _rate(step):
  return 0.5 ** (step // 4)


def _open(folder, step=0):
  return tensorboard.Events(folder / 'tensorboard', step, learning_rate_at=_rate)


def _independent(path):
  """Events by the format of TFRecord, without a look at the checksums."""
  content = path.read_bytes()
  while content:
    length = int.from_bytes(content[:8], 'little')
    yield event_pb2.Event.FromString(content[12:12 + length])
    content = content[16 + length:]


def _scalars(folder):
  """(step, tag, value) in the order of the one event file."""
  (path,) = (folder / 'tensorboard').iterdir()
  first, *events = _independent(path)
  assert first.file_version == 'brain.Event:2'
  return [(event.step, value.tag, value.simple_value)
          for event in events for value in event.summary.value
          if value.WhichOneof('value') == 'simple_value']


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


def _validate(state):
  return {'auc': int(state.step) / 100, 'score': int(state.step) / 100}


def _train(folder, start=0, at=None):
  """Twelve steps with a checkpoint at 3, 4, 6, 8, 9 and 12, from `start` on."""
  folder.mkdir(exist_ok=True)
  events = _open(folder, start)
  if start:
    with checkpoint.Checkpoints(folder / 'checkpoints', create=True) as checkpoints:
      state, _ = checkpoints.restore_latest(test_loop._start())
    assert int(state.step) == start
  else:
    state = test_loop._start()
  try:
    test_loop._train(folder, state, validate=_validate, events=events, at=at)
  finally:
    events.close()


def test_the_curves_are_those_of_the_metrics(tmp_path):
  _train(tmp_path)
  found = _scalars(tmp_path)
  assert found == _expected(tmp_path)
  assert len(found) == 12 * 2 + 3 * 2


def test_a_stopped_run_has_every_event_once(tmp_path):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  _train(whole)
  with pytest.raises(loop.Stopped):
    _train(parts, at={5: lambda: os.kill(os.getpid(), signal.SIGTERM)})
  _train(parts, 6)
  assert _scalars(parts) == _scalars(whole) == _expected(whole)


class _Killed(Exception):
  """Ends training without a save, as a kill does."""


def test_what_lies_beyond_the_last_checkpoint_goes(tmp_path):
  def kill():
    raise _Killed

  with pytest.raises(_Killed):
    _train(tmp_path, at={11: kill})  # step 10 is reported, 9 is saved
  assert max(step for step, _, _ in _scalars(tmp_path)) == 10
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


@pytest.mark.parametrize('cut', [1, 5, 17])
def test_a_file_that_a_kill_cut_short_is_read_up_to_there(tmp_path, cut):
  events = _open(tmp_path)
  for step in (1, 2, 3):
    events.scalars(step, {'loss': step})
  events.close()
  (path,) = (tmp_path / 'tensorboard').iterdir()
  path.write_bytes(path.read_bytes()[:-cut])
  _open(tmp_path, 3).close()
  assert [step for step, tag, _ in _scalars(tmp_path) if tag == 'train/loss'] == [1, 2]


def test_a_damaged_event_ends_the_file(tmp_path):
  events = _open(tmp_path)
  events.scalars(1, {'loss': 1.})
  events.close()
  (path,) = (tmp_path / 'tensorboard').iterdir()
  content = bytearray(path.read_bytes())
  content[-6] ^= 1
  path.write_bytes(content)
  assert len(list(tensorboard.read(path))) == 1  # the version


def test_a_file_that_a_kill_left_beside_its_successor_is_not_read_twice(tmp_path):
  events = _open(tmp_path)
  events.scalars(1, {'loss': 1.})
  events.close()
  (first,) = (tmp_path / 'tensorboard').iterdir()
  content = first.read_bytes()
  _open(tmp_path, 1).close()
  first.write_bytes(content)
  (tmp_path / 'tensorboard' / '.unfinished').write_bytes(b'cut')
  _open(tmp_path, 1).close()
  assert [row[:2] for row in _scalars(tmp_path)] == [
      (1, 'train/loss'), (1, 'train/learning_rate')]


def test_times_of_earlier_events_stay_and_others_files_too(tmp_path):
  events = _open(tmp_path)
  events.scalars(1, {'loss': 1.})
  events.close()
  (path,) = (tmp_path / 'tensorboard').iterdir()
  before = list(_independent(path))[1].wall_time
  other = tmp_path / 'tensorboard' / 'notes.txt'
  other.write_text('mine')
  _open(tmp_path, 1).close()
  assert other.read_text() == 'mine'
  (path,) = (tmp_path / 'tensorboard').glob('events*')
  assert list(_independent(path))[1].wall_time == before


def test_a_picture_comes_back_as_it_was(tmp_path):
  file = io.BytesIO()
  Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(file, 'PNG')
  events = _open(tmp_path)
  events.image(7, 'maps/validation', file.getvalue())
  events.close()
  (path,) = (tmp_path / 'tensorboard').iterdir()
  _, event = _independent(pathlib.Path(path))
  (value,) = event.summary.value
  assert (event.step, value.tag) == (7, 'maps/validation')
  assert (value.image.height, value.image.width, value.image.colorspace) == (4, 5, 3)
  assert value.image.encoded_image_string == file.getvalue()
