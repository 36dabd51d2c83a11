"""Convolution, batch normalisation and their gradients by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.models import layers


@pytest.mark.parametrize(('width', 'expected'), [
    (1, 64), (.25, 16), (1 / 3, 21), (1e-3, 1)])
def test_width_keeps_at_least_one_channel(width, expected):
  assert layers.channels(64, width) == expected


def test_first_kernel_is_he_normal_over_the_fan_out(getkey):
  layer = layers.Conv3x3(512, jnp.float32)
  params = layer.init(getkey(), jnp.zeros((1, 1, 1, 64)), centred=False)['params']
  kernel = params['kernel']
  assert float(kernel.std()) == pytest.approx((2 / (9 * 512)) ** .5, rel=.02)
  # Not truncated at two standard deviations (4.6 % lie outside).
  assert float((abs(kernel) > 2 * kernel.std()).mean()) == pytest.approx(.0455, rel=.1)
  assert not params['bias'].any()


def test_normalisation_by_hand(getkey):
  x = 2 * jax.random.normal(getkey(), (4, 3, 5, 2)) + 3
  layer = layers.BatchNorm(None)
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
  whole, split = (layers.BatchNorm(axis) for axis in (None, 'batch'))
  variables = whole.init(getkey(), x, train=False)
  want, updates = whole.apply(variables, x, train=True, mutable=['batch_stats'])
  got, halves = jax.vmap(
      lambda half: split.apply(variables, half, train=True, mutable=['batch_stats']),
      axis_name='batch')(x.reshape(2, 2, 3, 3, 2))
  np.testing.assert_allclose(got.reshape(x.shape), want, rtol=1e-4, atol=1e-5)
  for name in ('mean', 'var'):
    for half in halves['batch_stats'][name]:
      np.testing.assert_allclose(half, updates['batch_stats'][name], rtol=1e-5)


def test_scale_and_shift_has_the_gradients_of_its_formula():
  rng = np.random.default_rng(0)
  x, weights = rng.normal(size=(2, 3, 5, 7, 4))
  scale, shift = rng.normal(size=(2, 4))

  def weighted(x, scale, shift):
    return (weights * layers.scale_and_shift(x, scale, shift)).sum()

  with jax.enable_x64(True):
    value, (dx, dscale, dshift) = jax.value_and_grad(weighted, (0, 1, 2))(
        x, scale, shift)
  np.testing.assert_allclose(value, (weights * (x * scale + shift)).sum())
  np.testing.assert_allclose(dx, weights * scale)
  np.testing.assert_allclose(dscale, (weights * x).sum((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(dshift, weights.sum((0, 1, 2)), rtol=1e-12)


def bias_gradient(getkey, *, train, centred):
  """Of a convolution before a BatchNorm, in float64."""
  convolution, normalisation = layers.Conv3x3(4, jnp.float64), layers.BatchNorm(None)
  with jax.enable_x64(True):
    x = jax.random.normal(getkey(), (3, 6, 6, 2), jnp.float64)
    weights = jax.random.normal(getkey(), (3, 6, 6, 4), jnp.float64)
    conv = convolution.init(getkey(), x, centred=False)
    norm = normalisation.init(getkey(), weights, train=False)

    def loss(params):
      maps = convolution.apply({'params': params}, x, centred=centred)
      maps, _ = normalisation.apply(norm, maps, train=train, mutable=['batch_stats'])
      return (weights * maps).sum()

    return np.asarray(jax.grad(loss)(conv['params'])['bias'])


def test_a_centred_bias_has_the_gradient_zero_that_it_would_have(getkey):
  np.testing.assert_allclose(
      bias_gradient(getkey, train=True, centred=False), 0, atol=1e-12)
  np.testing.assert_array_equal(bias_gradient(getkey, train=True, centred=True), 0)


def test_running_averages_leave_the_bias_its_gradient(getkey):
  assert np.abs(bias_gradient(getkey, train=False, centred=False)).min() > .01
