"""VGG-16 without its dense layers (Simonyan & Zisserman, 2015).

Five blocks of 3x3 convolutions, each closed by a 2x2 max pooling; with batch
normalisation as in torchvision's `vgg16_bn` or without as in its `vgg16`.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax.models import convolution

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
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, H, W, features] of `dtype`."""
    kernel = self.param(
        'kernel', nn.initializers.variance_scaling(2, 'fan_out', 'normal'),
        (3, 3, x.shape[-1], self.features), self.param_dtype)
    bias = self.param(
        'bias', nn.initializers.zeros, (self.features,), self.param_dtype)
    x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
    return convolution.conv3x3(x, kernel) + bias


class VGG16(nn.Module):
  """Parameters `conv<block>_<layer>` and, if `batch_norm`, `bn<block>_<layer>`.

  Attributes:
    batch_norm: normalise between convolution and ReLU.
    width: factor on the channels of every layer.
    dtype: of the computation.
    param_dtype: of the parameters and running averages.
    axis_name: device axis over which batch statistics run in training, or None.
  """

  batch_norm: bool
  width: float
  dtype: Any
  param_dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """Normalised images [B, H, W, 3] -> {'pool1': [B, H/2, W/2, 64], ...}."""
    x = images.astype(self.dtype)
    pools = {}
    for block, (layers, count) in enumerate(BLOCKS, 1):
      for layer in range(1, layers + 1):
        x = Conv3x3(channels(count, self.width), self.dtype, self.param_dtype,
                    name=f'conv{block}_{layer}')(x)
        if self.batch_norm:
          # Flax's momentum 0.9 is torch's 0.1.
          x = nn.BatchNorm(
              use_running_average=not train, momentum=0.9, epsilon=1e-5,
              dtype=self.dtype, param_dtype=self.param_dtype,
              axis_name=self.axis_name, name=f'bn{block}_{layer}')(x)
        x = nn.relu(x)
      x = pools[f'pool{block}'] = convolution.max_pool2x2(x)
    return pools


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
