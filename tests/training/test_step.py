"""The whole step: over devices, over dtypes, over platforms, compiled once."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from attnmel_jax import images
from attnmel_jax import parallel
from attnmel_jax.training import augment
from attnmel_jax.training import checkpoint
from attnmel_jax.training import losses
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import step as step_lib
from tests.training import on_devices
from tests.training import tiny


def _assert_all_train_alike(layouts, name, backbone, folder):
  one, *others = on_devices.train_on(layouts, [name, backbone, '20', '1'], folder)
  for other in others:
    # Twenty steps make what rounding leaves of a step, 1e-15, some 1e-11.
    on_devices.assert_alike(other, one, rounding=1e-9)
    # The same parameters: no step lies between.
    on_devices.assert_alike(*(
        {key: value for key, value in result.items() if key.startswith('prediction')}
        for result in (other, one)), rounding=1e-12)
  _assert_much_happened(name, one)


def _assert_much_happened(name, one):
  """What was compared is all that the step draws and finds, and no constants."""
  losses = {'small': 4, 'attnmel_cnn': 4, 'vgg16': 2}[name]
  masks = {'small': 1, 'attnmel_cnn': 0, 'vgg16': 2}[name]
  for number in range(20):
    step = {key: value for key, value in one.items()
            if key.startswith(f'step {number}[')}
    found = [value for key, value in step.items() if 'loss' in key]
    assert len(found) == losses and max(found) < 10  # it does not diverge
    dropped = [value for key, value in step.items() if 'dropout' in key]
    assert len(dropped) == masks
    assert all(len({row.tobytes() for row in mask}) > 2 for mask in dropped)
    assert any('batch_stats' in key for key in step) == (name != 'vgg16')
    assert any('gradients' in key for key in step) == (number in (0, 5, 10, 15, 19))
    augmented = step[f"step {number}['augmented image']"]
    assert augmented.shape == (8, tiny.SIZE, tiny.SIZE, 3)
  assert one["step 0['loss']"] != one["step 19['loss']"]
  assert one["prediction['index']"].tolist() == list(range(19))
  assert len(set(one["prediction['probabilities']"][:, 0])) == 19


@pytest.mark.slow
def test_1_and_4_devices_train_and_predict_alike(tmp_path):
  _assert_all_train_alike([1, 4], 'small', '', tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize(('name', 'backbone'), [
    ('small', ''), ('attnmel_cnn', 'vgg16_bn'), ('vgg16', 'vgg16')])
def test_any_number_of_devices_trains_and_predicts_alike(tmp_path, name, backbone):
  # The last are two processes of two devices.
  _assert_all_train_alike([1, 2, 4, 8, (2, 2)], name, backbone, tmp_path)


@pytest.mark.parametrize(('name', 'backbone', 'dtype'), [
    ('attnmel_cnn', 'two_blocks_bn', 'float32'), ('vgg16', 'vgg16', 'bfloat16'),
    ('attnmel_cnn', 'two_blocks_bn', 'float64'),
    ('attnmel_cnn', 'two_blocks_bn', 'bfloat16')])
def test_a_step_keeps_all_shapes_and_types(two_blocks, name, backbone, dtype):
  with jax.enable_x64(dtype == 'float64'):
    computed = 'float32' if dtype == 'bfloat16' else dtype
    state = tiny.state(name, backbone, dtype)
    step = tiny.step(name, backbone, dtype, axis_name=None)
    new, metrics = jax.eval_shape(step, state, tiny.batch(0), tiny.hyper(computed))
  assert jax.tree.structure(new) == jax.tree.structure(state)
  for after, before in zip(jax.tree.leaves(new), jax.tree.leaves(state), strict=True):
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert not after.weak_type
  terms = {'loss', 'focal_loss'}
  if name == 'attnmel_cnn':
    terms |= {'dice_loss_pool3', 'dice_loss_pool4'}
  assert metrics.keys() == terms
  assert {m.dtype for m in metrics.values()} == {np.dtype(computed)}


@pytest.mark.parametrize(('name', 'backbone'), [
    pytest.param('attnmel_cnn', 'vgg16', marks=pytest.mark.slow),
    ('small', 'vgg16_bn')])
def test_a_bfloat16_step_stays_close_to_float32(name, backbone):
  """The loss within 1 %, the gradient within 15 % of its length."""
  found = {}
  for dtype in ('float32', 'bfloat16'):
    state = tiny.state(name, backbone, dtype)
    step = jax.jit(tiny.step(name, backbone, dtype, axis_name=None))
    state, metrics = step(state, tiny.batch(0), tiny.hyper('float32', weight_decay=0.))
    # After the first step the momentum is the gradient.
    gradient = [np.ravel(leaf) for leaf in jax.tree.leaves(state.momentum)]
    found[dtype] = np.concatenate(gradient), metrics
  (exact, metrics), (rounded, rounded_metrics) = found['float32'], found['bfloat16']
  assert rounded_metrics['loss'] != metrics['loss']  # it did compute in another type
  for term, value in metrics.items():
    np.testing.assert_allclose(rounded_metrics[term], value, rtol=0.01, err_msg=term)
  assert np.linalg.norm(rounded - exact) < 0.15 * np.linalg.norm(exact)


def test_the_step_compiles_once(tmp_path):
  """Over batches, numbers, a fresh state and a restored one."""
  update = parallel.update(tiny.step('small', '', 'float32'))
  compilations = []

  def step(number, state, **changed):
    before = len(events)
    state, _ = update(state, parallel.shard(tiny.batch(number)),
                      tiny.hyper('float32', **changed))
    compilations.append(len(events) - before)
    return state

  events = []
  listen = lambda name, seconds, **kw: events.append(  # noqa: E731
      name) if name.endswith('backend_compile_duration') else None
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    fresh = [parallel.replicated(tiny.state('small', '', 'float32')) for _ in range(2)]
    state = step(0, fresh[0])
    state = step(1, state, learning_rate=0.1, weight_decay=0., focal_gamma=0.)
    state = step(2, state, dice_weights=(0., 7.), seed=2**32 - 1)
    with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
      checkpoints.save_latest(state, {})
      state, _ = checkpoints.restore_latest(fresh[1])
    step(3, step(3, state))
    step(4, fresh[1])
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert compilations[0] > 0
  assert compilations[1:] == [0] * 5


def test_the_step_lowers_for_all_platforms(two_blocks):
  mesh = Mesh(np.array(jax.local_devices()[:1]), (parallel.AXIS,))
  whole, split = PartitionSpec(), PartitionSpec(parallel.AXIS)
  # check_vma=False: gradients as under pmap, whose mean the step takes.
  step = jax.jit(jax.shard_map(
      tiny.step('attnmel_cnn', 'two_blocks_bn', 'float32'), mesh=mesh,
      in_specs=(whole, split, whole), out_specs=(whole, whole), check_vma=False))
  state = tiny.state('attnmel_cnn', 'two_blocks_bn', 'float32')
  exported = jax.export.export(step, platforms=('cpu', 'cuda', 'tpu'))(
      state, tiny.batch(0), tiny.hyper('float32'))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  assert len(exported.out_avals) == len(jax.tree.leaves(state)) + 4


def test_keys_depend_on_seed_step_and_global_position():
  keys = jax.jit(step_lib.example_keys, static_argnums=(2, 3))
  whole = jax.random.key_data(keys(np.uint32(1), np.int32(5), 8, None))
  assert len({k.tobytes() for k in np.asarray(whole)}) == 8
  shares = jax.vmap(
      lambda _: jax.random.key_data(
          step_lib.example_keys(np.uint32(1), np.int32(5), 2, 'devices')),
      axis_name='devices')(np.arange(4))
  np.testing.assert_array_equal(shares.reshape(whole.shape), whole)
  for seed, step in ((2, 5), (1, 6), (2**32 - 1, 5)):
    other = jax.random.key_data(keys(np.uint32(seed), np.int32(step), 8, None))
    assert not (np.asarray(other) == whole).all(axis=1).any()


class Mirror(nn.Module):
  """Shows the red channel it is given, in [0, 1], as both attention maps."""

  normalisation: str

  @nn.compact
  def __call__(self, image, *, train, example_keys=None):
    """Logits are a dense layer over the mean of the image."""
    mean, deviation = images.NORMALISATIONS[self.normalisation]
    red = image[..., 0] * deviation[0] + mean[0]
    maps = {'pool3': images.block_mean(red, (4, 4)),
            'pool4': images.block_mean(red, (2, 2))}
    return nn.Dense(2, kernel_init=nn.initializers.normal(1))(image.mean((1, 2))), {
        'attention': maps}


def _step(model, loss, input, axis_name=None, *, random_crop=False):
  return functools.partial(
      step_lib.train_step, model=model, loss=loss, tx=tiny.TX, input=input,
      augmentation=augment.Augmentation(
          random_crop=random_crop, random_rotation=True, random_flip=True),
      accumulate_steps=1, axis_name=axis_name)


def test_image_and_map_reach_the_loss_as_the_config_says():
  """The loss by hand, for an image whose red channel is its own region."""
  batch = tiny.batch(0)
  batch['image'][..., 0] = batch['roi']
  batch['has_roi'][:] = True
  model = Mirror('imagenet')
  state = state_lib.create(
      model.init(jax.random.key(0), np.zeros((1, 32, 32, 3)), train=False), tiny.TX)
  step = _step(model, losses.classification(tiny.TAPS),
               images.Input(32, 'imagenet', np.dtype('float32')))
  _, metrics = jax.jit(step)(state, batch, tiny.hyper('float32'))

  crop = batch['image'][:, 2:34, 2:34] / 255.0
  for tap, side in (('pool3', 4), ('pool4', 2)):
    # Dice of a map with itself, whatever the rotation: sum a^2 over sum a.
    blocks = crop[..., 0].reshape(8, side, 32 // side, side, 32 // side).mean((2, 4))
    np.testing.assert_allclose(
        metrics[f'dice_loss_{tap}'], 1 - (blocks**2).sum() / blocks.sum(), rtol=1e-5)
  mean, deviation = (np.array(v) for v in images.NORMALISATIONS['imagenet'])
  dense = state.params['Dense_0']
  logits = ((crop - mean) / deviation).mean((1, 2)) @ np.asarray(dense['kernel'])
  margin = np.where(batch['label'] == 1, 1, -1) * (logits[:, 1] - logits[:, 0])
  p = 1 / (1 + np.exp(-margin))
  np.testing.assert_allclose(
      metrics['focal_loss'], np.mean(-(1 - p)**2 * np.log(p)), rtol=1e-4)


class Pixelwise(nn.Module):
  """As the U-Net: the logit of a pixel is linear in its normalised colours."""

  @nn.compact
  def __call__(self, image, *, train, example_keys=None):
    """[B, H, W, 3] -> [B, H, W]; counts its calls where BatchNorm would average."""
    calls = self.variable('batch_stats', 'calls', jnp.zeros, (), image.dtype)
    if train:
      calls.value = calls.value + 1
    kernel = self.param('kernel', nn.initializers.ones, (3,), image.dtype)
    return image @ kernel, {}


def test_loss_and_update_of_a_segmentation_are_their_closed_forms(float64):
  batch = tiny.batch(0)
  model = Pixelwise()
  state = state_lib.create(
      model.init(jax.random.key(0), np.zeros((1, 32, 32, 3)), train=False), tiny.TX)
  hyper = {'learning_rate': 0.1, 'weight_decay': 0.01, 'seed': np.uint32(3)}
  # Rotations and flips move the pixels of image and mask alike: no sum changes.
  step = _step(model, losses.SEGMENTATION, tiny.input_of('float64'))
  new, metrics = jax.jit(step)(state, batch, hyper)

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
  slope = (p - y) / y.size + p * (1 - p) * (2 * overlap / total**2 - 2 * y / total)
  gradient = (slope[..., None] * x).sum((0, 1, 2)) + 0.01 * np.ones(3)
  # Nesterov's first step: the gradient and 0.9 of the momentum, which is the same.
  np.testing.assert_allclose(new.params['kernel'], 1 - 0.1 * 1.9 * gradient, rtol=1e-9)
  assert new.step == 1
  assert new.batch_stats['calls'] == 1


def test_devices_take_the_step_of_the_global_batch(float64):
  """4 of them, of which one has no annotated image, crops included."""
  batch, state = tiny.batch(0), tiny.state('small', '', 'float64')
  hyper = tiny.hyper('float64')
  want = jax.jit(tiny.step('small', '', 'float64', None))(state, batch, hyper)
  step = tiny.step('small', '', 'float64')
  got = jax.jit(jax.vmap(lambda part: step(state, part, hyper),
                         axis_name=parallel.AXIS))(jax.tree.map(
                             lambda x: x.reshape(4, 2, *x.shape[1:]), batch))
  for one, shares in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
    for share in shares:
      np.testing.assert_allclose(share, one, rtol=1e-7, atol=1e-11)
