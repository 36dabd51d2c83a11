"""Predictions over padded batches, against a model that can be worked out."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax import parallel
from attnmel_jax.evaluation import predict
from attnmel_jax.models import classifiers


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


def make_step(model, take=predict.take_classes, *, tta=False):
  """The step of a model that sees the central 4 x 4."""
  return predict.on_devices(functools.partial(
      predict.eval_step, model=model, take=take, tta=tta,
      input=images.Input(4, 'isic2018', jnp.float32)), tta=tta)


@pytest.fixture(scope='module')
def step():
  return make_step(_Mean())


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
  with pytest.raises(ValueError, match='no batches'):
    predict.predict(step, {}, [])


class _Lopsided(nn.Module):
  """Logits and a map that no symmetry of the image leaves as they are."""

  @nn.compact
  def __call__(self, images, *, train):
    red = images[..., 0]
    weights = jnp.arange(16.0).reshape(4, 4) / 16
    weighted = red * weights
    logit = weighted.sum((1, 2))
    maps = {'pool3': weighted, 'pool4': weighted.reshape(-1, 2, 2, 2, 2).mean((2, 4))}
    return jnp.stack([0 * logit, logit], axis=1), {'attention': maps}


def _by_hand(photographs):
  """Averages over the 8 symmetries, image by image, with NumPy's own turns."""
  weights = np.arange(16.0).reshape(4, 4) / 16
  probabilities, maps = [], []
  for image in photographs:
    red = (image[1:5, 1:5, 0] / 255 - 0.7560) / 0.0909
    views, turned_back = [], []
    for turns in range(4):
      for mirrored in (False, True):
        view = np.rot90(red, turns)
        view = view.T if mirrored else view
        weighted = view * weights
        views.append(1 / (1 + np.exp(-weighted.sum())))
        back = weighted.T if mirrored else weighted
        turned_back.append(np.rot90(back, -turns))
    probabilities.append(np.mean(views))
    maps.append(np.mean(turned_back, axis=0))
  return np.array(probabilities), np.array(maps)


def test_test_time_augmentation_by_hand():
  size = 2 * jax.local_device_count()
  batch, = _batches([size], size)
  # pmap mistakes the axes of its second argument where the first is empty.
  found = predict.predict(make_step(_Lopsided(), tta=True),
                          {'params': {'unused': np.float32(0)}}, [batch])
  probabilities, maps = _by_hand(batch['image'])
  # The mean of the probabilities, not the probability of the mean logit.
  np.testing.assert_allclose(found.probabilities[:, 1], probabilities, rtol=1e-4)
  np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(found.attention['pool3'], maps, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(
      found.attention['pool4'], maps.reshape(-1, 2, 2, 2, 2).mean((2, 4)), rtol=1e-3,
      atol=1e-5)


class _Pooled(nn.Module):
  """The images' own channels, averaged into one dense layer without bias."""

  @nn.compact
  def __call__(self, images, *, train):
    logits = nn.Dense(2, use_bias=False, name='classifier')(images.mean((1, 2)))
    return logits, {'attention': {}, 'features': {'pool5': images}}


def test_class_activation_maps_of_the_predicted_and_of_the_positive_class():
  size = 4 * jax.local_device_count()
  batch, = _batches([size], size)
  kernel = np.array([[1, 1], [2, 3], [-1, -2]], np.float32)
  step = make_step(_Pooled(), predict.take_classes_and_cam, tta=True)
  found = predict.predict(step, {'params': {'classifier': {'kernel': kernel}}}, [batch])
  image = np.asarray(images.normalise(batch['image'][:, 1:5, 1:5], 'isic2018'))
  logits = image.mean((1, 2)) @ kernel
  chosen = logits.argmax(axis=1)
  assert set(chosen) == {0, 1}
  # This model does not mind a turn, so neither do its averages.
  np.testing.assert_array_equal(found.probabilities.argmax(axis=1), chosen)
  for name, classes in (('cam', chosen), (predict.POSITIVE_CAM, np.ones(size, int))):
    expected = np.stack([image[i] @ kernel[:, k] for i, k in enumerate(classes)])
    np.testing.assert_allclose(
        found.attention[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.usefixtures('two_blocks')
def test_the_mean_of_a_class_activation_map_is_the_logit():
  # Zhou et al. 2016, equations 1 and 2, of the network that the thesis draws it from.
  model = classifiers.create(
      'vgg16_gap', num_classes=3, backbone='two_blocks', width=1, taps=(), gate_width=8,
      gate_norm='sigmoid', dropout_rate=0.0, dtype='float32', axis_name=None,
      remat=False)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(functools.partial(model.init, train=False),
                          jax.random.key(0), jnp.zeros((1, 96, 64, 3)))
  variables = jax.tree.map(
      lambda x: rng.normal(0, 0.2, x.shape).astype(x.dtype), shapes)
  image = rng.normal(size=(2, 96, 64, 3)).astype(np.float32)
  logits, out = jax.jit(functools.partial(model.apply, train=False))(variables, image)
  _, maps = predict.take_classes_and_cam(variables, logits, out)
  assert maps['cam'].shape == (2, 3, 2, 3)
  assert np.ptp(maps['cam'], axis=(1, 2)).min() > 0.01
  np.testing.assert_allclose(
      maps['cam'].mean((1, 2)) + variables['params']['classifier']['bias'], logits,
      rtol=1e-4, atol=1e-5)
