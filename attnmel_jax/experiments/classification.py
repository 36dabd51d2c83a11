"""Classifiers as a method of `methods`: what they learn, predict and are scored by."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import pathlib
from typing import Any
from typing import NamedTuple

import flax
import numpy as np

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.data import splits
from attnmel_jax.data import storage
from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import attention_scores
from attnmel_jax.evaluation import calibration
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import overlays
from attnmel_jax.evaluation import predict as predict_lib
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import score_summary
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.models import classifiers
from attnmel_jax.training import losses

# Of sensitivity and specificity where there is no validation set to choose it.
DEFAULT_THRESHOLD = 0.5


LEARNS_MASKS = False


def task_labels(prepared: storage.PreparedSplit, config: Mapping[str, Any]
                ) -> tuple[np.ndarray, tuple[str, ...]]:
  """The task's label of each row of a split, and its class names."""
  return splits.task_labels(
      prepared.labels, prepared.class_names, config['positive'])


def check_labels(train: parts_lib.Part, config: Mapping[str, Any]) -> None:
  """Raises UserError if there are not two classes to tell apart."""
  names = train.class_names
  if len(names) < 2:
    found = f'the one class {names[0]}' if names else 'no labels'
    raise errors.UserError(
        f'dataset={config["dataset"]} has {found}: there is nothing to tell apart; '
        'choose another dataset')


def check_validation(part: parts_lib.Part, config: Mapping[str, Any]) -> None:
  """Raises UserError if all validation images are of one class."""
  del config
  if len(np.unique(part.row_labels)) < 2:
    raise errors.UserError(
        f'the validation images are all {part.class_names[part.row_labels[0]]}: no '
        'score can choose a checkpoint; change positive, or set validation_fraction=0 '
        'where the data set has no validation split of its own')


def check_scored(part: parts_lib.Part) -> None:
  """Any images will do."""
  del part


def create_model(config: Mapping[str, Any], num_classes: int, *, remat: bool
                 ) -> flax.linen.Module:
  """The Flax module; `remat` matters to gradients alone."""
  return classifiers.create(
      config['model'], num_classes=num_classes, backbone=config['backbone'],
      width=config['width'], taps=tuple(config['taps']),
      gate_width=config['gate_width'], gate_norm=config['gate_norm'],
      dropout_rate=config['dropout_rate'], dtype=config['dtype'],
      axis_name=parallel.AXIS, remat=remat)


def loss(config: Mapping[str, Any]) -> losses.Loss:
  """What training minimises."""
  return losses.classification(config['taps'])


def take(config: Mapping[str, Any]) -> predict_lib.Take:
  """What predictions keep of the model's outputs."""
  if config['model'] == 'vgg16_gap':
    return predict_lib.take_classes_and_cam
  return predict_lib.take_classes


def predict(config: Mapping[str, Any], step: Callable[..., Any], variables: Any,
            batches: Iterable[dict[str, np.ndarray]]) -> predict_lib.Predictions:
  """Predictions of evaluation batches."""
  del config
  return predict_lib.predict(step, variables, batches)


def title(config: Mapping[str, Any], train: parts_lib.Part, kind: str) -> str:
  """The plan's first line; `kind` marks synthetic data."""
  return (f'{config["model"]} on {config["backbone"]}, {config["dataset"]}{kind}: '
          f'{" / ".join(train.class_names)}, prior {config["roi"]}')


def selection_score(predictions: predict_lib.Predictions) -> tuple[str, float]:
  """The validation score that chooses the checkpoint: its name and value.

  AUC for two classes, mean recall for more, as in the released code.
  """
  probabilities = predictions.probabilities
  if probabilities.shape[1] == 2:
    return 'auc', metrics.auc(predictions.label, probabilities[:, 1])
  return 'balanced_accuracy', metrics.balanced_accuracy(
      predictions.label, probabilities.argmax(axis=1))


def decisions(validation: predict_lib.Predictions | None, num_classes: int
              ) -> dict[str, float | None]:
  """`threshold` and `temperature`, both chosen on validation predictions if any.

  The threshold is Youden's, None for more than two classes; the temperature that with
  the least log loss.
  """
  threshold = DEFAULT_THRESHOLD if num_classes == 2 else None
  if validation is None:
    return {'threshold': threshold, 'temperature': None}
  labels, probabilities = validation.label, validation.probabilities
  if num_classes == 2:
    threshold = metrics.youden_threshold(labels, probabilities[:, 1])
  return {'threshold': threshold,
          'temperature': calibration.fit_temperature(labels, probabilities)}


