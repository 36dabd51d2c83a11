"""The numbers behind the curves of several seeds or folds of one system."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnmel_jax.evaluation import calibration
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import score_summary
from attnmel_jax.report import groups


class Curve(NamedTuple):
  """Points to be joined by straight lines, from left to right."""

  x: np.ndarray
  y: np.ndarray


def roc_curves(runs: Sequence[groups.Member], k: int) -> list[metrics.RocCurve]:
  """Class k against the others, for each run that has both."""
  found = [metrics.roc_curve(one.table.labels == k, one.table.probabilities[:, k])
           for one in runs]
  return [curve for curve in found if len(curve.thresholds)]


def average_roc(roc: Sequence[metrics.RocCurve]) -> Curve:
  """Vertical average (Fawcett 2006): the mean sensitivity at each false alarm rate.

  Nothing is sampled: all corners of all curves are kept, so the area under the
  average is the mean of the areas.
  """
  x = np.unique(np.concatenate([curve.false_positive_rate for curve in roc]))
  # A curve may rise at x: its lowest and its highest value there are both kept.
  before = np.mean([_value(curve, x, np.minimum) for curve in roc], axis=0)
  after = np.mean([_value(curve, x, np.maximum) for curve in roc], axis=0)
  return Curve(np.repeat(x, 2), np.stack([before, after], axis=1).ravel())


def _value(curve: metrics.RocCurve, x: np.ndarray, extreme: np.ufunc) -> np.ndarray:
  """The sensitivity at x; where the curve rises, its `extreme` there."""
  own, starts = np.unique(curve.false_positive_rate, return_index=True)
  lowest = np.minimum.reduceat(curve.true_positive_rate, starts)
  highest = np.maximum.reduceat(curve.true_positive_rate, starts)
  # Between two corners the line leads from the highest of the left one to the
  # lowest of the right one.
  right = np.searchsorted(own, x, side='left')
  left = np.maximum(right - 1, 0)
  width = np.where(right > left, own[right] - own[left], 1.0)
  share = np.where(right > left, (x - own[left]) / width, 1.0)
  between = highest[left] + share * (lowest[right] - highest[left])
  return np.where(own[right] == x, extreme(lowest, highest)[right], between)


def corners(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Which points a curve needs: bool [N], False within level and upright lines."""
  level, upright = np.diff(y) == 0, np.diff(x) == 0
  within = (level[:-1] & level[1:]) | (upright[:-1] & upright[1:])
  return np.r_[True, ~within, True]


def average_precision_recall(found: Sequence[metrics.PrecisionRecallCurve]) -> Curve:
  """Mean precision at each recall, of step functions; its area is the mean AP.

  The value at x holds from the x before: `drawstyle='steps-pre'`.
  """
  x = np.unique(np.concatenate([curve.recall for curve in found]))
  # Of several points with one recall the first has the highest precision.
  steps = [curve.precision[np.searchsorted(curve.recall, x, side='left')]
           for curve in found]
  return Curve(x, np.mean(steps, axis=0))


def precision_recall_curves(runs: Sequence[groups.Member], k: int
                            ) -> list[metrics.PrecisionRecallCurve]:
  """Class k against the others, for each run that has both, without recall 0."""
  result = []
  for one in runs:
    curve = metrics.precision_recall_curve(
        one.table.labels == k, one.table.probabilities[:, k])
    if len(curve.thresholds):
      kept = curve.recall > 0
      result.append(metrics.PrecisionRecallCurve(*(values[kept] for values in curve)))
  return result


def reliability(runs: Sequence[groups.Member]) -> calibration.Reliability:
  """Of the rows of all runs together, in the bins of `scores`.

  The event is the positive class in a binary task, the likeliest class with more.
  """
  parts = [_event(one) for one in runs]
  return calibration.reliability(
      np.concatenate([hits for hits, _ in parts]),
      np.concatenate([confidence for _, confidence in parts]),
      num_bins=score_summary.NUM_BINS)


def expected_errors(runs: Sequence[groups.Member]) -> list[float]:
  """Expected calibration error of each run."""
  return [calibration.expected_error(reliability([one])) for one in runs]


def _event(one: groups.Member) -> tuple[np.ndarray, np.ndarray]:
  labels, probabilities = one.table.labels, one.table.probabilities
  if probabilities.shape[1] == 2:
    return labels == 1, probabilities[:, 1]
  return calibration.top_label(labels, probabilities)


def operating_points(runs: Sequence[groups.Member]) -> list[metrics.Operating]:
  """Sensitivity and specificity of each binary run at its own threshold."""
  return [metrics.sensitivity_specificity(
      one.table.labels == 1, one.table.probabilities[:, 1], threshold=one.threshold)
          for one in runs if one.threshold is not None]


def predicted(one: groups.Member) -> np.ndarray:
  """The class int [N] that a run decides for.

  Of two, class 1 from the run's own threshold on; of more the likeliest.
  """
  if one.table.probabilities.shape[1] == 2 and one.threshold is not None:
    return (one.table.probabilities[:, 1] >= one.threshold).astype(np.int32)
  return one.table.probabilities.argmax(axis=1)


def confusion(runs: Sequence[groups.Member], num_classes: int) -> np.ndarray:
  """int64 [K, K] of counts over all runs: row the true class, column the predicted."""
  return sum(metrics.confusion_matrix(
      one.table.labels, predicted(one), num_classes=num_classes) for one in runs)
