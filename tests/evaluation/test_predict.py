"""Predictions over padded batches, against a model that can be worked out."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.evaluation import predict


class _Mean(nn.Module):
  """Logits (0, scale * mean of the red channel); one 2x2 map of block means."""

  @nn.compact
  def __call__(self, images, *, train):
    assert not train
    scale = self.param('scale', nn.initializers.ones, ())
    red = images[..., 0]
    logit = scale * red.mean((1, 2))
    maps = red.reshape(len(red), 2, 2, 2, 2).mean((2, 4))
    return jnp.stack([0 * logit, logit], axis=1), {'attention': {'pool3': maps}}


def _batches(sizes, batch_size, side=6):
  rng = np.random.default_rng(0)
  start = 0
  for size in sizes:
    valid = np.arange(batch_size) < size
    index = np.where(valid, start + np.arange(batch_size), -1).astype(np.int32)
    start += size
    yield {'image': rng.integers(0, 256, (batch_size, side, side, 3), np.uint8),
           'roi': np.zeros((batch_size, side, side), np.uint8),
           'has_roi': np.zeros(batch_size, bool),
           'lesion': rng.integers(0, 256, (batch_size, side, side), np.uint8),
           'has_lesion': rng.integers(0, 2, batch_size).astype(bool),
           'label': (index % 2).astype(np.int32), 'index': index, 'valid': valid}


@pytest.fixture(scope='module')
def step():
  return predict.make_step(_Mean(), normalisation='isic2018', dtype=jnp.float32,
                           image_size=4)


def test_predictions_are_those_of_the_valid_rows_in_order(step):
  size = 4 * jax.local_device_count()
  batches = list(_batches([size, 3], size))
  variables = {'params': {'scale': jnp.float32(2)}}
  result = predict.predict(step, variables, batches)

  join = lambda name: np.concatenate(  # noqa: E731
      [b[name][b['valid']] for b in batches])
  for name in ('index', 'label', 'lesion', 'has_lesion'):
    np.testing.assert_array_equal(getattr(result, name), join(name), err_msg=name)
    assert getattr(result, name).dtype == batches[0][name].dtype
  assert len(result.index) == size + 3
  # The central 4 x 4 of 6 x 6; red of ISIC 2018's normalisation.
  red = (join('image')[:, 1:5, 1:5, 0] / 255 - 0.7560) / 0.0909
  positive = 1 / (1 + np.exp(-2 * red.mean((1, 2))))
  np.testing.assert_allclose(
      result.probabilities, np.stack([1 - positive, positive], 1), rtol=1e-5)
  np.testing.assert_allclose(
      result.attention['pool3'], red.reshape(-1, 2, 2, 2, 2).mean((2, 4)), rtol=1e-4,
      atol=1e-5)


def test_a_step_compiles_once_for_placed_variables(step):
  size = jax.local_device_count()
  variables = parallel.replicated({'params': {'scale': jnp.float32(2)}})
  predict.predict(step, variables, _batches([size], size))
  compiled = []
  listen = lambda name, seconds, **kw: compiled.append(name)  # noqa: E731
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    predict.predict(step, variables, _batches([size, 1], size))
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert not [name for name in compiled if 'compile' in name]
  assert not variables['params']['scale'].is_deleted()


def test_a_probability_that_is_not_finite_is_refused(step):
  size = jax.local_device_count()
  with pytest.raises(errors.UserError, match='not finite.*learning_rate'):
    predict.predict(step, {'params': {'scale': jnp.float32(np.nan)}},
                    _batches([size], size))


def test_no_batch_is_a_bug(step):
  with pytest.raises(ValueError, match='no batches'):
    predict.predict(step, {}, [])
