"""A frozen backbone: its maps computed once, and batches of maps.

  layout = frozen.layout(step, variables, side=256)
  identity = frozen.identity(variables, split, shown)
  frozen.compute(step, variables, store, identity, layout, views=(0,))
  maps = stored_maps.open_maps(split, identity, layout, (0,), memory_gib=4.0)
  finish = frozen.training(maps, frozen.draw_views(...), image_size=224)

`finish` makes of a batch of photographs one of `features`, which `step.train_step`
trains the head on.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
import hashlib
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax import parallel
from attnmel_jax import progress
from attnmel_jax.data import pipeline
from attnmel_jax.data import storage
from attnmel_jax.evaluation import predict
from attnmel_jax.models import classifiers
from attnmel_jax.training import augment
from attnmel_jax.training import step as step_lib
from attnmel_jax.training import stored_maps

# Images of a device at a time; a number of ours, as the maps are of all runs.
_SHARE = 32


def maps_step(model: flax.linen.Module, input: images.Input, names: Sequence[str]
              ) -> Callable[..., Any]:
  """The per-device `step(variables, batch)`: maps float16 of `image` and `element`.

  BatchNorm uses its running statistics.

  Args:
    model: a classifier.
    input: crop, normalisation and type of the images.
    names: of the maps that the head reads.
  """

  def take(variables, logits, out):
    del variables, logits
    return {name: out['features'][name].astype(stored_maps.DTYPE)
            for name in names}, {}

  return functools.partial(
      predict.eval_step, model=model, take=take, input=input, tta=True)


def layout(step: Callable[..., Any], variables: Any, *, side: int
           ) -> stored_maps.Layout:
  """Shapes of the maps of `maps_step`, of prepared images of that side."""
  maps = jax.eval_shape(step, variables, {
      'image': jax.ShapeDtypeStruct((1, side, side, 3), np.uint8),
      'element': jax.ShapeDtypeStruct((1,), np.int32)})
  return stored_maps.Layout({name: x.shape[1:] for name, x in maps.items()})


def identity(variables: Any, split: storage.PreparedSplit, shown: Mapping[str, Any]
             ) -> dict[str, Any]:
  """What the maps of a split depend on: weights, images, and fields of the config."""
  digest = hashlib.sha256()
  for collection in ('params', 'batch_stats'):
    trunk = variables.get(collection, {}).get(classifiers.TRUNK, {})
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(trunk)):
      digest.update(f'{collection}{jax.tree_util.keystr(path)}'.encode())
      digest.update(np.ascontiguousarray(leaf))
  return {**shown, 'weights': digest.hexdigest(), 'images': split.fingerprint}


def compute(step: Callable[..., Any], variables: Any, store: pipeline.ImageStore,
            identity: Mapping[str, Any], layout: stored_maps.Layout, *,
            views: Sequence[int], quiet: bool) -> None:
  """Computes and writes the views that are missing, on the devices of this process.

  Raises:
    UserError: a map is not finite in float16, or cannot be written.
  """
  split = store.split
  views = stored_maps.missing(split, identity, views)
  if not views:
    return
  on_devices = parallel.apply(step)
  with stored_maps.open_writer(split, identity, layout) as writer:
    for view in views:
      writer.write(view, functools.partial(
          _rows, on_devices, variables, store, layout, view, quiet), batch=_batch())


def _batch() -> int:
  return _SHARE * jax.local_device_count()


def _rows(on_devices, variables, store, layout, view, quiet, start
          ) -> Iterator[np.ndarray]:
  """Rows of the maps of the images from `start` on, batch by batch."""
  split = store.split
  bar = progress.Progress(f'maps of {split.split}, view {view}', len(split),
                          unit='images', done=start, quiet=quiet)
  with contextlib.closing(bar):
    for batch in pipeline.evaluation_batches(
        store, np.arange(start, len(split)), split.labels, region=pipeline.NO_REGION,
        batch_size=_batch(), part=slice(None)):
      maps = predict.on_inputs(on_devices, variables, {
          'image': batch['image'], 'element': np.full(_batch(), view, np.int32)})
      maps = {name: x[batch['valid']] for name, x in maps.items()}
      ids = split.ids[batch['index'][batch['valid']]]
      _check_finite(maps, ids)
      bar.advance(len(ids))
      yield layout.join(maps)


def _check_finite(maps: Mapping[str, np.ndarray], ids: np.ndarray) -> None:
  for name, x in maps.items():
    wrong = ~np.isfinite(x).all(axis=(1, 2, 3))
    if wrong.any():
      raise errors.UserError(
          f'the map {name} of image {ids[wrong][0]} holds a value that float16 cannot: '
          f'it ends at {np.finfo(np.float16).max:.0f}; train with '
          'freeze_backbone=False, use other weights, or with a plain vgg16 set '
          'rescale_pretrained=True')


def draw_views(augmentation: augment.Augmentation, *, seed: int, num_steps: int,
               batch_size: int) -> np.ndarray:
  """The view of every example of every step, as a step would draw it: [T, B]."""

  def of_step(step):
    keys, _ = step_lib.split_keys(
        step_lib.example_keys(jnp.uint32(seed), step, batch_size, None))
    return jax.vmap(lambda key: augment.draw_view(key, augmentation))(keys)

  if augment.views(augmentation) == (0,):
    return np.zeros((num_steps, batch_size), np.uint8)
  steps = jnp.arange(num_steps, dtype=jnp.int32)
  return np.asarray(jax.jit(lambda s: jax.lax.map(of_step, s))(steps), np.uint8)


def training(maps: stored_maps.Maps, views: np.ndarray, *, part: slice, image_size: int
             ) -> pipeline.Finish:
  """Gives each example of a training batch the maps and the region of its view.

  Args:
    maps: of the training split.
    views: of `draw_views`.
    part: the positions of a batch that this process loads.
    image_size: side of the network's input.
  """

  def finish(step, batch):
    drawn = views[step][part]
    roi = images.centre_crop(batch['roi'], image_size)
    return _with_features(batch, maps, drawn) | {
        'roi': np.stack([_turn(one, view) for one, view in zip(
            roi, drawn.tolist(), strict=True)])}

  return finish


def evaluation(maps: stored_maps.Maps) -> pipeline.Finish:
  """Gives evaluation batches the maps of the images as they are."""

  def finish(_, batch):
    return _with_features(batch, maps, np.zeros(len(batch['index']), np.uint8))

  return finish


def _with_features(batch, maps, views) -> pipeline.Batch:
  rest = {name: value for name, value in batch.items() if name != 'image'}
  return rest | {'features': maps.read(batch['index'], views)}


def _turn(square: np.ndarray, view: int) -> np.ndarray:
  """`images.dihedral` in numpy."""
  turned = np.rot90(square, view % 4)
  return turned[:, ::-1] if view >= 4 else turned
