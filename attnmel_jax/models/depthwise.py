"""Depthwise convolution that is also fast on a CPU.

XLA's kernel gradient of a depthwise convolution takes minutes on a CPU. There the
convolution and both of its gradients are written as sums of shifted products, one for
each entry of the kernel, which XLA fuses into a single pass over the maps. Other
platforms have fast convolutions of their own.

  features = depthwise.convolve(maps, kernel, 2)
"""

from collections.abc import Iterator
from collections.abc import Sequence
import functools

import jax
from jax import lax
import jax.numpy as jnp

from attnmel_jax.models import cpu_kernels


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Each channel with its own kernel, under TensorFlow's SAME padding.

  That padding is as even as it can be: of an odd number of zeros one more lies after
  the maps than before. Reverse mode, first order, as `cpu_kernels.conv3x3`.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, 1, C] of the same dtype.
    stride: of rows and columns.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), C] of the same dtype.
  """
  return _on_platform(_shifted, _direct, x, kernel, stride=stride)


def _on_platform(cpu, default, *arrays, **statics):
  cpu, default = (functools.partial(f, **statics) for f in (cpu, default))
  if cpu_kernels.is_plain():
    return default(*arrays)
  return lax.platform_dependent(*arrays, cpu=cpu, default=default)


def _forward(x, kernel, stride):
  return convolve(x, kernel, stride), (x, kernel)


def _backward(stride, residuals, gradient):
  x, kernel = residuals
  return (
      _on_platform(_shifted_input_gradient, _direct_input_gradient, kernel, gradient,
                   stride=stride, shape=x.shape),
      _on_platform(_shifted_kernel_gradient, _direct_kernel_gradient, x, gradient,
                   stride=stride, shape=kernel.shape))


convolve.defvjp(_forward, _backward)


def _direct(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  return lax.conv_general_dilated(
      x, kernel, (stride, stride), 'SAME', feature_group_count=x.shape[-1],
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _direct_input_gradient(kernel, gradient, *, stride, shape):
  x = jax.ShapeDtypeStruct(shape, gradient.dtype)
  return jax.linear_transpose(
      lambda x: _direct(x, kernel, stride=stride), x)(gradient)[0]


def _direct_kernel_gradient(x, gradient, *, stride, shape):
  kernel = jax.ShapeDtypeStruct(shape, x.dtype)
  return jax.linear_transpose(
      lambda kernel: _direct(x, kernel, stride=stride), kernel)(gradient)[0]


def _shifted(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  """`_direct`; sums are at least float32."""
  size, dtype = len(kernel), _sum_dtype(x)
  kernel = kernel[:, :, 0].astype(dtype)

  def convolve_images(x):
    windows = _windows(x.astype(dtype), size, stride)
    return sum(window * kernel[i, j] for i, j, window in windows).astype(x.dtype)

  return cpu_kernels.by_images(convolve_images, x)


def _shifted_kernel_gradient(x: jax.Array, gradient: jax.Array, *, stride: int,
                             shape: Sequence[int]) -> jax.Array:
  """[B, H, W, C], [B, h, w, C] -> [k, k, 1, C]."""
  size, dtype = shape[0], _sum_dtype(x)

  def sums_of_images(x, gradient):
    slopes = gradient.astype(dtype)
    columns, channels = slopes.shape[2:]
    return [cpu_kernels.fold((window * slopes).reshape(-1, columns * channels))
            for _, _, window in _windows(x.astype(dtype), size, stride)]

  sums = jnp.stack(cpu_kernels.sum_over_images(sums_of_images, x, gradient))
  return sums.reshape(size, size, -1, shape[3]).sum(2, keepdims=True).astype(x.dtype)


def _shifted_input_gradient(kernel: jax.Array, gradient: jax.Array, *, stride: int,
                            shape: Sequence[int]) -> jax.Array:
  """[k, k, 1, C], [B, h, w, C] -> [B, H, W, C] of `shape`.

  Padded inputs at stride q + r meet the entries r, r + stride, ... of the kernel: each
  such phase is a sum of shifted gradients, and the phases are interleaved.
  """
  size, dtype = len(kernel), _sum_dtype(gradient)
  kernel = kernel[:, :, 0].astype(dtype)
  befores = [cpu_kernels.same_padding(length, size, stride)[0] for length in shape[1:3]]
  counts = [-(-(before + length) // stride)  # inputs of a phase
            for before, length in zip(befores, shape[1:3], strict=True)]
  margin = (size - 1) // stride

  def gradient_of_images(gradient):
    slopes = jnp.pad(gradient.astype(dtype), (
        (0, 0), *((margin, max(count - length, 0))
                  for count, length in zip(counts, gradient.shape[1:3], strict=True)),
        (0, 0)))

    def shifted(rows, columns):
      top, left = margin - rows, margin - columns
      return slopes[:, top:top + counts[0], left:left + counts[1]]

    def phase(row, column):
      return sum(kernel[i, j] * shifted(i // stride, j // stride)
                 for i in range(row, size, stride) for j in range(column, size, stride))

    phases = jnp.stack([
        jnp.stack([phase(row, column) for column in range(stride)], 3)
        for row in range(stride)], 2)  # [B, count, stride, count, stride, C]
    padded = phases.reshape(
        len(gradient), stride * counts[0], stride * counts[1], shape[3])
    return lax.dynamic_slice(
        padded, (0, *befores, 0), (len(gradient), *shape[1:])).astype(gradient.dtype)

  return cpu_kernels.by_images(gradient_of_images, gradient)


def _sum_dtype(x: jax.Array) -> jnp.dtype:
  return jnp.promote_types(x.dtype, jnp.float32)


def _windows(x: jax.Array, size: int, stride: int
             ) -> Iterator[tuple[int, int, jax.Array]]:
  margins = [cpu_kernels.same_padding(length, size, stride) for length in x.shape[1:3]]
  return cpu_kernels.windows(x, margins, size, stride)
