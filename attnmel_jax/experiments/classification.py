"""Predictions of a part -> files in a run folder and a dict of scores."""

from collections.abc import Collection
from collections.abc import Mapping
import pathlib
from typing import Any
from typing import NamedTuple

import numpy as np

from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import attention_scores
from attnmel_jax.evaluation import calibration
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import overlays
from attnmel_jax.evaluation import predict
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import score_summary
from attnmel_jax.experiments import task as task_lib

# Of sensitivity and specificity where there is no validation set to choose it.
DEFAULT_THRESHOLD = 0.5


def selection_score(predictions: predict.Predictions) -> tuple[str, float]:
  """The validation score that chooses the checkpoint: its name and value.

  AUC for two classes, mean recall for more, as in the released code.
  """
  probabilities = predictions.probabilities
  if probabilities.shape[1] == 2:
    return 'auc', metrics.auc(predictions.label, probabilities[:, 1])
  return 'balanced_accuracy', metrics.balanced_accuracy(
      predictions.label, probabilities.argmax(axis=1))


def choose_threshold(predictions: predict.Predictions) -> float | None:
  """Youden's threshold on validation predictions; None for more than two classes."""
  if predictions.probabilities.shape[1] > 2:
    return None
  return metrics.youden_threshold(predictions.label, predictions.probabilities[:, 1])


def choose_temperature(predictions: predict.Predictions) -> float:
  """The temperature with the least log loss on validation predictions."""
  return calibration.fit_temperature(predictions.label, predictions.probabilities)


def decisions(validation: predict.Predictions | None, num_classes: int
              ) -> dict[str, float | None]:
  """`threshold` and `temperature`, both chosen on validation predictions if any."""
  if validation is None:
    return {'threshold': DEFAULT_THRESHOLD if num_classes == 2 else None,
            'temperature': None}
  return {'threshold': choose_threshold(validation),
          'temperature': choose_temperature(validation)}


def report(folder: pathlib.Path, split: str, predictions: predict.Predictions,
           part: task_lib.Part, class_names: tuple[str, ...],
           config: Mapping[str, Any], *, threshold: float | None,
           temperature: float | None, near_duplicates: Collection[str]
           ) -> dict[str, Any]:
  """Writes what `write` does; returns what `score` does.

  Where there are `near_duplicates`, the ids of images that look like some that were
  trained on, `without_near_duplicates` holds the scores of the others.
  """
  per_image = image_scores(predictions, part, config['image_size'])
  write(folder, split, predictions, part, per_image, class_names, config)
  decided = {'threshold': threshold, 'temperature': temperature}
  result = score(predictions, part, per_image, class_names, config, without=(),
                 **decided)
  if near_duplicates:
    result['without_near_duplicates'] = score(
        predictions, part, per_image, class_names, config, without=near_duplicates,
        **decided)
  return result


class ImageScores(NamedTuple):
  """What the attention maps score on each image by itself; see `image_scores`."""

  values: dict[str, np.ndarray]  # [N] by name; empty where there are no maps
  disc_radius: float | None      # of the baseline disc


def score(predictions: predict.Predictions, part: task_lib.Part,
          per_image: ImageScores, class_names: tuple[str, ...],
          config: Mapping[str, Any], *, threshold: float | None,
          temperature: float | None, without: Collection[str]) -> dict[str, Any]:
  """All scores of a part less some images, with 95 % bootstrap intervals.

  Besides those of `scores`: `disc_radius` of the baseline disc and, where there are
  attention maps, `threshold_sweep`.
  """
  draws = {'num_draws': config['bootstrap_draws'], 'seed': config['bootstrap_seed']}
  rows = prediction_files.scored(part.ids) & ~np.isin(part.ids, sorted(without))
  labels, groups = predictions.label[rows], part.groups[rows]
  result = score_summary.classification(
      labels, predictions.probabilities[rows], class_names=class_names,
      groups=groups, threshold=threshold, temperature=temperature, **draws)
  if not predictions.attention:
    return result
  result |= score_summary.per_image_means(
      {name: values[rows] for name, values in per_image.values.items()},
      predictions.has_lesion[rows], labels=labels, groups=groups, **draws)
  return result | {
      'disc_radius': per_image.disc_radius,
      'threshold_sweep': attention_scores.threshold_sweep(
          {name: values[rows] for name, values in predictions.attention.items()},
          predictions.lesion[rows], predictions.has_lesion[rows],
          image_size=config['image_size'])}


