"""Numbers behind curves, against scikit-learn and by hand."""

import types

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import run_predictions
from attnmel_jax.report import groups
from attnmel_jax.report.figures import curve_values
from tests.report import conftest


def _member(rows, *, seed=0, fold=0, threshold=0.5):
  ids, labels, probabilities = rows
  names = tuple(f'class {k}' for k in range(probabilities.shape[1]))
  run = types.SimpleNamespace(config={'seed': seed, 'fold': fold},
                              summary={'threshold': threshold})
  return groups.Member(run, None, run_predictions.Run(
      prediction_files.PredictionTable(ids, labels, probabilities, names),
      prediction_files.ImageTable(ids, ids, {}),
      np.full(len(ids), fold),
      np.full(len(ids), np.nan if threshold is None else threshold)))


def _runs(number, **options):
  return [_member(conftest.predictions(seed=seed, **options), seed=seed)
          for seed in range(number)]


def _mean(score, runs):
  return pytest.approx(np.mean(
      [score(one.table.labels == 1, one.table.probabilities[:, 1]) for one in runs]))


def test_the_area_under_the_average_is_the_average_area():
  folds = [_member(conftest.predictions(number, seed=number), fold=number)
           for number in (21, 40, 33)]
  for runs in (_runs(1), _runs(5), folds):
    curve = curve_values.average_roc(curve_values.roc_curves(runs, 1))
    assert sklearn.metrics.auc(*curve) == _mean(
        sklearn.metrics.roc_auc_score, runs)
    assert (np.diff(curve.x) >= 0).all() and (np.diff(curve.y) >= -1e-12).all()


def test_the_vertical_average_by_hand():
  straight = metrics.RocCurve(*np.array([[0., 1.], [0., 1.], [np.inf, 0.5]]))
  steps = metrics.RocCurve(*np.array(
      [[0., 0., 0.5, 0.5, 1.], [0., 0.6, 0.6, 1., 1.], [np.inf, 4, 3, 2, 1]]))
  curve = curve_values.average_roc([straight, steps])
  np.testing.assert_allclose(curve.x, [0, 0, 0.5, 0.5, 1, 1])
  np.testing.assert_allclose(curve.y, [0, 0.3, 0.55, 0.75, 1, 1])


def test_corners_are_all_that_a_curve_needs():
  x = np.array([0, 0, 0, 0.2, 0.4, 0.4, 0.5, 0.6, 1])
  y = np.array([0, 0.1, 0.3, 0.3, 0.3, 0.5, 0.6, 0.7, 1])
  assert np.flatnonzero(~curve_values.corners(x, y)).tolist() == [1, 3]


def test_the_steps_of_precision_sum_to_the_average_precision():
  for runs in (_runs(1), _runs(3)):
    curve = curve_values.average_precision_recall(
        curve_values.precision_recall_curves(runs, 1))
    assert np.sum(np.diff(curve.x, prepend=0) * curve.y) == _mean(
        sklearn.metrics.average_precision_score, runs)


def test_a_run_that_lacks_a_class_has_no_curve():
  ids, _, probabilities = conftest.predictions()
  runs = [_member((ids, np.zeros(40, int), probabilities))]
  assert curve_values.roc_curves(runs, 1) == []
  assert curve_values.precision_recall_curves(runs, 1) == []


def test_operating_points_by_hand():
  probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]])
  rows = (np.array(list('abcde')), np.array([0, 0, 0, 1, 1]), probabilities)
  (point,) = curve_values.operating_points([_member(rows, threshold=0.4)])
  assert point == (0.5, pytest.approx(1 / 3))
  assert curve_values.operating_points([_member(rows, threshold=None)]) == []


def test_reliability_of_two_runs_is_that_of_their_rows_together():
  runs = _runs(2)
  both = curve_values.reliability(runs)
  single = [curve_values.reliability([one]) for one in runs]
  np.testing.assert_array_equal(both.counts, single[0].counts + single[1].counts)
  p = np.concatenate([one.table.probabilities[:, 1] for one in runs])
  hits = np.concatenate([one.table.labels == 1 for one in runs])
  inside = (p > 7 / 15) & (p <= 8 / 15)
  assert both.counts[7] == inside.sum() > 0
  assert both.accuracy[7] == pytest.approx(hits[inside].mean())
  three = _member(conftest.predictions(classes=3))
  assert curve_values.reliability([three]).counts[:5].sum() == 0  # likeliest >= 1/3


def test_expected_errors_by_hand():
  p = np.array([0.95, 0.95, 0.05, 0.05])
  rows = (np.array(list('abcd')), np.array([1, 0, 0, 0]), np.stack([1 - p, p], 1))
  assert curve_values.expected_errors([_member(rows)]) == [
      pytest.approx((0.45 + 0.05) / 2)]


def test_confusion_counts_all_runs():
  runs = _runs(2, classes=3)
  expected = sum(sklearn.metrics.confusion_matrix(
      one.table.labels, one.table.probabilities.argmax(axis=1)) for one in runs)
  np.testing.assert_array_equal(curve_values.confusion(runs, 3), expected)
