"""The U-Net of a run: its steps, and how the masks that it draws are scored."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import functools
import pathlib
from typing import Any

import numpy as np

from attnmel_jax import parallel
from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import mask_scores
from attnmel_jax.evaluation import overlays
from attnmel_jax.evaluation import predict_masks
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import score_summary
from attnmel_jax.experiments import build
from attnmel_jax.experiments import classification
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.training import segmentation as segmentation_step

# Pixels of at least this probability are lesion.
THRESHOLD = 0.5


def training_step(config: Mapping[str, Any]) -> Callable[..., Any]:
  """The per-device `step(state, batch, hyper)` with its statics bound."""
  return functools.partial(
      segmentation_step.train_step,
      model=build.create_model(config, 0, remat=False), tx=build.optimiser(config),
      normalisation=config['normalisation'], dtype=build.loss_dtype(config),
      image_size=config['image_size'], random_crop=config['random_crop'],
      random_rotation=config['random_rotation'], random_flip=config['random_flip'],
      axis_name=parallel.AXIS)


def prediction_step(config: Mapping[str, Any]) -> Callable[..., Any]:
  """`step(variables, batch)` of `predict_masks.predict`."""
  return predict_masks.make_step(
      build.create_model(config, 0, remat=False),
      normalisation=config['normalisation'], dtype=build.loss_dtype(config),
      image_size=config['image_size'], tta=config['tta'])


def predictor(config: Mapping[str, Any]
              ) -> Callable[[Any, Iterable], predict_masks.MaskPredictions]:
  """`predict(variables, batches)`, which keeps the maps that a picture shows."""
  return functools.partial(
      predict_masks.predict, prediction_step(config), image_size=config['image_size'],
      threshold=THRESHOLD, kept=config['overlay_images'])


def selection_score(predictions: predict_masks.MaskPredictions) -> tuple[str, float]:
  """The validation score that chooses the checkpoint: the mean Jaccard index."""
  return 'jaccard', float(np.nanmean(predictions.jaccard))


def report(folder: pathlib.Path, split: str,
           predictions: predict_masks.MaskPredictions, part: task_lib.Part,
           config: Mapping[str, Any], *, near_duplicates: Collection[str]
           ) -> dict[str, Any]:
  """Writes predictions/<name>_images.csv and masks/<name>.png; returns the scores.

  Returns:
    `n`, `n_annotated`, and with 95 % bootstrap intervals over images (over lesions,
    where several images of one are known) `jaccard` and `thresholded_jaccard`. Where
    there are `near_duplicates`, the ids of images that look like some that were trained
    from, `without_near_duplicates` holds the same of the others.
  """
  name = classification.FILE_NAMES[split]
  per_image = {'jaccard': predictions.jaccard,
               'thresholded_jaccard': mask_scores.thresholded(predictions.jaccard)}
  prediction_files.write_image_scores(
      folder / 'predictions' / f'{name}_images.csv', part.ids, part.groups, per_image)
  draw(folder / 'masks' / f'{name}.png', split, predictions, part)
  result = _score(per_image, part, np.ones(len(part.rows), bool), config)
  if near_duplicates:
    others = ~np.isin(part.ids, sorted(near_duplicates))
    result['without_near_duplicates'] = _score(per_image, part, others, config)
  return result


def _score(per_image: Mapping[str, np.ndarray], part: task_lib.Part, rows: np.ndarray,
           config: Mapping[str, Any]) -> dict[str, Any]:
  """Of the images where `rows`, bool [N], is set."""
  draws = {'num_draws': config['bootstrap_draws'], 'seed': config['bootstrap_seed']}
  alike = np.zeros(np.count_nonzero(rows), int)  # one stratum: no classes matter here
  return {'n': len(alike),
          **score_summary.per_image_means(
              {name: values[rows] for name, values in per_image.items()},
              part.prepared.has_lesion[part.rows][rows], labels=alike,
              groups=part.groups[rows], **draws),
          'level': score_summary.LEVEL, **draws,
          'error_source': bootstrap.error_source(num_seeds=1)}


def draw(path: pathlib.Path, split: str, predictions: predict_masks.MaskPredictions,
         part: task_lib.Part) -> None:
  """Writes a picture of the first images, their outline and the probability, if any."""
  if not len(predictions.probability):
    return
  shown = range(len(predictions.probability))
  loaded = [part.prepared.load(int(part.rows[i])) for i in shown]
  size = predictions.probability.shape[1]
  photographs, lesion = (
      attention_maps.central(np.stack([arrays[kind] for arrays in loaded]), size)
      for kind in ('image', 'lesion'))
  annotated = part.prepared.has_lesion[part.rows[:len(shown)]]
  titles = [f'{part.ids[i]} Jaccard {predictions.jaccard[i]:.2f}' if annotated[i]
            else str(part.ids[i]) for i in shown]
  overlays.probability_figure(
      photographs, {'U-Net': predictions.probability / 255}, lesion, annotated, titles,
      path, heading=f'Lesion masks, {split}')
