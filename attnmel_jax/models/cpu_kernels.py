"""3x3 convolution and 2x2 max pooling that are also fast on a CPU.

A CPU spends its time in multiplications, and for wide layers Winograd's minimal
filtering F(2x2, 3x3) (Lavin & Gray, 2016, arXiv:1509.09308) needs 16 of them for
four outputs where the direct sum needs 36. `conv3x3` computes the convolution and
both of its gradients that way where it pays: on CPUs, in float32 or wider, with
many channels and even sides. Everything else stays XLA's. Both are exact up to
rounding.

  features = jax.nn.relu(conv3x3(images, kernel))
  pooled = max_pool2x2(features)
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import contextvars
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

# Fewer channels spend more on the transformations than the products save.
_FEWEST_CHANNELS = 128
# Positions times channels of one transformed map of a tile: small enough that the
# sixteen maps stay in the cache, large enough for matrix products at full speed.
_TILE_SIZE = 2 ** 18

# The transformations of F(2x2, 3x3), in the names of Lavin & Gray: four inputs of a
# row, three weights and two outputs; rows of B^T, of G and of A^T.
_INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_KERNEL = ((1, 0, 0), (.5, .5, .5), (.5, -.5, .5), (0, 0, 1))
_OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))

_PLAIN = contextvars.ContextVar('plain', default=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
  """Programs traced within it leave convolutions to their runtime.

  For export: a batch of any size cannot be cut into tiles, and other runtimes
  have their own ways.
  """
  token = _PLAIN.set(True)
  try:
    yield
  finally:
    _PLAIN.reset(token)


def is_plain() -> bool:
  """Whether a program is being traced within `plain`."""
  return _PLAIN.get()


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
  if not _winograd_pays(x, kernel.shape[-1]):
    return _direct(x, kernel)
  return lax.platform_dependent(x, kernel, cpu=_winograd, default=_direct)


def _direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _winograd_pays(x: jax.Array, outputs: int) -> bool:
  _, height, width, channels = x.shape
  return (not is_plain() and height % 2 == 0 and width % 2 == 0
          and min(channels, outputs) >= _FEWEST_CHANNELS
          and x.dtype in (jnp.float32, jnp.float64))


def _forward(x, kernel):
  return _convolve(x, kernel), (x, kernel)


def _backward(residuals, gradient):
  x, kernel = residuals
  # Written out, since inside a loop XLA's own transposition misses the fast path of
  # the CPU: steps with accumulation took twice as long.
  turned = kernel[::-1, ::-1].swapaxes(2, 3)
  return _convolve(gradient, turned), _kernel_gradient(x, gradient)


conv3x3.defvjp(_forward, _backward)


def _kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  # It adds up sixteen matrices a tile, which does not pay with two narrow sides.
  pays = (_winograd_pays(x, gradient.shape[-1])
          and max(x.shape[-1], gradient.shape[-1]) >= 2 * _FEWEST_CHANNELS)
  return lax.platform_dependent(
      x, gradient, cpu=_winograd_kernel_gradient if pays else _plain_kernel_gradient,
      default=_direct_kernel_gradient)


def _direct_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """[B, H, W, C], [B, H, W, K] -> [3, 3, C, K]."""
  kernel = jax.ShapeDtypeStruct((3, 3, x.shape[-1], gradient.shape[-1]), x.dtype)
  return jax.linear_transpose(lambda kernel: _direct(x, kernel), kernel)(gradient)[0]


def _plain_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """The same, in the one form of a convolution for which a CPU has a fast path.

  XLA brings others into it, but not inside a loop, such as that over micro-batches,
  where the gradient takes many times as long. Channels stand for images here,
  images for channels, and the slopes for a kernel as large as the map.
  """
  turned = lax.conv_general_dilated(
      x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), (1, 1), ((1, 1), (1, 1)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  return turned.transpose(1, 2, 0, 3)


@jax.jit  # outside another jit its loop would compile anew at every call
def _winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """`_direct` as sixteen matrix products a tile."""
  batch, height, width, _ = x.shape
  outputs = kernel.shape[-1]
  images, rows, tiles = _tiling(x.shape, outputs)
  transform = jnp.asarray(_KERNEL, kernel.dtype)
  factors = jnp.einsum('ir,js,rsck->ijck', transform, transform, kernel)
  padded = _pad(x)

  def convolve_tile(tile, result):
    maps = _transformed_inputs(_window(padded, tile, images, rows, margin=2))
    products = [[values @ factors[i, j] for j, values in enumerate(row)]
                for i, row in enumerate(maps)]
    columns = [_combine(_OUTPUT, column) for column in zip(*products, strict=True)]
    blocks = [_combine(_OUTPUT, row) for row in zip(*columns, strict=True)]  # [2][2]
    shape = (images, rows // 2, width // 2, outputs)
    lines = [jnp.stack([value.reshape(shape) for value in row], 3) for row in blocks]
    values = jnp.stack(lines, 2).reshape(images, rows, width, outputs)
    return lax.dynamic_update_slice(
        result, values, _start(tile, images, rows, height // rows))

  return lax.fori_loop(0, tiles, convolve_tile,
                       jnp.zeros((batch, height, width, outputs), x.dtype))


@jax.jit
def _winograd_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """The transpose of `_winograd` in its kernel, summed over the tiles."""
  channels, outputs = x.shape[-1], gradient.shape[-1]
  images, rows, tiles = _tiling(x.shape, outputs)
  padded = _pad(x)

  def products(tile):
    maps = _transformed_inputs(_window(padded, tile, images, rows, margin=2))
    slopes = _window(gradient, tile, images, rows, margin=0)
    blocks = [[slopes[:, i::2, j::2].reshape(-1, outputs) for j in range(2)]
              for i in range(2)]
    transposed = tuple(zip(*_OUTPUT, strict=True))  # A
    columns = [_combine(transposed, column)
               for column in zip(*blocks, strict=True)]  # [2][4]
    factors = [_combine(transposed, row)
               for row in zip(*columns, strict=True)]  # [4][4]
    return [[values.T @ factor for values, factor in zip(*pair, strict=True)]
            for pair in zip(maps, factors, strict=True)]

  # The sum starts from the first products, not from zeros: under a device axis
  # constant zeros would have another type than the sum.
  total = lax.fori_loop(
      1, tiles, lambda tile, total: jax.tree.map(jnp.add, total, products(tile)),
      products(0))
  transform = jnp.asarray(_KERNEL, x.dtype)
  total = jnp.stack([jnp.stack(row) for row in total])
  return jnp.einsum('ir,js,ijck->rsck', transform, transform, total).reshape(
      3, 3, channels, outputs)


def _tiling(shape: Sequence[int], outputs: int) -> tuple[int, int, int]:
  """Images and rows of a tile, and how many tiles there are.

  A tile is a strip of an even number of rows of one image, or several whole images
  where they are small.
  """
  batch, height, width, channels = shape
  positions = _TILE_SIZE // max(channels, outputs)  # 2x2 blocks of outputs
  rows = 2 * _largest_divisor(height // 2, positions // (width // 2))
  images = _largest_divisor(batch, positions // (height * width // 4))
  return images, rows, (batch // images) * (height // rows)


def _largest_divisor(number: int, bound: int) -> int:
  """The largest divisor of `number` that is at most `bound`, at least 1."""
  return next(d for d in range(max(min(number, bound), 1), 0, -1) if number % d == 0)


def _pad(x: jax.Array) -> jax.Array:
  return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _window(x: jax.Array, tile: jax.Array, images: int, rows: int, *, margin: int
            ) -> jax.Array:
  """A tile of `x`: [images, rows + margin, W, C], of maps as much higher than tiled."""
  start = _start(tile, images, rows, (x.shape[1] - margin) // rows)
  return lax.dynamic_slice(x, start, (images, rows + margin, *x.shape[2:]))


def _start(tile: jax.Array, images: int, rows: int, strips: int) -> tuple:
  """Where a tile begins in [B, H, W, C], with `strips` tiles an image."""
  return (tile // strips) * images, (tile % strips) * rows, 0, 0


def _transformed_inputs(window: jax.Array) -> list[list[jax.Array]]:
  """B^T d B of every 2x2 block: [images, 2 h + 2, 2 w + 2, C] -> [4][4][blocks, C]."""
  _, height, width, channels = window.shape
  inputs = [[window[:, i:i + height - 3:2, j:j + width - 3:2].reshape(-1, channels)
             for j in range(4)] for i in range(4)]
  columns = [_combine(_INPUT, column) for column in zip(*inputs, strict=True)]
  return [_combine(_INPUT, row) for row in zip(*columns, strict=True)]


def _combine(matrix: Sequence[Sequence[float]], values: Sequence[jax.Array]
             ) -> list[jax.Array]:
  """The product of a small matrix of 0, 1 and -1 with a vector of arrays."""
  sums = []
  for row in matrix:
    total = None
    for factor, value in zip(row, values, strict=True):
      if factor:
        term = value if factor > 0 else -value
        total = term if total is None else total + term
    sums.append(total)
  return sums


def by_images(function: Callable[..., jax.Array], *maps: jax.Array) -> jax.Array:
  """`function` of several [B, ...], a few images at a time; its result is [B, ...].

  On a CPU. Maps and results of a loop are computed once; otherwise XLA computes maps
  anew for each use, inside of what uses them. A few images stay in the cache.
  """
  images = _images_of_a_tile(maps)

  def fill(tile, result):
    part = function(*_tile(maps, tile, images))
    return lax.dynamic_update_slice_in_dim(result, part, tile * images, 0)

  part = jax.eval_shape(function, *_tile(maps, 0, images))
  whole = jnp.zeros((len(maps[0]), *part.shape[1:]), part.dtype)
  return lax.fori_loop(0, len(maps[0]) // images, fill, whole)


def sum_over_images(function: Callable[..., Any], *maps: jax.Array) -> Any:
  """The sum of what `function` makes of [B, ...], a few images at a time."""
  images = _images_of_a_tile(maps)

  def add(tile, total):
    return jax.tree.map(jnp.add, total, function(*_tile(maps, tile, images)))

  # From the first images, not from zeros: see `_winograd_kernel_gradient`.
  return lax.fori_loop(
      1, len(maps[0]) // images, add, function(*_tile(maps, 0, images)))


def _images_of_a_tile(maps: Sequence[jax.Array]) -> int:
  batch = len(maps[0])
  largest = max(x.size for x in maps) // batch
  # Fewer than all: a loop of one turn is none.
  return _largest_divisor(batch, min(_TILE_SIZE // largest, batch - 1))


def _tile(maps: Sequence[jax.Array], tile, images: int) -> list[jax.Array]:
  return [lax.dynamic_slice_in_dim(x, tile * images, images) for x in maps]


def fold(x: jax.Array, parts: int = 16) -> jax.Array:
  """[N, C] -> [N / parts, C], sums of distant rows; `parts` is less where it must be.

  Sums of whole rows, unlike XLA's reductions, use the vector units of a CPU.
  """
  parts = _largest_divisor(len(x), parts)
  return sum(x[i * len(x) // parts:(i + 1) * len(x) // parts] for i in range(parts))


@jax.custom_vjp
def conv1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, C] times [C, K] -> [B, H, W, K]. Reverse mode, first order.

  The gradient of the kernel is written as one product of two matrices, both summed
  over their rows: of other forms XLA transposes the maps first, which takes longer on
  a CPU than the product.
  """
  return x @ kernel


