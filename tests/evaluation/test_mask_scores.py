"""Jaccard indices of masks by hand and by scikit-learn, and the rule of 0.65."""

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import mask_scores


def _masks(*rows):
  return np.array(rows, np.uint8).reshape(len(rows), 2, 2)


def test_jaccard_by_hand():
  lesion = _masks([255, 255, 0, 0], [128, 127, 0, 0], [0, 0, 0, 0], [255, 0, 0, 0],
                  [255, 0, 0, 0])
  probabilities = np.array([
      [.9, .1, .5, 0], [.9, 0, 0, 0], [.4, .1, 0, 0], [0, 1, 1, 1],
      [1, 0, 0, 0]]).reshape(5, 2, 2)
  result = mask_scores.mask_jaccard(
      probabilities, lesion, np.array([True] * 4 + [False]), image_size=2,
      threshold=0.5)
  np.testing.assert_array_equal(result, [1 / 3, 1, 1, 0, np.nan])


def test_jaccard_is_scikit_learn_s_on_the_centre_of_the_mask():
  rng = np.random.default_rng(0)
  lesion = 255 * rng.integers(0, 2, (6, 12, 12), np.uint8)
  probabilities = rng.uniform(size=(6, 8, 8)).astype(np.float32)
  result = mask_scores.mask_jaccard(
      probabilities, lesion, np.ones(6, bool), image_size=8, threshold=0.3)
  expected = [
      sklearn.metrics.jaccard_score(mask[2:10, 2:10].ravel() == 255, p.ravel() >= 0.3)
      for mask, p in zip(lesion, probabilities, strict=True)]
  np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_below_0_65_counts_0():
  indices = np.array([0, .3, .6499999, .65, .8, 1, np.nan])
  np.testing.assert_array_equal(
      mask_scores.thresholded(indices), [0, 0, 0, .65, .8, 1, np.nan])


def test_summary_is_over_annotated_images():
  found = mask_scores.summary(np.array([.5, .7, np.nan, .9]))
  assert found == pytest.approx({'jaccard': .7, 'thresholded_jaccard': 1.6 / 3})
  assert all(np.isnan(v) for v in mask_scores.summary(np.full(2, np.nan)).values())


@pytest.mark.parametrize('value', [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(value):
  with pytest.raises(ValueError, match='outside'):
    mask_scores.mask_jaccard(
        np.full((1, 2, 2), value), _masks([0, 0, 0, 0]), np.array([True]),
        image_size=2, threshold=0.5)


def test_shapes_have_to_belong_together():
  for count, side in ((2, 2), (1, 1)):
    with pytest.raises(ValueError, match='belong together'):
      mask_scores.mask_jaccard(
          np.zeros((count, side, side)), _masks([0, 0, 0, 0]), np.array([True]),
          image_size=2, threshold=0.5)
