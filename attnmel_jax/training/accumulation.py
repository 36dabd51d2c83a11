"""Gradients of the large batch, micro-batch by micro-batch, in less memory.

A Dice loss divides two sums over the whole batch, so its gradient is not a mean of
gradients of micro-batches. It is exact in two passes. With S the sums of
`losses.Loss`, added up over all micro-batches k, and L the loss of them,

  1. forward only: S;
  2. forward and backward: dL = sum_k (dL/dS) dS_k, where dL/dS is a constant.

Batch normalisation is not exact: its statistics are those of a micro-batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from attnmel_jax.training import losses

# (params, batch_stats, share) -> logits, out, targets, new batch_stats
Forward = Callable[..., tuple[jax.Array, dict[str, Any], dict[str, jax.Array], Any]]


def gradients(forward: Forward, loss: losses.Loss, params: Any, batch_stats: Any,
              share: dict[str, jax.Array], hyper: dict[str, jax.Array], *,
              accumulate_steps: int, axis_name: str | None
              ) -> tuple[Any, dict[str, jax.Array], Any]:
  """Gradients of a loss, its terms, and new batch statistics.

  Args:
    forward: of a part of the share; in pass 2 once more, with the same keys.
    loss: of the global batch.
    params: the gradients are with respect to these.
    batch_stats: running statistics, updated micro-batch after micro-batch.
    share: this device's share of the batch, arrays [B, ...] by name. Micro-batch k
      holds positions k B/steps and on.
    hyper: numbers of the loss.
    accumulate_steps: number of micro-batches, a divisor of B.
    axis_name: device axis, or None.

  Returns:
    What this device adds to the gradients and to the terms, whose means over devices
    are those of the global batch; and the statistics.
  """
  micro_batches = jax.tree.map(
      lambda x: x.reshape(accumulate_steps, -1, *x.shape[1:]), share)

  def parts(params, batch_stats, micro):
    logits, out, targets, updated = forward(params, batch_stats, micro)
    return *loss.parts(logits, out, targets, hyper), updated

  # Means over all micro-batches of all devices in place of sums: the ratio is the
  # same, and its slopes are those of a mean of micro-batches, like the focal loss.
  # Without gates there are no sums, and no trace of this pass in the program.
  sums = jax.lax.map(lambda micro: parts(params, batch_stats, micro)[1], micro_batches)
  sums = jax.tree.map(lambda x: x.mean(0), sums)
  if axis_name is not None:
    sums = jax.lax.pmean(sums, axis_name)
  slopes = jax.grad(lambda sums: loss.total(0., sums, hyper)[0])(sums)

  def linear_loss(params, batch_stats, micro):
    mean, sums, updated = parts(params, batch_stats, micro)
    linear = jax.tree.map(jnp.multiply, slopes, sums)
    return sum(jax.tree.leaves(linear), mean), (mean, updated)

  def add(carry, micro):
    so_far, batch_stats = carry
    gradient, (mean, batch_stats) = jax.grad(linear_loss, has_aux=True)(
        params, batch_stats, micro)
    return (jax.tree.map(jnp.add, so_far, gradient), batch_stats), mean

  zeros = jax.tree.map(jnp.zeros_like, params)
  (gradient, batch_stats), mean = jax.lax.scan(
      add, (zeros, batch_stats), micro_batches)
  gradient = jax.tree.map(lambda g: g / accumulate_steps, gradient)
  return gradient, loss.total(mean.mean(), sums, hyper)[1], batch_stats
