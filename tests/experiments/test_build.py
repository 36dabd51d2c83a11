"""Models, states and steps from a config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from attnmel_jax import parallel
from attnmel_jax.experiments import build
from configs import common
from configs import isic2018_task1


@pytest.fixture
def slim(two_blocks):
  """A config without data: two blocks, 32 pixels, from scratch."""
  config = common.get_config()
  config.backbone, config.gate_width = 'two_blocks_bn', 8
  config.image_size, config.pretrained = 32, ''
  return config.to_dict()


def test_the_template_has_the_shapes_of_a_state(slim):
  variables, notes = build.initial_variables(slim, 2, sample=None)
  assert notes == ['all weights are new: pretrained is empty']
  state = build.initial_state(slim, variables)
  template = build.state_template(slim, 2)
  assert jax.tree.structure(state) == jax.tree.structure(template)
  jax.tree.map(lambda a, b: np.testing.assert_equal(
      (a.shape, a.dtype, a.sharding), (b.shape, b.dtype, b.sharding)), state, template)


def test_the_seed_decides_the_variables(slim):
  first, again, other = (
      build.initial_variables(slim | {'seed': seed}, 2, sample=None)[0]
      for seed in (1, 1, 2))
  kernels = [v['params']['gate_pool3']['feature']['kernel'] for v in
             (first, again, other)]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  assert np.abs(kernels[0] - kernels[2]).max() > 0.01


def test_pretrained_weights_are_loaded_and_rescaled(slim, tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  shapes = {'block1': (8, 192), 'block2': (16, 32)}
  weights = {f'{name}.weight': rng.normal(0, 0.02, shape).astype(np.float16)
             for name, shape in shapes.items()}
  weights |= {f'{name}.bias': np.zeros(shape[0], np.float32)
              for name, shape in shapes.items()}
  safetensors.numpy.save_file(weights, tmp_path / 'own.safetensors')
  config = slim | {'backbone': 'two_blocks', 'model': 'vgg16_gap',
                   'pretrained': str(tmp_path / 'own.safetensors')}
  variables, notes = build.initial_variables(config, 2, sample=None)
  np.testing.assert_array_equal(variables['params']['backbone']['block1']['kernel'],
                                weights['block1.weight'].astype(np.float32).T)
  assert any('classifier' in note for note in notes)

  shown = []
  monkeypatch.setattr(build.pretrained, 'rescale',
                      lambda variables, image, backbone: shown.append(image))
  images = rng.integers(0, 256, (2, 40, 40, 3), np.uint8)
  build.initial_variables(
      config | {'rescale_pretrained': True}, 2, sample=lambda: images)
  # Any normalisation is a scale and a shift a channel.
  seen, crop = np.asarray(shown[0], np.float64), images[:, 4:36, 4:36].astype(float)
  for channel in range(3):
    fit = np.polyfit(crop[..., channel].ravel(), seen[..., channel].ravel(), 1)
    np.testing.assert_allclose(
        np.polyval(fit, crop[..., channel]), seen[..., channel], atol=1e-4)


def test_numbers_of_the_step_keep_their_values(slim):
  hyper = build.hyperparameters(slim | {'seed': 2**32 - 1})
  assert hyper['seed'] == 2**32 - 1
  np.testing.assert_allclose(hyper['dice_weights'], [0.001, 0.01], rtol=1e-7)
  assert hyper['dice_weights'].dtype == np.float32


@pytest.mark.parametrize('experiment', [common, isic2018_task1])
def test_the_fields_of_a_step_reach_it(experiment):
  config = experiment.get_config().to_dict()
  for field, value in (('normalisation', 'imagenet'), ('image_size', 64),
                       ('random_crop', False), ('random_rotation', False),
                       ('random_flip', False), ('accumulate_steps', 2)):
    assert config[field] != value
    bound = build.training_step(config | {field: value}, 2).keywords
    holder = bound['augmentation'] if 'random' in field else bound['input']
    assert bound.get(field, getattr(holder, field, None)) == value, field
  bound = build.training_step(config | {'dtype': 'bfloat16'}, 2).keywords
  assert bound['model'].dtype == jnp.bfloat16
  assert bound['input'].dtype == jnp.float32  # never below it


@pytest.mark.parametrize(('field', 'value'), [
    ('gate_norm', 'softmax'), ('gate_width', 4), ('width', 0.125), ('taps', ('pool4',)),
    ('dropout_rate', 0.25), ('remat', True)])
def test_a_field_reaches_the_model(slim, field, value):
  config = slim | (
      {'model': 'vgg16', 'backbone': 'vgg16'} if field == 'dropout_rate' else {})
  assert config[field] != value
  model = build.training_step(config | {field: value}, 2).keywords['model']
  assert getattr(model, field) == value


@pytest.mark.parametrize('changed', [{'momentum': 0.5}, {'nesterov': False}])
def test_momentum_reaches_the_optimiser(slim, changed):
  gradients = {'w': np.ones(3, np.float32)}

  def second_update(config):
    tx = build.training_step(config, 2).keywords['tx']
    state = tx.init(gradients)
    _, state = tx.update(gradients, state)
    return tx.update(gradients, state)[0]['w'][0]

  # torch: the buffer is 1 + m; Nesterov adds 1 to m times it.
  assert second_update(slim) == pytest.approx(1 + 0.9 * 1.9)
  m, nesterov = changed.get('momentum', 0.9), changed.get('nesterov', True)
  assert second_update(slim | changed) == pytest.approx(
      1 + m * (1 + m) if nesterov else 1 + m)


def test_the_config_asks_for_test_time_augmentation(slim):
  variables, _ = build.initial_variables(slim, 2, sample=None)
  image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
  slim = slim | {'image_size': 64}
  views = [parallel.shard({'image': images}) for images in (
      np.tile(image, (jax.local_device_count(), 1, 1, 1)),
      np.tile(np.rot90(image, axes=(1, 2)), (jax.local_device_count(), 1, 1, 1)))]

  def predict(tta):
    step = build.prediction_step(slim | {'tta': tta}, 2)
    return [parallel.unshard(step(variables, batch)) for batch in views]

  plain, turned = predict(True)
  np.testing.assert_allclose(
      turned['probabilities'], plain['probabilities'], rtol=1e-5)
  for tap, maps in plain['attention'].items():
    np.testing.assert_allclose(
        turned['attention'][tap], np.rot90(maps, axes=(1, 2)), rtol=1e-4, err_msg=tap)
  plain, turned = predict(False)
  assert np.abs(turned['probabilities'] - plain['probabilities']).max() > 1e-6


def test_systems_that_differ_in_numbers_or_region_share_a_program(slim):

  def program(**changed):
    config = slim | {'backbone': 'two_blocks', 'batch_size': 8} | changed
    size = config['resize_size']
    batch = {'image': np.zeros((8, size, size, 3), np.uint8),
             'roi': np.zeros((8, size, size), np.uint8), 'has_roi': np.zeros(8, bool),
             'label': np.zeros(8, np.int32), 'index': np.zeros(8, np.int32),
             'valid': np.ones(8, bool)}
    hyper = build.hyperparameters(config) | {'learning_rate': np.float32(0.1)}
    return parallel.update(build.training_step(config, 2)).lower(
        build.state_template(config, 2), parallel.shard(batch), hyper).as_text()

  first = program(roi='none')
  assert program(roi='lesion', dice_weights=(0.2, 0.3), focal_gamma=1.,
                 weight_decay=0., learning_rate=0.5, seed=7) == first
  assert program(random_flip=False) != first
