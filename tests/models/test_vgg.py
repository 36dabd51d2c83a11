"""The backbone's shapes and batch statistics, and adaptive pooling by hand."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.models import vgg


@pytest.mark.parametrize('size', [64, 96, 224])
def test_pools_halve_the_side(size):
  images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
  pools, variables = jax.eval_shape(
      lambda images: vgg.VGG16(
          batch_norm=True, width=1, dtype=jnp.float32, param_dtype=jnp.float32,
          axis_name=None, remat=False).init_with_output(
              jax.random.key(0), images, train=False),
      images)
  channels = (64, 128, 256, 512, 512)
  assert {name: pool.shape for name, pool in pools.items()} == {
      f'pool{i}': (2, size >> i, size >> i, channels[i - 1]) for i in range(1, 6)}
  assert variables['params']['conv1_1']['kernel'].shape == (3, 3, 3, 64)
  assert variables['batch_stats']['bn5_3']['var'].shape == (512,)


@pytest.mark.parametrize(('width', 'expected'), [
    (1, 64), (.25, 16), (1 / 3, 21), (1e-3, 1)])
def test_width_keeps_at_least_one_channel(width, expected):
  assert vgg.channels(64, width) == expected


@pytest.mark.parametrize('batch_norm', [False, True])
def test_remat_keeps_pools_alone_for_the_backward_pass(batch_norm):
  images = jnp.zeros((2, 32, 32, 3))

  def kept(remat):
    backbone = vgg.VGG16(
        batch_norm=batch_norm, width=1 / 8, dtype=jnp.float32,
        param_dtype=jnp.float32, axis_name=None, remat=remat)
    variables = jax.eval_shape(lambda key: backbone.init(key, images, train=False),
                               jax.random.key(0))
    residuals = jax.eval_shape(lambda variables: jax.vjp(
        lambda params: backbone.apply(
            {**variables, 'params': params}, images, train=True,
            mutable=['batch_stats'])[0], variables['params'])[1], variables)
    shapes = {leaf.shape for leaf in jax.tree.leaves(residuals) if leaf.ndim == 4}
    return {s for s in shapes if s[0] == 2}, jax.tree.map(jnp.shape, variables)

  some, variables = kept(True)
  everything, unchanged = kept(False)
  assert variables == unchanged  # by name, as pretrained weights are loaded
  # The images and what the blocks 2 to 5 start from.
  assert some == {(2, 32, 32, 3), (2, 16, 16, 8), (2, 8, 8, 16), (2, 4, 4, 32),
                  (2, 2, 2, 64)}
  assert (2, 32, 32, 8) in everything


def test_first_kernel_is_he_normal_over_the_fan_out(getkey):
  layer = vgg.Conv3x3(512, jnp.float32, jnp.float32)
  params = layer.init(getkey(), jnp.zeros((1, 1, 1, 64)), centred=False)['params']
  kernel = params['kernel']
  assert float(kernel.std()) == pytest.approx((2 / (9 * 512)) ** .5, rel=.02)
  # Not truncated at two standard deviations (4.6 % lie outside).
  assert float((abs(kernel) > 2 * kernel.std()).mean()) == pytest.approx(.0455, rel=.1)
  assert not params['bias'].any()


def test_normalisation_by_hand(getkey):
  x = 2 * jax.random.normal(getkey(), (4, 3, 5, 2)) + 3
  layer = vgg.BatchNorm(jnp.float32, None)
  variables = layer.init(getkey(), x, train=False)
  variables['params'] = {'scale': jnp.array([2., 1.]), 'bias': jnp.array([0., .5])}
  y, updates = layer.apply(variables, x, train=True, mutable=['batch_stats'])
  mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2))
  want = (x - mean) / np.sqrt(var + 1e-5) * np.array([2, 1]) + np.array([0, .5])
  np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
  stats = updates['batch_stats']
  np.testing.assert_allclose(stats['mean'], .1 * mean, rtol=1e-5)
  np.testing.assert_allclose(stats['var'], .9 + .1 * var, rtol=1e-5)
  # In eval mode the running averages count, and an example does not see others.
  y = layer.apply({**variables, 'batch_stats': stats}, x[:1], train=False)
  want = ((x[:1] - stats['mean']) / np.sqrt(stats['var'] + 1e-5)
          * np.array([2, 1]) + np.array([0, .5]))
  np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)


def test_batch_statistics_run_over_the_device_axis(getkey):
  # Statistics over an axis of two unlike halves equal those of the whole batch.
  x = jax.random.normal(getkey(), (4, 3, 3, 2)) + jnp.arange(4)[:, None, None, None]
  whole, split = (vgg.BatchNorm(jnp.float32, axis) for axis in (None, 'batch'))
  variables = whole.init(getkey(), x, train=False)
  want, updates = whole.apply(variables, x, train=True, mutable=['batch_stats'])
  got, halves = jax.vmap(
      lambda half: split.apply(variables, half, train=True, mutable=['batch_stats']),
      axis_name='batch')(x.reshape(2, 2, 3, 3, 2))
  np.testing.assert_allclose(got.reshape(x.shape), want, rtol=1e-4, atol=1e-5)
  for name in ('mean', 'var'):
    for half in halves['batch_stats'][name]:
      np.testing.assert_allclose(half, updates['batch_stats'][name], rtol=1e-5)


def test_adaptive_pool_by_hand():
  # 3 -> 7 and 10 -> 7: cell i is the mean from floor(i n / 7) to ceil((i + 1) n / 7).
  x = np.random.default_rng(0).standard_normal((2, 3, 10, 4)).astype(np.float32)
  rows = [(0, 1), (0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 3)]
  columns = [(0, 2), (1, 3), (2, 5), (4, 6), (5, 8), (7, 9), (8, 10)]
  got = vgg.adaptive_average_pool(jnp.asarray(x), 7)
  assert got.shape == (2, 7, 7, 4)
  for i, (top, bottom) in enumerate(rows):
    for j, (left, right) in enumerate(columns):
      np.testing.assert_allclose(
          got[:, i, j], x[:, top:bottom, left:right].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_flatten_is_the_identity_in_channel_major_order_at_7x7():
  x = np.random.default_rng(0).standard_normal((2, 7, 7, 5)).astype(np.float32)
  np.testing.assert_allclose(
      vgg.flatten(jnp.asarray(x)), np.moveaxis(x, -1, 1).reshape(2, -1), rtol=1e-6)


def test_scale_and_shift_has_the_gradients_of_its_formula():
  rng = np.random.default_rng(0)
  x, weights = rng.normal(size=(2, 3, 5, 7, 4))
  scale, shift = rng.normal(size=(2, 4))

  def weighted(x, scale, shift):
    return (weights * vgg.scale_and_shift(x, scale, shift)).sum()

  with jax.enable_x64(True):
    value, (dx, dscale, dshift) = jax.value_and_grad(weighted, (0, 1, 2))(
        x, scale, shift)
  np.testing.assert_allclose(value, (weights * (x * scale + shift)).sum())
  np.testing.assert_allclose(dx, weights * scale)
  np.testing.assert_allclose(dscale, (weights * x).sum((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(dshift, weights.sum((0, 1, 2)), rtol=1e-12)


def bias_gradient(getkey, *, train, centred):
  """Of a convolution before a BatchNorm, in float64."""
  layers = (vgg.Conv3x3(4, jnp.float64, jnp.float64), vgg.BatchNorm(jnp.float64, None))
  with jax.enable_x64(True):
    x = jax.random.normal(getkey(), (3, 6, 6, 2), jnp.float64)
    weights = jax.random.normal(getkey(), (3, 6, 6, 4), jnp.float64)
    conv = layers[0].init(getkey(), x, centred=False)
    norm = layers[1].init(getkey(), weights, train=False)

    def loss(params):
      maps = layers[0].apply({'params': params}, x, centred=centred)
      maps, _ = layers[1].apply(norm, maps, train=train, mutable=['batch_stats'])
      return (weights * maps).sum()

    return np.asarray(jax.grad(loss)(conv['params'])['bias'])


def test_a_centred_bias_has_the_gradient_zero_that_it_would_have(getkey):
  np.testing.assert_allclose(
      bias_gradient(getkey, train=True, centred=False), 0, atol=1e-12)
  np.testing.assert_array_equal(bias_gradient(getkey, train=True, centred=True), 0)


def test_running_averages_leave_the_bias_its_gradient(getkey):
  assert np.abs(bias_gradient(getkey, train=False, centred=False)).min() > .01


@pytest.mark.parametrize('batch_norm, train, expected', [
    (True, True, True), (True, False, False), (False, True, False)])
def test_only_batch_statistics_centre_a_layer(batch_norm, train, expected):
  seen = set()

  def look(method, args, kwargs, context):
    if isinstance(context.module, vgg.Conv3x3):
      seen.add(kwargs['centred'])
    return method(*args, **kwargs)

  backbone = vgg.VGG16(batch_norm, 1 / 64, jnp.float32, jnp.float32, None, remat=False)
  x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  with nn.intercept_methods(look):
    jax.eval_shape(lambda x: backbone.init_with_output(
        jax.random.key(0), x, train=train), x)
  assert seen == {expected}
