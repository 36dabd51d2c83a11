"""What classifiers and the U-Net do each in their own way.

  method = methods.create(config, task.class_names)
  predictions = method.predict(variables, batches)
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from attnmel_jax.evaluation import predict
from attnmel_jax.experiments import build
from attnmel_jax.experiments import classification
from attnmel_jax.experiments import segmentation


@dataclasses.dataclass(frozen=True)
class Method:
  """How a run learns, predicts and is scored.

  Attributes:
    training_step: `step(state, batch, hyper)` of one device.
    predict: (variables, evaluation batches) -> predictions.
    selection_score: validation predictions -> name and value of the score that
      chooses the checkpoint.
    decisions: validation predictions, or None without a validation set -> what is
      decided by them, to go with every test: `threshold` and `temperature`.
    report: (folder, split, predictions, part, near_duplicates, **decisions) -> the
      scores of the part, with and without its near-duplicates, if it has any, of images
      that were trained on; after its files are written.
    draw: (path, split, predictions, part) writes a picture of the maps, where there
      is something to show.
  """

  training_step: Callable[..., Any]
  predict: Callable[[Any, Iterable], Any]
  selection_score: Callable[[Any], tuple[str, float]]
  decisions: Callable[[Any], dict[str, float | None]]
  report: Callable[..., dict[str, Any]]
  draw: Callable[..., None]


def create(config: Mapping[str, Any], class_names: tuple[str, ...]) -> Method:
  """The method of the config's model for a task of these classes."""
  return _unet(config) if config['model'] == 'unet' else _classifier(
      config, class_names)


def _classifier(config, class_names):
  count = len(class_names)
  return Method(
      training_step=build.training_step(config, count),
      predict=functools.partial(predict.predict, build.prediction_step(config, count)),
      selection_score=classification.selection_score,
      decisions=functools.partial(classification.decisions, num_classes=count),
      report=functools.partial(
          classification.report, class_names=class_names, config=config),
      draw=functools.partial(
          classification.draw, class_names=class_names, config=config))


def _unet(config):
  decided = {'threshold': segmentation.THRESHOLD, 'temperature': None}

  # Nothing is decided by the data.
  def report(folder, split, predictions, part, *, near_duplicates, **_):
    return segmentation.report(folder, split, predictions, part, config,
                               near_duplicates=near_duplicates)

  return Method(
      training_step=segmentation.training_step(config),
      predict=segmentation.predictor(config),
      selection_score=segmentation.selection_score,
      decisions=lambda validation: decided,
      report=report,
      draw=segmentation.draw)
