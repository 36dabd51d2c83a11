import functools

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax import errors
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import folds as folds_lib
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import prediction_files


def _table(ids, labels, positive, names=('other', 'melanoma')):
  positive = np.asarray(positive)
  return prediction_files.PredictionTable(
      np.array(ids), np.array(labels, np.int32),
      np.stack([1 - positive, positive], axis=1), names)


def test_folds_are_pooled_in_the_order_of_ids():
  pooled = folds_lib.pool([
      _table(['d', 'a'], [1, 0], [0.9, 0.6]), _table(['c', 'b'], [0, 1], [0.1, 0.2])])
  assert pooled.table.ids.tolist() == ['a', 'b', 'c', 'd']
  assert pooled.table.labels.tolist() == [0, 1, 0, 1]
  np.testing.assert_allclose(pooled.table.probabilities[:, 1], [0.6, 0.2, 0.1, 0.9])
  assert pooled.folds.tolist() == [0, 1, 1, 0]
  # Recalls count all right answers together: 1 of 2 and 1 of 2.
  predicted = pooled.table.probabilities.argmax(axis=1)
  np.testing.assert_allclose(metrics.recall_per_class(
      pooled.table.labels, predicted, num_classes=2), [0.5, 0.5])


def test_an_image_is_tested_once():
  first = _table(['a', 'b'], [0, 1], [0.1, 0.2])
  with pytest.raises(errors.UserError, match='a and 1 other images'):
    folds_lib.pool([first, first])
  with pytest.raises(errors.UserError, match='fold 1 has the classes x, y'):
    folds_lib.pool([first, _table(['c'], [0], [0.5], ('x', 'y'))])
  with pytest.raises(ValueError, match='no folds'):
    folds_lib.pool([])


def _three_folds(seed=0, rows=90):
  """Each fold ranks well by itself, on a scale of its own."""
  rng = np.random.default_rng(seed)
  folds = np.arange(rows) % 3
  labels = (rng.random(rows) < 0.4).astype(int)
  return labels, rng.normal(labels, 0.7) + 5 * folds, folds


def test_areas_are_averaged_over_the_folds():
  labels, scores, folds = _three_folds()
  draws = bootstrap.bootstrap_draws(
      folds_lib.strata(labels, folds), np.arange(90), num_draws=20, seed=0)
  found = bootstrap.bootstrap_values(functools.partial(
      folds_lib.draws_average, metric=bootstrap.draws_auc, labels=labels,
      scores=scores, folds=folds), draws=draws)
  for draw, value in zip([np.ones(90, int), *draws], found, strict=True):
    rows = np.repeat(np.arange(90), draw)
    areas = [sklearn.metrics.roc_auc_score(labels[rows][folds[rows] == k],
                                           scores[rows][folds[rows] == k])
             for k in range(3)]
    assert value == pytest.approx(np.mean(areas))
  # Pooled, the scales of the folds would spoil the ranking.
  assert found[0] - metrics.auc(labels, scores) > 0.2


def test_strata_keep_every_class_of_every_fold():
  labels, folds = np.array([0, 1, 0, 1, 2, 2]), np.array([0, 0, 1, 1, 0, 1])
  assert len(np.unique(folds_lib.strata(labels, folds))) == 6
  draws = bootstrap.bootstrap_draws(
      folds_lib.strata(labels, folds), np.arange(6), num_draws=30, seed=0)
  assert (draws == 1).all()


def test_a_fold_of_one_class_takes_no_part():
  labels, scores, folds = _three_folds()
  labels = np.where(folds == 2, 1, labels)
  draws = np.ones((1, 90), np.uint16)
  expected = [metrics.auc(labels[folds == k], scores[folds == k]) for k in (0, 1)]
  average = functools.partial(
      folds_lib.draws_average, draws, metric=bootstrap.draws_auc, scores=scores,
      folds=folds)
  assert average(labels=labels) == pytest.approx(np.mean(expected))
  assert np.isnan(average(labels=np.ones(90))).all()


def test_the_spread_over_folds():
  found = folds_lib.average([0.8, 0.9, np.nan, 0.7])
  assert found == (pytest.approx(0.8), pytest.approx(0.1), 0.7, 0.9, 3)
  assert 'standard_error' not in found._fields
  one = folds_lib.average([0.8])
  assert np.isnan(one.spread_over_folds)
  assert folds_lib.average([np.nan]).num_folds == 0
