"""Maps on disk: found again by identity, whole or not at all, resumed after a kill."""

import pathlib
import threading

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.training import stored_maps

LAYOUT = stored_maps.Layout({'pool3': (2, 2, 3), 'pool5': (1, 1, 2)})
ROWS = np.random.default_rng(0).normal(size=(10, 14)).astype(np.float16)
IDENTITY = {'weights': 'abc', 'images': 'def'}


class Split:
  """What a folder of maps needs of a prepared split."""

  def __init__(self, root: pathlib.Path):
    self.path = root / 'train-crop1.0' / '1.0.0'

  def __len__(self):
    return len(ROWS)


@pytest.fixture
def split(tmp_path):
  """A prepared split of ten images."""
  return Split(tmp_path)


def _from(start, stop=10):
  """Batches of three."""
  for first in range(start, stop, 3):
    yield ROWS[first:first + 3]


def _write(split, view=0, identity=IDENTITY, compute=_from):
  with stored_maps.open_writer(split, identity, LAYOUT) as writer:
    writer.write(view, compute, batch=3)


def _open(split, views=(0,), identity=IDENTITY):
  return stored_maps.open_maps(split, identity, LAYOUT, views, memory_gib=1)


def test_each_image_is_read_under_its_view(split):
  _write(split)
  _write(split, 5, compute=lambda start: (-rows for rows in _from(start)))
  read = _open(split, (0, 5)).read(np.array([7, 7, 2]), np.array([0, 5, 5], np.uint8))
  assert {name: x.shape for name, x in read.items()} == {
      'pool3': (3, 2, 2, 3), 'pool5': (3, 1, 1, 2)}
  np.testing.assert_array_equal(read['pool5'][:, 0, 0],
                                [ROWS[7, 12:], -ROWS[7, 12:], -ROWS[2, 12:]])
  np.testing.assert_array_equal(LAYOUT.join(read)[0], ROWS[7])


def test_other_weights_images_or_views_have_files_of_their_own(split):
  _write(split)
  assert stored_maps.missing(split, IDENTITY, (0, 3)) == (3,)
  for changed in ({'weights': 'abd'}, {'images': ''}, {'dtype': 'bfloat16'}):
    assert stored_maps.missing(split, IDENTITY | changed, (0,)) == (0,)


@pytest.mark.parametrize('written', [0, 13, 3 * 28, 5 * 28 + 9, 9 * 28])
def test_what_a_kill_left_is_no_view_and_is_completed(split, written):
  whole = stored_maps.folder(split, IDENTITY) / 'view0'
  whole.parent.mkdir(parents=True)
  # A kill within a write leaves the first of its bytes.
  whole.with_name('view0.partial').write_bytes(ROWS.tobytes()[:written])
  assert stored_maps.missing(split, IDENTITY, (0,)) == (0,)
  starts = []

  def compute(start):
    starts.append(start)
    return _from(start)

  _write(split, compute=compute)
  assert starts == [written // (3 * 28) * 3]
  np.testing.assert_array_equal(_open(split).views[0], ROWS)
  assert sorted(path.name for path in whole.parent.iterdir()) == [
      '.lock', 'identity.json', 'view0']


def test_an_error_within_leaves_what_was_done(split):
  def failing(start):
    yield from _from(start, 6)
    raise errors.UserError('not finite')

  with pytest.raises(errors.UserError, match='not finite'):
    _write(split, compute=failing)
  assert stored_maps.missing(split, IDENTITY, (0,)) == (0,)
  _write(split)
  np.testing.assert_array_equal(_open(split).views[0], ROWS)


def test_a_second_writer_waits_and_finds_the_view(split):
  second = threading.Thread(target=lambda: _write(split, compute=None))
  with stored_maps.open_writer(split, IDENTITY, LAYOUT) as writer:
    second.start()
    second.join(0.2)
    assert second.is_alive()
    writer.write(0, _from, batch=3)
  second.join(10)
  np.testing.assert_array_equal(_open(split).views[0], ROWS)


def test_two_writers_without_a_lock_publish_nothing(split):
  path = stored_maps.folder(split, IDENTITY)

  def compute(start):
    for rows in _from(start):
      with (path / 'view0.partial').open('ab') as other:
        other.write(rows.tobytes())
      yield rows

  with pytest.raises(errors.UserError, match='was written by two processes at once'):
    _write(split, compute=compute)
  assert stored_maps.missing(split, IDENTITY, (0,)) == (0,)
  assert not (path / 'view0.partial').exists()


def test_a_view_of_another_size_is_damaged(split):
  _write(split)
  path = stored_maps.folder(split, IDENTITY) / 'view0'
  path.write_bytes(path.read_bytes()[:-2])
  with pytest.raises(errors.UserError, match=r'view0 is damaged; delete .*-maps-'):
    _open(split)


def test_a_full_disk_is_named(split):
  path = stored_maps.folder(split, IDENTITY)
  path.mkdir(parents=True)
  (path / 'view0.partial').symlink_to('/dev/full')
  with pytest.raises(errors.UserError, match='view0.partial cannot be written .*GiB'):
    _write(split)
