import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import curves
from attnmel_jax.evaluation import metrics

# Four positives and six negatives, ties at 0.4 (one of each) and 0.8 (two of one).
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.8, 0.4, 0.7, 0.4, 0.3, 0.2, 0.1, 0.05])


def _random(seed, rows=60, decimals=1):
  rng = np.random.default_rng(seed)
  labels = (np.arange(rows) % 3 == 0).astype(int)
  return labels, np.round(rng.normal(labels, 1), decimals)


def test_roc_curve_by_hand():
  curve = curves.roc_curve(LABELS, SCORES)
  np.testing.assert_allclose(curve.thresholds, [np.inf, *np.unique(SCORES)[::-1]])
  np.testing.assert_allclose(
      curve.true_positive_rate, np.array([0, 1, 3, 3, 4, 4, 4, 4, 4]) / 4)
  np.testing.assert_allclose(
      curve.false_positive_rate, np.array([0, 0, 0, 1, 2, 3, 4, 5, 6]) / 6)


@pytest.mark.parametrize('seed', range(3))
def test_areas_of_the_curves_are_the_metrics(seed):
  labels, scores = _random(seed)
  roc = curves.roc_curve(labels, scores)
  assert np.trapezoid(roc.true_positive_rate, roc.false_positive_rate) == (
      pytest.approx(metrics.auc(labels, scores)))
  steps = curves.precision_recall_curve(labels, scores)
  area = np.sum(np.diff(steps.recall, prepend=0) * steps.precision)
  assert area == pytest.approx(metrics.average_precision(labels, scores))


def test_precision_recall_curve_is_scikit_learns():
  labels, scores = _random(5)
  ours = curves.precision_recall_curve(labels, scores)
  precision, recall, thresholds = sklearn.metrics.precision_recall_curve(
      labels, scores)
  # Theirs runs from the lowest score upwards and ends in a point (0, 1).
  np.testing.assert_allclose(ours.precision, precision[-2::-1])
  np.testing.assert_allclose(ours.recall, recall[-2::-1])
  np.testing.assert_allclose(ours.thresholds, thresholds[::-1])


@pytest.mark.parametrize('target', [0, 0.5, 0.8, 0.9, 0.95, 1])
@pytest.mark.parametrize('decimals', [0, 1, 6])
def test_operating_points_are_the_best_of_all_thresholds(target, decimals):
  labels, scores = _random(1, decimals=decimals)
  points = [metrics.sensitivity_specificity(labels, scores, threshold=threshold)
            for threshold in [*scores, scores.max() + 1]]
  best = max(p.sensitivity for p in points if p.specificity >= target)
  assert curves.sensitivity_at_specificity(
      labels, scores, specificity=target) == pytest.approx(best)
  best = max(p.specificity for p in points if p.sensitivity >= target)
  assert curves.specificity_at_sensitivity(
      labels, scores, sensitivity=target) == pytest.approx(best)


@pytest.mark.parametrize('negatives', [20, 40, 60, 100, 140, 200, 460])
def test_just_enough_specificity_is_enough(negatives):
  # 5 % of the negatives lie above half of the positives: specificity is 0.95.
  labels = np.repeat([1, 0], [2, negatives])
  scores = np.zeros(negatives + 2)
  scores[:2] = [3, 1]
  scores[2:2 + negatives // 20] = 2
  assert curves.sensitivity_at_specificity(labels, scores, specificity=0.95) == 1
  assert curves.specificity_at_sensitivity(1 - labels, -scores, sensitivity=0.95) == 1


def test_rounding_takes_no_row_away():
  # 14 / 25 * 25 is more than 14, yet 11 of 25 are 0.44.
  labels = np.repeat([1, 0, 1, 0], [1, 14, 1, 11])
  scores = np.repeat([4, 3, 2, 1], [1, 14, 1, 11])
  assert curves.sensitivity_at_specificity(labels, scores, specificity=0.44) == 1


def test_what_is_undefined_and_what_is_wrong():
  assert not len(curves.roc_curve([1, 1], [0.1, 0.2]).thresholds)
  assert not len(curves.precision_recall_curve([1, 1], [0.1, 0.2]).recall)
  assert np.isnan(curves.sensitivity_at_specificity([0], [0.5], specificity=0.9))
  assert np.isnan(curves.specificity_at_sensitivity([0], [0.5], sensitivity=0.9))
  with pytest.raises(ValueError, match='specificity=95'):
    curves.sensitivity_at_specificity(LABELS, SCORES, specificity=95)
  with pytest.raises(ValueError, match='sensitivity=-1'):
    curves.specificity_at_sensitivity(LABELS, SCORES, sensitivity=-1)
