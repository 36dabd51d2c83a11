import functools
import time

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import curves


def _ranked(seed, rows, share=0.3, decimals=2):
  """Labels and scores with ties; the classes are one deviation apart."""
  rng = np.random.default_rng(seed)
  labels = np.zeros(rows, bool)
  labels[:round(share * rows)] = True
  return labels, np.round(rng.normal(labels, 1.0), decimals)


def _whole(draws):
  return np.ones(draws.shape[1], bool)


def test_draws_keep_the_size_of_every_stratum():
  strata = np.repeat([0, 1, 2], [50, 20, 7])
  draws = bootstrap.bootstrap_draws(strata, np.arange(77), num_draws=100, seed=0)
  assert draws.shape == (100, 77)
  for stratum, size in enumerate([50, 20, 7]):
    assert (draws[:, strata == stratum].sum(axis=1) == size).all()
  assert len(np.unique(draws, axis=0)) == 100


def test_multiplicities_are_those_of_drawing_with_replacement():
  draws = bootstrap.bootstrap_draws(
      np.zeros(40), np.arange(40), num_draws=4000, seed=1).astype(float)
  assert draws.mean() == 1
  np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.08)
  # A multinomial count: variance 1 - 1/m, P(0) = (1 - 1/m)^m.
  assert draws.var(axis=0).mean() == pytest.approx(1 - 1 / 40, abs=0.01)
  assert (draws == 0).mean() == pytest.approx((1 - 1 / 40)**40, abs=0.005)


def test_groups_are_drawn_whole_and_within_their_class():
  groups = np.array(['b', 'a', 'b', 'c', 'd', 'c', 'c', 'e'])
  strata = np.array([1, 0, 1, 0, 1, 0, 0, 0])
  draws = bootstrap.bootstrap_draws(strata, groups, num_draws=200, seed=2)
  for group in 'abcde':
    rows = draws[:, groups == group]
    assert (rows == rows[:, :1]).all()
  _, first = np.unique(groups, return_index=True)
  by_group = draws[:, first]          # columns a, b, c, d, e
  assert (by_group[:, [0, 2, 4]].sum(axis=1) == 3).all()
  assert (by_group[:, [1, 3]].sum(axis=1) == 2).all()


def test_groups_of_mixed_classes_form_a_stratum():
  # p and q hold both classes; r and s one each: every draw holds both classes.
  groups = np.array(['p', 'p', 'q', 'q', 'r', 's'])
  strata = np.array([0, 1, 0, 1, 0, 1])
  draws = bootstrap.bootstrap_draws(strata, groups, num_draws=50, seed=0)
  assert (draws[:, 0] == draws[:, 1]).all()
  assert (draws[:, 0] + draws[:, 2] == 2).all()
  assert (draws[:, 4:] == 1).all()


def test_draws_depend_on_the_seed_alone():
  strata, groups = np.repeat([0, 1], 30), np.arange(60)
  make = functools.partial(bootstrap.bootstrap_draws, strata, groups, num_draws=20)
  np.testing.assert_array_equal(make(seed=5), make(seed=5))
  assert (make(seed=5) != make(seed=6)).any()


@pytest.mark.parametrize('strata, groups, num_draws', [
    ([0, 1], [0], 10), ([], [], 10), ([0, 1], [0, 1], 0)])
def test_draws_of_nothing_raise(strata, groups, num_draws):
  with pytest.raises(ValueError):
    bootstrap.bootstrap_draws(strata, groups, num_draws=num_draws, seed=0)


