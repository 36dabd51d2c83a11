"""Layers that several networks share.

Parameters and running averages are float32 whatever the network computes in, or float64
where that is its `dtype`: see `param_dtype`.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax.models import cpu_kernels
from attnmel_jax.models import depthwise


def param_dtype(dtype: Any) -> jnp.dtype:
  """Type of the parameters of a network that computes in `dtype`."""
  return jnp.promote_types(dtype, jnp.float32)


def channels(count: int, width: float) -> int:
  """Number of channels of a layer after the width factor, at least 1."""
  return max(1, round(count * width))


class Conv3x3(nn.Module):
  """3x3 convolution with bias, He-normal over the fan-out as in torchvision."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, centred: bool) -> jax.Array:
    """[B, H, W, C] -> [B, H, W, features] of `dtype`.

    Args:
      x: the maps.
      centred: the next layer subtracts the mean over the batch, and the bias with it;
        its gradient is then 0, and is not computed.
    """
    kernel = self.param(
        'kernel', nn.initializers.variance_scaling(2, 'fan_out', 'normal'),
        (3, 3, x.shape[-1], self.features), param_dtype(self.dtype))
    bias = self.param(
        'bias', nn.initializers.zeros, (self.features,), param_dtype(self.dtype))
    bias = jax.lax.stop_gradient(bias) if centred else bias
    x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
    return cpu_kernels.conv3x3(x, kernel) + bias


class Conv(nn.Module):
  """Convolution without bias, He-normal over the fan-out.

  Attributes:
    features: channels of the output.
    size: side of the kernel.
    stride: of rows and columns.
    same: TensorFlow's SAME padding, of which an odd zero comes after the maps; else
      PyTorch's, (size - 1) / 2 zeros on each side.
    dtype: of the computation.
  """

  features: int
  size: int
  stride: int
  same: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]."""
    kernel = self.param(
        'kernel', nn.initializers.variance_scaling(2, 'fan_out', 'normal'),
        (self.size, self.size, x.shape[-1], self.features), param_dtype(self.dtype))
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    if self.size == 1:
      return cpu_kernels.conv1x1(x[:, ::self.stride, ::self.stride], kernel[0, 0])
    if (self.size, self.stride) == (3, 1):
      return cpu_kernels.conv3x3(x, kernel)
    return cpu_kernels.strided(x, kernel, self.stride, self.same)


class DepthwiseConv(nn.Module):
  """A kernel for each channel, SAME padding, without bias, He-normal.

  Attributes are those of `Conv`.
  """

  size: int
  stride: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]."""
    kernel = self.param(
        'kernel', nn.initializers.variance_scaling(2, 'fan_in', 'normal'),
        (self.size, self.size, 1, x.shape[-1]), param_dtype(self.dtype))
    return depthwise.convolve(
        x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


class BatchNorm(nn.Module):
  """Batch normalisation over all positions and, in training, all devices.

  Statistics and arithmetic have the type of the parameters (flax's running averages
  stay float32 under float64, and change their type at the first update). The running
  variance is the biased estimate. Weight of the old average 0.9 (torch's momentum
  0.1).

  Attributes:
    axis_name: device axis of the statistics in training, or None.
    epsilon: added to the variance.
  """

  axis_name: str | None
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[B, H, W, C] -> the same shape and type."""
    shape, dtype = x.shape[-1:], param_dtype(x.dtype)
    scale = self.param('scale', nn.initializers.ones, shape, dtype)
    bias = self.param('bias', nn.initializers.zeros, shape, dtype)
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, dtype)
    running_var = self.variable('batch_stats', 'var', jnp.ones, shape, dtype)
    values = x.astype(dtype)
    if train:
      mean, square = _moments(values)
      if self.axis_name is not None:
        mean, square = jax.lax.pmean((mean, square), self.axis_name)
      var = jnp.maximum(square - mean ** 2, 0)  # rounding may leave it below 0
      running_mean.value = 0.9 * running_mean.value + 0.1 * mean
      running_var.value = 0.9 * running_var.value + 0.1 * var
    else:
      mean, var = running_mean.value, running_var.value
    factor = scale * jax.lax.rsqrt(var + self.epsilon)
    return scale_and_shift(values, factor, bias - mean * factor).astype(x.dtype)


@jax.custom_vjp
def scale_and_shift(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
  """x [B, H, W, C], times `scale` [C], plus `shift` [C]. Reverse mode, first order.

  On a CPU most of the time of a BatchNorm goes into the sums of these gradients, so
  they are written in a form that XLA computes fast.
  """
  return x * scale + shift


def _scale_and_shift_backward(residuals, gradient):
  x, scale = residuals
  return gradient * scale, *_channel_sums(lambda x, g: (g * x, g), x, gradient)


scale_and_shift.defvjp(
    lambda x, scale, shift: (scale_and_shift(x, scale, shift), (x, scale)),
    _scale_and_shift_backward)


@jax.custom_vjp
def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Means [C] of x [B, H, W, C] and of its square. Reverse mode, first order."""
  count = x.size // x.shape[-1]
  total, squares = _channel_sums(lambda x: (x, x ** 2), x)
  return total / count, squares / count


def _moments_backward(x, gradients):
  mean, square = gradients
  return ((mean + 2 * square * x) / (x.size // x.shape[-1]),)


_moments.defvjp(lambda x: (_moments(x), x), _moments_backward)


def _channel_sums(function, *maps: jax.Array) -> list[jax.Array]:
  """The sums [C] of the channels of each [B, H, W, C] that `function` makes of maps."""

  def in_parts(*maps):
    parts = cpu_kernels.sum_over_images(
        lambda *maps: [cpu_kernels.fold(values.reshape(-1, values.shape[-1]))
                       for values in function(*maps)], *maps)
    return [part.sum(0) for part in parts]

  return jax.lax.platform_dependent(
      *maps, cpu=in_parts,
      default=lambda *maps: [x.sum((0, 1, 2)) for x in function(*maps)])
