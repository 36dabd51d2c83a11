"""ROC and precision-recall curves, and the points that clinicians ask for.

The rules of `metrics` hold: undefined is nan, what cannot be meant is ValueError.
"""

from typing import NamedTuple

import numpy as np
import sklearn.metrics

from attnmel_jax.evaluation import metrics


class RocCurve(NamedTuple):
  """A point for each distinct score, highest first, after (0, 0)."""

  false_positive_rate: np.ndarray  # [1 + U] in [0, 1], not decreasing
  true_positive_rate: np.ndarray   # [1 + U] in [0, 1], not decreasing
  thresholds: np.ndarray           # [1 + U], inf at (0, 0)


class PrecisionRecallCurve(NamedTuple):
  """A point for each distinct score, highest first.

  It is a step function: between two points precision is that of the second,
  which is how `metrics.average_precision` sums it up.
  """

  recall: np.ndarray      # [U] in [0, 1], not decreasing
  precision: np.ndarray   # [U] in [0, 1]
  thresholds: np.ndarray  # [U]


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> RocCurve:
  """The empirical ROC curve; `metrics.auc` is the area under its trapezoids.

  Args:
    labels: [N] of 0 and 1, or bool; 1 is positive.
    scores: [N]; `score >= threshold` is positive.

  Returns:
    All points, those on straight lines too; no point where a class has no row.
  """
  labels, scores = metrics.check_binary(labels, scores)
  if labels.all() or not labels.any():
    return RocCurve(*np.empty((3, 0)))
  return RocCurve(*sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False))


def precision_recall_curve(
    labels: np.ndarray, scores: np.ndarray) -> PrecisionRecallCurve:
  """The empirical precision-recall curve; no point where a class has no row."""
  curve = roc_curve(labels, scores)
  positives = np.count_nonzero(labels)
  true = curve.true_positive_rate[1:] * positives
  false = curve.false_positive_rate[1:] * (len(labels) - positives)
  return PrecisionRecallCurve(
      curve.true_positive_rate[1:], true / (true + false), curve.thresholds[1:])


def sensitivity_at_specificity(
    labels: np.ndarray, scores: np.ndarray, *, specificity: float) -> float:
  """Largest sensitivity whose specificity is at least the one asked for.

  The threshold is found on the same rows: a point of the curve, not what a
  threshold chosen beforehand would do. Nothing is interpolated.

  Args:
    labels: [N] of 0 and 1, or bool; 1 is positive.
    scores: [N], larger is more positive.
    specificity: in [0, 1], such as 0.95.

  Returns:
    A share in [0, 1], 0 where only calling nothing positive is specific enough;
    nan where a class has no row.
  """
  labels, scores = metrics.check_binary(labels, scores)
  if not 0 <= specificity <= 1:
    raise ValueError(f'specificity={specificity} is not in [0, 1]')
  curve = roc_curve(labels, scores)
  if not len(curve.thresholds):
    return float('nan')
  # In whole rows: 1 - 1 / 20 would be another number than 0.95.
  negatives = np.count_nonzero(~labels)
  kept = negatives - np.rint(curve.false_positive_rate * negatives)
  return float(curve.true_positive_rate[kept / negatives >= specificity].max())


def specificity_at_sensitivity(
    labels: np.ndarray, scores: np.ndarray, *, sensitivity: float) -> float:
  """Largest specificity whose sensitivity is at least the one asked for.

  `sensitivity_at_specificity` with the classes, and the scores' sign, exchanged.
  """
  labels, scores = metrics.check_binary(labels, scores)
  if not 0 <= sensitivity <= 1:
    raise ValueError(f'sensitivity={sensitivity} is not in [0, 1]')
  return sensitivity_at_specificity(~labels, -scores, specificity=sensitivity)
