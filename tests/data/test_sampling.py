"""Row repetition, inverse frequency and the order of a pass."""

import collections

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.data import sampling

SETTINGS = hypothesis.settings(deadline=None, max_examples=50)
ISIC2017 = np.repeat(np.arange(3), [374, 254, 1372])
ISIC2018 = np.repeat(np.arange(7), [1113, 6705, 514, 327, 1099, 115, 142])


@pytest.mark.parametrize(('counts', 'factors', 'expected'), [
    ((727, 173), (1, 4), 1419),
    ((374, 254, 1372), (4, 1, 1), 3122),
    ((1113, 6705, 514, 327, 1099, 115, 142), (6, 1, 13, 20, 6, 58, 47), 46543),
])
def test_repetition_gives_the_published_numbers_of_rows(counts, factors, expected):
  labels = np.repeat(np.arange(len(counts)), counts)
  names = [str(k) for k in range(len(counts))]
  rows = sampling.repeat_rows(labels, factors, class_names=names)
  assert len(rows) == expected


@SETTINGS
@hypothesis.given(
    st.lists(st.integers(0, 2), min_size=1, max_size=50),
    st.tuples(*[st.integers(1, 5)] * 3))
def test_each_row_is_repeated_as_often_as_its_class_says(labels, factors):
  rows = sampling.repeat_rows(np.array(labels), factors, class_names='abc')
  assert collections.Counter(rows.tolist()) == {
      row: factors[k] for row, k in enumerate(labels)}


@pytest.mark.parametrize('factors', [(4, 1), (4, 1, 1, 1), (4, 0, 1), (4, 1.5, 1), ()])
def test_factors_that_do_not_fit_are_refused(factors):
  with pytest.raises(errors.UserError, match='oversample_factors=.* a, b, c'):
    sampling.repeat_rows(ISIC2017, factors, class_names=('a', 'b', 'c'))


def test_inverse_frequency_draws_every_class_equally_often():
  drawn = np.concatenate([
      ISIC2018[sampling.inverse_frequency_rows(ISIC2018, pass_number=p, seed=0)]
      for p in range(20)])
  assert len(drawn) == 20 * len(ISIC2018)
  # Six standard errors of a binomial share 1/7 over 200,300 draws.
  shares = np.bincount(drawn) / len(drawn)
  assert np.abs(shares - 1 / 7).max() < 6 * np.sqrt(1 / 7 * 6 / 7 / len(drawn))


def test_inverse_frequency_draws_rows_of_a_class_equally_often():
  labels = np.array([0] * 8 + [1] * 2)
  drawn = np.concatenate([
      sampling.inverse_frequency_rows(labels, pass_number=p, seed=1)
      for p in range(2000)])
  shares = np.bincount(drawn, minlength=10) / len(drawn)
  np.testing.assert_allclose(shares, [1 / 16] * 8 + [1 / 4] * 2, atol=0.01)


@SETTINGS
@hypothesis.given(
    st.lists(st.integers(0, 2), min_size=8, max_size=60), st.integers(0, 2**31),
    st.integers(0, 500), st.sampled_from(sampling.SAMPLERS))
def test_pass_is_a_function_of_seed_and_number(labels, seed, number, sampler):
  options = {'class_names': 'abc', 'sampler': sampler, 'oversample_factors': (2, 1, 3)}
  labels = np.array(labels)
  rows = sampling.pass_rows(labels, seed=seed, pass_number=number, **options)
  again = sampling.pass_rows(labels, seed=seed, pass_number=number, **options)
  np.testing.assert_array_equal(rows, again)
  if sampler == 'none':
    assert sorted(rows) == list(range(len(labels)))
  if sampler == 'repeat':
    repeated = sampling.repeat_rows(labels, (2, 1, 3), class_names='abc')
    assert sorted(rows) == sorted(repeated)
  if sampler == 'inverse_frequency':
    assert len(rows) == len(labels)
    assert set(rows) <= set(range(len(labels)))


@pytest.mark.parametrize('sampler', sampling.SAMPLERS)
def test_passes_and_seeds_differ(sampler):
  orders = {
      tuple(sampling.pass_rows(
          ISIC2017, class_names='abc', sampler=sampler, oversample_factors=(4, 1, 1),
          seed=seed, pass_number=number))
      for seed in (0, 1, 2) for number in (0, 1, 2)}
  assert len(orders) == 9


def test_unknown_sampler_is_refused():
  with pytest.raises(errors.UserError, match="sampler='weighted' is unknown.*'repeat'"):
    sampling.pass_rows(ISIC2017, class_names='abc', sampler='weighted',
                       oversample_factors=(4, 1, 1), seed=0, pass_number=0)


def test_steps_of_a_pass():
  assert sampling.steps_per_pass(3122, 32) == 97
  assert sampling.steps_per_pass(1419, 32) == 44
  assert sampling.steps_per_pass(32, 32) == 1
  with pytest.raises(errors.UserError, match='batch_size=33 does not fit the 32'):
    sampling.steps_per_pass(32, 33)
  with pytest.raises(errors.UserError, match='batch_size=0'):
    sampling.steps_per_pass(32, 0)
