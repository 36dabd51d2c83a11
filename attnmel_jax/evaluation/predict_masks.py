"""U-Net and batches -> lesion probabilities and how well they fit, batch by batch."""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax import parallel
from attnmel_jax.evaluation import mask_scores
from attnmel_jax.evaluation import predict as predict_lib


@dataclasses.dataclass(frozen=True)
class MaskPredictions:
  """What is kept of predicted masks, in the order of the rows."""

  index: np.ndarray        # int32 [N], row in its split
  jaccard: np.ndarray      # float64 [N] in [0, 1]; nan where not annotated
  probability: np.ndarray  # uint8 [m, h, w], of the first m rows, 255 for certain


def mask_step(variables: Any, batch: dict[str, jax.Array], *, model: flax.linen.Module,
              normalisation: str, dtype: jnp.dtype, image_size: int, tta: bool
              ) -> dict[str, jax.Array]:
  """`probability` [B, h, w] of 'lesion' in the centre crop, on one device.

  With `tta` each image is seen under the symmetry `batch['element']`, int [B], and
  its map is turned back.
  """
  image = images.centre_crop(batch['image'], image_size)
  if tta:
    image = jax.vmap(images.dihedral)(image, batch['element'])
  logits = model.apply(
      variables, images.normalise(image, normalisation, dtype), train=False)
  probability = jax.nn.sigmoid(logits)
  if tta:
    probability = jax.vmap(images.dihedral)(
        probability, images.inverse_dihedral(batch['element']))
  return {'probability': probability}


def make_step(model: flax.linen.Module, *, normalisation: str, dtype: jnp.dtype,
              image_size: int, tta: bool) -> Callable[[Any, Any], dict[str, Any]]:
  """`mask_step` on all local devices; with `tta` the mean over the eight views."""
  one_view = parallel.apply(functools.partial(
      mask_step, model=model, normalisation=normalisation, dtype=dtype,
      image_size=image_size, tta=tta))
  return predict_lib.average_views(one_view) if tta else one_view


def make_whole_step(model: flax.linen.Module, *, normalisation: str, dtype: jnp.dtype,
                    side: int, multiple: int, tta: bool
                    ) -> Callable[[Any, np.ndarray], np.ndarray]:
  """`step(variables, images)`: uint8 [B, S, S, 3] -> probabilities [B, S, S].

  The whole image is seen. One whose side is no multiple that the network can halve is
  mirrored at its borders to reach the next; what was added is cut off again.

  Args:
    model: a U-Net.
    normalisation: of the images.
    dtype: of the images.
    side: S.
    multiple: what sides of the network's input have to be a multiple of.
    tta: see `make_step`.
  """
  padded = -(-side // multiple) * multiple
  before = (padded - side) // 2
  widths = (before, padded - side - before)
  inner = slice(before, before + side)
  step = make_step(model, normalisation=normalisation, dtype=dtype, image_size=padded,
                   tta=tta)

  def whole(variables, images):
    images = np.pad(images, ((0, 0), widths, widths, (0, 0)), mode='reflect')
    outputs = parallel.unshard(step(variables, parallel.shard({'image': images})))
    return outputs['probability'][:, inner, inner]

  return whole


def quantise(probability: np.ndarray) -> np.ndarray:
  """[0, 1] -> uint8, rounded: at least 128 just where `probability` is at least 0.5."""
  return np.rint(probability * 255).astype(np.uint8)


def predict(step: Callable[[Any, Any], dict[str, Any]], variables: Any,
            batches: Iterable[dict[str, np.ndarray]], *, image_size: int,
            threshold: float, kept: int) -> MaskPredictions:
  """Runs `step` over padded evaluation batches and scores each at once.

  Memory holds the maps of one batch, and those of the first `kept` rows in 8 bits.
  With several processes each gives its part of every batch, and gets all scores.

  Args:
    step: from `make_step`.
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
    probability = parallel.unshard(
        step(variables, parallel.shard({'image': batch['image']})))['probability']
    finite = np.isfinite(probability).all(axis=(1, 2))
    # Refused below, by all processes alike.
    probability = np.where(finite[:, None, None], probability, 0)
    jaccard = mask_scores.mask_jaccard(
        probability, batch['lesion'], batch['has_lesion'], image_size=image_size,
        threshold=threshold)
    # As integers: JAX would send float64 as float32 from process to process.
    scored.append({
        'index': batch['index'], 'valid': batch['valid'], 'finite': finite,
        'jaccard': jaccard.view(np.uint32).reshape(-1, 2)})
    if number * len(finite) * jax.process_count() < kept:
      maps.append(quantise(probability))
  if not scored:
    raise ValueError('nothing to predict: no batches')
  part_size = len(scored[0]['valid'])

  def join(parts):
    merged = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    return parallel.gather_batches(merged, part_size)

  merged = join(scored)
  valid, finite = merged.pop('valid'), merged.pop('finite')
  if not finite.all():
    raise errors.UserError(
        'predicted probabilities are not finite: the training diverged; lower '
        'learning_rate and start in a new workdir')
  shown = np.zeros((0, image_size, image_size), np.uint8)
  if maps:
    shown = join(maps)
    shown = shown[valid[:len(shown)]][:kept]
  jaccard = np.ascontiguousarray(merged['jaccard'][valid]).view(np.float64)[:, 0]
  return MaskPredictions(merged['index'][valid], jaccard, shown)
