"""U-Net and batches -> lesion probabilities and how well they fit, batch by batch.

The measures are those of ISIC 2018 Task 1.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import functools
from typing import Any

import flax
import jax
import numpy as np

from attnmel_jax import images
from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import attention_scores
from attnmel_jax.evaluation import predict as predict_lib

# Below this index, as two observers rarely are, the challenge counts a mask as failed.
FAILED_BELOW = 0.65


@dataclasses.dataclass(frozen=True)
class MaskPredictions:
  """What is kept of predicted masks, in the order of the rows."""

  index: np.ndarray        # int32 [N], row in its split
  jaccard: np.ndarray      # float64 [N] in [0, 1]; nan where not annotated
  probability: np.ndarray  # uint8 [m, h, w], of the first m rows, 255 for certain


def take_lesion(variables: Any, logits: jax.Array, out: dict[str, Any]
                ) -> tuple[dict[str, Any], dict[str, Any]]:
  """For `predict.eval_step`: `probability` [B, h, w] of 'lesion'."""
  del variables, out
  return {}, {'probability': jax.nn.sigmoid(logits)}


def make_whole_step(model: flax.linen.Module, *, input: images.Input, multiple: int,
                    tta: bool) -> Callable[[Any, np.ndarray], np.ndarray]:
  """`step(variables, images)`: uint8 [B, S, S, 3] -> probabilities [B, S, S].

  The whole image is seen. One whose side the network cannot halve often enough is
  mirrored at its borders to reach the next such side; what was added is cut off again.
  The step raises UserError where a probability is not finite.

  Args:
    model: a U-Net.
    input: `image_size` is S.
    multiple: what sides of the network's input have to be a multiple of.
    tta: see `predict.on_devices`.
  """
  side = input.image_size
  padded = -(-side // multiple) * multiple
  before = (padded - side) // 2
  widths = (before, padded - side - before)
  inner = slice(before, before + side)
  step = predict_lib.on_devices(functools.partial(
      predict_lib.eval_step, model=model, take=take_lesion,
      input=dataclasses.replace(input, image_size=padded), tta=tta), tta=tta)

  def whole(variables, image):
    image = np.pad(image, ((0, 0), widths, widths, (0, 0)), mode='reflect')
    probability = predict_lib.on_batch(step, variables, image)['probability']
    predict_lib.check_finite(np.isfinite(probability).all())
    return probability[:, inner, inner]

  return whole


def quantise(probability: np.ndarray) -> np.ndarray:
  """[0, 1] -> uint8, rounded: at least 128 just where `probability` is at least 0.5."""
  return np.rint(probability * 255).astype(np.uint8)


def predict(step: Callable[[Any, Any], dict[str, Any]], variables: Any,
            batches: Iterable[dict[str, np.ndarray]], *, image_size: int,
            threshold: float, kept: int) -> MaskPredictions:
  """Runs a U-Net's step over padded evaluation batches and scores each at once.

  Memory holds the maps of one batch, and those of the first `kept` rows in 8 bits.
  With several processes each gives its part of every batch, and gets all scores.

  Args:
    step: `predict.eval_step` that takes `take_lesion`, on all devices.
    variables: of the U-Net.
    batches: with image, lesion, has_lesion, index and valid.
    image_size: side of the network's input, the centre of the images.
    threshold: pixels of at least this probability are lesion.
    kept: how many maps to keep, for a picture.

  Raises:
    ValueError: no batch.
    UserError: a probability is not finite.
  """
  scored, maps = [], []
  for number, batch in enumerate(batches):
    probability = predict_lib.on_batch(step, variables, batch['image'])['probability']
    finite = np.isfinite(probability).all(axis=(1, 2))
    # Refused below, in all processes at once.
    probability = np.where(finite[:, None, None], probability, 0)
    jaccard = mask_jaccard(probability, batch['lesion'], batch['has_lesion'],
                           image_size=image_size, threshold=threshold)
    # As integers: JAX would send float64 as float32 from process to process.
    scored.append({
        'index': batch['index'], 'valid': batch['valid'], 'finite': finite,
        'jaccard': jaccard.view(np.uint32).reshape(-1, 2)})
    if number * len(finite) * jax.process_count() < kept:
      maps.append({'valid': batch['valid'], 'probability': quantise(probability)})
  if not scored:
    raise ValueError('nothing to predict: no batches')
  merged = predict_lib.join(scored)
  valid = merged['valid']
  predict_lib.check_finite(merged['finite'].all())
  shown = np.zeros((0, image_size, image_size), np.uint8)
  if maps:
    shown = predict_lib.join(maps)
    shown = shown['probability'][shown['valid']][:kept]
  jaccard = np.ascontiguousarray(merged['jaccard'][valid]).view(np.float64)[:, 0]
  return MaskPredictions(merged['index'][valid], jaccard, shown)


def mask_jaccard(
    probabilities: np.ndarray,
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
    threshold: float,
) -> np.ndarray:
  """Jaccard index of each predicted mask with the lesion mask.

  Args:
    probabilities: [N, image_size, image_size] in [0, 1], of 'lesion'.
    lesion: uint8 [N, S, S] masks of the prepared images, 128 and above lesion.
    has_lesion: bool [N], whether the image is annotated.
    image_size: side of the network's input, the centre of the S x S image.
    threshold: pixels of at least this probability are lesion.

  Returns:
    float64 [N] in [0, 1]; 1 where both masks are empty; nan where the image is not
    annotated.

  Raises:
    ValueError: shapes that do not belong together; a probability outside [0, 1] or
      NaN.
  """
  count = len(probabilities)
  if probabilities.shape != (count, image_size, image_size) or not (
      count == len(lesion) == len(has_lesion)):
    raise ValueError(
        f'probabilities {probabilities.shape}, masks {lesion.shape} and '
        f'{len(has_lesion)} annotation flags do not belong together')
  if not ((probabilities >= 0) & (probabilities <= 1)).all():
    raise ValueError('probabilities outside [0, 1] or NaN')
  masks = attention_maps.central(lesion, image_size) > 127
  indices = attention_scores.jaccard(probabilities >= threshold, masks)
  return np.where(has_lesion, indices, np.nan)


def thresholded(indices: np.ndarray) -> np.ndarray:
  """The thresholded Jaccard index of ISIC 2018 Task 1: what is below 0.65 counts 0.

  Codella et al., arXiv:1902.03368; the challenge ranks by its mean over the images.

  Args:
    indices: [N] Jaccard indices, nan where there is none.

  Returns:
    float64 [N]; nan stays nan.
  """
  return np.where(indices < FAILED_BELOW, 0.0, indices)
