"""Sampling error of scores: percentile bootstrap over lesions, by class.

  draws = bootstrap.resample(labels, groups, num_draws=2000, seed=0)
  metric = functools.partial(bootstrap.draws_auc, labels=labels, scores=scores)
  values = bootstrap.values(metric, draws=draws)
  bootstrap.percentile_interval(values, level=0.95)

A draw is kept as the number of times that it takes each row, so that a metric is
computed for many draws at once, from one sort of the scores. A metric is any
function draws [D, N] -> [D]. Draws made once serve every metric and, on the same
rows, every system: differences of `values` are then paired.
"""

from collections.abc import Callable
import dataclasses
import functools

import numpy as np

from attnmel_jax.evaluation import metrics

# Cells of draws x rows that a metric sees at once: about 8 MiB as float64.
_CELLS = 2**20
# The value at which specificity is held to read sensitivity, and the reverse.
OPERATING_POINT = 0.95
# Fewer trained networks say nothing about how networks differ.
FEWEST_SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Interval:
  """A score on the rows as they are, and the bounds of its interval."""

  estimate: float
  low: float
  high: float
  num_draws: int


def resample(
    strata: np.ndarray, groups: np.ndarray, *, num_draws: int, seed: int) -> np.ndarray:
  """Draws whole groups with replacement, as many as there are, by stratum.

  A group belongs to the stratum of its rows. One whose rows differ (a patient
  with lesions of two classes) forms a stratum with the groups of the same
  mixture, so every draw holds every class. The result depends on the arguments
  alone: sort the rows by id to have the same draws for all systems.

  Args:
    strata: [N] class of each row, of any type that sorts.
    groups: [N] lesion of each row, of any type that sorts; all different (such
      as the ids) to resample single rows.
    num_draws: number D of draws.
    seed: of the draws; for a comparison, the same for all systems.

  Returns:
    uint16 [D, N], how often each draw takes each row.

  >>> draws = bootstrap.resample(
  ...     [0, 0, 1, 1, 1], ['a', 'b', 'c', 'c', 'd'], num_draws=2000, seed=0)
  >>> draws.shape, bool((draws[:, 2] == draws[:, 3]).all())  # one lesion
  ((2000, 5), True)
  """
  strata, groups = np.asarray(strata), np.asarray(groups)
  if strata.ndim != 1 or strata.shape != groups.shape or not len(strata):
    raise ValueError(f'strata {strata.shape} and groups {groups.shape} are not '
                     'both [N] with N > 0')
  if num_draws < 1:
    raise ValueError(f'num_draws={num_draws} is not positive')
  names, group_of_row = np.unique(groups, return_inverse=True)
  classes, class_of_row = np.unique(strata, return_inverse=True)
  holds = np.zeros((len(names), len(classes)), bool)
  holds[group_of_row, class_of_row] = True
  _, stratum_of_group = np.unique(holds, axis=0, return_inverse=True)
  members = [np.flatnonzero(stratum_of_group == stratum)
             for stratum in range(stratum_of_group.max() + 1)]
  rng = np.random.default_rng(seed)
  draws = np.empty((num_draws, len(strata)), np.uint16)
  counts = np.empty(len(names), np.uint16)
  for draw in draws:
    for member in members:
      taken = rng.integers(len(member), size=len(member))
      counts[member] = np.bincount(taken, minlength=len(member))
    draw[:] = counts[group_of_row]
  return draws


