"""Differences between systems, and what their intervals hold.

  draws = bootstrap.bootstrap_draws(labels, groups, num_draws=2000, seed=0)
  values = {name: comparisons.average_seeds(
      np.stack([bootstrap.bootstrap_values(metric, draws=draws)
                for metric in metrics_of_the_seeds[name]]),
      comparisons.seed_draws(3, num_draws=2000, seed=0)) for name in systems}
  comparisons.compare_with_reference(values, reference='VGG-16', level=0.95)

Draws of test images are the same for all systems, so whatever makes an image
hard for both cancels in the difference. It works for every score that
`statistics` can work out from draws: AP, AUC, recalls, balanced accuracy, the
Jaccard index of attention maps.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from attnmel_jax import errors
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import hypothesis_tests

# Fewer trained networks say nothing of how networks differ.
FEWEST_SEEDS = 3


class Difference(NamedTuple):
  """A score of one system less that of another, on the same images."""

  estimate: float
  low: float
  high: float
  p_value: float  # two-sided, before any adjustment


class Comparisons(NamedTuple):
  """All systems of a table against its reference, in one metric."""

  reference: str
  number: int                        # of comparisons that Holm adjusted for
  differences: dict[str, Difference]
  adjusted: dict[str, float]         # p-values after Holm, by system


def error_source(num_seeds: int) -> str:
  """What an interval over so many seeds holds, for the head of its column."""
  if num_seeds < 1:
    raise ValueError(f'num_seeds={num_seeds} is not positive')
  if num_seeds < FEWEST_SEEDS:
    return 'test sampling only'
  return 'test sampling and seeds'


def seed_draws(num_seeds: int, *, num_draws: int, seed: int) -> np.ndarray:
  """How often each draw takes each of the seeds a system was trained with.

  Systems with equally many seeds get the same draws: the i-th seeds of two
  systems are drawn together. Under three seeds every draw takes each once.

  Args:
    num_seeds: S trained networks of a system.
    num_draws: number D of draws.
    seed: of the draws; the same for all systems.

  Returns:
    uint16 [D, S]; rows sum to S. Resampling few seeds understates their variance
    by (S - 1) / S, as any bootstrap does.
  """
  if num_seeds < FEWEST_SEEDS:
    error_source(num_seeds)  # refuses 0
    return np.ones((num_draws, num_seeds), np.uint16)
  rng = np.random.default_rng([seed, num_seeds])
  return rng.multinomial(
      num_seeds, np.full(num_seeds, 1 / num_seeds), size=num_draws).astype(np.uint16)


def average_seeds(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
  """A system's score, averaged over its seeds, as it is and in each draw.

  Args:
    values: [S, 1 + D], a row of `bootstrap.bootstrap_values` for each seed, all
      from the same draws of test images.
    draws: [D, S] from `seed_draws`.

  Returns:
    float64 [1 + D], for `bootstrap.percentile_interval` and `paired_difference`.
  """
  if values.shape != (draws.shape[1], 1 + draws.shape[0]):
    raise ValueError(f'values {values.shape} do not fit seed draws {draws.shape}')
  shares = draws / draws.shape[1]
  return np.concatenate(
      [values[:, :1].mean(axis=0), np.sum(shares.T * values[:, 1:], axis=0)])


def paired_difference(
    values_a: np.ndarray, values_b: np.ndarray, *, level: float) -> Difference:
  """Score a - score b, with a percentile interval over paired draws.

  The p-value is the one that belongs to the interval: twice the smaller share of
  draws on one side of 0, counting the data as a draw more (Davison & Hinkley
  1997, sections 4.2 and 5.4).

  Args:
    values_a: [1 + D] from `bootstrap.bootstrap_values` or `average_seeds`.
    values_b: [1 + D] of the other system, from the same draws of images.
    level: of the interval.

  Returns:
    The difference; nan where it is undefined, bounds and p-value also where it is
    undefined in some draw.
  """
  if values_a.shape != values_b.shape:
    raise ValueError(f'values {values_a.shape} and {values_b.shape} are not paired')
  differences = values_a - values_b
  interval = bootstrap.percentile_interval(differences, level=level)
  drawn = differences[1:]
  if np.isnan(drawn).any():
    return Difference(interval.estimate, interval.low, interval.high, float('nan'))
  tail = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
  p_value = min(1.0, float(2 * (tail + 1) / (len(drawn) + 1)))
  return Difference(interval.estimate, interval.low, interval.high, p_value)


def compare_with_reference(
    values: Mapping[str, np.ndarray], *, reference: str, level: float) -> Comparisons:
  """Every other system less the reference, Holm over all of them.

  Args:
    values: system -> [1 + D], all from the same draws of images, one metric.
    reference: the name of one of them.
    level: of the intervals, which are not adjusted.

  Raises:
    UserError: no system is called `reference`.
  """
  errors.check_choice('reference', reference, values)
  differences = {
      name: paired_difference(own, values[reference], level=level)
      for name, own in values.items() if name != reference}
  family = hypothesis_tests.holm([d.p_value for d in differences.values()])
  return Comparisons(
      reference, family.number, differences,
      dict(zip(differences, family.adjusted.tolist(), strict=True)))
