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


def _member(rows, threshold=0.5):
  ids, labels, probabilities = rows
  names = tuple(f'class {k}' for k in range(probabilities.shape[1]))
  run = types.SimpleNamespace(summary={'threshold': threshold})
  return groups.Member(run, None, run_predictions.Run(
      prediction_files.PredictionTable(ids, labels, probabilities, names),
      prediction_files.ImageTable(ids, ids, {}), np.zeros(len(ids)), None))


def _binary(labels, scores, **options):
  scores = np.array(scores)
  ids = np.array([f'{i}' for i in range(len(scores))])
  return _member((ids, np.array(labels), np.stack([1 - scores, scores], 1)), **options)


def _runs(*numbers, classes=2):
  return [_member(conftest.predictions(number, classes=classes, seed=seed))
          for seed, number in enumerate(numbers)]


@pytest.mark.parametrize('numbers', [(40,), (21, 40, 33)])
def test_the_area_under_the_average_is_the_average_area(numbers):
  runs = _runs(*numbers)

  def mean(score):
    return pytest.approx(np.mean(
        [score(one.table.labels == 1, one.table.probabilities[:, 1]) for one in runs]))

  curve = curve_values.average_roc(curve_values.roc_curves(runs, 1))
  assert sklearn.metrics.auc(*curve) == mean(sklearn.metrics.roc_auc_score)
  assert (np.diff(curve.x) >= 0).all() and (np.diff(curve.y) >= -1e-12).all()
  steps = curve_values.average_precision_recall(
      curve_values.precision_recall_curves(runs, 1))
  assert np.sum(np.diff(steps.x, prepend=0) * steps.y) == mean(
      sklearn.metrics.average_precision_score)


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


def test_a_run_that_lacks_a_class_has_no_curve():
  runs = [_binary([0, 0], [0.2, 0.3])]
  assert curve_values.roc_curves(runs, 1) == []
  assert curve_values.precision_recall_curves(runs, 1) == []


def test_precision_has_no_point_at_recall_0():
  (curve,) = curve_values.precision_recall_curves([_binary([0, 1], [0.9, 0.8])], 1)
  assert (curve.recall.tolist(), curve.precision.tolist()) == ([1], [0.5])


def test_operating_points_and_expected_errors_by_hand():
  labels, scores = [0, 0, 0, 1, 1], [0.1, 0.4, 0.5, 0.8, 0.3]
  (point,) = curve_values.operating_points([_binary(labels, scores, threshold=0.4)])
  assert point == (0.5, pytest.approx(1 / 3))
  assert curve_values.operating_points([_binary(labels, scores, threshold=None)]) == []
  run = _binary([1, 0, 0, 0], [0.95, 0.95, 0.05, 0.05])
  assert curve_values.expected_errors([run]) == [pytest.approx((0.45 + 0.05) / 2)]


def test_reliability_of_two_runs_is_that_of_their_rows_together():
  runs = _runs(40, 40)
  both = curve_values.reliability(runs)
  single = [curve_values.reliability([one]) for one in runs]
  np.testing.assert_array_equal(both.counts, single[0].counts + single[1].counts)
  p = np.concatenate([one.table.probabilities[:, 1] for one in runs])
  hits = np.concatenate([one.table.labels == 1 for one in runs])
  inside = (p > 7 / 15) & (p <= 8 / 15)
  assert both.counts[7] == inside.sum() > 0
  assert both.accuracy[7] == pytest.approx(hits[inside].mean())
  three = _runs(40, classes=3)
  assert curve_values.reliability(three).counts[:5].sum() == 0  # likeliest >= 1/3


def test_confusion_counts_all_runs():
  runs = _runs(40, 40, classes=3)
  expected = sum(sklearn.metrics.confusion_matrix(
      one.table.labels, one.table.probabilities.argmax(axis=1)) for one in runs)
  np.testing.assert_array_equal(curve_values.confusion(runs, 3), expected)
