"""The U-Net's shapes and sizes, its up-convolution by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.models import unet


def _net(depth=1, width=1 / 32, dtype='float32', axis_name=None):
  return unet.UNet(depth=depth, width=width, dtype=jnp.dtype(dtype),
                   axis_name=axis_name)


def _init(net, images):
  """He's normal weights, from numpy: there is nothing to compile."""
  shapes = jax.eval_shape(
      lambda x: net.init(jax.random.key(0), x, train=False), images)
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    if path[-1].key == 'kernel':
      deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
      return rng.normal(0, deviation, leaf.shape).astype(leaf.dtype)
    return np.full(leaf.shape, path[-1].key in ('scale', 'var'), leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)


def _shapes(net, size):
  return jax.eval_shape(
      lambda images: net.init_with_output(jax.random.key(0), images, train=False),
      jax.ShapeDtypeStruct((2, *size, 3), jnp.float32))


def test_one_logit_a_pixel():
  for size in ((224, 224), (32, 48)):
    (logits, _), variables = _shapes(_net(depth=unet.DEPTH, width=1), size)
    assert (logits.shape, logits.dtype) == ((2, *size), jnp.float32)
  params = variables['params']
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 31_043_521
  assert params['down4_conv2']['kernel'].shape == (3, 3, 1024, 1024)
  # As many channels come over the bridge as from below.
  assert params['up3_conv1']['kernel'].shape == (3, 3, 1024, 512)
  assert params['up0_conv1']['kernel'].shape == (3, 3, 128, 64)
  assert variables['batch_stats']['up0_bn2']['var'].shape == (64,)


def test_a_side_that_cannot_be_halved_is_named():
  with pytest.raises(errors.UserError, match='100 x 96 pixels.*multiple of 16'):
    _shapes(_net(depth=4), (100, 96))


def test_up_convolution_by_hand():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 2, 3, 4), np.float32)
  layer = unet.UpConv2x2(5, jnp.float32)
  shapes = jax.eval_shape(layer.init, jax.random.key(0), x)['params']
  params = {name: rng.standard_normal(leaf.shape, np.float32)
            for name, leaf in shapes.items()}
  kernel = params['kernel'].reshape(4, 2, 2, 5)
  want = np.zeros((2, 4, 6, 5))
  for b, i, j, p, q in np.ndindex(2, 2, 3, 2, 2):
    want[b, 2 * i + p, 2 * j + q] = x[b, i, j] @ kernel[:, p, q]
  got = jax.jit(layer.apply)({'params': params}, x)
  np.testing.assert_allclose(got, want + params['bias'], rtol=1e-4, atol=1e-5)


def test_an_image_is_seen_over_the_bridge_and_from_below():
  images = np.random.default_rng(0).standard_normal((1, 8, 8, 3), np.float32)
  net = _net(width=1 / 16)
  variables = _init(net, images)
  changed = images.copy()
  changed[0, 0, 0] += 10
  apply = jax.jit(lambda params, images: net.apply(
      {**variables, 'params': params}, images, train=False)[0])

  def seen(**kernels):
    params = {**variables['params'], **kernels}
    return np.abs(np.asarray(apply(params, changed))
                  - np.asarray(apply(params, images)))[0] > 0

  kernel = variables['params']['up0']['kernel']
  below = dict(variables['params']['up0'], kernel=np.zeros_like(kernel))
  bridge = seen(up0=below)
  # Four 3x3 convolutions reach four pixels far, and no farther.
  assert bridge.any()
  assert not bridge[5:].any() and not bridge[:, 5:].any()
  # Those of the lower level reach on.
  assert seen()[5:].any()


@pytest.mark.slow
def test_batch_statistics_run_over_the_device_axis(float64):
  rng = np.random.default_rng(0)
  # Two unlike halves.
  images = rng.normal(size=(4, 4, 4, 3)) * np.arange(1, 5)[:, None, None, None]
  whole, split = _net(dtype='float64'), _net(dtype='float64', axis_name='batch')
  variables = _init(whole, images)
  (want, _), updates = jax.jit(lambda x: whole.apply(
      variables, x, train=True, mutable=['batch_stats']))(images)
  (got, _), halves = jax.jit(jax.vmap(
      lambda half: split.apply(variables, half, train=True, mutable=['batch_stats']),
      axis_name='batch'))(images.reshape(2, 2, 4, 4, 3))
  np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-8, atol=1e-10)
  for both, one in zip(jax.tree.leaves(halves), jax.tree.leaves(updates), strict=True):
    np.testing.assert_allclose(both, [one, one], rtol=1e-9, atol=1e-12)


def test_bfloat16_is_the_computation_s_alone():
  logits, variables = _shapes(_net(dtype='bfloat16'), (8, 8))
  assert {leaf.dtype for leaf in jax.tree.leaves([logits, variables])} == {
      jnp.dtype('float32')}
