"""Models, states and steps from a config."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from attnmel_jax import errors
from attnmel_jax.experiments import system
from configs import common


@pytest.fixture
def slim():
  """A config without data: a sixteenth of the width, 32 pixels, from scratch."""
  config = common.get_config()
  config.width, config.gate_width = 1 / 16, 8
  config.image_size, config.pretrained = 32, ''
  return config.to_dict()


def test_the_template_has_the_shapes_of_a_state(slim):
  variables, notes = system.initial_variables(slim, 2, sample=None)
  assert notes == ['all weights are new: pretrained is empty']
  state = system.initial_state(slim, variables)
  template = system.state_template(slim, 2)
  assert jax.tree.structure(state) == jax.tree.structure(template)
  jax.tree.map(lambda a, b: np.testing.assert_equal(
      (a.shape, a.dtype, a.sharding), (b.shape, b.dtype, b.sharding)), state, template)


def test_the_seed_decides_the_variables(slim):
  first, again, other = (
      system.initial_variables(slim | {'seed': seed}, 2, sample=None)[0]
      for seed in (1, 1, 2))
  kernels = [v['params']['gate_pool3']['feature']['kernel'] for v in
             (first, again, other)]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  assert np.abs(kernels[0] - kernels[2]).max() > 0.01


def test_pretrained_weights_are_loaded_and_rescaled(slim, tmp_path):
  # A file of the thirteen convolutions at full width.
  rng = np.random.default_rng(0)
  shapes = {}
  channels, index = 3, 0
  for layers, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
    for _ in range(layers):
      shapes[f'features.{index}'] = (width, channels, 3, 3)
      channels, index = width, index + 2
    index += 1
  weights = {}
  for name, shape in shapes.items():
    weights[f'{name}.weight'] = rng.normal(0, 0.02, shape).astype(np.float16)
    weights[f'{name}.bias'] = np.zeros(shape[0], np.float32)
  path = tmp_path / 'vgg16.safetensors'
  safetensors.numpy.save_file(weights, path)
  config = slim | {'width': 1.0, 'backbone': 'vgg16', 'pretrained': str(path),
                   'model': 'vgg16_gap'}
  variables, notes = system.initial_variables(config, 2, sample=None)
  first = variables['params']['backbone']['conv1_1']['kernel']
  np.testing.assert_array_equal(
      first, weights['features.0.weight'].astype(np.float32).transpose(2, 3, 1, 0))
  assert any('classifier' in note for note in notes)

  images = rng.integers(0, 256, (2, 40, 40, 3), np.uint8)
  rescaled, _ = system.initial_variables(
      config | {'rescale_pretrained': True}, 2, sample=lambda: images)
  ratio = rescaled['params']['backbone']['conv1_1']['kernel'] / first
  np.testing.assert_allclose(ratio, ratio[0, 0, 0, 0], rtol=1e-3)
  assert abs(ratio[0, 0, 0, 0] - 1) > 0.1


def test_a_slim_model_takes_no_pretrained_weights(slim, tmp_path):
  path = tmp_path / 'x.safetensors'
  safetensors.numpy.save_file({'features.0.bias': np.zeros(64, np.float32)}, path)
  with pytest.raises(errors.UserError, match='width'):
    system.initial_variables(slim | {'pretrained': str(path)}, 2, sample=None)


def test_numbers_of_the_step_keep_their_values(slim):
  hyper = system.hyperparameters(slim | {'seed': 2**32 - 1})
  assert hyper['seed'] == 2**32 - 1
  np.testing.assert_allclose(hyper['dice_weights'], [0.001, 0.01], rtol=1e-7)
  assert hyper['dice_weights'].dtype == np.float32
