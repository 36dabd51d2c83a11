"""Scores and curves of a classifier from collected labels and probabilities.

  threshold = metrics.youden_threshold(validation_labels, validation_scores)
  metrics.auc(labels, scores)
  metrics.sensitivity_specificity(labels, scores, threshold=threshold)

Two rules hold throughout. What the data leave undefined (a class without an
image) is `nan`, for a table to print as undefined. Input that makes no sense (NaN
or infinite scores, no rows, lengths that differ, labels out of range) raises
ValueError: files are checked where they are read, so it is the caller's mistake.
"""

from typing import NamedTuple

import numpy as np
import sklearn.metrics


class Operating(NamedTuple):
  """Shares in [0, 1] of the positives and of the negatives classified correctly."""

  sensitivity: float
  specificity: float


class RocCurve(NamedTuple):
  """A point for each distinct score, highest first, after (0, 0)."""

  false_positive_rate: np.ndarray  # [1 + U] in [0, 1], not decreasing
  true_positive_rate: np.ndarray   # [1 + U] in [0, 1], not decreasing
  thresholds: np.ndarray           # [1 + U], inf at (0, 0)


class PrecisionRecallCurve(NamedTuple):
  """A point for each distinct score, highest first.

  It is a step function: between two points precision is that of the second,
  which is how `average_precision` sums it up.
  """

  recall: np.ndarray      # [U] in [0, 1], not decreasing
  precision: np.ndarray   # [U] in [0, 1]
  thresholds: np.ndarray  # [U]


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
  """Area under the precision-recall curve as a sum of steps, no interpolation.

  sum over n of (R_n - R_{n-1}) P_n, one step per distinct score: scikit-learn's
  definition, and the challenge's.

  Args:
    labels: [N] of 0 and 1, or bool; 1 is positive.
    scores: [N], larger is more positive.

  Returns:
    A share in [0, 1]; nan where one of the two classes has no row.

  >>> round(metrics.average_precision([1, 0, 1, 0], [.9, .8, .7, .1]), 4)
  0.8333
  """
  labels, scores = check_binary(labels, scores)
  if labels.all() or not labels.any():
    return float('nan')
  return float(sklearn.metrics.average_precision_score(labels, scores))


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
  """Area under the ROC curve: P(positive scores higher), a tie counting half.

  Args:
    labels: [N] of 0 and 1, or bool; 1 is positive.
    scores: [N], larger is more positive.

  Returns:
    A share in [0, 1]; nan where one of the two classes has no row.

  >>> metrics.auc([1, 0, 1, 0], [.9, .8, .7, .1])
  0.75
  """
  labels, scores = check_binary(labels, scores)
  if labels.all() or not labels.any():
    return float('nan')
  return float(sklearn.metrics.roc_auc_score(labels, scores))


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> RocCurve:
  """The empirical ROC curve; `auc` is the area under its trapezoids.

  Args:
    labels: [N] of 0 and 1, or bool; 1 is positive.
    scores: [N]; `score >= threshold` is positive.

  Returns:
    All points, those on straight lines too; no point where a class has no row.
  """
  labels, scores = check_binary(labels, scores)
  if labels.all() or not labels.any():
    return RocCurve(*np.empty((3, 0)))
  return RocCurve(*sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False))


def precision_recall_curve(
    labels: np.ndarray, scores: np.ndarray) -> PrecisionRecallCurve:
  """The empirical precision-recall curve; no point where a class has no row."""
  labels, scores = check_binary(labels, scores)
  if labels.all() or not labels.any():
    return PrecisionRecallCurve(*np.empty((3, 0)))
  precision, recall, thresholds = sklearn.metrics.precision_recall_curve(
      labels, scores)
  # scikit-learn has the lowest score first and adds the point (0, 1), which no
  # threshold reaches.
  return PrecisionRecallCurve(recall[-2::-1], precision[-2::-1], thresholds[::-1])


def youden_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
  """The threshold with the largest sensitivity + specificity - 1 (Youden 1950).

  `score >= threshold` is positive. The candidates are the scores themselves.
  Among equally good ones the lowest wins, the one that misses fewest positives:
  scores that separate nothing call every row positive.

  Returns:
    One of `scores`; nan where one of the two classes has no row.

  >>> metrics.youden_threshold([0, 0, 1, 1], [.1, .4, .35, .8])
  0.35
  """
  labels, scores = check_binary(labels, scores)
  positives = int(labels.sum())
  negatives = len(labels) - positives
  if not positives or not negatives:
    return float('nan')
  candidates, inverse = np.unique(scores, return_inverse=True)
  true = np.bincount(inverse, weights=labels)[::-1].cumsum()[::-1]
  false = np.bincount(inverse, weights=~labels)[::-1].cumsum()[::-1]
  # Multiplied out to whole numbers, which are exact: ties are real ties.
  youden = true * negatives - false * positives
  return float(candidates[np.argmax(youden)])


