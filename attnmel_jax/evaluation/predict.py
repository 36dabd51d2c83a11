"""Model and batches -> predictions, on all local devices."""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
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


# (variables, logits, out) -> what is kept: values of an image, and maps over it.
Take = Callable[[Any, jax.Array, dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]


def take_classes(variables: Any, logits: jax.Array, out: dict[str, Any]
                 ) -> tuple[dict[str, Any], dict[str, Any]]:
  """`probabilities` [B, K], and `attention` [B, h, w] by tap."""
  del variables
  return {'probabilities': jax.nn.softmax(logits)}, {'attention': out['attention']}


def take_classes_and_cam(variables: Any, logits: jax.Array, out: dict[str, Any]
                         ) -> tuple[dict[str, Any], dict[str, Any]]:
  """`take_classes`, and the class activation maps of VGG-16-GAP, `cam` [B, h, w, K]."""
  values, maps = take_classes(variables, logits, out)
  kernel = variables['params']['classifier']['kernel']
  features = out['features']['pool5'].astype(kernel.dtype)
  return values, maps | {'cam': attention_maps.class_maps(features, kernel)}


def eval_step(variables: Any, batch: dict[str, jax.Array], *, model: flax.linen.Module,
              take: Take, input: images.Input, tta: bool) -> dict[str, Any]:
  """What a model says of the centre crops of uint8 images, on one device.

  Args:
    variables: of the model.
    batch: `image` uint8 [B, S, S, 3] and, with tta, `element` int [B]; or `features`,
      maps of the backbone {name: float16 [B, h, w, C]}, without tta.
    model: returns logits, out.
    take: what to keep of them.
    input: crop, normalisation and type of the images.
    tta: each image is seen under the symmetry `element`, and its maps are turned back.
  """
  if 'features' in batch:
    logits, out = model.apply(
        variables, batch['features'], train=False, method='head')
    values, maps = take(variables, logits, out)
    return {**values, **maps}
  image = images.centre_crop(batch['image'], input.image_size)
  if tta:
    image = jax.vmap(images.dihedral)(image, batch['element'])
  logits, out = model.apply(variables, input.normalise(image), train=False)
  values, maps = take(variables, logits, out)
  if tta:
    back = images.inverse_dihedral(batch['element'])
    maps = jax.tree.map(lambda x: jax.vmap(images.dihedral)(x, back), maps)
  return {**values, **maps}


def on_devices(step: Callable[[Any, Any], dict[str, Any]], *, tta: bool
               ) -> Callable[[Any, Any], dict[str, Any]]:
  """`eval_step` on all local devices, compiled once for all batches of a size.

  With `tta`, at eight times the work, it gives the mean over the eight flips and
  rotations: of probabilities (after the softmax, not of logits) and of maps.
  """
  one_view = parallel.apply(step)
  return average_views(one_view) if tta else one_view


def average_views(one_view: Callable[[Any, Any], dict[str, Any]]
                  ) -> Callable[[Any, Any], dict[str, Any]]:
  """The mean of what `one_view` gives for each `element` of the eight symmetries."""

  # One compiled step and eight calls: eight views in one program would take eight
  # times the memory, or a loop, in which XLA is slow on the CPU.
  def average(variables, batch):
    shape = batch['image'].shape[:-3]  # [devices, B / devices], or [B] on one
    views = [one_view(variables, batch | {'element': jnp.full(shape, e, jnp.int32)})
             for e in range(8)]
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *views)

  return average


def on_batch(step: Callable[[Any, Any], dict[str, Any]], variables: Any,
             image: np.ndarray) -> dict[str, Any]:
  """What a step of `on_devices` gives for images uint8 [B, S, S, 3], in numpy."""
  return on_inputs(step, variables, {'image': image})


def on_inputs(step: Callable[[Any, Any], dict[str, Any]], variables: Any,
              inputs: dict[str, Any]) -> dict[str, Any]:
  """What a step of `on_devices` gives for arrays [B, ...] by name, in numpy."""
  return parallel.unshard(step(variables, parallel.shard(inputs)))


def join(parts: list[dict[str, Any]]) -> dict[str, Any]:
  """Arrays of all batches and processes as one, in the order of the global batches.

  Args:
    parts: arrays [B, ...] of each batch of this process, `valid` among them; at least
      one batch.
  """
  merged = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
  return parallel.gather_batches(merged, len(parts[0]['valid']))


def check_finite(finite: bool) -> None:
  """Raises UserError unless all predicted probabilities were finite."""
  if not finite:
    raise errors.UserError(
        'predicted probabilities are not finite: the training diverged; lower '
        'learning_rate and start in a new workdir')


def predict(step: Callable[[Any, Any], dict[str, Any]], variables: Any,
            batches: Iterable[dict[str, np.ndarray]]) -> Predictions:
  """Runs a classifier's step over padded evaluation batches and drops the padding.

  With several processes each gives its part of every batch, and gets all predictions.

  Raises:
    ValueError: no batch.
    UserError: a probability is not finite.
  """
  parts = []
  for batch in batches:
    kept = {name: batch[name]
            for name in ('index', 'label', 'lesion', 'has_lesion', 'valid')}
    seen = 'features' if 'features' in batch else 'image'
    parts.append(on_inputs(step, variables, {seen: batch[seen]}) | kept)
  if not parts:
    raise ValueError('nothing to predict: no batches')
  merged = join(parts)
  valid = merged.pop('valid')
  merged = jax.tree.map(lambda x: x[valid], merged)
  check_finite(np.isfinite(merged['probabilities']).all())
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
