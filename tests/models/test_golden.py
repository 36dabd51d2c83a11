"""Parity with PyTorch, by arrays that make_golden.py made."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import config as config_lib
from attnmel_jax.models import classifiers
from attnmel_jax.training import losses
from tests.models import golden_inputs as inputs

FOLDER = pathlib.Path(__file__).parent / 'golden'
SYSTEMS = [(model, backbone) for model in config_lib.CLASSIFIERS
           for backbone in inputs.CONVOLUTIONS]
FAST = [('vgg16', 'vgg16'), ('attnmel_cnn', 'vgg16_bn')]  # all layers occur
CONVOLUTION_NAMES = ('1_1', '1_2', '2_1', '2_2', '3_1', '3_2', '3_3', '4_1', '4_2',
                     '4_3', '5_1', '5_2', '5_3')
# torch's kinds of arrays -> ours.
KINDS = {'weight': ('params', 'kernel'), 'bias': ('params', 'bias'),
         'running_mean': ('batch_stats', 'mean'),
         'running_var': ('batch_stats', 'var')}


def _path(name, backbone):
  """torch's name -> path in our variables, by a table of its own."""
  layer, _, kind = name.rpartition('.')
  collection, leaf = KINDS[kind]
  if layer.startswith('features.'):
    index = int(layer.removeprefix('features.'))
    convolutions = inputs.CONVOLUTIONS[backbone]
    if index in convolutions:
      ours = ('backbone', f'conv{CONVOLUTION_NAMES[convolutions.index(index)]}')
    else:
      ours = ('backbone', f'bn{CONVOLUTION_NAMES[convolutions.index(index - 1)]}')
      leaf = 'scale' if kind == 'weight' else leaf
  else:
    ours = {'classifier.0': ('fc1',), 'classifier.3': ('fc2',),
            'head': ('classifier',)}.get(layer) or tuple(layer.split('.'))
  return (collection, *ours, leaf)


def _to_flax(array, path):
  if path[-1] != 'kernel':
    return array
  if path[1] == 'backbone':
    return array.transpose(2, 3, 1, 0)
  return array.reshape(array.shape[0], -1).T  # dense, or a 1x1 convolution


def _to_torch(array, path):
  """Inverse of _to_flax, but for trailing 1x1 axes."""
  if path[-1] != 'kernel':
    return array
  return array.transpose(3, 2, 0, 1) if path[1] == 'backbone' else array.T


def _variables(weights, backbone, dtype):
  tree = {}
  for name, array in weights.items():
    *parents, leaf = path = _path(name, backbone)
    node = tree
    for key in parents:
      node = node.setdefault(key, {})
    node[leaf] = jnp.asarray(_to_flax(array, path), dtype)
  return tree


def _model(model, backbone, dtype):
  return classifiers.create(
      model, num_classes=inputs.NUM_CLASSES, backbone=backbone, width=inputs.WIDTH,
      taps=('pool3', 'pool4'), gate_width=inputs.GATE_WIDTH, gate_norm='sigmoid',
      dropout_rate=0., dtype=dtype, axis_name=None, remat=False)


def _close(got, want, tolerance):
  """Within `tolerance` of the largest magnitude of `want`."""
  np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * abs(want).max())


@pytest.mark.parametrize(('model', 'backbone'), [
    pytest.param(*system, marks=() if system in FAST else pytest.mark.slow)
    for system in SYSTEMS])
def test_logits_and_maps_in_float32(model, backbone):
  golden = np.load(FOLDER / f'{model}-{backbone}.npz')
  variables = _variables(inputs.weights(model, backbone), backbone, jnp.float32)
  images = jnp.asarray(inputs.batch()['images'], jnp.float32)
  logits, out = jax.jit(functools.partial(
      _model(model, backbone, 'float32').apply, train=False))(variables, images)
  _close(logits, golden['logits'], 1e-4)
  assert set(out['attention']) == set(golden) & {'pool3', 'pool4'}
  for tap, attention in out['attention'].items():
    np.testing.assert_allclose(attention, golden[tap], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'backbone'), SYSTEMS)
def test_loss_and_gradients_in_float64(model, backbone, float64):
  golden = np.load(FOLDER / f'{model}-{backbone}.npz')
  weights = inputs.weights(model, backbone)
  variables = _variables(weights, backbone, jnp.float64)
  batch = inputs.batch()
  network = _model(model, backbone, 'float64')

  def loss(params):
    (logits, out), updates = network.apply(
        {**variables, 'params': params}, jnp.asarray(batch['images']), train=True,
        mutable=['batch_stats'])
    value, _ = losses.evaluate(
        losses.classification(tuple(inputs.DICE_WEIGHTS)), logits, out,
        {'label': batch['labels'], 'roi': jnp.asarray(batch['roi']),
         'has_roi': batch['has_roi']},
        {'focal_gamma': inputs.GAMMA,
         'dice_weights': tuple(inputs.DICE_WEIGHTS.values())}, axis_name=None)
    return value, updates

  (value, updates), gradients = jax.value_and_grad(loss, has_aux=True)(
      variables['params'])
  np.testing.assert_allclose(value, golden['loss'], rtol=1e-6)
  start = 0
  names = sorted(name for name in weights if 'running' not in name)
  # Normalisation takes away what a bias adds: the gradient is rounding alone.
  centred = {f'features.{index}.bias' for index in inputs.CONVOLUTIONS['vgg16_bn']
             if backbone == 'vgg16_bn'}
  for i, name in enumerate(names):
    path = _path(name, backbone)
    gradient = gradients
    for key in path[1:]:
      gradient = gradient[key]
    gradient = _to_torch(np.asarray(gradient), path)
    sample, largest = inputs.sample(gradient), golden['largest'][i]
    if name in centred:
      assert max(abs(gradient).max(), largest) < 1e-12, name
      start += sample.size
      continue
    np.testing.assert_allclose(
        sample, golden['sample'][start:start + sample.size], rtol=0,
        atol=1e-4 * largest, err_msg=name)
    np.testing.assert_allclose(abs(gradient).max(), largest, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(
        np.linalg.norm(gradient), golden['norm'][i], rtol=1e-4, err_msg=name)
    start += sample.size
  assert start == golden['sample'].size
  if backbone == 'vgg16_bn':
    _check_running_averages(
        updates['batch_stats']['backbone']['bn5_3'], golden, weights)


def _check_running_averages(stats, golden, weights):
  _close(stats['mean'], golden['running_mean'], 1e-6)
  # Of the variance torch averages the unbiased estimate, flax the biased one.
  positions = 3 * 4 * 6
  old = .9 * weights['features.41.running_var']
  biased = (golden['running_var'] - old) * (positions - 1) / positions
  _close(stats['var'], old + biased, 1e-6)
