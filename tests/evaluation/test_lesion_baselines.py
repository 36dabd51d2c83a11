import numpy as np
import pytest

from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import lesion_baselines


def _disc(side, radius):
  """1 within `radius` sides of the centre; 0.5 touches the border."""
  offsets = (np.arange(side) + 0.5) / side - 0.5
  return (offsets[:, None]**2 + offsets**2 <= radius**2).astype(float)


def _discs(radii, side=64, margin=8):
  """Masks of centred discs, inside a frame that a test does not see."""
  inner = np.stack([_disc(side, r) for r in radii])
  return np.pad(255 * inner.astype(np.uint8), ((0, 0), (margin,) * 2, (margin,) * 2),
                constant_values=255)


def test_a_disc_finds_itself():
  found = lesion_baselines.best_disc(
      _discs([0.3]), np.array([True]), image_size=64)
  assert found.radius == pytest.approx(0.3)
  assert found.jaccard[0] == 1


def test_the_best_radius_is_the_best_of_all():
  lesion = _discs([0.2, 0.25, 0.45, 0.5])
  has_lesion = np.array([True, True, True, False])
  found = lesion_baselines.best_disc(lesion, has_lesion, image_size=64)
  by_radius = {}
  for radius in lesion_baselines.RADII:
    disc = _disc(64, radius)
    by_radius[radius] = attention_maps.attention_jaccard(
        np.broadcast_to(disc, (4, 64, 64)), lesion, has_lesion, image_size=64,
        threshold=0.5)
  best = max(by_radius, key=lambda radius: np.nanmean(by_radius[radius]))
  assert found.radius == best
  np.testing.assert_allclose(found.jaccard, by_radius[best])
  assert np.isnan(found.jaccard[3])


def test_no_annotation_has_no_disc():
  found = lesion_baselines.best_disc(_discs([0.2]), np.array([False]), image_size=64)
  assert np.isnan(found.radius)
  assert np.isnan(found.jaccard).all()


def _within_class_variance(grey, threshold):
  """Otsu's other definition: the smallest sum of the classes' variances."""
  low, high = grey[grey <= threshold], grey[grey > threshold]
  if not low.size or not high.size:
    return np.inf
  return low.size * low.var() + high.size * high.var()


@pytest.mark.parametrize('seed', range(4))
def test_otsus_threshold_leaves_the_least_variance(seed):
  rng = np.random.default_rng(seed)
  grey = np.clip(np.concatenate(
      [rng.normal(70, 20, 300), rng.normal(150, 30, 500 + 300 * seed)]),
      0, 255).astype(np.uint8)
  best = min(_within_class_variance(grey, t) for t in range(256))
  found = _within_class_variance(grey, lesion_baselines.otsu_threshold(grey))
  assert found == pytest.approx(best)


def test_otsus_threshold_of_two_greys_and_of_one():
  assert lesion_baselines.otsu_threshold(np.array([9, 9, 200], np.uint8)) == 9
  assert lesion_baselines.otsu_threshold(np.full((4, 4), 77, np.uint8)) == 77


def test_the_dark_part_is_the_lesion():
  photograph = np.full((20, 20, 3), (220, 180, 160), np.uint8)
  photograph[5:12, 6:15] = (90, 60, 50)
  expected = np.zeros((20, 20), bool)
  expected[5:12, 6:15] = True
  np.testing.assert_array_equal(lesion_baselines.otsu_mask(photograph), expected)
  # Blue counts little: luma is .299 R + .587 G + .114 B.
  photograph[:] = (100, 100, 0)
  photograph[0] = (100, 100, 255)
  photograph[1] = (100, 150, 0)
  dark = lesion_baselines.otsu_mask(photograph)
  assert not dark[:2].any()
  assert dark[2:].all()


def test_an_image_of_one_grey_is_all_marked():
  assert lesion_baselines.otsu_mask(np.full((4, 4, 3), 120, np.uint8)).all()
