"""Numbers behind curves, against scikit-learn and by hand."""

import types

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import curves
from attnmel_jax.evaluation import image_tables
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import score_summary
from attnmel_jax.evaluation import systems
from attnmel_jax.report.figures import curve_values
from attnmel_jax.report.figures import selection
from tests.report import conftest


def _scored(rows, *, seed=0, fold=0, groups=None, threshold=0.5):
  ids, labels, probabilities = rows
  names = tuple(f'class {k}' for k in range(probabilities.shape[1]))
  run = types.SimpleNamespace(config={'seed': seed, 'fold': fold},
                              summary={'threshold': threshold})
  return selection.Scored(run, None, systems.Run(
      prediction_files.PredictionTable(ids, labels, probabilities, names),
      image_tables.ImageTable(ids, ids if groups is None else groups, {}),
      np.full(len(ids), fold),
      np.full(len(ids), np.nan if threshold is None else threshold)))


def _interval(runs, metric='auc', *, num_draws, seed=0):
  return curve_values.interval(
      runs, metric, draws=systems.Draws(num_draws=num_draws, seed=seed))


def _runs(number, **options):
  return [_scored(conftest.predictions(seed=seed, **options), seed=seed)
          for seed in range(number)]


def _auc(one, k=1):
  return sklearn.metrics.roc_auc_score(
      one.table.labels == k, one.table.probabilities[:, k])


def _ap(one):
  return sklearn.metrics.average_precision_score(
      one.table.labels == 1, one.table.probabilities[:, 1])


@pytest.mark.parametrize('number', [1, 2, 5])
def test_the_area_under_the_average_is_the_average_area(number):
  runs = _runs(number)
  curve = curve_values.average_roc(curve_values.roc_curves(runs, 1))
  assert sklearn.metrics.auc(*curve) == pytest.approx(np.mean(list(map(_auc, runs))))
  assert (np.diff(curve.x) >= 0).all() and (np.diff(curve.y) >= -1e-12).all()


def test_folds_of_other_sizes_average_to_the_mean_area_too():
  runs = [_scored(conftest.predictions(number, seed=number), fold=number)
          for number in (21, 40, 33)]
  curve = curve_values.average_roc(curve_values.roc_curves(runs, 1))
  assert sklearn.metrics.auc(*curve) == pytest.approx(np.mean(list(map(_auc, runs))))


def test_the_vertical_average_by_hand():
  straight = curves.RocCurve(*np.array([[0., 1.], [0., 1.], [np.inf, 0.5]]))
  steps = curves.RocCurve(*np.array(
      [[0., 0., 0.5, 0.5, 1.], [0., 0.6, 0.6, 1., 1.], [np.inf, 4, 3, 2, 1]]))
  curve = curve_values.average_roc([straight, steps])
  np.testing.assert_allclose(curve.x, [0, 0, 0.5, 0.5, 1, 1])
  np.testing.assert_allclose(curve.y, [0, 0.3, 0.55, 0.75, 1, 1])


def test_corners_are_all_that_a_curve_needs():
  x = np.array([0, 0, 0, 0.2, 0.4, 0.4, 0.5, 0.6, 1])
  y = np.array([0, 0.1, 0.3, 0.3, 0.3, 0.5, 0.6, 0.7, 1])
  assert np.flatnonzero(~curve_values.corners(x, y)).tolist() == [1, 3]


@pytest.mark.parametrize('number', [1, 3])
def test_the_steps_of_precision_sum_to_the_average_precision(number):
  runs = _runs(number)
  curve = curve_values.average_precision_recall(
      curve_values.precision_recall_curves(runs, 1))
  area = np.sum(np.diff(curve.x, prepend=0) * curve.y)
  assert area == pytest.approx(np.mean(list(map(_ap, runs))))


def test_a_run_that_lacks_a_class_has_no_curve():
  ids, _, probabilities = conftest.predictions()
  runs = [_scored((ids, np.zeros(40, int), probabilities))]
  assert curve_values.roc_curves(runs, 1) == []
  assert curve_values.precision_recall_curves(runs, 1) == []
  assert np.isnan(_interval(runs, num_draws=20).estimate)


@pytest.mark.parametrize('metric', ['auc', 'ap'])
def test_one_run_has_the_interval_of_its_summary(metric):
  rows = conftest.predictions()
  groups = np.array([f'lesion {i // 2}' for i in range(40)])
  summary = score_summary.classification_scores(
      rows[1], rows[2], class_names=('a', 'b'), groups=groups, threshold=None,
      temperature=None, num_draws=200, seed=5)
  found = _interval([_scored(rows, groups=groups)], metric, num_draws=200, seed=5)
  assert {'estimate': found.estimate, 'low': found.low, 'high': found.high
          } == pytest.approx(summary[metric])