def _conv1x1_backward(residuals, gradient):
  x, kernel = residuals
  rows, slopes = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
  return gradient @ kernel.T, lax.dot_general(rows, slopes, (((0,), (0,)), ((), ())))


conv1x1.defvjp(lambda x, kernel: (conv1x1(x, kernel), (x, kernel)), _conv1x1_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def strided(x: jax.Array, kernel: jax.Array, stride: int, same: bool) -> jax.Array:
  """Convolution of any stride; on a CPU a product with the patches that it sees.

  Reverse mode, first order.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, C, K] of the same dtype.
    stride: of rows and columns.
    same: TensorFlow's SAME padding instead of (k - 1) / 2 zeros on each side.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), K] of the same dtype.
  """
  options = {'stride': stride, 'same': same}
  if is_plain():
    return _direct_strided(x, kernel, **options)
  return lax.platform_dependent(
      x, kernel, cpu=functools.partial(_patch_product, **options),
      default=functools.partial(_direct_strided, **options))


def _strided_backward(stride, same, residuals, gradient):
  def pull(convolve, x, kernel, gradient):
    convolve = functools.partial(convolve, stride=stride, same=same)
    return jax.vjp(convolve, x, kernel)[1](gradient)

  return lax.platform_dependent(
      *residuals, gradient, cpu=functools.partial(pull, _patch_product),
      default=functools.partial(pull, _direct_strided))


strided.defvjp(lambda x, kernel, stride, same: (
    strided(x, kernel, stride, same), (x, kernel)), _strided_backward)


def _direct_strided(x: jax.Array, kernel: jax.Array, *, stride: int, same: bool
                    ) -> jax.Array:
  return lax.conv_general_dilated(
      x, kernel, (stride, stride), _margins(x, kernel, stride, same),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _patch_product(x: jax.Array, kernel: jax.Array, *, stride: int, same: bool
                   ) -> jax.Array:
  margins = _margins(x, kernel, stride, same)
  patches = jnp.concatenate(
      [window for _, _, window in windows(x, margins, len(kernel), stride)], axis=-1)
  return conv1x1(patches, kernel.reshape(-1, kernel.shape[-1]))


def _margins(x: jax.Array, kernel: jax.Array, stride: int, same: bool
             ) -> list[tuple[int, int]]:
  """Zeros before and after the rows and the columns."""
  size = len(kernel)
  if not same:
    return [(size // 2, size // 2)] * 2
  return [same_padding(length, size, stride) for length in x.shape[1:3]]


def same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
  """Zeros before and after `length` inputs under TensorFlow's SAME padding."""
  total = max((-(-length // stride) - 1) * stride + size - length, 0)
  return total // 2, total - total // 2


def windows(x: jax.Array, margins: Sequence[tuple[int, int]], size: int, stride: int
            ) -> Iterator[tuple[int, int, jax.Array]]:
  """For each entry (i, j) of a kernel the padded inputs that meet it, [B, h, w, C]."""
  rows, columns = (-(-length // stride) for length in x.shape[1:3])
  padded = jnp.pad(x, ((0, 0), *margins, (0, 0)))
  for i in range(size):
    for j in range(size):
      yield i, j, padded[:, i:i + (rows - 1) * stride + 1:stride,
                         j:j + (columns - 1) * stride + 1:stride]


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