def values(
    metric: Callable[[np.ndarray], np.ndarray], *, draws: np.ndarray) -> np.ndarray:
  """The metric with every row taken once, then in each draw: float64 [1 + D].

  Args:
    metric: draws [D, N] -> [D]; row n counts draws[d, n] times in draw d.
    draws: [D, N] from `resample`.
  """
  num_draws, rows = draws.shape
  chunk = max(1, _CELLS // rows)
  parts = [metric(np.ones((1, rows), draws.dtype))]
  parts += [metric(draws[start:start + chunk]) for start in range(0, num_draws, chunk)]
  return np.concatenate(parts).astype(np.float64)


def percentile_interval(values: np.ndarray, *, level: float) -> Interval:
  """Percentile interval (Efron & Tibshirani 1993, chapter 13).

  It cannot see what no row shows: where all rows agree (30 of 30 detected) both
  bounds equal the estimate.

  Args:
    values: [1 + D] from `values`, or a function of several such: the
      difference of two systems on the same draws has a paired interval.
    level: share of the draws inside the bounds, such as 0.95.

  Returns:
    The estimate and its bounds; nan where it is undefined, bounds also where it
    is undefined in some draw.

  >>> bootstrap.percentile_interval(
  ...     np.array([.5, 0, .25, .5, .75, 1]), level=0.5)
  Interval(estimate=0.5, low=0.25, high=0.75, num_draws=5)
  """
  if not 0 < level < 1:
    raise ValueError(f'level={level} is not between 0 and 1')
  low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
  return Interval(float(values[0]), float(low), float(high), len(values) - 1)


def draws_auc(
    draws: np.ndarray, *, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
  """`metrics.auc` in each of the draws [D, N] -> [D].

  >>> bootstrap.draws_auc(
  ...     np.array([[1, 1, 1, 1], [0, 2, 1, 1]]), labels=[1, 0, 1, 0],
  ...     scores=[.9, .8, .7, .1]).round(2).tolist()
  [0.75, 0.33]
  """
  positives, negatives = _counts_by_score(draws, labels, scores)
  # Highest score first: the negatives below a score come after it.
  above = np.cumsum(negatives, axis=1)
  total = above[:, -1:]
  won = np.sum(positives * (total - above + negatives / 2), axis=1)
  return _ratio(won, positives.sum(axis=1) * total[:, 0])


def draws_average_precision(
    draws: np.ndarray, *, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
  """`metrics.average_precision` in each of the draws [D, N] -> [D]."""
  positives, negatives = _counts_by_score(draws, labels, scores)
  true, false = np.cumsum(positives, axis=1), np.cumsum(negatives, axis=1)
  # A draw may lack the highest scores: nothing is called positive there, and
  # nothing is added to the sum.
  precision = true / np.maximum(true + false, 1)
  area = _ratio(np.sum(positives * precision, axis=1), true[:, -1])
  return np.where(false[:, -1] > 0, area, np.nan)


def draws_mean(
    draws: np.ndarray, *, values: np.ndarray, include: np.ndarray) -> np.ndarray:
  """Mean of `values` over the rows of `include` in each draw [D, N] -> [D].

  Sensitivity is the mean of 'called positive' over the positives, a recall the
  mean of 'predicted right' over a class, the Jaccard index of a system the mean
  over the annotated images.

  Args:
    draws: [D, N].
    values: [N]; those of rows outside `include` are not looked at.
    include: bool [N].

  >>> bootstrap.draws_mean(
  ...     np.array([[1, 1, 1], [2, 0, 1]]), values=np.array([1, 0, 1]),
  ...     include=np.array([True, True, False])).tolist()
  [0.5, 1.0]
  """
  weights = draws[:, include].astype(np.float64)
  return _ratio(weights @ np.asarray(values, np.float64)[include], weights.sum(axis=1))


def draws_balanced_accuracy(
    draws: np.ndarray, *, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
  """`metrics.balanced_accuracy` in each of the draws [D, N] -> [D].

  Args:
    draws: [D, N], stratified by class: every class that the rows hold is in each.
    labels: int [N].
    predicted: int [N].
  """
  labels, predicted = np.asarray(labels), np.asarray(predicted)
  recalls = [draws_mean(draws, values=predicted == labels, include=labels == k)
             for k in np.unique(labels)]
  return np.mean(recalls, axis=0)


def draws_sensitivity_at_specificity(
    draws: np.ndarray, *, labels: np.ndarray, scores: np.ndarray, specificity: float,
) -> np.ndarray:
  """Largest sensitivity at no less than that specificity, in each draw: [D].

  Every draw finds its own threshold, a point of its ROC curve: it is not what a
  threshold chosen beforehand would give. Nothing is interpolated; 0 where only
  calling nothing positive is specific enough.

  Args:
    draws: [D, N].
    labels: [N] of 0 and 1, or bool; 1 is positive.
    scores: [N], larger is more positive.
    specificity: in [0, 1], such as 0.95.
  """
  positives, negatives = _counts_by_score(draws, labels, scores)
  true, false = np.cumsum(positives, axis=1), np.cumsum(negatives, axis=1)
  total = false[:, -1:]
  kept = np.divide(total - false, total, where=total > 0, out=np.zeros_like(false))
  found = np.where(kept >= specificity, true, 0).max(axis=1)
  return np.where(total[:, 0] > 0, _ratio(found, true[:, -1]), np.nan)


def draws_specificity_at_sensitivity(
    draws: np.ndarray, *, labels: np.ndarray, scores: np.ndarray, sensitivity: float,
) -> np.ndarray:
  """`draws_sensitivity_at_specificity`, classes and the sign of scores exchanged."""
  return draws_sensitivity_at_specificity(
      draws, labels=~np.asarray(labels, bool), scores=-scores, specificity=sensitivity)


# Scores that rank the rows of a binary task: functions of draws, labels and scores.
RANKING: dict[str, Callable[..., np.ndarray]] = {
    'ap': draws_average_precision,
    'auc': draws_auc,
    'sensitivity_at_95_specificity': functools.partial(
        draws_sensitivity_at_specificity, specificity=OPERATING_POINT),
    'specificity_at_95_sensitivity': functools.partial(
        draws_specificity_at_sensitivity, sensitivity=OPERATING_POINT),
}


def draws_fold_average(
    draws: np.ndarray, *, metric: Callable[..., np.ndarray], labels: np.ndarray,
    scores: np.ndarray, folds: np.ndarray) -> np.ndarray:
  """Mean over the folds of a score that ranks rows, in each of the draws: [D].

  A fold without one of the two classes has no such score and is left out.

  Args:
    draws: [D, N].
    metric: one of `RANKING`.
    labels: [N] of 0 and 1, or bool.
    scores: [N], comparable within a fold only.
    folds: int [N].
  """
  labels = np.asarray(labels).astype(bool)
  found = [
      metric(draws[:, rows], labels=labels[rows], scores=scores[rows])
      for rows in (folds == fold for fold in np.unique(folds))
      if labels[rows].any() and not labels[rows].all()]
  return np.mean(found, axis=0) if found else np.full(len(draws), np.nan)


def error_source(num_seeds: int) -> str:
  """What an interval over so many seeds includes, for the head of its column."""
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
    return np.ones((num_draws, num_seeds), np.uint16)
  rng = np.random.default_rng([seed, num_seeds])
  return rng.multinomial(
      num_seeds, np.full(num_seeds, 1 / num_seeds), size=num_draws).astype(np.uint16)


def average_seeds(values_of_seeds: np.ndarray, draws: np.ndarray) -> np.ndarray:
  """A system's score, averaged over its seeds, as it is and in each draw.

  Args:
    values_of_seeds: [S, 1 + D], a row of `values` for each seed, all from the same
      draws of test images.
    draws: [D, S] from `seed_draws`.

  Returns:
    float64 [1 + D], for `percentile_interval` and `significance.paired_difference`.
  """
  shares = draws / draws.shape[1]
  return np.concatenate([values_of_seeds[:, :1].mean(axis=0),
                         np.sum(shares.T * values_of_seeds[:, 1:], axis=0)])


def _counts_by_score(
    draws: np.ndarray, labels: np.ndarray, scores: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Positives and negatives [D, U] at each of U distinct scores, highest first."""
  labels, scores = metrics.check_binary(labels, scores)
  order = np.argsort(-scores, kind='stable')
  ordered = scores[order]
  starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
  taken = draws[:, order].astype(np.float64)
  positives = taken * labels[order]
  return (np.add.reduceat(positives, starts, axis=1),
          np.add.reduceat(taken - positives, starts, axis=1))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """Numerator / denominator, nan where the denominator is 0."""
  return np.divide(numerator, denominator, where=denominator > 0,
                   out=np.full(numerator.shape, np.nan))