def image_scores(predictions: predict.Predictions, part: task_lib.Part,
                 image_size: int) -> ImageScores:
  """Scores of the maps of each image and of the baselines.

  CAM is scored by both protocols: `jaccard_cam`, of the predicted class, like any
  map; `jaccard_cam_released`, of the positive class, as the released code does.
  """
  if not predictions.attention:
    return ImageScores({}, None)
  lesion, has_lesion = predictions.lesion, predictions.has_lesion
  maps = dict(predictions.attention)
  positive = maps.pop(predict.POSITIVE_CAM, None)
  result = attention_scores.per_image(
      maps, lesion, has_lesion, image_size=image_size)
  if positive is not None:
    result['jaccard_cam_released'] = attention_scores.released_jaccard(
        positive, lesion, has_lesion, image_size=image_size)
  disc = attention_scores.best_disc(lesion, has_lesion, image_size=image_size)
  result['jaccard_disc'] = disc.jaccard
  result['jaccard_otsu'] = _otsu_jaccard(lesion, has_lesion, part, image_size)
  return ImageScores(result, None if np.isnan(disc.radius) else disc.radius)


def _otsu_jaccard(lesion: np.ndarray, has_lesion: np.ndarray, part: task_lib.Part,
                  image_size: int) -> np.ndarray:
  """Of the dark part of each photograph with its mask."""
  result = np.full(len(lesion), np.nan)
  masks = attention_maps.central(lesion, image_size)
  for i in np.flatnonzero(has_lesion):
    photograph = part.prepared.load(int(part.rows[i]))['image']
    seen = attention_maps.central(photograph[None], image_size)[0]
    dark = attention_scores.otsu_mask(np.ascontiguousarray(seen))
    result[i] = attention_scores.jaccard(dark[None], masks[[i]] > 127)[0]
  return result


# Names of files, where the house calls a split by another name.
FILE_NAMES = {'train': 'train', 'validation': 'val', 'test': 'test'}


def write(folder: pathlib.Path, split: str, predictions: predict.Predictions,
          part: task_lib.Part, per_image: ImageScores, class_names: tuple[str, ...],
          config: Mapping[str, Any]) -> None:
  """Writes predictions/<name>.csv, attention/<name>.npz and <name>.png.

  predictions/<name>_images.csv holds the lesion of each image and the scores of its
  maps. For the seven classes of ISIC 2018, predictions/<name>_submission.csv is in
  the challenge's format.
  """
  name = FILE_NAMES[split]
  for sub in ('predictions', 'attention'):
    (folder / sub).mkdir(parents=True, exist_ok=True)
  prediction_files.write_predictions(
      folder / 'predictions' / f'{name}.csv', part.ids, predictions.label,
      predictions.probabilities, class_names)
  if tuple(class_names) == prediction_files.CHALLENGE_CLASSES:
    prediction_files.write_submission(
        folder / 'predictions' / f'{name}_submission.csv', part.ids,
        predictions.probabilities)
  prediction_files.write_image_scores(
      folder / 'predictions' / f'{name}_images.csv', part.ids, part.groups,
      per_image.values)
  if predictions.attention:
    prediction_files.write_attention(
        folder / 'attention' / f'{name}.npz', part.ids, predictions.attention)
  draw(folder / 'attention' / f'{name}.png', split, predictions, part, class_names,
       config)


def shown_rows(labels: np.ndarray, number: int) -> np.ndarray:
  """The first rows of each class in turn, so that a picture shows all classes."""
  by_class = [np.flatnonzero(labels == k) for k in np.unique(labels)]
  turns = [rows[i] for i in range(max(map(len, by_class), default=0))
           for rows in by_class if i < len(rows)]
  return np.array(turns[:number], dtype=int)


def draw(path: pathlib.Path, split: str, predictions: predict.Predictions,
         part: task_lib.Part, class_names: tuple[str, ...], config: Mapping[str, Any]
         ) -> None:
  """Writes a picture of attention maps, unless there are no maps or images to show."""
  shown = shown_rows(predictions.label, config['overlay_images'])
  if not predictions.attention or not len(shown):
    return
  image_size = config['image_size']
  photographs = np.stack(
      [part.prepared.load(int(part.rows[i]))['image'] for i in shown])
  margin = (photographs.shape[1] - image_size) // 2
  window = (slice(None), slice(margin, margin + image_size),
            slice(margin, margin + image_size))
  titles = []
  for i in shown:
    likeliest = predictions.probabilities[i].argmax()
    titles.append(f'{part.ids[i]} {class_names[predictions.label[i]]}, predicted '
                  f'{class_names[likeliest]} '
                  f'{predictions.probabilities[i, likeliest]:.2f}')
  overlays.attention_figure(
      photographs[window],
      {tap: maps[shown] for tap, maps in predictions.attention.items()},
      predictions.lesion[shown][window], predictions.has_lesion[shown], titles, path,
      heading=f'Attention maps, {split}')
