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
from attnmel_jax.evaluation import attention_maps

# Name of the class activation map of melanoma, whatever is predicted.
POSITIVE_CAM = 'cam_positive'


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Predictions in the order of the rows they were made from."""

  index: np.ndarray                 # int32 [N], row in its split
  label: np.ndarray                 # int32 [N]
  probabilities: np.ndarray         # float [N, K], rows sum to 1
  attention: dict[str, np.ndarray]  # float [N, h, w] by tap in [0, 1], or CAM
  lesion: np.ndarray                # uint8 [N, S, S]
  has_lesion: np.ndarray            # bool [N]


def eval_step(variables: Any, batch: dict[str, jax.Array], *, model: flax.linen.Module,
              normalisation: str, dtype: jnp.dtype, image_size: int, cam: bool,
              tta: bool) -> dict[str, Any]:
  """Probabilities [B, K] and maps of the centre crop, on one device.

  With `cam`, `cam` [B, h, w, K] holds the class activation maps. With `tta` each
  image is seen under the symmetry `batch['element']`, int [B], and its maps are
  turned back.
  """
  image = images.centre_crop(batch['image'], image_size)
  if tta:
    image = jax.vmap(images.dihedral)(image, batch['element'])
  logits, out = model.apply(
      variables, images.normalise(image, normalisation, dtype), train=False)
  maps = {'attention': out['attention']}
  if cam:
    kernel = variables['params']['classifier']['kernel']
    maps['cam'] = attention_maps.class_maps(
        out['features']['pool5'].astype(kernel.dtype), kernel)
  if tta:
    back = images.inverse_dihedral(batch['element'])
    maps = jax.tree.map(lambda x: jax.vmap(images.dihedral)(x, back), maps)
  return {'probabilities': jax.nn.softmax(logits), **maps}


def make_step(model: flax.linen.Module, *, normalisation: str, dtype: jnp.dtype,
              image_size: int, cam: bool, tta: bool
              ) -> Callable[[Any, Any], dict[str, Any]]:
  """`eval_step` on all local devices, compiled once for all batches of a size.

  Args:
    model: of a classifier.
    normalisation: of the images.
    dtype: of the images.
    image_size: side of the centre crop.
    cam: class activation maps too; the model is VGG-16-GAP.
    tta: test-time augmentation, eight times the work: probabilities (after the
      softmax, not logits) and maps are averaged over the 8 flips and rotations.
  """
  one_view = parallel.apply(functools.partial(
      eval_step, model=model, normalisation=normalisation, dtype=dtype,
      image_size=image_size, cam=cam, tta=tta))
  return average_views(one_view) if tta else one_view


def average_views(one_view: Callable[[Any, Any], dict[str, Any]]
                  ) -> Callable[[Any, Any], dict[str, Any]]:
  """The mean of what `one_view` gives for each `element` of the eight symmetries."""

  # One compiled step and eight calls: eight views in one program would take eight
  # times the memory, or a loop, in which XLA is slow on the CPU.
  def average(variables, batch):
    shape = batch['image'].shape[:2]  # [devices, B / devices]
    views = [one_view(variables, batch | {'element': np.full(shape, e, np.int32)})
             for e in range(8)]
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *views)

  return average


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
  if 'cam' in merged:
    merged['attention'] |= _activation_maps(merged.pop('cam'), merged['probabilities'])
  return Predictions(**merged)


def _activation_maps(maps: np.ndarray, probabilities: np.ndarray
                     ) -> dict[str, np.ndarray]:
  """[N, h, w, K] -> the map of the predicted class, and of the positive one."""
  chosen = {'cam': attention_maps.of_classes(maps, probabilities.argmax(axis=1))}
  if maps.shape[-1] == 2:
    chosen[POSITIVE_CAM] = maps[..., 1]
  return chosen
