"""The training step of one device, of classifiers and of the U-Net: any loss, SGD.

  update = parallel.update(functools.partial(train_step, model=model, tx=tx, ...))
  state, metrics = update(state, parallel.shard(batch), hyper)
"""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from attnmel_jax import images
from attnmel_jax.training import accumulation
from attnmel_jax.training import augment
from attnmel_jax.training import losses
from attnmel_jax.training import state as state_lib


def example_keys(seed: jax.Array, step: jax.Array, batch_size: int,
                 axis_name: str | None) -> jax.Array:
  """A random key for each example [B], from (seed, step, global position)."""
  device = 0 if axis_name is None else jax.lax.axis_index(axis_name)
  position = device * batch_size + jnp.arange(batch_size)
  key = jax.random.fold_in(jax.random.key(seed), step)
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(position)


def split_keys(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Of `example_keys` [B], those of the augmentation and those of dropout."""
  return jax.vmap(lambda k: tuple(jax.random.split(k)))(keys)


def train_step(state: state_lib.TrainState, batch: dict[str, jax.Array],
               hyper: dict[str, jax.Array], *, model: flax.linen.Module,
               loss: losses.Loss, tx: optax.GradientTransformation,
               augmentation: augment.Augmentation, input: images.Input,
               accumulate_steps: int, axis_name: str | None
               ) -> tuple[state_lib.TrainState, dict[str, jax.Array]]:
  """One step of SGD over the global batch.

  Args:
    state: the same on every device.
    batch: this device's share: image uint8 [B, S, S, 3], roi uint8 [B, S, S],
      has_roi bool [B], label int32 [B]; all rows valid. With a frozen backbone
      `features` instead of `image`, {map: float16 [B, h, w, C]}, and `roi` turned
      and cropped like them: the head alone is trained.
    hyper: numbers that may differ without compiling anew: learning_rate,
      weight_decay, seed (uint32), and those of the loss.
    model: returns logits, out; its BatchNorm must name `axis_name`.
    loss: of the global batch.
    tx: momentum, see `state.optimiser`.
    augmentation: the same draw for image and map.
    input: crop, normalisation and type of the images.
    accumulate_steps: micro-batches that the share is divided into; 1: none.
    axis_name: device axis, or None to run on one device outside of pmap.

  Returns:
    The new state and the terms of the loss, equal on every device.
  """
  augment_keys, dropout_keys = split_keys(example_keys(
      hyper['seed'], state.step, batch['label'].shape[0], axis_name))
  share = {'has_roi': batch['has_roi'], 'label': batch['label'], 'keys': dropout_keys}
  if 'features' in batch:
    share |= {'features': batch['features'], 'roi': batch['roi']}
    variables = state_lib.of_head(state.params), {}  # its layers keep no statistics
  else:
    share['image'], share['roi'] = augment.augment(
        batch['image'], batch['roi'], augment_keys, augmentation,
        image_size=input.image_size)
    variables = state.params, state.batch_stats
  find = _gradients if accumulate_steps == 1 else functools.partial(
      accumulation.gradients, accumulate_steps=accumulate_steps)
  gradients, metrics, batch_stats = find(
      functools.partial(_forward, model=model, input=input), loss, *variables, share,
      hyper, axis_name=axis_name)
  if axis_name is not None:
    # A loss's psum sends every device the gradient of all devices' copies of it,
    # so the mean over devices is the gradient of the global loss.
    gradients, metrics, batch_stats = jax.lax.pmean(
        (gradients, metrics, batch_stats), axis_name)
  state = state_lib.apply_gradients(
      state, gradients, batch_stats, tx=tx, learning_rate=hyper['learning_rate'],
      weight_decay=hyper['weight_decay'])
  return state, metrics


def _forward(params: Any, batch_stats: Any, share: dict[str, jax.Array], *,
             model: flax.linen.Module, input: images.Input
             ) -> tuple[jax.Array, dict[str, Any], dict[str, jax.Array], Any]:
  """Logits, out, the targets with `roi` in [0, 1], and new batch statistics."""
  if 'features' in share:
    seen, method = share['features'], 'head'
  else:
    seen, method = input.normalise(share['image']), '__call__'
  (logits, out), updated = model.apply(
      {'params': params, 'batch_stats': batch_stats}, seen, train=True,
      example_keys=share['keys'], mutable=['batch_stats'], method=method)
  targets = {'label': share['label'], 'has_roi': share['has_roi'],
             'roi': share['roi'].astype(input.dtype) / 255}
  return logits, out, targets, updated.get('batch_stats', {})


def _gradients(forward: accumulation.Forward, loss: losses.Loss, params: Any,
               batch_stats: Any, share: dict[str, jax.Array],
               hyper: dict[str, jax.Array], *, axis_name: str | None
               ) -> tuple[Any, dict[str, jax.Array], Any]:
  """Gradients of this device's loss, its terms, and new batch statistics."""

  def loss_fn(params):
    logits, out, targets, updated = forward(params, batch_stats, share)
    value, metrics = losses.evaluate(
        loss, logits, out, targets, hyper, axis_name=axis_name)
    return value, (metrics, updated)

  gradients, (metrics, batch_stats) = jax.grad(loss_fn, has_aux=True)(params)
  return gradients, metrics, batch_stats
