"""Model and batches -> predictions, on all local devices."""

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


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Predictions in the order of the rows they were made from."""

  index: np.ndarray                 # int32 [N], row in its split
  label: np.ndarray                 # int32 [N]
  probabilities: np.ndarray         # float [N, K], rows sum to 1
  attention: dict[str, np.ndarray]  # float [N, h, w] in [0, 1] by tap
  lesion: np.ndarray                # uint8 [N, S, S]
  has_lesion: np.ndarray            # bool [N]


def eval_step(variables: Any, batch: dict[str, jax.Array], *, model: flax.linen.Module,
              normalisation: str, dtype: jnp.dtype, image_size: int
              ) -> dict[str, Any]:
  """Probabilities [B, K] and attention maps of the centre crop, on one device."""
  image = images.centre_crop(batch['image'], image_size)
  logits, out = model.apply(
      variables, images.normalise(image, normalisation, dtype), train=False)
  return {'probabilities': jax.nn.softmax(logits), 'attention': out['attention']}


def make_step(model: flax.linen.Module, *, normalisation: str, dtype: jnp.dtype,
              image_size: int) -> Callable[[Any, Any], dict[str, Any]]:
  """`eval_step` on all local devices, compiled once for all batches of a size."""
  return parallel.apply(functools.partial(
      eval_step, model=model, normalisation=normalisation, dtype=dtype,
      image_size=image_size))


def predict(step: Callable[[Any, Any], dict[str, Any]], variables: Any,
            batches: Iterable[dict[str, np.ndarray]]) -> Predictions:
  """Runs `step` over padded evaluation batches and drops the padding.

  With several processes each gives its part of every batch, and gets all predictions.

  Raises:
    ValueError: no batch.
    UserError: a probability is not finite.
  """
  parts = []
  for batch in batches:
    outputs = parallel.unshard(
        step(variables, parallel.shard({'image': batch['image']})))
    kept = {name: batch[name]
            for name in ('index', 'label', 'lesion', 'has_lesion', 'valid')}
    parts.append(outputs | kept)
  if not parts:
    raise ValueError('nothing to predict: no batches')
  merged = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
  merged = parallel.gather_batches(merged, len(parts[0]['valid']))
  valid = merged.pop('valid')
  merged = jax.tree.map(lambda x: x[valid], merged)
  if not np.isfinite(merged['probabilities']).all():
    raise errors.UserError(
        'predicted probabilities are not finite: the training diverged; lower '
        'learning_rate and start in a new workdir')
  return Predictions(**merged)