def test_seeds_are_averaged_and_drawn_from_three_on():
  runs = _runs(3)
  found = _interval(runs, num_draws=400)
  assert found.estimate == pytest.approx(np.mean(list(map(_auc, runs))))
  # Networks that differ make the interval wider than their images do.
  ids, labels, good = conftest.predictions()
  blind = np.full((40, 2), 0.5)
  apart = [_scored((ids, labels, probabilities), seed=seed)
           for seed, probabilities in enumerate((good, blind, blind))]
  narrow = _interval(apart[:2], num_draws=400)
  wide = _interval(apart, num_draws=400)
  assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_folds_are_scored_one_by_one():
  rows = conftest.predictions(60)
  parts = [tuple(values[fold::3] for values in rows) for fold in range(3)]
  # The last network's probabilities are on another scale: pooled they would mix.
  parts[2] = (*parts[2][:2], np.stack([1 - parts[2][2][:, 1] / 9,
                                       parts[2][2][:, 1] / 9], axis=1))
  runs = [_scored(part, fold=fold) for fold, part in enumerate(parts)]
  found = _interval(runs, num_draws=100)
  assert found.estimate == pytest.approx(np.mean(list(map(_auc, runs))))
  assert found.low < found.estimate < found.high


def test_lesions_in_several_folds_are_resampled_by_class_alone():
  ids, labels, probabilities = conftest.predictions(60)
  groups = np.array([f'lesion {i // 4}-{i % 2}' for i in range(60)])
  folds = np.arange(60) // 2 % 2  # the two images of each lesion are in both
  runs = [_scored((ids[rows], labels[rows], probabilities[rows]), fold=fold,
                  groups=groups[rows])
          for fold, rows in enumerate((folds == 0, folds == 1))]
  found = _interval(runs, num_draws=100, seed=7)
  draws = bootstrap.bootstrap_draws(labels, groups, num_draws=100, seed=7)
  expected = [np.mean([sklearn.metrics.roc_auc_score(
      labels[folds == fold], probabilities[folds == fold, 1],
      sample_weight=draw[folds == fold]) for fold in range(2)]) for draw in draws]
  assert [found.low, found.high] == pytest.approx(
      np.quantile(expected, [0.025, 0.975]).tolist())


def test_the_lesions_of_a_fold_follow_its_images():
  # Ids in another order than the folds': every lesion of two images, all right or
  # all wrong, so that the bounds depend on which images belong together.
  rng = np.random.default_rng(1)
  ids = np.array([f'i{i:02}' for i in rng.permutation(24)])
  groups = np.array([f'g{i // 2}' for i in range(24)])
  labels = np.arange(24) // 2 % 2
  wrong = np.arange(24) // 2 % 3 == 0
  p = np.where(wrong, 0.5, np.where(labels == 1, 0.9, 0.1))
  probabilities = np.stack([1 - p, p], axis=1)
  order = np.argsort(ids)
  one = [_scored((ids, labels, probabilities), groups=groups)]
  same = [_scored((ids[order], labels[order], probabilities[order]),
                  groups=groups[order])]
  alone = [_scored((ids, labels, probabilities))]
  low, expected, other = (_interval(runs, num_draws=500).low
                          for runs in (one, same, alone))
  assert low == expected < other


@pytest.mark.parametrize('places', [((0, 0), (1, 1)), ((0, 0), (0, 1))])
def test_other_folds_and_overlapping_ones_have_a_mean_and_no_interval(places):
  runs = [_scored(conftest.predictions(seed=number), seed=seed, fold=fold)
          for number, (seed, fold) in enumerate(places)]
  found = _interval(runs, num_draws=10)
  assert found.estimate == pytest.approx(np.mean(list(map(_auc, runs))))
  assert np.isnan(found.low) and np.isnan(found.high)


def test_operating_points_by_hand():
  probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]])
  rows = (np.array(list('abcde')), np.array([0, 0, 0, 1, 1]), probabilities)
  (point,) = curve_values.operating_points([_scored(rows, threshold=0.4)])
  assert point == (0.5, pytest.approx(1 / 3))
  assert curve_values.operating_points([_scored(rows, threshold=None)]) == []


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
  three = _scored(conftest.predictions(classes=3))
  assert curve_values.reliability([three]).counts[:5].sum() == 0  # likeliest >= 1/3


def test_expected_errors_by_hand():
  p = np.array([0.95, 0.95, 0.05, 0.05])
  rows = (np.array(list('abcd')), np.array([1, 0, 0, 0]), np.stack([1 - p, p], 1))
  assert curve_values.expected_errors([_scored(rows)]) == [
      pytest.approx((0.45 + 0.05) / 2)]


def test_confusion_counts_all_runs():
  runs = _runs(2, classes=3)
  expected = sum(sklearn.metrics.confusion_matrix(
      one.table.labels, one.table.probabilities.argmax(axis=1)) for one in runs)
  np.testing.assert_array_equal(curve_values.confusion(runs, 3), expected)
