"""Shapes, sizes, precision and randomness of the four classifiers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax.models import classifiers

# Full width, 2 classes; the gates alone have 196,865 and 262,401.
PARAMETERS = {
    ('vgg16', 'vgg16'): 134_268_738,
    ('vgg16', 'vgg16_bn'): 134_277_186,
    ('vgg16_gap', 'vgg16'): 14_715_714,
    ('vgg16_gap', 'vgg16_bn'): 14_724_162,
    ('mel_cnn', 'vgg16'): 14_717_250,
    ('mel_cnn', 'vgg16_bn'): 14_725_698,
    ('attnmel_cnn', 'vgg16'): 15_176_516,
    ('attnmel_cnn', 'vgg16_bn'): 15_184_964,
}


def _create(name, **changes):
  return classifiers.create(name, **{
      'num_classes': 2, 'backbone': 'vgg16', 'width': 1 / 8,
      'taps': ('pool3', 'pool4'), 'gate_width': 8, 'gate_norm': 'sigmoid',
      'dropout_rate': .5, 'dtype': 'float32', 'axis_name': None, 'remat': False,
      **changes})


def _shapes(model, size, batch=1):
  images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
  return jax.eval_shape(
      functools.partial(model.init_with_output, train=False), jax.random.key(0), images)


def _variables(model):
  """He-normal kernels and no biases, faster than an initialisation."""
  random = np.random.default_rng(0)
  _, shapes = _shapes(model, 32)

  def fill(path, leaf):
    if path[-1].key == 'kernel':
      fan_in = np.prod(leaf.shape[:-1])
      return jnp.asarray(random.normal(0, (2 / fan_in) ** .5, leaf.shape), leaf.dtype)
    return jnp.full(leaf.shape, path[-1].key in ('scale', 'var'), leaf.dtype)

  return jax.tree.map_with_path(fill, shapes)


def _count(tree):
  return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


def test_table_of_parameters_covers_every_model():
  assert set(PARAMETERS) == {(name, backbone) for name in config_lib.CLASSIFIERS
                             for backbone in config_lib.BACKBONES}


@pytest.mark.parametrize(('name', 'backbone'), PARAMETERS)
def test_number_of_parameters(name, backbone):
  model = _create(name, backbone=backbone, width=1, gate_width=256)
  _, variables = _shapes(model, 224)
  assert _count(variables['params']) == PARAMETERS[name, backbone]
  if name == 'attnmel_cnn':
    assert _count(variables['params']['gate_pool3']) == 196_865
    assert _count(variables['params']['gate_pool4']) == 262_401


@pytest.mark.parametrize('name', config_lib.CLASSIFIERS)
@pytest.mark.parametrize('size', [64, 96, 224])
def test_outputs_at_every_size(name, size):
  (logits, out), _ = _shapes(_create(name, num_classes=7), size, batch=3)
  assert logits.shape == (3, 7)
  assert set(out['features']) == {'pool1', 'pool2', 'pool3', 'pool4', 'pool5'}
  shapes = {tap: attention.shape for tap, attention in out['attention'].items()}
  gated = {'pool3': (3, size // 8, size // 8), 'pool4': (3, size // 16, size // 16)}
  assert shapes == (gated if name == 'attnmel_cnn' else {})


@pytest.mark.parametrize('taps', [
    ('pool1',), ('pool4', 'pool2'), ('pool1', 'pool2', 'pool3', 'pool4')])
def test_any_taps(taps):
  for name in ('mel_cnn', 'attnmel_cnn'):
    (_, out), variables = _shapes(_create(name, width=1, taps=taps), 64)
    channels = {'pool1': 64, 'pool2': 128, 'pool3': 256, 'pool4': 512}
    assert variables['params']['classifier']['kernel'].shape == (
        512 + sum(channels[tap] for tap in taps), 2)
    assert set(out['attention']) == set(taps if name == 'attnmel_cnn' else ())


def test_head_is_pool5_then_the_taps_in_their_order(getkey):
  images = jax.random.normal(getkey(), (2, 32, 32, 3))
  model = _create('mel_cnn', taps=('pool4', 'pool2'))
  variables = _variables(model)
  logits, out = model.apply(variables, images, train=False)
  vector = np.concatenate([np.asarray(out['features'][name]).mean((1, 2))
                           for name in ('pool5', 'pool4', 'pool2')], axis=1)
  classifier = variables['params']['classifier']
  np.testing.assert_allclose(logits, vector @ classifier['kernel'], rtol=1e-3)


def test_first_values_of_the_dense_layers(getkey):
  model = _create('vgg16', width=1 / 64)
  images = jnp.zeros((1, 32, 32, 3))

  @jax.jit  # what is not returned is not computed
  def initialise(key):
    params = model.init(key, images, train=False)['params']
    return {name: params[name] for name in ('fc1', 'fc2', 'classifier')}

  params = initialise(getkey())
  for name, layer in params.items():
    assert float(layer['kernel'].std()) == pytest.approx(.01, rel=.25), name
    assert not layer['bias'].any()


def test_softmax_attention_sums_to_one(getkey):
  images = jax.random.normal(getkey(), (2, 32, 32, 3))
  model = _create('attnmel_cnn', gate_norm='softmax')
  _, out = model.apply(_variables(model), images, train=False)
  for attention in out['attention'].values():
    np.testing.assert_allclose(attention.sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.slow
def test_bfloat16_stays_close_and_returns_float32(getkey):
  images = jax.random.normal(getkey(), (2, 32, 32, 3))
  model = _create('attnmel_cnn', backbone='vgg16_bn')
  variables = _variables(model)
  want, _ = model.apply(variables, images, train=False)
  got, out = _create('attnmel_cnn', backbone='vgg16_bn', dtype='bfloat16').apply(
      variables, images, train=False)
  assert got.dtype == out['attention']['pool3'].dtype == jnp.float32
  assert out['features']['pool5'].dtype == jnp.bfloat16
  np.testing.assert_allclose(got, want, atol=.05 * float(abs(want).max()))


def test_float64_throughout(float64):
  model = _create('attnmel_cnn', backbone='vgg16_bn', dtype='float64')
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float64)
  (logits, out), variables = jax.eval_shape(
      functools.partial(model.init_with_output, train=False), jax.random.key(0), images)
  for leaf in jax.tree.leaves((logits, out, variables)):
    assert leaf.dtype == jnp.float64


def test_dropout_of_an_example_is_its_own(getkey):
  images = jax.random.normal(getkey(), (2, 32, 32, 3))
  model = _create('vgg16', backbone='vgg16', dropout_rate=.5)
  variables = _variables(model)
  keys = jax.random.split(getkey(), 2)
  apply = functools.partial(model.apply, variables, train=True)
  together, _ = apply(images, example_keys=keys)
  swapped, _ = apply(images[::-1], example_keys=keys[::-1])
  np.testing.assert_allclose(swapped, together[::-1], rtol=1e-4)
  other, _ = apply(images, example_keys=jax.random.split(getkey(), 2))
  plain, _ = model.apply(variables, images, train=False)
  assert abs(other - together).max() > 1e-3 * abs(together).max()
  assert abs(plain - together).max() > 1e-3 * abs(together).max()
  with pytest.raises(ValueError, match='example_keys'):
    apply(images)


def test_dropout_rate_scale_and_layers(getkey):
  keys = jax.random.split(getkey(), 8)
  drop = functools.partial(classifiers.dropout, jnp.ones((8, 5000)), keys, rate=.25)
  dropped = drop(layer=1)
  assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / .75)}
  assert float((dropped == 0).mean()) == pytest.approx(.25, abs=.01)
  alone = classifiers.dropout(jnp.ones((1, 5000)), keys[5:6], rate=.25, layer=1)
  np.testing.assert_array_equal(alone[0], dropped[5])
  # Layers and examples draw independently: 2 * .25 * .75 of the units differ.
  assert float((dropped != drop(layer=2)).mean()) == pytest.approx(.375, abs=.02)
  assert float((dropped[0] != dropped[1]).mean()) == pytest.approx(.375, abs=.03)


@pytest.mark.parametrize('change', [
    {'backbone': 'resnet'}, {'taps': ('pool3', 'pool5')}, {'gate_norm': 'tanh'},
    {'dtype': 'float16'}])
def test_unknown_names(change):
  (field, value), = change.items()
  with pytest.raises(errors.UserError, match=f'{field}=.* is unknown; choose one of'):
    _create('attnmel_cnn', **{field: value})


def test_dense_head_is_vggs(two_blocks):
  with pytest.raises(errors.UserError, match="backbone='two_blocks' does not have"):
    _create('vgg16', backbone='two_blocks')


def test_unknown_model():
  with pytest.raises(errors.UserError, match="model='vgg19' is unknown"):
    _create('vgg19')
