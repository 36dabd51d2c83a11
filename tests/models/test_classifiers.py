"""Shapes, sizes, precision and randomness of the four classifiers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax.models import backbones
from attnmel_jax.models import classifiers

# Full width, 2 classes; the gates of VGG-16 alone have 196,865 and 262,401.
PARAMETERS = {
    ('vgg16', 'vgg16'): 134_268_738,
    ('vgg16', 'vgg16_bn'): 134_277_186,
    ('vgg16_gap', 'vgg16'): 14_715_714,
    ('vgg16_gap', 'vgg16_bn'): 14_724_162,
    ('mel_cnn', 'vgg16'): 14_717_250,
    ('mel_cnn', 'vgg16_bn'): 14_725_698,
    ('attnmel_cnn', 'vgg16'): 15_176_516,
    ('attnmel_cnn', 'vgg16_bn'): 15_184_964,
    # Counted with timm, but for gates and classifier.
    ('vgg16_gap', 'efficientnet_lite0'): 3_373_570,
    ('mel_cnn', 'efficientnet_lite0'): 3_373_874,
    ('attnmel_cnn', 'efficientnet_lite0'): 4_068_660,
    ('vgg16_gap', 'resnet50'): 23_512_130,
    ('mel_cnn', 'resnet50'): 23_515_202,
    ('attnmel_cnn', 'resnet50'): 24_957_508,
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
  assert set(PARAMETERS) == {
      (name, backbone) for name in config_lib.CLASSIFIERS
      for backbone in config_lib.BACKBONES
      if name != 'vgg16' or backbones.find(backbone).dense_layers}


def test_number_of_parameters():
  for (name, backbone), expected in PARAMETERS.items():
    model = _create(name, backbone=backbone, width=1, gate_width=256)
    (logits, out), variables = _shapes(model, 224, batch=3)
    assert _count(variables['params']) == expected, (name, backbone)
    assert logits.shape == (3, 2)
    assert set(out['features']) == {'pool1', 'pool2', 'pool3', 'pool4', 'pool5'}
    assert {tap: attention.shape for tap, attention in out['attention'].items()} == (
        {'pool3': (3, 28, 28), 'pool4': (3, 14, 14)} if name == 'attnmel_cnn' else {})
    if name == 'attnmel_cnn' and backbone.startswith('vgg16'):
      assert _count(variables['params']['gate_pool3']) == 196_865
      assert _count(variables['params']['gate_pool4']) == 262_401


def test_any_taps():
  channels = {'pool1': 64, 'pool2': 128, 'pool3': 256, 'pool4': 512}
  for taps in (('pool1',), ('pool4', 'pool2', 'pool3')):
    for name in ('mel_cnn', 'attnmel_cnn'):
      (_, out), variables = _shapes(_create(name, width=1, taps=taps), 64)
      assert variables['params']['classifier']['kernel'].shape == (
          512 + sum(channels[tap] for tap in taps), 2)
      assert set(out['attention']) == set(taps if name == 'attnmel_cnn' else ())


def test_head_is_pool5_then_the_taps_in_their_order():
  images = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
  model = _create('attnmel_cnn', taps=('pool4', 'pool2'), gate_norm='softmax')
  variables = _variables(model)
  logits, out = jax.jit(functools.partial(model.apply, train=False))(variables, images)
  features = jax.tree.map(np.asarray, out['features'])
  vectors = [features['pool5'].mean((1, 2))]
  for tap in ('pool4', 'pool2'):
    attention = np.asarray(out['attention'][tap])
    np.testing.assert_allclose(attention.sum((1, 2)), 1, rtol=1e-5)
    vectors.append((attention[..., None] * features[tap]).sum((1, 2)))
  classifier = variables['params']['classifier']
  np.testing.assert_allclose(
      logits, np.concatenate(vectors, axis=1) @ classifier['kernel'], rtol=1e-3)


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


def test_float64_throughout(float64):
  model = _create('attnmel_cnn', backbone='vgg16_bn', dtype='float64')
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float64)
  (logits, out), variables = jax.eval_shape(
      functools.partial(model.init_with_output, train=False), jax.random.key(0), images)
  for leaf in jax.tree.leaves((logits, out, variables)):
    assert leaf.dtype == jnp.float64


def test_dropout_of_an_example_is_its_own(getkey):
  images = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
  model = _create('vgg16', dropout_rate=.5, width=1 / 64)
  variables = _variables(model)
  keys, others = (jax.random.split(getkey(), 2) for _ in range(2))
  apply = jax.jit(lambda images, keys: model.apply(
      variables, images, train=True, example_keys=keys)[0])
  together, swapped, other = (
      np.asarray(apply(*arguments)) for arguments in (
          (images, keys), (images[::-1], keys[::-1]), (images, others)))
  np.testing.assert_allclose(swapped, together[::-1], rtol=1e-4)
  assert abs(other - together).max() > 1e-3 * abs(together).max()
  with pytest.raises(ValueError, match='example_keys'):
    jax.eval_shape(lambda: model.apply(variables, images, train=True))


def test_dropout_rate_scale_and_layers(getkey):
  keys = jax.random.split(getkey(), 8)
  compiled = jax.jit(functools.partial(classifiers.dropout, rate=.25))
  ones = np.ones((8, 5000), np.float32)
  dropped, second = (np.asarray(compiled(ones, keys, layer=layer)) for layer in (1, 2))
  assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / .75)}
  assert float((dropped == 0).mean()) == pytest.approx(.25, abs=.01)
  alone = np.asarray(compiled(ones, keys[::-1], layer=1))
  np.testing.assert_array_equal(alone[2], dropped[5])
  # Layers and examples draw independently: 2 * .25 * .75 of the units differ.
  assert float((dropped != second).mean()) == pytest.approx(.375, abs=.02)
  assert float((dropped[0] != dropped[1]).mean()) == pytest.approx(.375, abs=.03)


def test_unknown_names(two_blocks):
  for name, field, value in (
      ('attnmel_cnn', 'backbone', 'resnet'), ('attnmel_cnn', 'gate_norm', 'tanh'),
      ('attnmel_cnn', 'dtype', 'float16'),
      ('attnmel_cnn', 'taps', ('pool3', 'pool5'))):
    with pytest.raises(errors.UserError,
                       match=f'{field}=.* is unknown; choose one of'):
      _create(name, **{field: value})
  with pytest.raises(errors.UserError, match="model='vgg19' is unknown"):
    _create('vgg19')
  with pytest.raises(errors.UserError, match="backbone='two_blocks' does not have"):
    _create('vgg16', backbone='two_blocks')