@pytest.mark.parametrize('decimals', [0, 1, 8])
def test_ranking_metrics_of_draws_match_scikit_learn_on_repeated_rows(decimals):
  labels, scores = _ranked(0, 90, decimals=decimals)
  draws = bootstrap.bootstrap_draws(labels, np.arange(90) // 2, num_draws=25, seed=3)
  auc = bootstrap.draws_auc(draws, labels=labels, scores=scores)
  precision = bootstrap.draws_average_precision(draws, labels=labels, scores=scores)
  for d, draw in enumerate(draws):
    rows = np.repeat(np.arange(90), draw)
    assert auc[d] == pytest.approx(
        sklearn.metrics.roc_auc_score(labels[rows], scores[rows]), abs=1e-12)
    assert precision[d] == pytest.approx(
        sklearn.metrics.average_precision_score(labels[rows], scores[rows]), abs=1e-12)


def test_mean_of_draws_by_hand():
  draws = np.array([[1, 1, 1, 1], [2, 0, 1, 5], [0, 0, 0, 4]], np.uint16)
  values = np.array([1.0, 0.0, 0.5, np.nan])
  include = np.array([True, True, True, False])
  np.testing.assert_allclose(
      bootstrap.draws_mean(draws, values=values, include=include),
      [0.5, 2.5 / 3, np.nan])


def test_undefined_metrics_are_nan():
  labels, scores = np.ones(5, bool), np.arange(5.0)
  draws = bootstrap.bootstrap_draws(labels, np.arange(5), num_draws=10, seed=0)
  for metric in (bootstrap.draws_auc, bootstrap.draws_average_precision):
    for side in (labels, ~labels):
      interval = bootstrap.bootstrap_interval(
          functools.partial(metric, labels=side, scores=scores),
          draws=draws, level=0.95)
      assert np.isnan([interval.estimate, interval.low, interval.high]).all()


def test_interval_is_the_quantiles_of_the_draws():
  # Draw d takes row 0 d times and nothing else counts: the metric is d.
  draws = np.zeros((101, 3), np.uint16)
  draws[:, 0] = np.arange(101)
  interval = bootstrap.bootstrap_interval(
      lambda chosen: chosen[:, 0].astype(float), draws=draws, level=0.9)
  assert interval == bootstrap.Interval(1.0, pytest.approx(5), pytest.approx(95), 101)


def test_chunks_cover_every_draw_once(monkeypatch):
  labels, scores = _ranked(1, 40)
  draws = bootstrap.bootstrap_draws(labels, np.arange(40), num_draws=23, seed=0)
  metric = functools.partial(bootstrap.draws_auc, labels=labels, scores=scores)
  whole = bootstrap.bootstrap_interval(metric, draws=draws, level=0.95)
  monkeypatch.setattr(bootstrap, '_CELLS', 5 * 40)
  assert bootstrap.bootstrap_interval(metric, draws=draws, level=0.95) == whole


def test_level_is_checked():
  with pytest.raises(ValueError, match='level=95'):
    bootstrap.bootstrap_interval(
        lambda draws: draws[:, 0], draws=np.ones((2, 2), np.uint16), level=95)


def test_interval_of_a_mean_matches_scipys_bootstrap():
  values = np.random.default_rng(4).exponential(size=80)
  draws = bootstrap.bootstrap_draws(
      np.zeros(80), np.arange(80), num_draws=8000, seed=0)
  ours = bootstrap.bootstrap_interval(
      functools.partial(bootstrap.draws_mean, values=values, include=_whole(draws)),
      draws=draws, level=0.95)
  theirs = scipy.stats.bootstrap(
      (values,), np.mean, n_resamples=8000, method='percentile', vectorized=True,
      rng=np.random.default_rng(9)).confidence_interval
  # The bounds' own Monte Carlo error is about 0.005.
  assert ours.low == pytest.approx(theirs.low, abs=0.02)
  assert ours.high == pytest.approx(theirs.high, abs=0.02)
  assert ours.estimate == pytest.approx(values.mean())


def test_interval_of_a_sensitivity_is_binomial():
  # 45 of 60: a draw's hits are Binomial(60, 0.75) whatever the negatives do.
  labels = np.repeat([True, False], [60, 140])
  called = np.zeros(200, bool)
  called[:45] = True
  draws = bootstrap.bootstrap_draws(labels, np.arange(200), num_draws=5000, seed=0)
  interval = bootstrap.bootstrap_interval(
      functools.partial(bootstrap.draws_mean, values=called, include=labels),
      draws=draws, level=0.95)
  expected = scipy.stats.binom(60, 0.75).ppf([0.025, 0.975]) / 60
  np.testing.assert_allclose([interval.low, interval.high], expected, atol=1.01 / 60)


def test_whole_lesions_widen_the_interval():
  # Three copies of each row add nothing: the error is that of the 50 originals.
  values = np.repeat(np.random.default_rng(0).normal(size=50), 3)

  def width(groups):
    draws = bootstrap.bootstrap_draws(np.zeros(150), groups, num_draws=4000, seed=0)
    interval = bootstrap.bootstrap_interval(
        functools.partial(bootstrap.draws_mean, values=values, include=_whole(draws)),
        draws=draws, level=0.95)
    return interval.high - interval.low

  by_lesion = width(np.arange(150) // 3)
  assert by_lesion == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.06)
  assert by_lesion / width(np.arange(150)) == pytest.approx(np.sqrt(3), rel=0.06)


def test_interval_of_the_auc_covers_the_truth_as_often_as_it_says():
  # Two unit normals one deviation apart: the true area is Phi(1 / sqrt 2).
  truth = scipy.stats.norm.cdf(np.sqrt(0.5))
  covered = 0
  for seed in range(200):
    labels, scores = _ranked(seed, 200, decimals=8)
    draws = bootstrap.bootstrap_draws(labels, np.arange(200), num_draws=300, seed=seed)
    interval = bootstrap.bootstrap_interval(
        functools.partial(bootstrap.draws_auc, labels=labels, scores=scores),
        draws=draws, level=0.9)
    covered += interval.low <= truth <= interval.high
  # 0.9 +- 3 standard errors of a share of 200.
  assert 0.9 - 0.064 <= covered / 200 <= 0.9 + 0.064


def test_two_thousand_draws_are_quick():
  labels, scores = _ranked(0, 600, decimals=8)
  start = time.process_time()
  draws = bootstrap.bootstrap_draws(labels, np.arange(600), num_draws=2000, seed=0)
  for metric in (bootstrap.draws_auc, bootstrap.draws_average_precision):
    bootstrap.bootstrap_interval(
        functools.partial(metric, labels=labels, scores=scores),
        draws=draws, level=0.95)
  assert time.process_time() - start < 3


def test_balanced_accuracy_of_draws_is_that_of_repeated_rows():
  rng = np.random.default_rng(0)
  labels = np.repeat([0, 1, 3], [30, 9, 5])
  predicted = np.where(rng.random(44) < 0.6, labels, rng.integers(0, 4, 44))
  draws = bootstrap.bootstrap_draws(labels, np.arange(44), num_draws=20, seed=0)
  found = bootstrap.draws_balanced_accuracy(draws, labels=labels, predicted=predicted)
  for draw, value in zip(draws, found, strict=True):
    rows = np.repeat(np.arange(44), draw)
    assert value == pytest.approx(sklearn.metrics.recall_score(
        labels[rows], predicted[rows], labels=[0, 1, 3], average='macro'))


# 63 negatives: two thirds are met exactly, 0.9 never.
@pytest.mark.parametrize('specificity', [0.9, 2 / 3])
@pytest.mark.parametrize('decimals', [0, 1, 8])
def test_operating_points_of_draws_are_those_of_repeated_rows(decimals, specificity):
  labels, scores = _ranked(2, 90, decimals=decimals)
  draws = bootstrap.bootstrap_draws(labels, np.arange(90), num_draws=40, seed=0)
  found = bootstrap.draws_sensitivity_at_specificity(
      draws, labels=labels, scores=scores, specificity=specificity)
  for draw, value in zip(draws, found, strict=True):
    rows = np.repeat(np.arange(90), draw)
    assert value == pytest.approx(curves.sensitivity_at_specificity(
        labels[rows], scores[rows], specificity=specificity))
  undefined = bootstrap.draws_sensitivity_at_specificity(
      draws, labels=np.ones(90), scores=scores, specificity=0.9)
  assert np.isnan(undefined).all()
