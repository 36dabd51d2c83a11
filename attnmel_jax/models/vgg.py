"""VGG-16 without its dense layers (Simonyan & Zisserman, 2015).

Five blocks of 3x3 convolutions, each closed by a 2x2 max pooling; with batch
normalisation as in torchvision's `vgg16_bn` or without as in its `vgg16`.
"""

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax.models import cpu_kernels

BACKBONES = ('vgg16', 'vgg16_bn')
# Convolutions and channels of each block.
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
# Where a gate or plain pooling may attach; pool5 is always part of the head.
TAPS = tuple(f'pool{block}' for block in range(1, len(BLOCKS)))
DENSE_SIDE = 7  # the side of pool5 that the dense layers expect


def channels(count: int, width: float) -> int:
  """Number of channels of a layer after the width factor, at least 1."""
  return max(1, round(count * width))


class Conv3x3(nn.Module):
  """3x3 convolution with bias, He-normal over the fan-out as in torchvision."""

  features: int
  dtype: Any
  param_dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, centred: bool) -> jax.Array:
    """[B, H, W, C] -> [B, H, W, features] of `dtype`.

    Args:
      x: the maps.
      centred: the mean of the result over the batch is subtracted next, and the bias
        with it: the gradient of the bias is 0, and is not worked out.
    """
    kernel = self.param(
        'kernel', nn.initializers.variance_scaling(2, 'fan_out', 'normal'),
        (3, 3, x.shape[-1], self.features), self.param_dtype)
    bias = self.param(
        'bias', nn.initializers.zeros, (self.features,), self.param_dtype)
    bias = jax.lax.stop_gradient(bias) if centred else bias
    x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
    return cpu_kernels.conv3x3(x, kernel) + bias


class BatchNorm(nn.Module):
  """Batch normalisation over all positions and, in training, all devices.

  Running averages have the type of the parameters (flax's own stay float32
  under float64, and change their type at the first update); of the variance
  they hold the biased estimate. Weight of the old average 0.9 (torch's
  momentum 0.1), epsilon 1e-5.

  Attributes:
    param_dtype: of parameters, statistics and arithmetic.
    axis_name: device axis of the statistics in training, or None.
  """

  param_dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[B, H, W, C] -> the same shape and type."""
    shape = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, shape, self.param_dtype)
    bias = self.param('bias', nn.initializers.zeros, shape, self.param_dtype)
    running_mean = self.variable(
        'batch_stats', 'mean', jnp.zeros, shape, self.param_dtype)
    running_var = self.variable(
        'batch_stats', 'var', jnp.ones, shape, self.param_dtype)
    values = x.astype(self.param_dtype)
    if train:
      # Image by image first: over all axes at once XLA sums large maps on one core of
      # a CPU.
      mean, square = (v.mean((1, 2)).mean(0) for v in (values, values ** 2))
      if self.axis_name is not None:
        mean, square = jax.lax.pmean((mean, square), self.axis_name)
      var = jnp.maximum(square - mean ** 2, 0)  # rounding may leave it below 0
      running_mean.value = 0.9 * running_mean.value + 0.1 * mean
      running_var.value = 0.9 * running_var.value + 0.1 * var
    else:
      mean, var = running_mean.value, running_var.value
    factor = scale * jax.lax.rsqrt(var + 1e-5)
    return scale_and_shift(values, factor, bias - mean * factor).astype(x.dtype)


@jax.custom_vjp
def scale_and_shift(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
  """x [B, H, W, C], times `scale` [C], plus `shift` [C]. Reverse mode, first order.

  On a CPU the sums of its gradients are what a BatchNorm costs most with, so they are
  written in a form that XLA is quick at.
  """
  return x * scale + shift


def _scale_and_shift_backward(residuals, gradient):
  x, scale = residuals
  return gradient * scale, _channel_sums(gradient * x), _channel_sums(gradient)


scale_and_shift.defvjp(
    lambda x, scale, shift: (scale_and_shift(x, scale, shift), (x, scale)),
    _scale_and_shift_backward)


def _channel_sums(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> the sum of each channel, [C]."""

  def products(x):
    # XLA's reduction takes several times as long as a product with ones.
    maps = x.reshape(x.shape[0], -1, x.shape[-1])
    ones = jnp.ones((len(maps), 1, maps.shape[1]), x.dtype)
    return (ones @ maps)[:, 0].sum(0)

  return jax.lax.platform_dependent(
      x, cpu=products, default=lambda x: x.sum((0, 1, 2)))


class VGG16(nn.Module):
  """Parameters `conv<block>_<layer>` and, if `batch_norm`, `bn<block>_<layer>`.

  Attributes:
    batch_norm: normalise between convolution and ReLU.
    width: factor on the channels of every layer.
    dtype: of the computation.
    param_dtype: of the parameters and running averages.
    axis_name: device axis over which batch statistics run in training, or None.
    remat: keep only the pooled maps for the backward pass, which computes the
      layers of a block again: a forward pass more for less memory, though not on
      a CPU, where XLA drops the barriers that keep the two computations apart.
  """

  batch_norm: bool
  width: float
  dtype: Any
  param_dtype: Any
  axis_name: str | None
  remat: bool

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """Normalised images [B, H, W, 3] -> {'pool1': [B, H/2, W/2, 64], ...}."""
    x = images.astype(self.dtype)
    pools = {}
    for block in range(1, len(BLOCKS) + 1):
      layers = functools.partial(_block, block=block, train=train)
      # A function and no module of its own: the parameters keep their names.
      layers = nn.remat(layers) if self.remat else layers
      x = pools[f'pool{block}'] = layers(self, x)
    return pools


def _block(backbone: VGG16, x: jax.Array, *, block: int, train: bool) -> jax.Array:
  """The convolutions of a block and its pooling, [B, H, W, C] -> [B, H/2, W/2, D]."""
  layers, count = BLOCKS[block - 1]
  for layer in range(1, layers + 1):
    x = Conv3x3(channels(count, backbone.width), backbone.dtype, backbone.param_dtype,
                name=f'conv{block}_{layer}')(x, centred=backbone.batch_norm and train)
    if backbone.batch_norm:
      x = BatchNorm(backbone.param_dtype, backbone.axis_name,
                    name=f'bn{block}_{layer}')(x, train=train)
    x = nn.relu(x)
  return cpu_kernels.max_pool2x2(x)


def flatten(x: jax.Array) -> jax.Array:
  """pool5 [B, h, w, C] -> [B, C 7 7], the input of the dense layers."""
  x = adaptive_average_pool(x, DENSE_SIDE)
  # torch flattens [C, 7, 7], and its pretrained dense layers expect that.
  return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
  """[B, H, W, C] -> [B, size, size, C], torch's AdaptiveAvgPool2d.

  Cell i of an axis of length n averages the positions from floor(i n / size)
  to ceil((i + 1) n / size); cells overlap, or repeat positions, where `size`
  does not divide n.
  """
  rows, columns = (
      jnp.asarray(_averages(length, size), x.dtype) for length in x.shape[1:3])
  return jnp.einsum('ph,qw,bhwc->bpqc', rows, columns, x)


def _averages(length: int, size: int) -> list[list[float]]:
  """[size, length]: row i holds the weights of the positions of cell i."""
  weights = []
  for cell in range(size):
    start, stop = cell * length // size, -(-(cell + 1) * length // size)
    weights.append([1 / (stop - start) if start <= position < stop else 0.
                    for position in range(length)])
  return weights
