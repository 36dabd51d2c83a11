"""The U-Net as a method of `methods`: what it learns, predicts and is scored by."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import pathlib
from typing import Any

import flax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.data import storage
from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import overlays
from attnmel_jax.evaluation import predict as predict_lib
from attnmel_jax.evaluation import predict_masks
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import score_summary
from attnmel_jax.experiments import classification
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.models import unet
from attnmel_jax.training import losses

# Pixels of at least this probability are lesion.
THRESHOLD = 0.5
LEARNS_MASKS = True


def task_labels(prepared: storage.PreparedSplit, config: Mapping[str, Any]
                ) -> tuple[np.ndarray, tuple[str, ...]]:
  """The labels of a split, which do not matter, and no class."""
  del config
  return prepared.labels, ()


def check_labels(train: parts_lib.Part, config: Mapping[str, Any]) -> None:
  """No labels are needed."""
  del train, config


def check_validation(part: parts_lib.Part, config: Mapping[str, Any]) -> None:
  """Raises UserError if no validation image has a lesion mask."""
  if not part.prepared.has_lesion[part.rows].any():
    raise errors.UserError(
        f'no validation image of dataset={config["dataset"]} has a lesion mask: no '
        'score can choose a checkpoint; prepare it with its masks')


def check_scored(part: parts_lib.Part) -> None:
  """Raises UserError if no image has a lesion mask to score by."""
  if not part.prepared.has_lesion.any():
    raise errors.UserError(
        f'no {part.prepared.split} image of dataset={part.prepared.dataset} has a '
        'lesion mask to score a U-Net with; prepare the data set with its masks, or '
        'choose another')


def create_model(config: Mapping[str, Any], num_classes: int, *, remat: bool
                 ) -> flax.linen.Module:
  """The Flax module, which has no classes and recomputes no layer."""
  del num_classes, remat
  return unet.UNet(depth=unet.DEPTH, width=config['width'],
                   dtype=jnp.dtype(config['dtype']), axis_name=parallel.AXIS)


def loss(config: Mapping[str, Any]) -> losses.Loss:
  """What training minimises."""
  del config
  return losses.SEGMENTATION


def take(config: Mapping[str, Any]) -> predict_lib.Take:
  """What predictions keep of the model's outputs."""
  del config
  return predict_masks.take_lesion


def predict(config: Mapping[str, Any], step: Callable[..., Any], variables: Any,
            batches: Iterable[dict[str, np.ndarray]]) -> predict_masks.MaskPredictions:
  """Scores of evaluation batches, and the maps that a picture shows."""
  return predict_masks.predict(
      step, variables, batches, image_size=config['image_size'], threshold=THRESHOLD,
      kept=config['overlay_images'])


def title(config: Mapping[str, Any], train: parts_lib.Part, kind: str) -> str:
  """The plan's first line; `kind` marks synthetic data."""
  del train
  return f'unet, {config["dataset"]}{kind}: lesion masks'


def decisions(validation: predict_masks.MaskPredictions | None, num_classes: int
              ) -> dict[str, float | None]:
  """The threshold of a mask, which no data decide."""
  del validation, num_classes
  return {'threshold': THRESHOLD, 'temperature': None}


def selection_score(predictions: predict_masks.MaskPredictions) -> tuple[str, float]:
  """The validation score that chooses the checkpoint: the mean Jaccard index."""
  return 'jaccard', float(np.nanmean(predictions.jaccard))


def report(folder: pathlib.Path, split: str,
           predictions: predict_masks.MaskPredictions, part: parts_lib.Part,
           config: Mapping[str, Any], *, near_duplicates: Collection[str],
           threshold: float | None, temperature: float | None) -> dict[str, Any]:
  """Writes predictions/<name>_images.csv and masks/<name>.png; returns the scores.

  Returns:
    `n`, `n_annotated`, and with 95 % bootstrap intervals over images (over lesions,
    where several images of one are known) `jaccard` and `thresholded_jaccard`. Where
    there are `near_duplicates`, the ids of images that look like some of the training
    images, `without_near_duplicates` holds the same of the others. `files` holds the
    digests of what was written and is read back.
  """
  del threshold, temperature  # of the masks, as they are: see `decisions`
  name = classification.FILE_NAMES[split]
  per_image = {'jaccard': predictions.jaccard,
               'thresholded_jaccard': predict_masks.thresholded(predictions.jaccard)}
  prediction_files.write_image_scores(
      folder / 'predictions' / f'{name}_images.csv', part.ids, part.groups, per_image)
  draw(folder / 'masks' / f'{name}.png', split, predictions, part, config)
  result = _score(per_image, part, np.ones(len(part.rows), bool), config)
  if near_duplicates:
    others = ~np.isin(part.ids, sorted(near_duplicates))
    result['without_near_duplicates'] = _score(per_image, part, others, config)
  return result | {'files': run_folder.digests(folder, name)}


def _score(per_image: Mapping[str, np.ndarray], part: parts_lib.Part, rows: np.ndarray,
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
         part: parts_lib.Part, config: Mapping[str, Any]) -> None:
  """Writes a picture of the first images, their outline and the probability, if any."""
  del config
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
