"""Convolution against XLA's and numpy's, pooling against its definition."""

import functools

import jax
from jax import export
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from attnmel_jax.models import convolution

SHAPES = [  # batch, height, width, channels, outputs
    (1, 1, 1, 1, 1),
    (1, 5, 7, 1, 3),
    (3, 7, 5, 4, 2),    # whole images a tile, odd sizes
    (6, 16, 16, 2, 3),  # several images a tile
    (2, 40, 36, 3, 4),  # strips of rows
    (2, 37, 41, 2, 2),  # a prime number of rows
    (1, 2, 1100, 1, 2),  # a row longer than a tile
]


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield


def _operands(shape, dtype, seed=0):
  batch, height, width, channels, outputs = shape
  rng = np.random.default_rng(seed)
  return (jnp.asarray(rng.standard_normal((batch, height, width, channels)), dtype),
          jnp.asarray(rng.standard_normal((3, 3, channels, outputs)), dtype),
          jnp.asarray(rng.standard_normal((batch, height, width, outputs)), dtype))


def _pull_back(convolve, x, kernel, gradient):
  value, pull = jax.vjp(convolve, x, kernel)
  return value, *pull(gradient)


def _xla(x, kernel):
  return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@pytest.mark.parametrize('shape', SHAPES)
def test_value_and_gradients_are_exact_in_float64(shape, float64):
  operands = _operands(shape, jnp.float64)
  ours = jax.jit(functools.partial(_pull_back, convolution.conv3x3))(*operands)
  reference = jax.jit(functools.partial(_pull_back, _xla))(*operands)
  for got, want in zip(ours, reference, strict=True):
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


def test_kernel_gradient_by_hand(float64):
  # d sum(g * conv(x, k)) / dk[i, j] = sum over positions of g times x shifted.
  x, kernel, gradient = _operands((2, 4, 6, 3, 2), jnp.float64)
  _, _, got = _pull_back(convolution.conv3x3, x, kernel, gradient)
  padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
  for i in range(3):
    for j in range(3):
      want = np.einsum('bhwc,bhwk->ck', padded[:, i:i + 4, j:j + 6], gradient)
      np.testing.assert_allclose(got[i, j], want, rtol=1e-12, atol=1e-12)


def test_bfloat16_sums_in_float32():
  shape = (2, 40, 40, 2, 3)
  x, kernel, gradient = _operands(shape, jnp.bfloat16)
  _, _, got = _pull_back(convolution.conv3x3, x, kernel, gradient)
  _, _, want = _pull_back(_xla, *(a.astype(jnp.float32) for a in (x, kernel, gradient)))
  assert got.dtype == jnp.bfloat16
  # Only the last rounding, 2^-9 of the value, separates the two.
  np.testing.assert_allclose(got.astype(jnp.float32), want, rtol=2**-8, atol=1e-3)


def test_gradient_under_pmap_and_shard_map():
  x, kernel, gradient = _operands((2, 8, 8, 2, 3), jnp.float32)
  want = _pull_back(_xla, x, kernel, gradient)[2]

  def step(kernel, x, gradient):
    local = _pull_back(convolution.conv3x3, x, kernel, gradient)[2]
    return jax.lax.psum(local, 'batch')

  by_pmap = jax.pmap(step, axis_name='batch', in_axes=(None, 0, 0), out_axes=None)(
      kernel, x[None], gradient[None])
  mesh = Mesh(np.array(jax.local_devices()[:1]), ('batch',))
  split = PartitionSpec('batch')
  by_shard_map = jax.jit(jax.shard_map(
      step, mesh=mesh, in_specs=(PartitionSpec(), split, split),
      out_specs=PartitionSpec(), check_vma=False))(kernel, x, gradient)
  np.testing.assert_allclose(by_pmap, want, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(by_shard_map, want, rtol=1e-4, atol=1e-4)


def test_gradient_lowers_for_every_platform():
  operands = _operands((2, 32, 40, 4, 4), jnp.float32)
  gradient = jax.jit(functools.partial(_pull_back, convolution.conv3x3))
  for platform, loops in (('cpu', True), ('cuda', False), ('tpu', False)):
    module = export.export(gradient, platforms=[platform])(*operands).mlir_module()
    # The loop over tiles is the CPU's alone.
    assert ('stablehlo.while' in module) == loops, platform
  exported = export.export(gradient, platforms=['cpu', 'cuda', 'tpu'])(*operands)
  for got, want in zip(exported.call(*operands), gradient(*operands), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_max_pool_value_and_gradient(float64):
  x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 6, 9, 3)))
  pooled, pull = jax.vjp(convolution.max_pool2x2, x)
  assert pooled.shape == (2, 3, 4, 3)
  want = np.zeros(x.shape)
  for b, h, w, c in np.ndindex(*pooled.shape):
    block = np.asarray(x[b, 2 * h:2 * h + 2, 2 * w:2 * w + 2, c])
    assert pooled[b, h, w, c] == block.max()
    row, column = np.unravel_index(block.argmax(), (2, 2))
    want[b, 2 * h + row, 2 * w + column, c] = 1
  np.testing.assert_array_equal(pull(jnp.ones_like(pooled))[0], want)


def test_max_pool_ties_share_the_gradient_and_relu_drops_it():
  x = jnp.array([[1., 1.], [0., -1.]]).reshape(1, 2, 2, 1)
  gradient = jax.grad(lambda x: convolution.max_pool2x2(x).sum())
  np.testing.assert_array_equal(gradient(x).ravel(), [.5, .5, 0, 0])
  behind_relu = jax.grad(lambda x: convolution.max_pool2x2(jax.nn.relu(x)).sum())
  np.testing.assert_array_equal(behind_relu(-jnp.abs(x)), jnp.zeros_like(x))
