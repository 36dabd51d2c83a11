"""Tests of whether two systems differ on the same images.

  hypothesis_tests.delong(labels, scores_a, scores_b, groups=ids)
  hypothesis_tests.mcnemar(labels, scores_a, scores_b, threshold_a=0.4,
                           threshold_b=0.3, groups=ids)
  hypothesis_tests.holm(p_values)

DeLong's and McNemar's tests take every image for an independent case and compare
two fixed sets of predictions: one trained network against another, never the
predictions of several seeds in a row. `comparisons.paired_difference` needs
neither, and compares any score.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from attnmel_jax import errors
from attnmel_jax.evaluation import metrics


class DeLong(NamedTuple):
  """Two areas under ROC curves of the same images, and their difference a - b."""

  auc_a: float
  auc_b: float
  difference: float
  standard_error: float  # of the difference
  p_value: float         # two-sided


class McNemar(NamedTuple):
  """Images that only one of two systems tells right, and the exact p-value."""

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

  >>> hypothesis_tests.delong([0, 0, 1, 1], [.1, .4, .35, .8], [.1, .2, .3, .4],
  ...                         groups=['a', 'b', 'c', 'd']).difference
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

  Of the images that just one system tells right, each system has half if they are
  equally good: a binomial test (McNemar 1947).

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
  (nan) takes no part.

  Raises:
    ValueError: a p-value is not in [0, 1].

  >>> hypothesis_tests.holm([.01, .04, .03]).adjusted.round(4).tolist()
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
        'classes here; use the paired bootstrap (comparisons.paired_difference)')
  if clustered := len(groups) - len(np.unique(groups)):
    raise errors.UserError(
        f'{test} takes images for independent, but {clustered} of {len(groups)} show '
        'a lesion that another image shows already; use the paired bootstrap over '
        'lesions (comparisons.paired_difference)')


def _placements(labels: np.ndarray, scores: np.ndarray
                ) -> tuple[np.ndarray, np.ndarray]:
  """For each positive the share of negatives below it, for each negative the share
  of positives above it; ties count half. The mean of either is the AUC."""
  ranks = scipy.stats.rankdata(scores)
  positive, negative = scores[labels], scores[~labels]
  below = ranks[labels] - scipy.stats.rankdata(positive)
  above = len(positive) - (ranks[~labels] - scipy.stats.rankdata(negative))
  return below / len(negative), above / len(positive)
