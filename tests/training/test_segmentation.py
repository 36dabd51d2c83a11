"""The U-Net's step: a pixel's model in closed form, devices, augmentation."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import images
from attnmel_jax import parallel
from attnmel_jax.models import layers
from attnmel_jax.training import segmentation
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import step as step_lib
from tests.training import tiny

_HYPER = {'learning_rate': np.float64(0.1), 'weight_decay': np.float64(0.01),
          'seed': np.uint32(3)}


class Pixelwise(nn.Module):
  """The logit of a pixel is linear in its normalised colours."""

  @nn.compact
  def __call__(self, image, *, train):
    """[B, H, W, 3] -> [B, H, W]; counts its calls where BatchNorm would average."""
    calls = self.variable('batch_stats', 'calls', jnp.zeros, (), image.dtype)
    if train:
      calls.value = calls.value + 1
    kernel = self.param('kernel', nn.initializers.ones, (3,), image.dtype)
    return image @ kernel


def _step(model, axis_name=None, **changed):
  arguments = dict(
      model=model, tx=tiny.TX, normalisation='isic2017', dtype=jnp.dtype('float64'),
      image_size=32, random_crop=True, random_rotation=True, random_flip=True,
      axis_name=axis_name)
  return functools.partial(segmentation.train_step, **(arguments | changed))


class Normalised(nn.Module):
  """A layer with the U-Net's batch statistics: compiled in a second."""

  axis_name: str | None = None

  @nn.compact
  def __call__(self, image, *, train):
    """[B, H, W, 3] -> [B, H, W]."""
    x = nn.Dense(4, param_dtype=image.dtype)(image)
    x = layers.BatchNorm(self.axis_name)(x, train=train)
    return nn.Dense(1, param_dtype=image.dtype)(nn.relu(x))[..., 0]


def _state(model, size=32):
  init = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))
  return state_lib.create(init(np.zeros((1, size, size, 3))), tiny.TX)


def test_loss_and_update_are_their_closed_forms(float64):
  batch = tiny.batch(0)
  model = Pixelwise()
  state = _state(model)
  # Rotations and flips move the pixels of image and mask alike: no sum changes.
  new, metrics = jax.jit(_step(model, random_crop=False))(state, batch, _HYPER)

  known = batch['has_roi']
  mean, deviation = (np.array(v) for v in images.NORMALISATIONS['isic2017'])
  x = (batch['image'][known, 2:34, 2:34] / 255 - mean) / deviation
  y = batch['roi'][known, 2:34, 2:34] / 255
  z = x.sum(-1)
  p = 1 / (1 + np.exp(-z))
  entropy = np.mean(-y * np.log(p) - (1 - y) * np.log1p(-p))
  overlap, total = (p * y).sum(), (p + y).sum()
  np.testing.assert_allclose(metrics['cross_entropy'], entropy, rtol=1e-9)
  np.testing.assert_allclose(metrics['dice_loss'], 1 - 2 * overlap / total, rtol=1e-9)
  np.testing.assert_allclose(metrics['loss'], entropy + 1 - 2 * overlap / total,
                             rtol=1e-9)
  slope = (p - y) / y.size + p * (1 - p) * (2 * overlap / total**2 - 2 * y / total)
  gradient = (slope[..., None] * x).sum((0, 1, 2)) + 0.01 * np.ones(3)
  # Nesterov's first step: the gradient and 0.9 of the momentum, which is the same.
  np.testing.assert_allclose(new.params['kernel'], 1 - 0.1 * 1.9 * gradient, rtol=1e-9)
  assert new.step == 1
  assert new.batch_stats['calls'] == 1


def test_devices_take_the_step_of_the_global_batch(float64):
  shares = 4  # one of which has no annotated image
  batch = tiny.batch(0)
  state = _state(Normalised())
  want = jax.jit(_step(Normalised()))(state, batch, _HYPER)
  split = {name: array.reshape(shares, -1, *array.shape[1:])
           for name, array in batch.items()}
  step = _step(Normalised(parallel.AXIS), parallel.AXIS)
  got = jax.jit(jax.vmap(lambda part: step(state, part, _HYPER),
                         axis_name=parallel.AXIS))(split)
  for one, all_shares in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
    for share in all_shares:
      np.testing.assert_allclose(share, one, rtol=1e-7, atol=1e-11)
  update = parallel.update(step)
  new, metrics = update(parallel.replicated(state), parallel.shard(batch), _HYPER)
  assert metrics.keys() == {'loss', 'cross_entropy', 'dice_loss'}
  for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(want[0]), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-11)


class Spy(nn.Module):
  """Keeps the images it was shown, in place of batch statistics."""

  @nn.compact
  def __call__(self, image, *, train, example_keys=None):
    """The red channel as logits; with keys, what the step of a classifier asks."""
    self.param('unused', nn.initializers.ones, (1,), image.dtype)
    self.variable('batch_stats', 'seen', jnp.zeros, image.shape, image.dtype)
    if train:
      self.put_variable('batch_stats', 'seen', image)
    if example_keys is None:
      return image[..., 0]
    return image.mean((1, 2))[:, :2], {'attention': {}}


def test_augmentation_is_that_of_the_classifiers(float64):
  batch = tiny.batch(0)
  model = Spy()
  state = state_lib.create(
      model.init(jax.random.key(0), np.zeros((8, 32, 32, 3)), train=False), tiny.TX)
  masks, _ = jax.jit(_step(model))(state, batch, _HYPER)
  step = functools.partial(
      step_lib.train_step, model=model, tx=tiny.TX, taps=(), normalisation='isic2017',
      dtype=jnp.dtype('float64'), image_size=32, random_crop=True,
      random_rotation=True, random_flip=True, accumulate_steps=1, axis_name=None)
  classes, _ = jax.jit(step)(state, batch, _HYPER | {
      'focal_gamma': np.float64(2), 'dice_weights': np.zeros(0)})
  np.testing.assert_array_equal(
      masks.batch_stats['seen'], classes.batch_stats['seen'])
  assert np.unique(masks.batch_stats['seen']).size > 1