def sensitivity_specificity(
    labels: np.ndarray, scores: np.ndarray, *, threshold: float) -> Operating:
  """Sensitivity and specificity where `score >= threshold` is positive.

  Returns:
    Shares in [0, 1]; nan for a class without a row, and both nan where the
    threshold is nan because the data that were to choose it left it undefined.

  >>> metrics.sensitivity_specificity(
  ...     [0, 0, 1, 1], [.1, .4, .35, .8], threshold=0.35)
  Operating(sensitivity=1.0, specificity=0.5)
  """
  labels, scores = check_binary(labels, scores)
  if np.isnan(threshold):
    return Operating(float('nan'), float('nan'))
  called = scores >= threshold
  return Operating(_share(called[labels]), _share(~called[~labels]))


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> np.ndarray:
  """int64 [K, K] of counts: row the true class, column the predicted one.

  >>> metrics.confusion_matrix([0, 1, 1], [0, 1, 0], num_classes=2).tolist()
  [[1, 0], [1, 1]]
  """
  return sklearn.metrics.confusion_matrix(
      check_classes('labels', labels, num_classes),
      check_classes('predicted', predicted, num_classes), labels=range(num_classes))


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
  """Mean recall over the classes that have a row (the score of ISIC 2018).

  Args:
    labels: int [N].
    predicted: int [N].

  Raises:
    ValueError: no rows, other shapes, or no class indices, such as one-hot rows.

  >>> metrics.balanced_accuracy([0, 1, 1], [0, 1, 0])
  0.75
  """
  highest = np.iinfo(np.int64).max
  labels = check_classes('labels', labels, highest)
  predicted = check_classes('predicted', predicted, highest)
  if labels.shape != predicted.shape:
    raise ValueError(f'labels {labels.shape} and predicted {predicted.shape} are not '
                     'both [N]')
  return float(sklearn.metrics.recall_score(
      labels, predicted, labels=np.unique(labels), average='macro'))


def one_vs_rest_auc(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
  """[K] areas under the ROC curve, each class against all others together.

  Args:
    labels: int [N] in [0, K).
    probabilities: [N, K].

  Returns:
    Shares in [0, 1]; nan for a class that is absent or the only one.
  """
  labels, probabilities = check_probabilities(labels, probabilities)
  return np.array([auc(labels == k, column)
                   for k, column in enumerate(probabilities.T)])


def check_binary(
    labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns labels as bool [N] and scores as float64 [N].

  Raises:
    ValueError: no rows, shapes that differ, labels other than 0 and 1, or scores
      that are NaN or infinite (their number is in the message).
  """
  labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
  if labels.ndim != 1 or labels.shape != scores.shape:
    raise ValueError(
        f'labels {labels.shape} and scores {scores.shape} are not both [N]')
  if not len(labels):
    raise ValueError('there are no rows to score')
  if not np.isin(labels, (0, 1)).all():
    raise ValueError(f'labels are {np.unique(labels)[:9]}, not 0 and 1')
  if bad := np.count_nonzero(~np.isfinite(scores)):
    raise ValueError(f'{bad} of {len(scores)} scores are NaN or infinite')
  return labels.astype(bool), scores


def check_classes(name: str, values: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns class indices as int64 [N].

  Raises:
    ValueError: no rows, not whole numbers [N], or outside [0, num_classes).
  """
  values = np.asarray(values)
  if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
    raise ValueError(f'{name} is {values.dtype} {values.shape}, not integer [N]')
  if not len(values):
    raise ValueError('there are no rows to score')
  if values.min() < 0 or values.max() >= num_classes:
    raise ValueError(f'{name} holds {values.min()} to {values.max()}, '
                     f'outside [0, {num_classes})')
  return values.astype(np.int64)


def check_probabilities(
    labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns labels as int64 [N] and probabilities as float64 [N, K].

  Raises:
    ValueError: no rows, shapes that do not fit, labels outside [0, K), or
      probabilities that are NaN or outside [0, 1].
  """
  probabilities = np.asarray(probabilities, np.float64)
  if probabilities.ndim != 2 or len(probabilities) != len(labels):
    raise ValueError(f'probabilities {probabilities.shape} do not fit {len(labels)} '
                     'labels')
  if not ((probabilities >= 0) & (probabilities <= 1)).all():
    raise ValueError('probabilities are NaN or outside [0, 1]')
  return check_classes('labels', labels, probabilities.shape[1]), probabilities


def _share(hits: np.ndarray) -> float:
  return float(hits.mean()) if len(hits) else float('nan')
