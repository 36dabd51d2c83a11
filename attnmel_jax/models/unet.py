"""U-Net (Ronneberger, Fischer & Brox, MICCAI 2015), which draws the lesion masks.

As in its Figure 1: two convolutions a level, channels doubled where the side is
halved, and back through 2x2 up-convolutions joined to the maps of the way down.
Unlike there, convolutions pad with zeros, so that the mask is as large as the image,
and batch normalisation stands before each ReLU.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax import errors
from attnmel_jax.models import cpu_kernels
from attnmel_jax.models import layers

DEPTH = 4      # poolings of the paper's Figure 1
CHANNELS = 64  # of its first level


class UpConv2x2(nn.Module):
  """2x2 transposed convolution of stride 2 with bias, He's variance without ReLU."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2 H, 2 W, features] of `dtype`."""
    # At this stride no two windows overlap: each position becomes a 2x2 block by a
    # matrix product, and the fan-in is C.
    param_dtype = layers.param_dtype(self.dtype)
    kernel = self.param(
        'kernel', nn.initializers.variance_scaling(1, 'fan_in', 'normal'),
        (x.shape[-1], 4 * self.features), param_dtype)
    bias = self.param('bias', nn.initializers.zeros, (self.features,), param_dtype)
    x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
    batch, height, width, _ = x.shape
    blocks = (x @ kernel).reshape(batch, height, width, 2, 2, self.features)
    return blocks.swapaxes(2, 3).reshape(
        batch, 2 * height, 2 * width, self.features) + bias


class UNet(nn.Module):
  """Modules `down<level>_*`, level 0 the finest, `up<level>`, `up<level>_*`, `logit`.

  Attributes:
    depth: number of poolings; `DEPTH` in the paper.
    width: factor on the channels of every layer, `CHANNELS` 2^level.
    dtype: of the computation.
    axis_name: device axis over which batch statistics run in training, or None.
  """

  depth: int
  width: float
  dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool,
               example_keys: jax.Array | None = None):
    """Normalised images [B, H, W, 3] -> (the logit of 'lesion' of each pixel, out).

    Returns:
      Logits [B, H, W], float32 or, where that is `dtype`, float64; and `out` as a
      classifier's, with no attention and no features.

    Raises:
      UserError: H or W is no multiple of 2^depth.
    """
    del example_keys  # there is no dropout
    _check_sides(images.shape[1:3], 2 ** self.depth)
    x, skipped = images.astype(self.dtype), []
    for level in range(self.depth):
      x = self._convolutions(x, f'down{level}', level, train)
      skipped.append(x)
      x = cpu_kernels.max_pool2x2(x)
    x = self._convolutions(x, f'down{self.depth}', self.depth, train)
    for level in reversed(range(self.depth)):
      x = UpConv2x2(self._channels(level), self.dtype, name=f'up{level}')(x)
      x = jnp.concatenate([skipped[level], x], axis=-1)
      x = self._convolutions(x, f'up{level}', level, train)
    # The last layer and with it the loss are never in half precision.
    param_dtype = layers.param_dtype(self.dtype)
    logit = nn.Dense(1, dtype=param_dtype, param_dtype=param_dtype, name='logit')(x)
    return logit[..., 0], {'attention': {}, 'features': {}}

  def _channels(self, level: int) -> int:
    return layers.channels(CHANNELS * 2 ** level, self.width)

  def _convolutions(self, x: jax.Array, name: str, level: int, train: bool
                    ) -> jax.Array:
    """Twice 3x3 convolution, normalisation and ReLU, at the side of `x`."""
    for layer in (1, 2):
      x = layers.Conv3x3(self._channels(level), self.dtype,
                         name=f'{name}_conv{layer}')(x, centred=train)
      x = layers.BatchNorm(self.axis_name, name=f'{name}_bn{layer}')(x, train=train)
      x = nn.relu(x)
    return x


def _check_sides(sides: tuple[int, ...], multiple: int) -> None:
  """Raises UserError unless the image can be halved down to the lowest level."""
  if any(side % multiple for side in sides):
    raise errors.UserError(
        f'a U-Net cannot halve images of {" x ".join(map(str, sides))} pixels down to '
        f'its lowest level; choose an image_size that is a multiple of {multiple}')
