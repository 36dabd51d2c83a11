import functools

import numpy as np
import pytest
import scipy.stats

from attnmel_jax import errors
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import hypothesis_tests
from attnmel_jax.evaluation import paired


def _pair(seed, rows=300, lift=0.0):
  """Labels and two systems that find the same images hard."""
  rng = np.random.default_rng(seed)
  labels = np.arange(rows) < 0.3 * rows
  common = rng.normal(labels, 1)
  return labels, common + rng.normal(0, 0.4, rows) + lift * labels, (
      common + rng.normal(0, 0.4, rows))


def _auc_values(labels, scores, draws):
  return bootstrap.bootstrap_values(
      functools.partial(bootstrap.draws_auc, labels=labels, scores=scores),
      draws=draws)


def _draws(labels, number=1500, seed=0):
  return bootstrap.bootstrap_draws(
      labels, np.arange(len(labels)), num_draws=number, seed=seed)


def test_a_difference_by_hand():
  a = np.array([5.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  found = paired.paired_difference(a, np.full(11, 1.5), level=0.8)
  # Draws -0.5, 0.5, ..., 8.5: one of ten is not above 0.
  assert found.estimate == 3.5
  assert (found.low, found.high) == pytest.approx((0.4, 7.6))
  assert found.p_value == pytest.approx(2 * 2 / 11)
  turned = paired.paired_difference(np.full(11, 1.5), a, level=0.8)
  assert turned.p_value == found.p_value
  assert turned.low == pytest.approx(-found.high)


def test_equal_systems_have_p_one():
  values = np.arange(20.0)
  found = paired.paired_difference(values, values, level=0.95)
  assert found == (0, 0, 0, 1)


def test_an_undefined_draw_leaves_no_bounds():
  values = np.array([1.0, 1, np.nan, 1])
  found = paired.paired_difference(values, np.zeros(4), level=0.95)
  assert found.estimate == 1
  assert np.isnan(found[1:]).all()
  with pytest.raises(ValueError, match='not paired'):
    paired.paired_difference(values, np.zeros(5), level=0.95)


@pytest.mark.parametrize('lift', [0.0, 0.3])
def test_the_bootstrap_agrees_with_delong(lift):
  labels, a, b = _pair(0, lift=lift)
  draws = _draws(labels, 4000)
  found = paired.paired_difference(
      _auc_values(labels, a, draws), _auc_values(labels, b, draws), level=0.95)
  delong = hypothesis_tests.delong(labels, a, b, groups=np.arange(len(labels)))
  assert found.estimate == pytest.approx(delong.difference)
  assert (found.high - found.low) / (2 * 1.96) == pytest.approx(
      delong.standard_error, rel=0.08)
  assert found.p_value == pytest.approx(delong.p_value, abs=0.06)
  # Unpaired, the interval would be a good deal wider.
  other = _draws(labels, 4000, seed=1)
  unpaired = paired.paired_difference(
      _auc_values(labels, a, draws), _auc_values(labels, b, other), level=0.95)
  assert unpaired.high - unpaired.low > 1.5 * (found.high - found.low)


def test_the_bootstrap_rejects_equal_systems_as_often_as_it_says():
  p_values = []
  for seed in range(200):
    labels, a, b = _pair(seed, rows=120)
    draws = _draws(labels, 300)
    p_values.append(paired.paired_difference(
        _auc_values(labels, a, draws), _auc_values(labels, b, draws),
        level=0.95).p_value)
  # 0.1 +- 3 standard errors of a share of 200.
  assert 0.1 - 0.064 <= np.mean(np.array(p_values) <= 0.1) <= 0.1 + 0.064


def test_a_difference_of_means_is_that_of_the_paired_t_test():
  # A Jaccard index is a mean over the images.
  rng = np.random.default_rng(3)
  a = rng.beta(4, 3, 200)
  b = np.clip(a + rng.normal(-0.02, 0.1, 200), 0, 1)
  draws = _draws(np.zeros(200, int), 4000)
  everywhere = np.ones(200, bool)
  values = [bootstrap.bootstrap_values(functools.partial(
      bootstrap.draws_mean, values=v, include=everywhere), draws=draws)
            for v in (a, b)]
  found = paired.paired_difference(*values, level=0.95)
  low, high = scipy.stats.ttest_rel(a, b).confidence_interval(0.95)
  assert found.estimate == pytest.approx(np.mean(a - b))
  np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.0015)


def test_what_an_interval_holds():
  assert [paired.error_source(n) for n in (1, 2, 3)] == [
      'test sampling only', 'test sampling only', 'test sampling and seeds']
  with pytest.raises(ValueError, match='num_seeds=0'):
    paired.error_source(0)


def test_seed_draws():
  np.testing.assert_array_equal(
      paired.seed_draws(2, num_draws=4, seed=0), np.ones((4, 2)))
  draws = paired.seed_draws(5, num_draws=3000, seed=1)
  assert (draws.sum(axis=1) == 5).all()
  assert (draws == 0).mean() == pytest.approx(0.8**5, abs=0.01)
  np.testing.assert_array_equal(
      draws, paired.seed_draws(5, num_draws=3000, seed=1))
  assert (draws != paired.seed_draws(5, num_draws=3000, seed=2)).any()
  with pytest.raises(ValueError, match='num_seeds=0'):
    paired.seed_draws(0, num_draws=4, seed=0)


def test_average_of_seeds_by_hand():
  values = np.array([[1.0, 10, 100], [2, 20, 200], [6, 60, 600]])
  draws = np.array([[1, 1, 1], [0, 3, 0]])
  np.testing.assert_allclose(
      paired.average_seeds(values, draws), [3, 30, 200])
  with pytest.raises(ValueError, match='do not fit'):
    paired.average_seeds(values, draws[:, :2])


def test_seeds_add_their_variance():
  # Scores of seed s in any draw of images are mean + e_s: the error of their mean is
  # that of the images and that of the seeds, (S - 1) / S of its variance.
  rng = np.random.default_rng(0)
  images, seeds = rng.normal(0, 0.02, 20000), np.array([-0.03, 0.0, 0.01, 0.04])
  values = 0.8 + np.concatenate([[0], images]) + seeds[:, None]
  found = paired.average_seeds(
      values, paired.seed_draws(4, num_draws=20000, seed=0))
  assert found[0] == pytest.approx(0.805)
  expected = np.sqrt(0.02**2 + seeds.var() / 4)
  assert found[1:].std() == pytest.approx(expected, rel=0.03)


def test_all_systems_against_the_reference():
  labels, a, b = _pair(1, lift=0.5)
  draws = _draws(labels)
  values = {'Mel-CNN': _auc_values(labels, b, draws),
            'better': _auc_values(labels, a, draws),
            'same': _auc_values(labels, b, draws),
            'worse': _auc_values(labels, -b, draws)}
  found = paired.compare_with_reference(
      values, reference='Mel-CNN', level=0.95)
  assert (found.reference, found.number) == ('Mel-CNN', 3)
  assert list(found.differences) == ['better', 'same', 'worse']
  raw = {name: d.p_value for name, d in found.differences.items()}
  assert raw['worse'] == pytest.approx(2 / 1501)
  assert found.adjusted['worse'] == pytest.approx(3 * raw['worse'])
  assert found.adjusted['better'] == pytest.approx(
      max(3 * raw['worse'], 2 * raw['better']))
  assert found.adjusted['same'] == 1
  assert found.differences['better'].estimate > 0 > found.differences['worse'].high
  with pytest.raises(errors.UserError, match="reference='VGG-16'.*'Mel-CNN'"):
    paired.compare_with_reference(values, reference='VGG-16', level=0.95)
