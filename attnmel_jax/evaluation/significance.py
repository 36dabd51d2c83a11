"""Whether two systems differ on the same images: intervals, tests, adjustment.

  significance.paired_difference(values_a, values_b, level=0.95)
  significance.delong(labels, scores_a, scores_b, groups=ids)
  significance.mcnemar(labels, scores_a, scores_b, threshold_a=0.4, threshold_b=0.3,
                       groups=ids)
  significance.holm(p_values)

The paired bootstrap works for every score of `bootstrap.values`: draws of test
images are the same for all systems, so whatever makes an image hard for both
cancels in the difference. DeLong's and McNemar's tests treat images as independent
and compare two fixed sets of predictions: one trained network with another, never
the predictions of several seeds in a row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from attnmel_jax import errors
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import metrics


class Difference(NamedTuple):
  """A score of one system less that of another, on the same images."""

  estimate: float
  low: float
  high: float
  p_value: float  # two-sided, before any adjustment


class DeLong(NamedTuple):
  """Two areas under ROC curves of the same images, and their difference a - b."""

  auc_a: float
  auc_b: float
  difference: float
  standard_error: float  # of the difference
  p_value: float         # two-sided


class McNemar(NamedTuple):
  """Images that only one of two systems classifies correctly; the exact p-value."""

  only_a: int
  only_b: int
  p_value: float  # two-sided


class McNemarByClass(NamedTuple):
  """A difference in sensitivity and one in specificity, each tested by itself."""

  positives: McNemar
  negatives: McNemar


class Holm(NamedTuple):
  """p-values made larger for their number, in the order they came in."""

  adjusted: np.ndarray  # float64 [M]; nan where the p-value was nan
  number: int           # of comparisons, those without a p-value left out


def paired_difference(
    values_a: np.ndarray, values_b: np.ndarray, *, level: float) -> Difference:
  """Score a - score b, with a percentile interval over paired draws.

  The p-value is the one that belongs to the interval: twice the smaller share of
  draws on one side of 0, counting the data as a draw more (Davison & Hinkley
  1997, sections 4.2 and 5.4).

  Args:
    values_a: [1 + D] from `bootstrap.values` or `bootstrap.average_seeds`.
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


def delong(labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray, *,
           groups: np.ndarray) -> DeLong:
  """DeLong's test of two correlated areas under ROC curves.

  DeLong, DeLong & Clarke-Pearson 1988, with the midranks of Sun & Xu 2014.

  Args:
    labels: [N] of 0 and 1, or bool.
    scores_a: [N], larger is more positive.
    scores_b: [N], of the other system on the same images in the same order.
    groups: [N] lesion of each image, or its id where lesions are not known.

  Returns:
    Areas and test. All nan where a class has no image; p-value nan where it has
    only one. Where the difference cannot vary, p is 1 for equal areas and else 0.

  Raises:
    UserError: a lesion has several images, or the task is not binary.

  >>> significance.delong([0, 0, 1, 1], [.1, .4, .35, .8], [.1, .2, .3, .4],
  ...                     groups=['a', 'b', 'c', 'd']).difference
  -0.25
  """
  _check_test('DeLong\'s test', labels, groups)
  labels, scores_a = metrics.check_binary(labels, scores_a)
  _, scores_b = metrics.check_binary(labels, scores_b)
  if labels.all() or not labels.any():
    return DeLong(*[float('nan')] * 5)
  wins, losses = zip(*(_placements(labels, s) for s in (scores_a, scores_b)),
                     strict=True)
  auc_a, auc_b = wins[0].mean(), wins[1].mean()
  if min(len(wins[0]), len(losses[0])) < 2:
    return DeLong(auc_a, auc_b, auc_a - auc_b, float('nan'), float('nan'))
  # The variance of a difference is that of the differences of placements.
  error = np.sqrt(sum(np.var(pair[0] - pair[1], ddof=1) / len(pair[0])
                      for pair in (wins, losses)))
  difference = auc_a - auc_b
  if error > 0:
    p_value = 2 * scipy.stats.norm.sf(abs(difference) / error)
  else:
    p_value = 1.0 if difference == 0 else 0.0
  return DeLong(*map(float, (auc_a, auc_b, difference, error, p_value)))


