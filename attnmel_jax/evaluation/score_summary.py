"""All scores of one set of predictions, as one dictionary that JSON can hold.

An interval is `{'estimate': x, 'low': a, 'high': b}`; what the data leave
undefined is None.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
from typing import Any

import numpy as np

from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import calibration
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import paired

# Of every interval in a summary or a table.
LEVEL = 0.95
# What sensitivity and specificity are held at, one for the other.
OPERATING_POINT = 0.95
# Of the reliability curve, as Guo et al. 2017 have it.
NUM_BINS = 15
# Of the threshold sweep; that of the thesis is among them.
THRESHOLDS = np.arange(1, 20) / 20


def classification_scores(
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
  labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
  num_classes = len(class_names)
  if num_classes < 2 or probabilities.shape != (len(labels), num_classes):
    raise ValueError(f'probabilities {probabilities.shape} do not fit {len(labels)} '
                     f'labels and classes {tuple(class_names)}')
  if num_classes > 2 and threshold is not None:
    raise ValueError(f'threshold={threshold} has no meaning for {num_classes} classes')
  labels = metrics.check_classes('labels', labels, num_classes)
  draws = bootstrap.bootstrap_draws(labels, groups, num_draws=num_draws, seed=seed)
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
      'error_source': paired.error_source(num_seeds=1)}


def attention_per_image(
    maps: Mapping[str, np.ndarray],
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
) -> dict[str, np.ndarray]:
  """How well every map finds the lesion of every image.

  Args:
    maps: name -> [N, h, w].
    lesion: uint8 [N, S, S].
    has_lesion: bool [N].
    image_size: side of the network's input, the centre of the S x S image.

  Returns:
    `jaccard_<name>`, `mass_<name>` and `pointing_<name>`, each [N], of each map and
    of the baseline `all_ones`; nan where the image is not annotated, mass and
    pointing also where its mask is empty after the crop.
  """
  maps = {**maps, 'all_ones': np.broadcast_to(
      attention_maps.all_ones(1), (len(has_lesion), 1, 1))}
  result = {}
  for name, values in maps.items():
    arguments = (values, lesion, has_lesion)
    result |= {
        f'jaccard_{name}': attention_maps.attention_jaccard(
            *arguments, image_size=image_size, threshold=attention_maps.THRESHOLD),
        f'mass_{name}': attention_maps.mass_inside(*arguments, image_size=image_size),
        f'pointing_{name}': attention_maps.pointing_game(
            *arguments, image_size=image_size)}
  return result


def attention_scores(
    per_image: Mapping[str, np.ndarray],
    has_lesion: np.ndarray,
    *,
    labels: np.ndarray,
    groups: np.ndarray,
    num_draws: int,
    seed: int,
) -> dict[str, Any]:
  """Means over the annotated images, with bootstrap intervals.

  Images without annotation are left out of the means and of the draws; an image
  whose own score is undefined (nan) of the mean.

  Args:
    per_image: name -> [N], from `attention_per_image` or of the same kind.
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
  draws = bootstrap.bootstrap_draws(
      np.asarray(labels)[annotated], np.asarray(groups)[annotated],
      num_draws=num_draws, seed=seed)
  for name, values in per_image.items():
    own = values[annotated]
    result[name] = _interval(functools.partial(
        bootstrap.draws_mean, values=own, include=~np.isnan(own)), draws)
  return result


def threshold_sweep(
    maps: Mapping[str, np.ndarray],
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
) -> dict[str, list[float | None]]:
  """`thresholds`, and the mean `jaccard_<name>` of each map [N, h, w] at each."""
  annotated = np.asarray(has_lesion, bool)
  result: dict[str, list[float | None]] = {'thresholds': THRESHOLDS.tolist()}
  for name, values in maps.items():
    sweep = attention_maps.threshold_sweep(
        values, lesion, annotated, image_size=image_size, thresholds=THRESHOLDS)
    result[f'jaccard_{name}'] = (
        sweep[:, annotated].mean(axis=1).tolist() if annotated.any()
        else [None] * len(THRESHOLDS))
  return result


def _binary(
    labels: np.ndarray, scores: np.ndarray, draws: np.ndarray,
    threshold: float | None) -> dict[str, Any]:
  positive = labels == 1
  result = {
      'ap': _interval(functools.partial(
          bootstrap.draws_average_precision, labels=positive, scores=scores), draws),
      'auc': _interval(functools.partial(
          bootstrap.draws_auc, labels=positive, scores=scores), draws),
      'sensitivity_at_95_specificity': _interval(functools.partial(
          bootstrap.draws_sensitivity_at_specificity, labels=positive, scores=scores,
          specificity=OPERATING_POINT), draws),
      # The reverse: classes and sign exchanged.
      'specificity_at_95_sensitivity': _interval(functools.partial(
          bootstrap.draws_sensitivity_at_specificity, labels=~positive,
          scores=-scores, specificity=OPERATING_POINT), draws),
  }
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
    recalls[k] = bootstrap.bootstrap_values(functools.partial(
        bootstrap.draws_mean, values=predicted == labels, include=labels == k),
        draws=draws)
    aucs[k] = bootstrap.bootstrap_values(functools.partial(
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
  return _bounds(bootstrap.bootstrap_values(metric, draws=draws))


def _bounds(values: np.ndarray) -> dict[str, float | None]:
  """[1 + D] values -> estimate and bounds, None where undefined."""
  interval = bootstrap.percentile_interval(values, level=LEVEL)
  bounds = {'estimate': interval.estimate, 'low': interval.low, 'high': interval.high}
  return {name: _or_none(value) for name, value in bounds.items()}


def _undefined() -> dict[str, float | None]:
  return {'estimate': None, 'low': None, 'high': None}
