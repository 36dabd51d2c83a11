import functools

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import bootstrap


def _ranked(seed, rows, share=0.3, decimals=2):
  """Labels and scores with ties; the classes are one deviation apart."""
  rng = np.random.default_rng(seed)
  labels = np.zeros(rows, bool)
  labels[:round(share * rows)] = True
  return labels, np.round(rng.normal(labels, 1.0), decimals)


def _interval(metric, draws, level=0.95):
  return bootstrap.percentile_interval(
      bootstrap.values(metric, draws=draws), level=level)


def _mean(values, include=None):
  include = np.ones(len(values), bool) if include is None else include
  return functools.partial(bootstrap.draws_mean, values=values, include=include)


def test_draws_are_with_replacement_within_strata_and_by_seed():
  strata = np.repeat([0, 1, 2], [50, 20, 7])
  draw = functools.partial(bootstrap.resample, strata, np.arange(77), num_draws=4000)
  draws = draw(seed=0)
  for stratum, size in enumerate([50, 20, 7]):
    assert (draws[:, strata == stratum].sum(axis=1) == size).all()
  # A multinomial count: mean 1, variance 1 - 1/m, P(0) = (1 - 1/m)^m.
  own = draws[:, :50].astype(float)
  np.testing.assert_allclose(own.mean(axis=0), 1, atol=0.08)
  assert own.var(axis=0).mean() == pytest.approx(1 - 1 / 50, abs=0.01)
  assert (own == 0).mean() == pytest.approx((1 - 1 / 50)**50, abs=0.005)
  np.testing.assert_array_equal(draw(seed=0), draws)
  assert (draw(seed=1) != draws).any()


def test_groups_are_drawn_whole_and_within_their_class():
  groups = np.array(['b', 'a', 'b', 'c', 'd', 'c', 'c', 'e'])
  strata = np.array([1, 0, 1, 0, 1, 0, 0, 0])
  draws = bootstrap.resample(strata, groups, num_draws=200, seed=2)
  for group in 'abcde':
    rows = draws[:, groups == group]
    assert (rows == rows[:, :1]).all()
  _, first = np.unique(groups, return_index=True)
  by_group = draws[:, first]          # columns a, b, c, d, e
  assert (by_group[:, [0, 2, 4]].sum(axis=1) == 3).all()
  assert (by_group[:, [1, 3]].sum(axis=1) == 2).all()
  # p and q hold both classes, r and s one each: every draw holds both classes.
  draws = bootstrap.resample([0, 1, 0, 1, 0, 1], list('ppqqrs'), num_draws=50, seed=0)
  assert (draws[:, 0] == draws[:, 1]).all()
  assert (draws[:, 0] + draws[:, 2] == 2).all()
  assert (draws[:, 4:] == 1).all()


