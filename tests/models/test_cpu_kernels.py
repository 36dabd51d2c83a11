"""Convolution against XLA's and numpy's, pooling against its definition."""

import functools
import re

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.models import cpu_kernels

SHAPES = [  # batch, height, width, channels, outputs
    (1, 1, 1, 1, 1),
    (2, 37, 41, 2, 2),
    (1, 5, 6, 128, 256),   # an odd height
    (1, 4, 6, 128, 256),   # Winograd from here on
    (6, 8, 10, 256, 130),  # whole images a tile
    (1, 2, 2, 128, 128),   # a single block: the kernel gradient is the direct sum
    (3, 32, 46, 130, 256),  # one image a tile, for two are no divisor of three
    (1, 76, 58, 256, 128),  # strips of rows; 38 = 2 x 19 of them
    (1, 2, 2100, 128, 257),  # a row longer than a tile
]


def _operands(shape, dtype, seed=0):
  batch, height, width, channels, outputs = shape
  rng = np.random.default_rng(seed)
  return (jnp.asarray(rng.standard_normal((batch, height, width, channels)), dtype),
          jnp.asarray(rng.standard_normal((3, 3, channels, outputs)), dtype),
          jnp.asarray(rng.standard_normal((batch, height, width, outputs)), dtype))


@jax.jit
def _pull_back(x, kernel, gradient):
  """The convolution, and its gradients for the input and the kernel."""
  value, pull = jax.vjp(cpu_kernels.conv3x3, x, kernel)
  return value, *pull(gradient)


def _by_hand(x, kernel, gradient):
  """The same from the definition, in numpy and float64."""
  x, kernel, gradient = (np.asarray(a, np.float64) for a in (x, kernel, gradient))
  height, width = x.shape[1:3]
  padded, slopes = (np.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0))) for a in (x, gradient))
  value, input_gradient = np.zeros(gradient.shape), np.zeros(x.shape)
  kernel_gradient = np.zeros(kernel.shape)
  for i in range(3):
    for j in range(3):
      window = padded[:, i:i + height, j:j + width]
      value += window @ kernel[i, j]
      kernel_gradient[i, j] = np.tensordot(window, gradient, ((0, 1, 2), (0, 1, 2)))
      turned = slopes[:, 2 - i:2 - i + height, 2 - j:2 - j + width]
      input_gradient += turned @ kernel[i, j].T
  return value, input_gradient, kernel_gradient


@pytest.mark.parametrize('shape', [
    *SHAPES[:3],
    *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES[3:])])
def test_value_and_gradients_are_exact_in_float64(shape, float64):
  operands = _operands(shape, jnp.float64)
  for got, want in zip(_pull_back(*operands), _by_hand(*operands), strict=True):
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-10)


def test_winograd_in_several_tiles(float64, monkeypatch):
  # Of one row of 2x2 blocks, so that each of two images is two strips.
  monkeypatch.setattr(cpu_kernels, '_TILE_SIZE', 3 * 256)
  test_value_and_gradients_are_exact_in_float64((2, 4, 6, 128, 256), None)


def test_winograd_rounds_no_worse_than_a_few_units_in_float32():
  x, kernel, gradient = _operands((1, 16, 16, 512, 512), jnp.float32)
  exact = _by_hand(x, kernel, gradient)[0]
  # Direct summation reaches about 4e-7 of the largest value.
  error = np.abs(np.asarray(jax.jit(cpu_kernels.conv3x3)(x, kernel)) - exact).max()
  assert error < 2e-6 * np.abs(exact).max()


def test_bfloat16_sums_in_float32_and_stays_with_xla():
  for shape in ((2, 40, 40, 2, 3), (2, 8, 8, 128, 256)):
    operands = _operands(shape, jnp.bfloat16)
    compiled = _pull_back.lower(*operands)
    assert 'while' not in compiled.as_text()
    for got, want in zip(_pull_back(*operands), _by_hand(*operands), strict=True):
      assert got.dtype == jnp.bfloat16
      # Only the last rounding, 2^-9 of the value, separates the two.
      np.testing.assert_allclose(got.astype(jnp.float32), want, rtol=2**-8,
                                 atol=2**-8 * np.abs(want).max())


