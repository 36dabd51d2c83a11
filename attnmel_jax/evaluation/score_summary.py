"""All scores of one set of predictions, as one dictionary that JSON can hold.

An interval is `{'estimate': x, 'low': a, 'high': b}`; what the data leave
undefined is None.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
from typing import Any

import numpy as np

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import calibration
from attnmel_jax.evaluation import metrics

# Of every interval in a summary or a table.
LEVEL = 0.95
# Of the reliability curve, as in Guo et al. 2017.
NUM_BINS = 15


def classification(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    class_names: Sequence[str],
    groups: np.ndarray,
    threshold: float | None,
    temperature: float | None,
    num_draws: int,
    seed: int,
) -> dict[str, Any]:
  """Scores of a binary (K = 2) or multi-class task, with bootstrap intervals.

  Args:
    labels: int [N] in [0, K). In a binary task class 1 is the positive one.
    probabilities: [N, K].
    class_names: K names, in the order of the columns.
    groups: [N] lesion of each row, or its id where lesions are not known.
    threshold: a binary row is positive where the probability of class 1 is at
      least this; None or nan where none could be chosen: sensitivity and
      specificity are then None. A multi-class task takes None.
    temperature: fitted on validation, for `calibration` once more after it; None
      where there is no validation set.
    num_draws: of the bootstrap.
    seed: of the bootstrap; the same for all systems that are to be compared.

  Returns:
    Always `n`, `groups` (how many lesions), `class_counts`, `auc`, `calibration`,
    `level`, `num_draws`, `seed`, `error_source` (what the intervals hold). Binary:
    `positive`, `ap`, `auc`, `threshold`, `sensitivity`, `specificity`,
    `sensitivity_at_95_specificity` and the reverse. Multi-class:
    `balanced_accuracy`, `auc_mean` (over the classes that have one), `recall` and
    `auc` by class name, `confusion_matrix` (row the true class).
  """
  labels, probabilities = metrics.check_probabilities(labels, probabilities)
  num_classes = probabilities.shape[1]
  draws = bootstrap.resample(labels, groups, num_draws=num_draws, seed=seed)
  counts = np.bincount(labels, minlength=num_classes)
  result = {
      'n': len(labels),
      'groups': len(np.unique(groups)),
      'class_counts': dict(zip(class_names, counts.tolist(), strict=True)),
  }
  if num_classes == 2:
    result['positive'] = class_names[1]
    result |= _binary(labels, probabilities[:, 1], draws, threshold)
  else:
    result |= _multiclass(labels, probabilities, draws, class_names)
  return result | {
      'calibration': _calibration(labels, probabilities, temperature), 'level': LEVEL,
      'num_draws': num_draws, 'seed': seed,
      'error_source': bootstrap.error_source(num_seeds=1)}


def per_image_means(
    per_image: Mapping[str, np.ndarray],
    has_lesion: np.ndarray,
    *,
    labels: np.ndarray,
    groups: np.ndarray,
    num_draws: int,
    seed: int,
) -> dict[str, Any]:
  """Means over the annotated images, with bootstrap intervals.

  Images without annotation are left out of the means and of the draws, those whose
  own score is undefined (nan) of its mean.

  Args:
    per_image: name -> [N], such as `attention_scores.per_image` gives.
    has_lesion: bool [N].
    labels: int [N], strata of the bootstrap.
    groups: [N] lesion of each row, or its id where lesions are not known.
    num_draws: of the bootstrap.
    seed: of the bootstrap; the same for all systems that are to be compared.

  Returns:
    `n_annotated`, and an interval for each name of `per_image`.
  """
  annotated = np.asarray(has_lesion, bool)
  result: dict[str, Any] = {'n_annotated': int(annotated.sum())}
  if not annotated.any():
    return result | {name: _undefined() for name in per_image}
  draws = bootstrap.resample(
      np.asarray(labels)[annotated], np.asarray(groups)[annotated],
      num_draws=num_draws, seed=seed)
  for name, values in per_image.items():
    own = values[annotated]
    result[name] = _interval(functools.partial(
        bootstrap.draws_mean, values=own, include=~np.isnan(own)), draws)
  return result


def _binary(
    labels: np.ndarray, scores: np.ndarray, draws: np.ndarray,
    threshold: float | None) -> dict[str, Any]:
  positive = labels == 1
  result = {
      name: _interval(functools.partial(metric, labels=positive, scores=scores), draws)
      for name, metric in bootstrap.RANKING.items()}
  if threshold is None or np.isnan(threshold):
    return result | {'threshold': None, 'sensitivity': _undefined(),
                     'specificity': _undefined()}
  right = (scores >= threshold) == positive
  mean = functools.partial(bootstrap.draws_mean, values=right)
  return result | {
      'threshold': float(threshold),
      'sensitivity': _interval(functools.partial(mean, include=positive), draws),
      'specificity': _interval(functools.partial(mean, include=~positive), draws),
  }


def _multiclass(
    labels: np.ndarray, probabilities: np.ndarray, draws: np.ndarray,
    class_names: Sequence[str]) -> dict[str, Any]:
  num_classes = len(class_names)
  predicted = probabilities.argmax(axis=1)
  recalls, aucs = np.empty((2, num_classes, 1 + len(draws)))
  for k in range(num_classes):
    recalls[k] = bootstrap.values(functools.partial(
        bootstrap.draws_mean, values=predicted == labels, include=labels == k),
        draws=draws)
    aucs[k] = bootstrap.values(functools.partial(
        bootstrap.draws_auc, labels=labels == k, scores=probabilities[:, k]),
        draws=draws)
  # Draws are stratified: a class that the rows hold is in every draw. One class
  # alone has a recall and no AUC.
  held = np.unique(labels)
  matrix = metrics.confusion_matrix(labels, predicted, num_classes=num_classes)
  return {
      'balanced_accuracy': _bounds(recalls[held].mean(axis=0)),
      'auc_mean': _bounds(aucs[held].mean(axis=0)),
      'recall': dict(zip(class_names, map(_bounds, recalls), strict=True)),
      'auc': dict(zip(class_names, map(_bounds, aucs), strict=True)),
      'confusion_matrix': matrix.tolist(),
  }


def _calibration(labels: np.ndarray, probabilities: np.ndarray,
                 temperature: float | None) -> dict[str, Any]:
  """As predicted and, under `tempered`, after temperature scaling."""
  tempered = None
  if temperature is not None:
    tempered = {'temperature': temperature, **_reliability(
        labels, calibration.soften(probabilities, temperature))}
  return {**_reliability(labels, probabilities), 'tempered': tempered}


def _reliability(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
  """Of the positive class in a binary task, of the likeliest class with more."""
  if probabilities.shape[1] == 2:
    hits, confidence = labels == 1, probabilities[:, 1]
  else:
    hits, confidence = calibration.top_label(labels, probabilities)
  curve = calibration.reliability(hits, confidence, num_bins=NUM_BINS)
  return {
      'expected_error': calibration.expected_error(curve),
      'log_loss': calibration.log_loss(labels, probabilities),
      'counts': curve.counts.tolist(),
      'confidence': list(map(_or_none, curve.confidence.tolist())),
      'accuracy': list(map(_or_none, curve.accuracy.tolist())),
  }


def _or_none(value: float) -> float | None:
  return None if np.isnan(value) else value


def _interval(metric, draws: np.ndarray) -> dict[str, float | None]:
  return _bounds(bootstrap.values(metric, draws=draws))


def _bounds(values: np.ndarray) -> dict[str, float | None]:
  """[1 + D] values -> estimate and bounds, None where undefined."""
  interval = bootstrap.percentile_interval(values, level=LEVEL)
  bounds = {'estimate': interval.estimate, 'low': interval.low, 'high': interval.high}
  return {name: _or_none(value) for name, value in bounds.items()}


def _undefined() -> dict[str, float | None]:
  return {'estimate': None, 'low': None, 'high': None}
