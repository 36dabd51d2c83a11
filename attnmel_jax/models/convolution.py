"""3x3 convolution and 2x2 max pooling that are also fast on a CPU.

XLA's CPU backend computes a convolution and its input gradient well, but its
kernel gradient is slow for the large maps of a VGG (a fifth of the speed of a
matrix product). `conv3x3` therefore brings its own kernel gradient, on CPUs
alone; accelerators keep XLA's. Both are exact up to rounding.

  features = jax.nn.relu(conv3x3(images, kernel))
  pooled = max_pool2x2(features)
"""

import jax
from jax import lax
import jax.numpy as jnp

# Positions in one im2col tile: few enough that the tile stays in the cache,
# many enough for a matrix product at full speed. 500 to 1600 do equally well.
_TILE_POSITIONS = 1024


@jax.custom_vjp
def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolution of stride 1 with one pixel of zero padding.

  Reverse mode, first order: neither jvp nor second derivatives are defined.
  Under `jax.shard_map` it needs `check_vma=False`, the semantics of pmap.

  Args:
    x: [B, H, W, C].
    kernel: [3, 3, C, K] of the same dtype.

  Returns:
    [B, H, W, K] of the same dtype.
  """
  return _convolve(x, kernel)


def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _forward(x, kernel):
  return _convolve(x, kernel), (x, kernel)


def _backward(residuals, gradient):
  x, kernel = residuals
  # Written out, since inside a loop XLA's own transposition misses the fast path of
  # the CPU: steps with accumulation took twice as long.
  turned = kernel[::-1, ::-1].swapaxes(2, 3)
  input_gradient = _convolve(gradient, turned)
  return input_gradient, _kernel_gradient(x, gradient)


conv3x3.defvjp(_forward, _backward)


@jax.jit  # outside another jit its loop would compile anew at every call
def _kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  return lax.platform_dependent(
      x, gradient, cpu=_tiled_kernel_gradient, default=_xla_kernel_gradient)


def _xla_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """[B, H, W, C], [B, H, W, K] -> [3, 3, C, K]."""
  kernel = jax.ShapeDtypeStruct((3, 3, x.shape[-1], gradient.shape[-1]), x.dtype)
  return jax.linear_transpose(lambda kernel: _convolve(x, kernel), kernel)(gradient)[0]


def _tiled_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """The same as a sum of im2col matrix products over tiles of positions.

  A tile is a strip of rows of one image, or several whole images where they
  are small. Sums run in float32 at least.
  """
  batch, height, width, channels = x.shape
  outputs = gradient.shape[-1]
  rows = _largest_divisor(height, _TILE_POSITIONS // width)
  images = _largest_divisor(batch, _TILE_POSITIONS // (height * width))
  strips = height // rows
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

  def product(tile):
    image, row = (tile // strips) * images, (tile % strips) * rows
    window = lax.dynamic_slice(
        padded, (image, row, 0, 0), (images, rows + 2, width + 2, channels))
    columns = jnp.concatenate(
        [window[:, i:i + rows, j:j + width] for i in range(3) for j in range(3)], -1)
    slopes = lax.dynamic_slice(
        gradient, (image, row, 0, 0), (images, rows, width, outputs))
    return jnp.matmul(
        slopes.reshape(-1, outputs).T, columns.reshape(-1, 9 * channels),
        preferred_element_type=jnp.promote_types(x.dtype, jnp.float32))

  # The sum starts from the first product, not from zeros: under a device axis
  # constant zeros would have another type than the sum.
  total = lax.fori_loop(1, batch // images * strips,
                        lambda tile, total: total + product(tile), product(0))
  return total.T.reshape(3, 3, channels, outputs).astype(x.dtype)


def _largest_divisor(number: int, bound: int) -> int:
  """The largest divisor of `number` that is at most `bound`, at least 1."""
  return next(d for d in range(max(min(number, bound), 1), 0, -1) if number % d == 0)


def max_pool2x2(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, H // 2, W // 2, C]: the maximum of each 2x2 block.

  Written as reshape and maximum, whose gradient is far cheaper on a CPU than
  the scatter of a window reduction. Equal maxima share the gradient; after a
  ReLU such ties are nearly always zeros, through which no gradient passes. An
  odd last row or column is dropped.
  """
  batch, height, width, channels = x.shape
  height, width = height // 2, width // 2
  blocks = x[:, :2 * height, :2 * width].reshape(batch, height, 2, width, 2, channels)
  return blocks.max(axis=(2, 4))