def test_gradient_under_pmap():
  x, kernel, gradient = _operands((2, 8, 10, 128, 256), jnp.float32)
  want = _by_hand(x, kernel, gradient)[2]

  def step(kernel, x, gradient):
    return jax.lax.psum(_pull_back(x, kernel, gradient)[2], 'batch')

  got = jax.pmap(step, axis_name='batch', in_axes=(None, 0, 0), out_axes=None)(
      kernel, x[None], gradient[None])
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_gradient_lowers_for_every_platform():
  operands = _operands((1, 4, 6, 128, 256), jnp.float32)
  for platform, loops in (('cpu', True), ('cuda', False), ('tpu', False)):
    module = export.export(_pull_back, platforms=[platform])(*operands).mlir_module()
    # The loop over tiles is the CPU's alone.
    assert ('stablehlo.while' in module) == loops, platform


def test_a_cpu_sees_the_one_form_of_convolution_that_is_fast_in_a_loop():
  # In any other, XLA's CPU backend takes a hundred times as long inside a loop.
  operands = _operands((2, 7, 9, 3, 4), jnp.float32)
  module = export.export(_pull_back, platforms=['cpu'])(*operands).mlir_module()
  forms = re.findall(r'dim_numbers = (\S+x\S+->\S+?),? ?window',
                     module.replace(', ', ','))
  assert len(forms) == 3, module
  assert set(forms) == {'[b,0,1,f]x[0,1,i,o]->[b,0,1,f]'}


def test_a_program_for_batches_of_any_size_is_the_direct_sum():
  # 128 channels and even sides would be cut into tiles at a size that is known.
  x, kernel = _operands((3, 6, 8, 128, 128), jnp.float32)[:2]
  batch, = export.symbolic_shape('b')
  with cpu_kernels.plain():
    exported = export.export(jax.jit(cpu_kernels.conv3x3), platforms=['cpu', 'cuda'])(
        jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), kernel)
  for size in (1, 3):
    np.testing.assert_allclose(
        exported.call(x[:size], kernel),
        _by_hand(x[:size], kernel, np.zeros((size, 6, 8, 128)))[0], rtol=1e-4,
        atol=1e-4)


def test_max_pool_value_and_gradient():
  def pull_back(x):
    pooled, pull = jax.vjp(lambda x: cpu_kernels.max_pool2x2(jax.nn.relu(x)), x)
    return pooled, pull(jnp.ones_like(pooled))[0]

  x = np.random.default_rng(1).standard_normal((2, 6, 9, 3), np.float32)
  x[1, 2:4, 2:4, 0], x[1, 2:4, 2:4, 1] = [[1, 1], [0, -1]], -1  # a tie; all negative
  pooled, gradient = jax.jit(pull_back)(x)
  assert pooled.shape == (2, 3, 4, 3)
  want = np.zeros(x.shape)
  for b, h, w, c in np.ndindex(*pooled.shape):
    block = x[b, 2 * h:2 * h + 2, 2 * w:2 * w + 2, c]
    assert pooled[b, h, w, c] == max(block.max(), 0)
    largest = (block == block.max()) & (block > 0)  # ties share; ReLU drops the rest
    want[b, 2 * h:2 * h + 2, 2 * w:2 * w + 2, c] = largest / max(largest.sum(), 1)
  np.testing.assert_array_equal(gradient, want)


def test_strided_convolutions_of_any_size_and_padding():
  rng = np.random.default_rng(0)
  for height, width, size, stride, same in (
      (8, 10, 3, 2, True), (7, 9, 3, 2, True), (9, 8, 7, 2, False),
      (6, 5, 3, 3, False)):
    x = rng.standard_normal((2, height, width, 3)).astype(np.float32)
    kernel = rng.standard_normal((size, size, 3, 4)).astype(np.float32)
    padding = 'SAME' if same else [(size // 2, size // 2)] * 2
    reference = functools.partial(
        jax.lax.conv_general_dilated, window_strides=(stride, stride), padding=padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    want, pull = jax.vjp(reference, x, kernel)
    got, ours = jax.vjp(
        lambda x, k, stride=stride, same=same: cpu_kernels.strided(x, k, stride, same),
        x, kernel)
    slopes = rng.standard_normal(want.shape).astype(np.float32)
    for a, b in zip((got, *ours(slopes)), (want, *pull(slopes)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
