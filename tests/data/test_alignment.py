"""Images that are laid over each other: known moves are found again."""

import numpy as np
from scipy import ndimage

from attnmel_jax.data import alignment


def _scenes(number, seed=0):
  """[N, 200, 200], smooth enough to be resampled without loss."""
  rng = np.random.default_rng(seed)
  noise = rng.normal(size=(number, 200, 200))
  return sum(ndimage.gaussian_filter(noise, s, axes=(1, 2)) * s for s in (2, 5, 12))


def _cut(scenes, stretch=(0, 0), shift=(0, 0)):
  """The middle 64 x 64 of the scenes, moved: a cubic spline at those places."""
  middle = np.arange(64) - 31.5
  places = np.meshgrid(*(middle * (1 + grown) + moved + 99.5
                         for grown, moved in zip(stretch, shift, strict=True)),
                       indexing='ij')
  return np.stack([ndimage.map_coordinates(scene, places, order=3)
                   for scene in scenes])


def test_a_move_is_found():
  scenes = _scenes(3)
  for stretch, shift in (
      ((0, 0), (0, 0)), ((0.1, -0.08), (0, 0)), ((0, 0), (4, -5)),
      ((-0.13, 0), (2, 3)), ((0.06, 0.12), (-3, 4))):
    # What has to be done to the second is the inverse of what was done to it.
    overlay = alignment.overlay(_cut(scenes), _cut(scenes, stretch, shift))
    inverse = [1 / (1 + grown) - 1 for grown in stretch]
    moved = [-move / (1 + grown) / 64
             for move, grown in zip(shift, stretch, strict=True)]
    np.testing.assert_allclose(overlay.stretch, [inverse] * 3, atol=0.01)
    np.testing.assert_allclose(overlay.shift, [moved] * 3, atol=0.005)
    assert overlay.correlation.min() > 0.995
    assert overlay.detail.min() > 0.95
    # The share of the first that the second holds, by rectangles.
    share = 1.
    for grown, move in zip(inverse, moved, strict=True):
      ends = (np.array([-0.5, 0.5]) * (1 + grown) + move).clip(-0.5, 0.5)
      share *= (ends[1] - ends[0]) / (1 + grown)
    np.testing.assert_allclose(overlay.overlap, share, atol=0.05)


def test_brightness_and_contrast_do_not_count():
  scenes = _scenes(3)
  first, second = _cut(scenes), _cut(scenes, (0.1, 0), (0, 2))
  plain = alignment.overlay(first, second)
  other = alignment.overlay(first * 7 + 3, second * 0.5 - 20)
  for name in ('correlation', 'detail', 'overlap', 'stretch', 'shift'):
    np.testing.assert_allclose(getattr(other, name), getattr(plain, name), atol=1e-3)


def test_without_a_move_it_is_the_correlation_of_numpy():
  scenes = _scenes(2)
  first = _cut(scenes)
  second = first + np.random.default_rng(0).normal(0, 0.1, first.shape)
  overlay = alignment.overlay(first, second)
  expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1]
              for a, b in zip(first, second, strict=True)]
  np.testing.assert_allclose(overlay.correlation, expected, atol=2e-3)
  assert np.abs(overlay.shift).max() < 2e-3


def test_flat_and_unlike_images_stay_within_their_limits():
  first = _cut(_scenes(4))
  second = np.concatenate([np.zeros((1, 64, 64)), np.full((1, 64, 64), 9.),
                           _cut(_scenes(2, seed=1))])
  overlay = alignment.overlay(first, second)
  for name in ('correlation', 'detail', 'overlap', 'stretch', 'shift'):
    assert np.isfinite(getattr(overlay, name)).all()
  assert np.abs(overlay.stretch).max() <= 0.3 + 1e-6
  assert np.abs(overlay.shift).max() <= 0.25 + 1e-6
  assert overlay.correlation[:2].tolist() == [0, 0]
  assert overlay.correlation[2:].max() < 0.9
