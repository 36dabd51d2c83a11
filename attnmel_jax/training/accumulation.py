"""Gradients of the large batch, micro-batch by micro-batch, in less memory.

The Dice loss divides two sums over the whole batch, so its gradient is not a mean
of gradients of micro-batches. It is exact in two passes. With P the overlap and
S the total of `losses.dice_sums`, summed over all micro-batches k,

  1. forward only: P and S;
  2. forward and backward: d(1 - 2 P / S) = sum_k -2/S dP_k + 2 P/S^2 dS_k,
     where P and S are constants.

Batch normalisation is not exact: its statistics are those of a micro-batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from attnmel_jax.training import losses

# (params, batch_stats, share) -> logits, attention, roi, new batch_stats
Forward = Callable[..., tuple[jax.Array, dict[str, jax.Array], jax.Array, Any]]


def gradients(forward: Forward, params: Any, batch_stats: Any,
              share: dict[str, jax.Array], *, accumulate_steps: int,
              taps: tuple[str, ...], gamma: jax.Array, dice_weights: jax.Array,
              axis_name: str | None) -> tuple[Any, dict[str, jax.Array], Any]:
  """Gradients of Eq. 2.7, its terms, and new batch statistics.

  Args:
    forward: of a part of the share; in pass 2 once more, with the same keys.
    params: the gradients are with respect to these.
    batch_stats: running statistics, updated micro-batch after micro-batch.
    share: this device's share of the batch, arrays [B, ...] by name; `label` and
      `has_roi` among them. Micro-batch k holds positions k B/steps and on.
    accumulate_steps: number of micro-batches, a divisor of B.
    taps: see `losses.total_loss`; likewise gamma, dice_weights and axis_name.

  Returns:
    What this device adds to the gradients, whose mean over devices is that of the
    global batch; likewise the terms of the loss, and the statistics.
  """
  micro_batches = jax.tree.map(
      lambda x: x.reshape(accumulate_steps, -1, *x.shape[1:]), share)

  def evaluate(params, batch_stats, micro):
    logits, attention, roi, updated = forward(params, batch_stats, micro)
    focal = losses.focal_loss(logits, micro['label'], gamma=gamma).mean()
    sums = {tap: losses.dice_sums(attention[tap], reference, micro['has_roi'])
            for tap, reference in losses.references(attention, roi).items()}
    return focal, sums, updated

  def total(focal, sums):
    dice = {tap: losses.dice_of_sums(*pair) for tap, pair in sums.items()}
    return losses.weighted_sum(focal, dice, taps=taps, dice_weights=dice_weights)

  # Means over all micro-batches of all devices in place of sums: the ratio is the
  # same, and its slopes are those of a mean of micro-batches, like the focal loss.
  # Without gates there are no sums, and no trace of this pass in the program.
  sums = jax.lax.map(lambda micro: evaluate(params, batch_stats, micro)[1],
                     micro_batches)
  sums = jax.tree.map(lambda x: x.mean(0), sums)
  if axis_name is not None:
    sums = jax.lax.pmean(sums, axis_name)
  slopes = jax.grad(lambda sums: total(0., sums)[0])(sums)

  def linear_loss(params, batch_stats, micro):
    focal, sums, updated = evaluate(params, batch_stats, micro)
    dice = jax.tree.map(jnp.multiply, slopes, sums)
    return sum(jax.tree.leaves(dice), focal), (focal, updated)

  def add(carry, micro):
    so_far, batch_stats = carry
    gradient, (focal, batch_stats) = jax.grad(linear_loss, has_aux=True)(
        params, batch_stats, micro)
    return (jax.tree.map(jnp.add, so_far, gradient), batch_stats), focal

  zeros = jax.tree.map(jnp.zeros_like, params)
  (gradient, batch_stats), focal = jax.lax.scan(
      add, (zeros, batch_stats), micro_batches)
  gradient = jax.tree.map(lambda g: g / accumulate_steps, gradient)
  return gradient, total(focal.mean(), sums)[1], batch_stats

