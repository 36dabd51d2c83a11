"""Depthwise convolution and its gradients against XLA's."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.models import cpu_kernels
from attnmel_jax.models import depthwise

# Height, width, side of the kernel, stride.
CASES = [(7, 8, 3, 1), (8, 9, 3, 2), (1, 2, 5, 1), (7, 8, 5, 2)]


def _direct(x, kernel, stride):
  return lax.conv_general_dilated(
      x, kernel, (stride, stride), 'SAME', feature_group_count=x.shape[-1],
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _with_gradients(convolve, stride, x, kernel):
  """Outputs and, for slopes that differ everywhere, both gradients."""
  outputs, backward = jax.vjp(lambda x, k: convolve(x, k, stride), x, kernel)
  slopes = jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape)
  return outputs, *backward(slopes.astype(outputs.dtype))


def _arrays(height, width, side, dtype):
  random = np.random.default_rng(0)
  return (random.standard_normal((2, height, width, 3)).astype(dtype),
          random.standard_normal((side, side, 1, 3)).astype(dtype))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _all(convolve, strides, arrays):
  """One program for all cases: compilation is what costs."""
  return [_with_gradients(convolve, stride, *pair)
          for stride, pair in zip(strides, arrays, strict=True)]


def test_values_and_gradients_are_xlas(float64):
  arrays = [_arrays(*case[:3], np.float64) for case in CASES]
  strides = tuple(case[3] for case in CASES)
  for case, found, wanted in zip(CASES, _all(depthwise.convolve, strides, arrays),
                                 _all(_direct, strides, arrays), strict=True):
    for one, other in zip(found, wanted, strict=True):
      assert one.dtype == jnp.float64
      np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12, err_msg=str(case))


def test_sums_of_bfloat16_are_float32():
  x = jnp.ones((1, 32, 32, 1), jnp.bfloat16)
  kernel = jnp.ones((3, 3, 1, 1), jnp.bfloat16)
  outputs, _, slopes = jax.jit(lambda x, kernel: (
      y := depthwise.convolve(x, kernel, 1), *jax.vjp(
          lambda x, k: depthwise.convolve(x, k, 1), x, kernel)[1](jnp.ones_like(y))))(
              x, kernel)
  assert outputs.dtype == slopes.dtype == jnp.bfloat16
  # Counted one by one in bfloat16, a sum stops at 256.
  assert slopes[1, 1, 0, 0] == 1024 and slopes[0, 1, 0, 0] == 992


@pytest.mark.parametrize('plain', [True, False])
def test_only_export_leaves_the_convolution_to_its_runtime(plain):
  x, kernel = _arrays(8, 8, 3, np.float32)
  trace = jax.jit(lambda x, kernel: depthwise.convolve(x, kernel, 2)).trace
  if plain:
    with cpu_kernels.plain():
      lowered = trace(x, kernel).lower(lowering_platforms=('cpu',))
  else:
    lowered = trace(x, kernel).lower(lowering_platforms=('cpu',))
  assert ('stablehlo.convolution' in lowered.as_text()) == plain
