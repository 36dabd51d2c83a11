"""Accumulated and rematerialised steps against the plain step of the large batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import images
from attnmel_jax.training import augment
from attnmel_jax.training import losses
from attnmel_jax.training import step as step_lib
from tests.training import on_devices
from tests.training import tiny

# Sums run in another order; nothing else may differ.
_ROUNDING = 1e-12


def _close(got, want, name=''):
  scale = np.abs(want).max()
  np.testing.assert_allclose(got, want, rtol=0, atol=_ROUNDING * scale + 1e-15,
                             err_msg=name)


def _train(name, backbone, *, steps=3, **changed):
  """State and losses of each step, in float64 on one device."""
  step = jax.jit(tiny.step(name, backbone, 'float64', None, **changed))
  state, history = tiny.state(name, backbone, 'float64'), []
  for number in range(steps):
    state, metrics = step(state, tiny.batch(number), tiny.hyper('float64'))
    history.append((state, metrics))
  return history


def _assert_equal(history, expected):
  for got, want in zip(history, expected, strict=True):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got),
                            jax.tree.leaves(want), strict=True):
      _close(a, b, jax.tree_util.keystr(path))


def test_micro_batches_train_like_the_large_batch(float64):
  # With dropout; the micro-batches have two, one and no annotated image.
  expected = _train('small', 'vgg16')
  _assert_equal(_train('small', 'vgg16', accumulate_steps=4), expected)
  _, first = expected[0]
  assert first['dice_loss_pool3'] > 0.1
  assert first['dice_loss_pool4'] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(('backbone', 'changed'), [
    ('vgg16', {'accumulate_steps': 4, 'remat': True}), ('vgg16_bn', {'remat': True})])
def test_real_systems_train_alike(float64, backbone, changed):
  _assert_equal(_train('attnmel_cnn', backbone, steps=2, **changed),
                _train('attnmel_cnn', backbone, steps=2))


def test_a_batch_without_any_annotation_has_no_dice_term(float64):
  step = jax.jit(tiny.step('small', 'vgg16', 'float64', None, accumulate_steps=4))
  batch = tiny.batch(0) | {'has_roi': np.zeros(tiny.BATCH_SIZE, bool)}
  state = tiny.state('small', 'vgg16', 'float64')
  with_dice, metrics = step(state, batch, tiny.hyper('float64'))
  without, _ = step(state, batch, tiny.hyper('float64', dice_weights=(0., 0.)))
  assert metrics['dice_loss_pool3'] == metrics['dice_loss_pool4'] == 0
  jax.tree.map(np.testing.assert_array_equal, with_dice, without)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(with_dice))


@pytest.mark.slow
def test_micro_batches_on_4_devices_train_like_the_large_batch_on_1(tmp_path):
  folders = {n: tmp_path / str(n) for n in (1, 2)}
  for folder in folders.values():
    folder.mkdir()
  whole, = on_devices.train_on([1], ['small', 'vgg16', '3', '1'], folders[1])
  micro, = on_devices.train_on([4], ['small', 'vgg16', '3', '2'], folders[2])
  for key in [key for key in whole if 'dropout' in key]:
    del whole[key]  # the masks of a loop's steps are not seen
  on_devices.assert_alike(micro, whole, rounding=_ROUNDING)


def _micro_batches(count):
  """The cropped batch of step 0 in micro-batches, and their dropout keys."""
  keys = step_lib.example_keys(
      np.uint32(3), np.int32(0), tiny.BATCH_SIZE, None)
  keys = jax.vmap(lambda key: jax.random.split(key)[1])(keys)
  return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]),
                      (_cropped(), keys))


def _cropped():
  batch = tiny.batch(0)
  return batch | {name: batch[name][:, :tiny.SIZE, :tiny.SIZE]
                  for name in ('image', 'roi')}


def test_batch_norm_is_that_of_each_micro_batch(float64):
  # What the opt-in accepts, in a plain loop: the loss of the whole batch over
  # examples that were normalised in micro-batches, statistics one after another.
  model = tiny.model('small', 'vgg16_bn', 'float64', None)
  state = tiny.state('small', 'vgg16_bn', 'float64')
  hyper = tiny.hyper('float64')
  batch, keys = _micro_batches(2)

  def loss(params):
    stats, outputs = state.batch_stats, []
    for k in range(2):
      (logits, out), updated = model.apply(
          {'params': params, 'batch_stats': stats},
          images.normalise(batch['image'][k], 'isic2017', jnp.float64), train=True,
          example_keys=keys[k], mutable=['batch_stats'])
      stats = updated['batch_stats']
      outputs.append((logits, out))
    logits, out = jax.tree.map(lambda *x: jnp.concatenate(x), *outputs)
    targets = {'label': batch['label'].ravel(), 'has_roi': batch['has_roi'].ravel(),
               'roi': batch['roi'].reshape(-1, tiny.SIZE, tiny.SIZE) / 255}
    value, terms = losses.evaluate(losses.classification(tiny.TAPS), logits, out,
                                   targets, hyper, axis_name=None)
    return value, (terms, stats)

  gradients, (terms, stats) = jax.jit(jax.grad(loss, has_aux=True))(state.params)
  step = jax.jit(functools.partial(
      tiny.step('small', 'vgg16_bn', 'float64', None, accumulate_steps=2),
      augmentation=augment.Augmentation(
          random_crop=True, random_rotation=False, random_flip=False)))
  new, metrics = step(state, _cropped(), hyper | {'weight_decay': np.float64(0)})
  got = (metrics, new.batch_stats, new.momentum.trace)
  assert jax.tree.structure(got) == jax.tree.structure((terms, stats, gradients))
  jax.tree.map(_close, got, (terms, stats, gradients))


def _lower(name, backbone, loss=None, **changed):
  step = tiny.step(name, backbone, 'float32', None, **changed)
  step = functools.partial(step, loss=loss) if loss else step
  return jax.jit(step).lower(
      tiny.state(name, backbone, 'float32'), tiny.batch(0), tiny.hyper('float32'))


def _convolutions(lowered):
  return lowered.as_text().count('stablehlo.convolution')


def test_only_what_accumulates_runs_forward_twice():
  # One convolution, and the gradient of its kernel (images have none).
  assert _convolutions(_lower('small', 'vgg16')) == 1 + 1
  two = _lower('small', 'vgg16', accumulate_steps=2)
  assert _convolutions(two) == 2 * 1 + 1
  # A loop: more micro-batches are no more program.
  eight = _lower('small', 'vgg16', accumulate_steps=8)
  assert len(eight.as_text().splitlines()) < 1.05 * len(two.as_text().splitlines())
  # Without gates there is no Dice loss to sum up first.
  gated = losses.classification(tiny.TAPS)
  ungated = gated._replace(parts=lambda logits, out, batch, hyper: gated.parts(
      logits, out | {'attention': {}}, batch, hyper))
  assert _convolutions(_lower(
      'small', 'vgg16', accumulate_steps=2, loss=ungated)) == 1 + 1


@pytest.mark.slow
def test_accumulation_takes_less_memory():
  whole, micro = (
      _lower('vgg16_gap', 'vgg16', accumulate_steps=n).compile().memory_analysis()
      for n in (1, 8))
  assert micro.temp_size_in_bytes < 0.6 * whole.temp_size_in_bytes
