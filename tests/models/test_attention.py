"""The gate against Equations 2.1 to 2.3 written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import config as config_lib
from attnmel_jax.models import attention


def _gate(norm, dtype=jnp.float32, width=6):
  return attention.Gate(width, norm, dtype)


def _operands(channels=(5, 7)):
  """Features, guidance and parameters of a gate, from numpy: nothing to compile."""
  rng = np.random.default_rng(0)
  feature = rng.standard_normal((2, 8, 12, channels[0]), np.float32)
  guidance = rng.standard_normal((2, 4, 6, channels[1]), np.float32)
  shapes = jax.eval_shape(_gate('sigmoid').init, jax.random.key(0), feature, guidance)
  return feature, guidance, jax.tree.map(
      lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes['params'])


def _upsample(maps):
  """Doubles [B, h, w, C] bilinearly: half-pixel centres, edge clamp."""
  for axis in (1, 2):
    count = maps.shape[axis]
    centre = (np.arange(2 * count) + .5) / 2 - .5
    low = np.floor(centre).astype(int)
    share = (centre - low).reshape([-1 if a == axis else 1 for a in range(4)])
    maps = ((1 - share) * maps.take(low.clip(0, count - 1), axis)
            + share * maps.take((low + 1).clip(0, count - 1), axis))
  return maps


def test_map_and_pooled_feature():
  f, g, w = _operands()
  hidden = np.maximum(
      f @ w['feature']['kernel'] + _upsample(g @ w['guidance']['kernel']), 0)
  response = (hidden @ w['response']['kernel'])[..., 0] + w['response']['bias']
  for norm in config_lib.GATE_NORMS:
    got, pooled = jax.jit(_gate(norm).apply)({'params': w}, f, g)
    if norm == 'sigmoid':
      want = 1 / (1 + np.exp(-response))
      vector = (want[..., None] * f).mean((1, 2))
    else:
      want = np.exp(response) / np.exp(response).sum((1, 2), keepdims=True)
      vector = (want[..., None] * f).sum((1, 2))
      np.testing.assert_allclose(got.sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    np.testing.assert_allclose(pooled, vector, rtol=1e-3, atol=1e-5)


def test_parameters_and_their_first_values(getkey):
  feature, guidance = jnp.zeros((1, 2, 2, 64)), jnp.zeros((1, 1, 1, 128))
  params = jax.jit(_gate('sigmoid', width=256).init)(
      getkey(), feature, guidance)['params']
  shapes = jax.tree.map(jnp.shape, params)
  assert shapes == {'feature': {'kernel': (64, 256)},
                    'guidance': {'kernel': (128, 256)},
                    'response': {'kernel': (256, 1), 'bias': (1,)}}
  for name, fan_in in (('feature', 64), ('guidance', 128), ('response', 256)):
    kernel = params[name]['kernel']
    assert float(kernel.std()) == pytest.approx((2 / fan_in) ** .5, rel=.1), name
  assert float(abs(params['guidance']['kernel']).max()) > 3 * (2 / 128) ** .5
  assert params['response']['bias'] == 0


def test_bfloat16_projections_give_float32_maps():
  feature, guidance, params = _operands()
  params = jax.tree.map(lambda leaf: leaf / 3, params)
  (want, _), (got, pooled) = (
      jax.jit(_gate('sigmoid', dtype).apply)({'params': params}, feature, guidance)
      for dtype in (jnp.float32, jnp.bfloat16))
  assert got.dtype == pooled.dtype == jnp.float32
  np.testing.assert_allclose(got, want, atol=.03)


def test_unknown_norm():
  with pytest.raises(ValueError, match='tanh'):
    jax.eval_shape(_gate('tanh').init, jax.random.key(0), *_operands()[:2])