def report(folder: pathlib.Path, split: str, predictions: predict_lib.Predictions,
           part: parts_lib.Part, config: Mapping[str, Any], *,
           near_duplicates: Collection[str], threshold: float | None,
           temperature: float | None) -> dict[str, Any]:
  """Writes what `write` does; returns what `score` does.

  Where there are `near_duplicates`, the ids of images that look like some of the
  training images, `without_near_duplicates` holds the scores of the others. `files`
  holds the digests of what was written and is read back.
  """
  per_image = image_scores(predictions, part, config['image_size'])
  write(folder, split, predictions, part, per_image, config)
  decided = {'threshold': threshold, 'temperature': temperature}
  result = score(predictions, part, per_image, config, without=(), **decided)
  if near_duplicates:
    result['without_near_duplicates'] = score(
        predictions, part, per_image, config, without=near_duplicates, **decided)
  return result | {'files': run_folder.digests(folder, FILE_NAMES[split])}


class ImageScores(NamedTuple):
  """What the attention maps score on each image by itself; see `image_scores`."""

  values: dict[str, np.ndarray]  # [N] by name; empty where there are no maps
  disc_radius: float | None      # of the baseline disc


def score(predictions: predict_lib.Predictions, part: parts_lib.Part,
          per_image: ImageScores, config: Mapping[str, Any], *,
          threshold: float | None, temperature: float | None, without: Collection[str]
          ) -> dict[str, Any]:
  """All scores of a part less some images, with 95 % bootstrap intervals.

  Besides those of `scores`: `disc_radius` of the baseline disc and, where there are
  attention maps, `threshold_sweep`.
  """
  draws = {'num_draws': config['bootstrap_draws'], 'seed': config['bootstrap_seed']}
  rows = prediction_files.scored(part.ids) & ~np.isin(part.ids, sorted(without))
  labels, groups = predictions.label[rows], part.groups[rows]
  result = score_summary.classification(
      labels, predictions.probabilities[rows], class_names=part.class_names,
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


def image_scores(predictions: predict_lib.Predictions, part: parts_lib.Part,
                 image_size: int) -> ImageScores:
  """Scores of the maps of each image and of the baselines.

  CAM is scored by both protocols: `jaccard_cam`, of the predicted class, like any
  map; `jaccard_cam_released`, of the positive class, as the released code does.
  """
  if not predictions.attention:
    return ImageScores({}, None)
  lesion, has_lesion = predictions.lesion, predictions.has_lesion
  maps = dict(predictions.attention)
  positive = maps.pop(predict_lib.POSITIVE_CAM, None)
  result = attention_scores.per_image(
      maps, lesion, has_lesion, image_size=image_size)
  if positive is not None:
    result['jaccard_cam_released'] = attention_scores.released_jaccard(
        positive, lesion, has_lesion, image_size=image_size)
  disc = attention_scores.best_disc(lesion, has_lesion, image_size=image_size)
  result['jaccard_disc'] = disc.jaccard
  result['jaccard_otsu'] = _otsu_jaccard(lesion, has_lesion, part, image_size)
  return ImageScores(result, None if np.isnan(disc.radius) else disc.radius)


def _otsu_jaccard(lesion: np.ndarray, has_lesion: np.ndarray, part: parts_lib.Part,
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


def write(folder: pathlib.Path, split: str, predictions: predict_lib.Predictions,
          part: parts_lib.Part, per_image: ImageScores, config: Mapping[str, Any]
          ) -> None:
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
      predictions.probabilities, part.class_names)
  if part.class_names == prediction_files.CHALLENGE_CLASSES:
    prediction_files.write_submission(
        folder / 'predictions' / f'{name}_submission.csv', part.ids,
        predictions.probabilities)
  prediction_files.write_image_scores(
      folder / 'predictions' / f'{name}_images.csv', part.ids, part.groups,
      per_image.values)
  if predictions.attention:
    prediction_files.write_attention(
        folder / 'attention' / f'{name}.npz', part.ids, predictions.attention)
  draw(folder / 'attention' / f'{name}.png', split, predictions, part, config)


def shown_rows(labels: np.ndarray, number: int) -> np.ndarray:
  """The first rows of each class in turn, so that a picture shows all classes."""
  by_class = [np.flatnonzero(labels == k) for k in np.unique(labels)]
  turns = [rows[i] for i in range(max(map(len, by_class), default=0))
           for rows in by_class if i < len(rows)]
  return np.array(turns[:number], dtype=int)


def draw(path: pathlib.Path, split: str, predictions: predict_lib.Predictions,
         part: parts_lib.Part, config: Mapping[str, Any]) -> None:
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
  names, titles = part.class_names, []
  for i in shown:
    likeliest = predictions.probabilities[i].argmax()
    titles.append(f'{part.ids[i]} {names[predictions.label[i]]}, predicted '
                  f'{names[likeliest]} '
                  f'{predictions.probabilities[i, likeliest]:.2f}')
  overlays.attention_figure(
      photographs[window],
      {tap: maps[shown] for tap, maps in predictions.attention.items()},
      predictions.lesion[shown][window], predictions.has_lesion[shown], titles, path,
      heading=f'Attention maps, {split}')
