"""Names and axes in files for other programs, and the way back."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import config as config_lib
from attnmel_jax.models import backbones
from attnmel_jax.models import classifiers
from attnmel_jax.models import pretrained
from attnmel_jax.models import torch_names

pytestmark = pytest.mark.usefixtures('two_blocks')


def _variables(name, backbone):
  """Random positive numbers in the shape of a slim classifier's variables."""
  model = classifiers.create(
      name, num_classes=3, backbone=backbone, width=1 / 16, taps=('pool3', 'pool4'),
      gate_width=8, gate_norm='sigmoid', dropout_rate=0.5, dtype='float32',
      axis_name=None, remat=False)
  shapes = jax.eval_shape(lambda key: model.init(
      key, jnp.zeros((1, 32, 32, 3)), train=False), jax.random.key(0))
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda leaf: jnp.asarray(rng.uniform(0.1, 1, leaf.shape), leaf.dtype), shapes)


def test_all_variables_come_back():
  for backbone in config_lib.BACKBONES:
    dense = ['vgg16'] if backbones.find(backbone).dense_layers else []
    for name in ('vgg16_gap', 'attnmel_cnn', *dense):
      variables = _variables(name, backbone)
      tensors = torch_names.to_torch(variables, backbone)
      assert all(tensor.flags.c_contiguous for tensor in tensors.values())
      shapes = jax.eval_shape(lambda variables=variables: variables)
      jax.tree.map(np.testing.assert_array_equal,
                   torch_names.from_torch(tensors, shapes, backbone), variables)


def test_pretrained_reads_them():
  for name, backbone in (('vgg16', 'vgg16_bn'), ('attnmel_cnn', 'two_blocks_bn')):
    variables = _variables(name, backbone)
    read, report = pretrained.apply_weights(
        jax.tree.map(np.zeros_like, variables),
        torch_names.to_torch(variables, backbone), backbone=backbone)
    for collection in ('params', 'batch_stats'):
      jax.tree.map(np.testing.assert_array_equal, read[collection]['backbone'],
                   variables[collection]['backbone'])
    if name == 'vgg16':
      assert report.dropped == ('classifier.6',)
      jax.tree.map(np.testing.assert_array_equal, read['params']['fc1'],
                   variables['params']['fc1'])
    else:
      assert 'gate_pool3.feature' in report.dropped
      assert not read['params']['classifier']['kernel'].any()


def test_names_and_axes_are_pytorchs():
  variables = _variables('attnmel_cnn', 'vgg16_bn')
  flat = flax.traverse_util.flatten_dict(variables['params'], sep='/')
  tensors = torch_names.to_torch(variables, 'vgg16_bn')
  # torchvision's vgg16_bn: convolution, normalisation, ReLU; the third is number 7.
  assert tensors['features.7.weight'].shape == (8, 4, 3, 3)
  assert tensors['features.7.weight'][5, 1, 0, 2] == (
      flat['backbone/conv2_1/kernel'][0, 2, 1, 5])
  np.testing.assert_array_equal(
      tensors['features.8.running_var'],
      variables['batch_stats']['backbone']['bn2_1']['var'])
  assert tensors['gate_pool3.guidance.weight'].shape == (8, 32, 1, 1)
  assert tensors['gate_pool3.guidance.weight'][3, 7, 0, 0] == (
      flat['gate_pool3/guidance/kernel'][7, 3])
  assert tensors['gate_pool4.response.bias'].shape == (1,)
  assert tensors['classifier.weight'].shape == (3, 32 + 16 + 32)
  assert 'classifier.6.weight' in torch_names.to_torch(
      _variables('vgg16', 'vgg16'), 'vgg16')


def test_tensors_that_do_not_fit_raise():
  variables = _variables('mel_cnn', 'two_blocks')
  tensors = torch_names.to_torch(variables, 'two_blocks')
  for changes, message in (({'fc9.weight': np.zeros(1)}, "'fc9.weight'"),
                           ({'classifier.bias': np.zeros(9)}, 'bias .* does not fit')):
    with pytest.raises(ValueError, match=message):
      torch_names.from_torch(tensors | changes, variables, 'two_blocks')