def mcnemar(labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray, *,
            threshold_a: float, threshold_b: float, groups: np.ndarray
            ) -> McNemarByClass:
  """McNemar's exact test, on the positives and on the negatives.

  Of the images that only one system classifies correctly, each system has half if
  they are equally good: a binomial test (McNemar 1947).

  Args:
    labels: [N] of 0 and 1, or bool.
    scores_a: [N]; at least `threshold_a` is called positive.
    scores_b: [N], of the other system on the same images in the same order.
    threshold_a: chosen on the validation set of system a.
    threshold_b: chosen on the validation set of system b.
    groups: [N] lesion of each image, or its id where lesions are not known.

  Returns:
    Counts and p-value by class; p is 1 where the systems never disagree.

  Raises:
    UserError: a lesion has several images, or the task is not binary.
  """
  _check_test('McNemar\'s test', labels, groups)
  labels, scores_a = metrics.check_binary(labels, scores_a)
  _, scores_b = metrics.check_binary(labels, scores_b)
  if np.isnan(threshold_a) or np.isnan(threshold_b):
    raise ValueError(f'thresholds are {threshold_a} and {threshold_b}')
  right_a = (scores_a >= threshold_a) == labels
  right_b = (scores_b >= threshold_b) == labels

  def test(rows):
    only_a = int(np.count_nonzero(right_a[rows] & ~right_b[rows]))
    only_b = int(np.count_nonzero(right_b[rows] & ~right_a[rows]))
    disagree = only_a + only_b
    p_value = scipy.stats.binomtest(only_a, disagree).pvalue if disagree else 1.0
    return McNemar(only_a, only_b, float(p_value))

  return McNemarByClass(test(labels), test(~labels))


def holm(p_values: Sequence[float]) -> Holm:
  """Holm's step-down adjustment of the p-values of one family (Holm 1979).

  A family is all comparisons with the named reference in one table and metric.
  An adjusted value at most alpha rejects with a family-wise error of alpha,
  however the tests depend on each other. A comparison that could not be made
  (nan) is left out.

  Raises:
    ValueError: a p-value is not in [0, 1].

  >>> significance.holm([.01, .04, .03]).adjusted.round(4).tolist()
  [0.03, 0.06, 0.06]
  """
  values = np.asarray(p_values, np.float64)
  made = np.flatnonzero(~np.isnan(values))
  if values.ndim != 1 or not ((values[made] >= 0) & (values[made] <= 1)).all():
    raise ValueError(f'p-values {p_values} are not all in [0, 1]')
  order = made[np.argsort(values[made], kind='stable')]
  factors = np.arange(len(order), 0, -1)
  adjusted = np.full(len(values), np.nan)
  adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1)
  return Holm(adjusted, len(order))


def _check_test(test: str, labels: np.ndarray, groups: np.ndarray) -> None:
  labels, groups = np.asarray(labels), np.asarray(groups)
  if labels.shape != groups.shape:
    raise ValueError(f'labels {labels.shape} and groups {groups.shape} do not fit')
  if len(classes := np.unique(labels)) > 2:
    raise errors.UserError(
        f'{test} compares two systems on a binary task, and there are {len(classes)} '
        'classes here; use the paired bootstrap (significance.paired_difference)')
  if clustered := len(groups) - len(np.unique(groups)):
    raise errors.UserError(
        f'{test} treats images as independent, but {clustered} of {len(groups)} show '
        'a lesion that another image already shows; use the paired bootstrap over '
        'lesions (significance.paired_difference)')


def _placements(labels: np.ndarray, scores: np.ndarray
                ) -> tuple[np.ndarray, np.ndarray]:
  """For each positive the share of negatives below it, for each negative the share
  of positives above it; ties count half. The mean of either is the AUC."""
  ranks = scipy.stats.rankdata(scores)
  positive, negative = scores[labels], scores[~labels]
  below = ranks[labels] - scipy.stats.rankdata(positive)
  above = len(positive) - (ranks[~labels] - scipy.stats.rankdata(negative))
  return below / len(negative), above / len(positive)
