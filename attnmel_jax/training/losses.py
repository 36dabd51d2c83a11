"""Focal loss, Dice loss over the batch, their sum (Eq. 2.5 to 2.7); segmentation."""

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


def dice_sums(attention: jax.Array, reference: jax.Array, has_roi: jax.Array
              ) -> tuple[jax.Array, jax.Array]:
  """The overlap sum a abar and the total sum (a + abar) that Eq. 2.6 divides.

  Args:
    attention: [B, h, w] in [0, 1].
    reference: [B, h, w] in [0, 1], soft targets.
    has_roi: bool [B]; images without annotation enter neither sum.

  Returns:
    Two scalars.
  """
  weight = has_roi[:, None, None].astype(attention.dtype)
  return (jnp.sum(weight * attention * reference),
          jnp.sum(weight * (attention + reference)))


def dice_of_sums(overlap: jax.Array, total: jax.Array) -> jax.Array:
  """1 - 2 overlap / total (Eq. 2.6); 0 with gradient 0 where `total` is 0."""
  # The inner where keeps 0 / 0 out of the gradient; a NaN stays one.
  empty = total < jnp.finfo(total.dtype).tiny
  total = jnp.where(empty, 1, total)
  # Relative to its own size: the slope of a quotient holds 1 / total^2, which is
  # infinite where maps are empty and attention next to nothing.
  size = jax.lax.stop_gradient(total)
  return jnp.where(empty, 0, 1 - 2 * (overlap / size) / (total / size))


def dice_loss(attention: jax.Array, reference: jax.Array, has_roi: jax.Array, *,
              axis_name: str | None) -> jax.Array:
  """1 - Dice of the whole global batch taken as one tensor (Eq. 2.6).

  Args:
    attention: see `dice_sums`, this device's share of the batch.
    reference: likewise.
    has_roi: likewise.
    axis_name: device axis over which numerator and denominator are summed
      before the ratio; None on one device.

  Returns:
    Scalar in [0, 1]; 0 with gradient 0 where no image of the global batch is
    annotated or all annotated maps and attentions vanish.
  """
  sums = dice_sums(attention, reference, has_roi)
  if axis_name is not None:
    sums = jax.lax.psum(sums, axis_name)
  return dice_of_sums(*sums)


def references(attention: Mapping[str, jax.Array], roi: jax.Array
               ) -> dict[str, jax.Array]:
  """The soft target of each map: block means of `roi` [B, H, W] at its size."""
  return {tap: images.block_mean(roi, maps.shape[1:])
          for tap, maps in attention.items()}


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
  focal = focal_loss(logits, labels, gamma=gamma).mean()
  dice = {tap: dice_loss(attention[tap], reference, has_roi, axis_name=axis_name)
          for tap, reference in references(attention, roi).items()}
  return weighted_sum(focal, dice, taps=taps, dice_weights=dice_weights)


def weighted_sum(focal: jax.Array, dice: Mapping[str, jax.Array], *,
                 taps: Sequence[str], dice_weights: jax.Array
                 ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Eq. 2.7 of its terms: the sum, and the terms by name.

  Args:
    focal: mean focal loss.
    dice: Dice loss by tap, of those taps that have a gate.
    taps: see `total_loss`.
    dice_weights: likewise.
  """
  loss, terms = focal, {'focal_loss': focal}
  for tap, weight in zip(taps, dice_weights, strict=True):
    if tap in dice:
      loss = loss + weight * dice[tap]
      terms[f'dice_loss_{tap}'] = dice[tap]
  return loss, {'loss': loss, **terms}


def segmentation_loss(logits: jax.Array, reference: jax.Array, has_roi: jax.Array, *,
                      axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Binary cross entropy of the pixels + Dice loss, for the U-Net.

  The thesis does not name its loss. The sum of both, equally weighted, is that of
  Isensee et al. (nnU-Net, Nature Methods 2021); the Dice term is `dice_loss`, which
  for this purpose is that of Drozdzal et al. (arXiv:1608.04117) but for a constant.

  Args:
    logits: [B, H, W] of 'lesion', this device's share of the batch.
    reference: [B, H, W] in [0, 1], soft targets.
    has_roi: bool [B]; images without annotation enter neither term.
    axis_name: device axis over which all sums run before their ratios, or None.

  Returns:
    The loss of the global batch, equal on every device, and its terms by name; all
    are 0 with gradient 0 where no image of the global batch is annotated.
  """
  weight = has_roi[:, None, None].astype(logits.dtype)
  # By softplus of both signs neither log p nor log (1 - p) cancels near 0.
  entropy = (reference * jax.nn.softplus(-logits)
             + (1 - reference) * jax.nn.softplus(logits))
  total = jnp.sum(weight * entropy)
  pixels = jnp.sum(weight * jnp.ones_like(logits))
  if axis_name is not None:
    total, pixels = jax.lax.psum((total, pixels), axis_name)
  cross_entropy = total / jnp.maximum(pixels, 1)
  dice = dice_loss(jax.nn.sigmoid(logits), reference, has_roi, axis_name=axis_name)
  loss = cross_entropy + dice
  return loss, {'loss': loss, 'cross_entropy': cross_entropy, 'dice_loss': dice}
