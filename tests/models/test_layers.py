"""Convolution, batch normalisation and their gradients by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.models import layers


def test_width_keeps_at_least_one_channel():
  for width, expected in ((1, 64), (.25, 16), (1 / 3, 21), (1e-3, 1)):
    assert layers.channels(64, width) == expected


def test_first_kernel_is_he_normal_over_the_fan_out(getkey):
  layer = layers.Conv3x3(512, jnp.float32)
  params = jax.jit(functools.partial(layer.init, centred=False))(
      getkey(), jnp.zeros((1, 1, 1, 64)))['params']
  kernel = np.asarray(params['kernel'])
  assert float(kernel.std()) == pytest.approx((2 / (9 * 512)) ** .5, rel=.02)
  # Not truncated at two standard deviations (4.6 % lie outside).
  assert float((abs(kernel) > 2 * kernel.std()).mean()) == pytest.approx(.0455, rel=.1)
  assert not params['bias'].any()


def _normalise(axis_name, train):
  """`apply` of a BatchNorm: variables and maps -> maps and running averages."""
  return functools.partial(layers.BatchNorm(axis_name).apply, train=train,
                           mutable=['batch_stats'])


VARIABLES = {'params': {'scale': np.float32([2, 1]), 'bias': np.float32([0, .5])},
             'batch_stats': {'mean': np.zeros(2, np.float32),
                             'var': np.ones(2, np.float32)}}


def test_normalisation_by_hand():
  x = 2 * np.random.default_rng(0).standard_normal((4, 3, 5, 2), np.float32) + 3
  train, evaluate = jax.jit(_normalise(None, True)), jax.jit(_normalise(None, False))
  y, updates = train(VARIABLES, x)
  mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2))
  want = (x - mean) / np.sqrt(var + 1e-5) * np.array([2, 1]) + np.array([0, .5])
  np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
  stats = updates['batch_stats']
  np.testing.assert_allclose(stats['mean'], .1 * mean, rtol=1e-5)
  np.testing.assert_allclose(stats['var'], .9 + .1 * var, rtol=1e-5)
  # In eval mode the running averages count, and an example does not see others.
  y, _ = evaluate({**VARIABLES, 'batch_stats': stats}, x[:1])
  want = ((x[:1] - stats['mean']) / np.sqrt(stats['var'] + 1e-5)
          * np.array([2, 1]) + np.array([0, .5]))
  np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)


def test_batch_statistics_run_over_the_device_axis():
  # Statistics over an axis of two unlike halves equal those of the whole batch.
  x = (np.random.default_rng(0).standard_normal((4, 3, 5, 2), np.float32)
       + np.arange(4, dtype=np.float32)[:, None, None, None])
  want, updates = jax.jit(_normalise(None, True))(VARIABLES, x)
  got, halves = jax.jit(jax.vmap(
      _normalise('batch', True), (None, 0), axis_name='batch'))(
          VARIABLES, x.reshape(2, 2, 3, 5, 2))
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
    value, (dx, dscale, dshift) = jax.jit(jax.value_and_grad(weighted, (0, 1, 2)))(
        x, scale, shift)
  np.testing.assert_allclose(value, (weights * (x * scale + shift)).sum())
  np.testing.assert_allclose(dx, weights * scale)
  np.testing.assert_allclose(dscale, (weights * x).sum((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(dshift, weights.sum((0, 1, 2)), rtol=1e-12)


def test_a_centred_bias_has_the_gradient_zero_that_it_would_have(float64):
  rng = np.random.default_rng(0)
  convolution, normalisation = layers.Conv3x3(2, jnp.float64), layers.BatchNorm(None)
  x, weights = rng.normal(size=(3, 6, 6, 2)), rng.normal(size=(3, 6, 6, 2))
  params = {'kernel': rng.normal(size=(3, 3, 2, 2)), 'bias': rng.normal(size=2)}

  def loss(params, *, train, centred):
    maps = convolution.apply({'params': params}, x, centred=centred)
    maps, _ = normalisation.apply(VARIABLES, maps, train=train, mutable=['batch_stats'])
    return (weights * maps).sum()

  @jax.jit
  def bias_gradients(params):
    return [jax.grad(functools.partial(loss, train=train, centred=centred))(
        params)['bias'] for train, centred in ((True, False), (True, True),
                                               (False, False))]

  honest, centred, running = bias_gradients(params)
  np.testing.assert_allclose(honest, 0, atol=1e-7)
  np.testing.assert_array_equal(centred, 0)
  assert np.abs(running).min() > .01  # running averages leave the bias its gradient
