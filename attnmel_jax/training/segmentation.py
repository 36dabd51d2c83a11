"""The training step of the U-Net on one device: cross entropy + Dice loss, SGD.

  update = parallel.update(functools.partial(train_step, model=model, tx=tx, ...))
  state, metrics = update(state, parallel.shard(batch), hyper)
"""

import flax
import jax
import jax.numpy as jnp
import optax

from attnmel_jax import images
from attnmel_jax.training import augment
from attnmel_jax.training import losses
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import step as step_lib


def train_step(state: state_lib.TrainState, batch: dict[str, jax.Array],
               hyper: dict[str, jax.Array], *, model: flax.linen.Module,
               tx: optax.GradientTransformation, normalisation: str,
               dtype: jnp.dtype, image_size: int, random_crop: bool,
               random_rotation: bool, random_flip: bool, axis_name: str | None
               ) -> tuple[state_lib.TrainState, dict[str, jax.Array]]:
  """One step of SGD on `losses.segmentation_loss` over the global batch.

  An example is augmented as in a classifier's step of the same seed and number.

  Args:
    state: the same on every device.
    batch: this device's share: image uint8 [B, S, S, 3], roi uint8 [B, S, S] (the
      masks), has_roi bool [B]; all rows valid.
    hyper: numbers that may differ without compiling anew: learning_rate,
      weight_decay, seed (uint32).
    model: returns logits [B, H, W]; its BatchNorm must name `axis_name`.
    tx: momentum, see `state.optimiser`.
    normalisation: key of `images.NORMALISATIONS`.
    dtype: of images and losses, float32 or float64.
    image_size: side of the augmented crop.
    random_crop: see `augment.augment`; likewise the next two.
    random_rotation: by quarter turns.
    random_flip: along both axes.
    axis_name: device axis, or None to run on one device outside of pmap.

  Returns:
    The new state and the metrics of the global batch, equal on every device.
  """
  keys = step_lib.example_keys(
      hyper['seed'], state.step, batch['roi'].shape[0], axis_name)
  keys = jax.vmap(lambda k: jax.random.split(k)[0])(keys)  # the other is dropout's
  image, roi = augment.augment(
      batch['image'], batch['roi'], keys, image_size=image_size,
      random_crop=random_crop, random_rotation=random_rotation,
      random_flip=random_flip)
  image = images.normalise(image, normalisation, dtype)
  reference = roi.astype(dtype) / 255

  def loss_fn(params):
    logits, updated = model.apply(
        {'params': params, 'batch_stats': state.batch_stats}, image, train=True,
        mutable=['batch_stats'])
    loss, terms = losses.segmentation_loss(
        logits, reference, batch['has_roi'], axis_name=axis_name)
    return loss, (terms, updated['batch_stats'])

  gradients, (metrics, batch_stats) = jax.grad(loss_fn, has_aux=True)(state.params)
  return step_lib.descend(state, gradients, metrics, batch_stats, hyper, tx=tx,
                          axis_name=axis_name)
