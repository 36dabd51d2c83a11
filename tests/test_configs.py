"""The recipe of the released code, number by number, and what the demo changes."""

import numpy as np
import pytest

from attnmel_jax.data import sampling
from configs import accelerator
from configs import common
from configs import demo
from configs import isic2017

RELEASED = {
    'dataset': 'isic2017', 'positive': ('melanoma',), 'roi': 'none',
    'crop_ratio': 0.8, 'resize_size': 256, 'image_size': 224,
    'normalisation': 'isic2017', 'sampler': 'repeat', 'oversample_factors': (4, 1, 1),
    'random_crop': True, 'random_rotation': True, 'random_flip': True,
    'model': 'attnmel_cnn', 'backbone': 'vgg16_bn', 'width': 1.0,
    'taps': ('pool3', 'pool4'), 'gate_width': 256, 'gate_norm': 'sigmoid',
    'dropout_rate': 0.5, 'dtype': 'float32', 'pretrained': 'imagenet',
    'focal_gamma': 2.0, 'dice_weights': (0.001, 0.01), 'batch_size': 32,
    'num_epochs': 50, 'passes_per_epoch': 2, 'learning_rate': 0.01,
    'decay_every_epochs': 10, 'decay_factor': 0.1, 'momentum': 0.9, 'nesterov': True,
    'weight_decay': 1e-4}


@pytest.mark.parametrize('name', RELEASED)
def test_isic2017_follows_the_released_code(name):
  assert isic2017.get_config()[name] == RELEASED[name]


def test_the_recipe_takes_9700_steps():
  config = isic2017.get_config()
  labels = np.repeat([0, 1, 2], [374, 254, 1372])
  rows = sampling.repeat_rows(labels, config.oversample_factors,
                              class_names=('melanoma', 'seborrheic_keratosis', 'nevus'))
  assert len(rows) == 3122
  steps = sampling.steps_per_pass(len(rows), config.batch_size)
  assert steps * config.passes_per_epoch * config.num_epochs == 9700


def test_the_attributes_are_the_four_of_part_2():
  assert set(common.get_config().dermo_attributes) == {
      'pigment_network', 'negative_network', 'milia_like_cyst', 'streaks'}


def test_the_demo_needs_no_download():
  config = demo.get_config()
  assert config.pretrained == ''
  assert config.roi == 'lesion'


def test_the_accelerator_runs_the_same_recipe():
  changed = {'roi': 'lesion', 'dtype': 'bfloat16'}
  for name, value in (RELEASED | changed).items():
    assert accelerator.get_config()[name] == value, name