@pytest.mark.parametrize('decimals', [0, 1, 8])
def test_scores_of_draws_are_those_of_repeated_rows(decimals):
  labels, scores = _ranked(0, 90, decimals=decimals)
  predicted = scores > 0.3
  draws = bootstrap.resample(labels, np.arange(90) // 2, num_draws=25, seed=3)
  found = {name: metric(draws, labels=labels, scores=scores)
           for name, metric in bootstrap.RANKING.items()}
  balanced = bootstrap.draws_balanced_accuracy(
      draws, labels=labels, predicted=predicted)
  assert list(found) == ['ap', 'auc', 'sensitivity_at_95_specificity',
                         'specificity_at_95_sensitivity']
  for d, draw in enumerate(draws):
    rows = np.repeat(np.arange(90), draw)
    false, true, _ = sklearn.metrics.roc_curve(
        labels[rows], scores[rows], drop_intermediate=False)
    expected = (sklearn.metrics.average_precision_score(labels[rows], scores[rows]),
                sklearn.metrics.roc_auc_score(labels[rows], scores[rows]),
                true[1 - false >= 0.95].max(), 1 - false[true >= 0.95].min())
    assert [values[d] for values in found.values()] == pytest.approx(expected)
    assert balanced[d] == pytest.approx(sklearn.metrics.balanced_accuracy_score(
        labels[rows], predicted[rows]))


@pytest.mark.parametrize('negatives', [20, 40, 60, 100, 140, 200, 460])
def test_just_enough_specificity_is_enough(negatives):
  # 5 % of the negatives lie above half of the positives: specificity is 0.95.
  labels = np.repeat([1, 0], [2, negatives])
  scores = np.zeros(negatives + 2)
  scores[:2] = [3, 1]
  scores[2:2 + negatives // 20] = 2
  whole = np.ones((1, negatives + 2), np.uint16)
  sensitivity, specificity = list(bootstrap.RANKING.values())[2:]
  assert sensitivity(whole, labels=labels, scores=scores) == 1
  assert specificity(whole, labels=1 - labels, scores=-scores) == 1


def test_one_class_is_undefined():
  labels, scores = np.ones(5, bool), np.arange(5.0)
  draws = bootstrap.resample(labels, np.arange(5), num_draws=10, seed=0)
  for metric in bootstrap.RANKING.values():
    for side in (labels, ~labels):
      found = _interval(functools.partial(metric, labels=side, scores=scores), draws)
      assert np.isnan([found.estimate, found.low, found.high]).all()


def test_the_interval_is_the_quantiles_of_the_draws(monkeypatch):
  # Draw d takes row 0 d times and nothing else counts: the metric is d.
  draws = np.zeros((101, 3), np.uint16)
  draws[:, 0] = np.arange(101)
  def metric(chosen):
    return chosen[:, 0].astype(float)
  expected = bootstrap.Interval(1.0, pytest.approx(5), pytest.approx(95), 101)
  assert _interval(metric, draws, level=0.9) == expected
  monkeypatch.setattr(bootstrap, '_CELLS', 7 * 3)  # in chunks of 7 draws
  assert _interval(metric, draws, level=0.9) == expected
  with pytest.raises(ValueError, match='level=95'):
    _interval(metric, draws, level=95)


def test_whole_lesions_widen_the_interval():
  # Three copies of each row add nothing: the error is that of the 50 originals.
  values = np.repeat(np.random.default_rng(0).normal(size=50), 3)

  def width(groups):
    draws = bootstrap.resample(np.zeros(150), groups, num_draws=4000, seed=0)
    found = _interval(_mean(values), draws)
    return found.high - found.low

  by_lesion = width(np.arange(150) // 3)
  assert by_lesion == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.06)
  assert by_lesion / width(np.arange(150)) == pytest.approx(np.sqrt(3), rel=0.06)


def test_areas_are_averaged_over_the_folds():
  # Each fold ranks well by itself, on a scale of its own.
  rng, folds = np.random.default_rng(0), np.arange(90) % 3
  labels = (rng.random(90) < 0.4).astype(int)
  scores = rng.normal(labels, 0.7) + 5 * folds
  draws = bootstrap.resample(labels * 3 + folds, np.arange(90), num_draws=20, seed=0)

  def average(drawn, labels):
    return bootstrap.draws_fold_average(
        drawn, metric=bootstrap.draws_auc, labels=labels, scores=scores, folds=folds)

  for draw, value in zip(draws, average(draws, labels), strict=True):
    rows = np.repeat(np.arange(90), draw)
    areas = [sklearn.metrics.roc_auc_score(labels[rows][folds[rows] == k],
                                           scores[rows][folds[rows] == k])
             for k in range(3)]
    assert value == pytest.approx(np.mean(areas))
  # A fold of one class is left out.
  whole, labels = np.ones((1, 90), np.uint16), np.where(folds == 2, 1, labels)
  expected = [sklearn.metrics.roc_auc_score(labels[folds == k], scores[folds == k])
              for k in (0, 1)]
  assert average(whole, labels) == pytest.approx(np.mean(expected))
  assert np.isnan(average(whole, np.ones(90))).all()


def test_three_seeds_are_resampled():
  assert [bootstrap.error_source(n) for n in (1, 2, 3)] == [
      'test sampling only', 'test sampling only', 'test sampling and seeds']
  np.testing.assert_array_equal(
      bootstrap.seed_draws(2, num_draws=4, seed=0), np.ones((4, 2)))
  draws = bootstrap.seed_draws(5, num_draws=3000, seed=1)
  assert (draws.sum(axis=1) == 5).all()
  assert (draws == 0).mean() == pytest.approx(0.8**5, abs=0.01)
  np.testing.assert_array_equal(draws, bootstrap.seed_draws(5, num_draws=3000, seed=1))
  np.testing.assert_allclose(bootstrap.average_seeds(
      np.array([[1.0, 10, 100], [2, 20, 200], [6, 60, 600]]),
      np.array([[1, 1, 1], [0, 3, 0]])), [3, 30, 200])
