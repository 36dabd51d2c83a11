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
from attnmel_jax.evaluation import calibration
from attnmel_jax.evaluation import comparisons
from attnmel_jax.evaluation import lesion_baselines
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import statistics

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
  draws = statistics.bootstrap_draws(labels, groups, num_draws=num_draws, seed=seed)
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
      'calibration': _calibration(labels, probabilities), 'level': LEVEL,
      'num_draws': num_draws, 'seed': seed,
      'error_source': comparisons.error_source(num_seeds=1)}


def attention_scores(
    maps: Mapping[str, np.ndarray],
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    jaccards: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    image_size: int,
    num_draws: int,
    seed: int,
) -> dict[str, Any]:
  """How well every map finds the lesion, beside what no network is needed for.

  Images without annotation are left out of the means and of the draws; from
  `mass_*` and `pointing_*` also those whose mask is empty after the crop.

  Args:
    maps: name -> [N, h, w].
    lesion: uint8 [N, S, S].
    has_lesion: bool [N].
    jaccards: name -> [N], indices that were worked out elsewhere.
    labels: int [N], strata of the bootstrap.
    groups: [N] lesion of each row, or its id where lesions are not known.
    image_size: side of the network's input, the centre of the S x S image.
    num_draws: of the bootstrap.
    seed: of the bootstrap; the same for all systems that are to be compared.

  Returns:
    `n_annotated`; `jaccard_<name>` of each map, of `jaccards`, and of the
    baselines `all_ones` and `disc` (of `disc_radius`, as a share of the side);
    `mass_<name>` and `pointing_<name>` of each map and of `all_ones`; and
    `threshold_sweep`: `thresholds` and the mean `jaccard_<name>` at each.
  """
  annotated = np.asarray(has_lesion, bool)
  maps = {**maps, 'all_ones': np.broadcast_to(
      attention_maps.all_ones(1), (len(annotated), 1, 1))}
  per_image, sweeps = _score_maps(maps, lesion, annotated, image_size)
  disc = lesion_baselines.best_disc(lesion, annotated, image_size=image_size)
  per_image |= {'jaccard_disc': disc.jaccard}
  per_image |= {f'jaccard_{name}': values for name, values in jaccards.items()}
  result: dict[str, Any] = {'n_annotated': int(annotated.sum())}
  if annotated.any():
    draws = statistics.bootstrap_draws(
        np.asarray(labels)[annotated], np.asarray(groups)[annotated],
        num_draws=num_draws, seed=seed)
    for name, values in per_image.items():
      own = values[annotated]
      result[name] = _interval(functools.partial(
          statistics.draws_mean, values=own, include=~np.isnan(own)), draws)
  else:
    result |= {name: _undefined() for name in per_image}
  return result | {
      'disc_radius': _or_none(disc.radius),
      'threshold_sweep': {'thresholds': THRESHOLDS.tolist(), **sweeps}}


def _score_maps(
    maps: Mapping[str, np.ndarray], lesion: np.ndarray, annotated: np.ndarray,
    image_size: int) -> tuple[dict[str, np.ndarray], dict[str, list[float | None]]]:
  """Scores [N] by kind and map, and the mean Jaccard index at each threshold."""
  per_image, sweeps = {}, {}
  for name, values in maps.items():
    arguments = (values, lesion, annotated)
    sweep = attention_maps.threshold_sweep(
        *arguments, image_size=image_size, thresholds=THRESHOLDS)
    sweeps[f'jaccard_{name}'] = _means(sweep[:, annotated])
    per_image |= {
        f'jaccard_{name}': sweep[THRESHOLDS == attention_maps.THRESHOLD][0],
        f'mass_{name}': attention_maps.mass_inside(*arguments, image_size=image_size),
        f'pointing_{name}': attention_maps.pointing_game(
            *arguments, image_size=image_size)}
  return per_image, sweeps


def _binary(
    labels: np.ndarray, scores: np.ndarray, draws: np.ndarray,
    threshold: float | None) -> dict[str, Any]:
  positive = labels == 1
  result = {
      'ap': _interval(functools.partial(
          statistics.draws_average_precision, labels=positive, scores=scores), draws),
      'auc': _interval(functools.partial(
          statistics.draws_auc, labels=positive, scores=scores), draws),
      'sensitivity_at_95_specificity': _interval(functools.partial(
          statistics.draws_sensitivity_at_specificity, labels=positive, scores=scores,
          specificity=OPERATING_POINT), draws),
      # The reverse: classes and sign exchanged.
      'specificity_at_95_sensitivity': _interval(functools.partial(
          statistics.draws_sensitivity_at_specificity, labels=~positive,
          scores=-scores, specificity=OPERATING_POINT), draws),
  }
  if threshold is None or np.isnan(threshold):
    return result | {'threshold': None, 'sensitivity': _undefined(),
                     'specificity': _undefined()}
  right = (scores >= threshold) == positive
  mean = functools.partial(statistics.draws_mean, values=right)
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
    recalls[k] = statistics.bootstrap_values(functools.partial(
        statistics.draws_mean, values=predicted == labels, include=labels == k),
        draws=draws)
    aucs[k] = statistics.bootstrap_values(functools.partial(
        statistics.draws_auc, labels=labels == k, scores=probabilities[:, k]),
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


def _calibration(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
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


def _means(values: np.ndarray) -> list[float | None]:
  """[T, N] -> the mean of each row."""
  if not values.shape[1]:
    return [None] * len(values)
  return values.mean(axis=1).tolist()


def _or_none(value: float) -> float | None:
  return None if np.isnan(value) else value


def _interval(metric, draws: np.ndarray) -> dict[str, float | None]:
  return _bounds(statistics.bootstrap_values(metric, draws=draws))


def _bounds(values: np.ndarray) -> dict[str, float | None]:
  """[1 + D] values -> estimate and bounds, None where undefined."""
  interval = statistics.percentile_interval(values, level=LEVEL)
  bounds = {'estimate': interval.estimate, 'low': interval.low, 'high': interval.high}
  return {name: _or_none(value) for name, value in bounds.items()}


def _undefined() -> dict[str, float | None]:
  return {'estimate': None, 'low': None, 'high': None}
