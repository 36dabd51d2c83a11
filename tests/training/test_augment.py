"""Augmentation against an enumeration of all crops and symmetries in numpy."""

import collections
import functools

import jax
import numpy as np
import pytest
import scipy.stats

from attnmel_jax.training import augment

_SIDE, _SIZE = 6, 4
_ROI = np.arange(_SIDE * _SIDE, dtype=np.uint8).reshape(_SIDE, _SIDE)
_IMAGE = np.stack([_ROI, _ROI + 100, _ROI + 200], axis=-1)
_ALL = ('random_crop', 'random_rotation', 'random_flip')


@functools.partial(jax.jit, static_argnums=2)
def _augment(image, roi, switches, seeds):
  """Augments with a key for each seed and the switches named."""
  augmentation = augment.Augmentation(**{name: name in switches for name in _ALL})
  return augment.augment(image, roi, jax.vmap(jax.random.key)(seeds), augmentation,
                         image_size=_SIZE)


def _draws(switches, number=7200):
  """`number` augmentations of the same image and map."""
  return _augment(np.tile(_IMAGE, (number, 1, 1, 1)), np.tile(_ROI, (number, 1, 1)),
                  switches, np.arange(number, dtype=np.uint32))


def _possible():
  """Map bytes -> (top, left, turns, flipped), for all 9 x 8 possible outputs."""
  outputs = {}
  for top in range(_SIDE - _SIZE + 1):
    for left in range(_SIDE - _SIZE + 1):
      crop = _ROI[top:top + _SIZE, left:left + _SIZE]
      for turns in range(4):
        for flipped in (False, True):
          turned = np.rot90(crop, turns)
          turned = np.fliplr(turned) if flipped else turned
          outputs[turned.tobytes()] = (top, left, turns, flipped)
  assert len(outputs) == 72
  return outputs


def _counts(roi, part):
  possible = _possible()
  return collections.Counter(part(*possible[np.asarray(r).tobytes()]) for r in roi)


def test_image_and_map_get_the_same_draw_of_all_that_are_possible():
  image, roi = _draws(_ALL)
  assert image.dtype == roi.dtype == np.uint8
  for channel, offset in enumerate((0, 100, 200)):
    np.testing.assert_array_equal(image[..., channel], roi + offset)
  counts = _counts(roi, lambda *draw: draw)
  assert len(counts) == 72
  assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.01


@pytest.mark.parametrize(('switches', 'expected'), [
    (('random_crop',), {(t, lft, 0, False) for t in range(3) for lft in range(3)}),
    (('random_rotation',), {(1, 1, turns, False) for turns in range(4)}),
    # Nothing, left-right, top-bottom (half a turn and left-right), and both.
    (('random_flip',), {(1, 1, 0, False), (1, 1, 0, True), (1, 1, 2, True),
                        (1, 1, 2, False)})])
def test_each_switch_alone(switches, expected):
  _, roi = _draws(switches, 1000)
  counts = _counts(roi, lambda *draw: draw)
  assert counts.keys() == expected
  assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.01


def test_without_switches_the_centre_is_cropped():
  image, roi = _draws((), 2)
  np.testing.assert_array_equal(roi, [_ROI[1:5, 1:5]] * 2)
  np.testing.assert_array_equal(image, [_IMAGE[1:5, 1:5]] * 2)


def test_a_draw_depends_on_its_own_key_alone():
  whole = _draws(_ALL)  # all of one program, which compiles once
  order = np.random.default_rng(0).permutation(7200)
  part = _augment(np.tile(_IMAGE, (7200, 1, 1, 1)), np.tile(_ROI, (7200, 1, 1)), _ALL,
                  order.astype(np.uint32))
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[order], b), whole, part)


def test_draws_are_the_same_in_float64():
  single = _draws(_ALL)
  with jax.enable_x64(True):
    double = _draws(_ALL)
  jax.tree.map(np.testing.assert_array_equal, single, double)
