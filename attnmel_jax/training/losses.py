"""Focal loss, Dice loss over the batch, and their sum (Eq. 2.5 to 2.7)."""

from collections.abc import Mapping
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from attnmel_jax import images


def focal_loss(logits: jax.Array, labels: jax.Array, *, gamma: jax.Array) -> jax.Array:
  """Focal loss of every example, -(1 - p_t)^gamma log p_t (Eq. 2.5).

  Lin et al., Focal loss for dense object detection, ICCV 2017; here on the
  softmax over all classes and without alpha.

  Args:
    logits: [B, K], K >= 2.
    labels: int [B] in [0, K).
    gamma: scalar >= 0; 0 gives the cross entropy.

  Returns:
    [B], non-negative.
  """
  target = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  others = jax.nn.logsumexp(jnp.where(target, -jnp.inf, logits), axis=-1)
  # z is the log odds of the other classes: p_t = sigmoid(-z). In terms of
  # softplus neither log p_t nor 1 - p_t cancels where p_t is near 1, and no
  # power of 1 - p_t has an infinite slope at 0.
  z = others - jnp.sum(jnp.where(target, logits, 0), axis=-1)
  return jnp.exp(-gamma * jax.nn.softplus(-z)) * jax.nn.softplus(z)


def dice_loss(attention: jax.Array, reference: jax.Array, has_roi: jax.Array, *,
              axis_name: str | None) -> jax.Array:
  """1 - Dice of the whole global batch taken as one tensor (Eq. 2.6).

  Args:
    attention: [B, h, w] in [0, 1], this device's share of the batch.
    reference: [B, h, w] in [0, 1], soft targets.
    has_roi: bool [B]; images without annotation enter neither sum.
    axis_name: device axis over which numerator and denominator are summed
      before the ratio; None on one device.

  Returns:
    Scalar in [0, 1]; 0 with gradient 0 where no image of the global batch is
    annotated or all annotated maps and attentions vanish.
  """
  weight = has_roi[:, None, None].astype(attention.dtype)
  overlap = jnp.sum(weight * attention * reference)
  total = jnp.sum(weight * (attention + reference))
  if axis_name is not None:
    overlap, total = jax.lax.psum((overlap, total), axis_name)
  # The inner where keeps 0 / 0 out of the gradient; a NaN stays one.
  empty = total == 0
  return jnp.where(empty, 0, 1 - 2 * overlap / jnp.where(empty, 1, total))


def total_loss(logits: jax.Array, attention: Mapping[str, jax.Array],
               labels: jax.Array, roi: jax.Array, has_roi: jax.Array, *,
               taps: Sequence[str], gamma: jax.Array, dice_weights: jax.Array,
               axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Eq. 2.7: mean focal loss + sum over the gates of lambda * Dice loss.

  Args:
    logits: [B, K].
    attention: [B, h, w] in [0, 1] by tap; empty for a model without gates.
    labels: int [B].
    roi: [B, H, W] in [0, 1], reduced to each map's size by block means.
    has_roi: bool [B].
    taps: the taps that `dice_weights` [len(taps)] belong to, in order.
    gamma: focal exponent.
    dice_weights: lambda of each tap.
    axis_name: device axis, or None.

  Returns:
    The loss of this device, whose mean over devices is the loss of the global
    batch, and its terms by name.
  """
  terms = {'focal_loss': focal_loss(logits, labels, gamma=gamma).mean()}
  loss = terms['focal_loss']
  for tap, weight in zip(taps, dice_weights, strict=True):
    if tap in attention:
      reference = images.block_mean(roi, attention[tap].shape[1:])
      term = dice_loss(attention[tap], reference, has_roi, axis_name=axis_name)
      loss = loss + weight * term
      terms[f'dice_loss_{tap}'] = term
  return loss, {'loss': loss, **terms}
