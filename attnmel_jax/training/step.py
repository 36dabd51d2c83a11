"""The training step of one device: focal + Dice loss, SGD.

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


def train_step(state: state_lib.TrainState, batch: dict[str, jax.Array],
               hyper: dict[str, jax.Array], *, model: flax.linen.Module,
               tx: optax.GradientTransformation, taps: tuple[str, ...],
               normalisation: str, dtype: jnp.dtype, image_size: int,
               random_crop: bool, random_rotation: bool, random_flip: bool,
               accumulate_steps: int, axis_name: str | None
               ) -> tuple[state_lib.TrainState, dict[str, jax.Array]]:
  """One step of SGD on Eq. 2.7 over the global batch.

  Args:
    state: the same on every device.
    batch: this device's share: image uint8 [B, S, S, 3], roi uint8 [B, S, S],
      has_roi bool [B], label int32 [B]; all rows valid.
    hyper: numbers that may differ without compiling anew: learning_rate,
      weight_decay, focal_gamma, dice_weights [len(taps)], seed (uint32).
    model: returns logits, out; its BatchNorm must name `axis_name`.
    tx: momentum, see `state.optimiser`.
    taps: which tap each of `dice_weights` belongs to.
    normalisation: key of `images.NORMALISATIONS`.
    dtype: of images and losses, float32 or float64.
    image_size: side of the augmented crop.
    random_crop: see `augment.augment`; likewise the next two.
    random_rotation: by quarter turns.
    random_flip: along both axes.
    accumulate_steps: micro-batches that the share is divided into; 1: none.
    axis_name: device axis, or None to run on one device outside of pmap.

  Returns:
    The new state and the metrics of the global batch, equal on every device.
  """
  keys = example_keys(hyper['seed'], state.step, batch['label'].shape[0], axis_name)
  augment_keys, dropout_keys = jax.vmap(lambda k: tuple(jax.random.split(k)))(keys)
  image, roi = augment.augment(
      batch['image'], batch['roi'], augment_keys, image_size=image_size,
      random_crop=random_crop, random_rotation=random_rotation,
      random_flip=random_flip)
  share = {'image': image, 'roi': roi, 'has_roi': batch['has_roi'],
           'label': batch['label'], 'keys': dropout_keys}
  forward = functools.partial(_forward, model=model, normalisation=normalisation,
                              dtype=dtype)
  loss = {'taps': taps, 'gamma': hyper['focal_gamma'],
          'dice_weights': hyper['dice_weights'], 'axis_name': axis_name}
  if accumulate_steps == 1:
    gradients, metrics, batch_stats = _gradients(
        forward, state.params, state.batch_stats, share, **loss)
  else:
    gradients, metrics, batch_stats = accumulation.gradients(
        forward, state.params, state.batch_stats, share,
        accumulate_steps=accumulate_steps, **loss)
  return descend(state, gradients, metrics, batch_stats, hyper, tx=tx,
                 axis_name=axis_name)


def descend(state: state_lib.TrainState, gradients: Any, metrics: dict[str, jax.Array],
            batch_stats: Any, hyper: dict[str, jax.Array], *,
            tx: optax.GradientTransformation, axis_name: str | None
            ) -> tuple[state_lib.TrainState, dict[str, jax.Array]]:
  """The end of a step: what the devices found, averaged, moves the parameters.

  Args:
    state: before the step.
    gradients: of this device's share of the loss, like `state.params`.
    metrics: by name.
    batch_stats: after the forward pass.
    hyper: learning_rate and weight_decay.
    tx: see `state.optimiser`.
    axis_name: device axis, or None.

  Returns:
    The new state and the metrics, equal on every device.
  """
  if axis_name is not None:
    # A loss's psum sends every device the gradient of all devices' copies of it,
    # so the mean over devices is the gradient of the global loss.
    gradients, metrics, batch_stats = jax.lax.pmean(
        (gradients, metrics, batch_stats), axis_name)
  new_state = state_lib.apply_gradients(
      state, gradients, batch_stats, tx=tx, learning_rate=hyper['learning_rate'],
      weight_decay=hyper['weight_decay'])
  return new_state, metrics


def _forward(params: Any, batch_stats: Any, share: dict[str, jax.Array], *,
             model: flax.linen.Module, normalisation: str, dtype: jnp.dtype
             ) -> tuple[jax.Array, dict[str, jax.Array], jax.Array, Any]:
  """Logits, attention, the map of reference in [0, 1], and new batch statistics."""
  image = images.normalise(share['image'], normalisation, dtype)
  (logits, out), updated = model.apply(
      {'params': params, 'batch_stats': batch_stats}, image, train=True,
      example_keys=share['keys'], mutable=['batch_stats'])
  roi = share['roi'].astype(dtype) / 255
  return logits, out['attention'], roi, updated.get('batch_stats', {})


def _gradients(forward: accumulation.Forward, params: Any, batch_stats: Any,
               share: dict[str, jax.Array], **loss: Any
               ) -> tuple[Any, dict[str, jax.Array], Any]:
  """Gradients of this device's loss, its terms, and new batch statistics."""

  def loss_fn(params):
    logits, attention, roi, updated = forward(params, batch_stats, share)
    value, metrics = losses.total_loss(
        logits, attention, share['label'], roi, share['has_roi'], **loss)
    return value, (metrics, updated)

  gradients, (metrics, batch_stats) = jax.grad(loss_fn, has_aux=True)(params)
  return gradients, metrics, batch_stats
