"""The recipe of the released code, number by number, and what the demo changes."""

import importlib

import numpy as np
import pytest

from attnmel_jax import config as config_lib
from attnmel_jax.data import catalogue
from attnmel_jax.data import pipeline
from configs import demo
from configs import isic2016
from configs import isic2017
from configs import isic2018
from configs import isic2018_cv
from configs import isic2018_task1
from configs import thesis_text

RELEASED = {
    'dataset': 'isic2017', 'positive': ('melanoma',), 'roi': 'none',
    'dermo_attributes': ('pigment_network', 'negative_network', 'milia_like_cyst',
                         'streaks'),
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


def differing(config, other):
  """Fields that `config` has otherwise than `other`, with their values."""
  return {name: value for name, value in config.items() if value != other[name]}


def test_isic2017_follows_the_released_code():
  assert not differing(RELEASED, isic2017.get_config())


# Images of each class, rows after oversampling and steps, as published.
@pytest.mark.parametrize('experiment, counts, num_rows, num_steps', [
    (isic2016, (727, 173), 1419, 11_000),
    (isic2017, (374, 254, 1372), 3122, 9_700),
    (isic2018, (1113, 6705, 514, 327, 1099, 115, 142), 46_543, 72_700)])
def test_the_recipes_take_as_many_steps_as_published(
    experiment, counts, num_rows, num_steps):
  config = experiment.get_config()
  labels = np.repeat(np.arange(len(counts)), counts)
  rows = pipeline.repeat_rows(
      labels, config.oversample_factors,
      class_names=catalogue.DATASETS[config.dataset].class_names)
  assert len(rows) == num_rows
  steps = pipeline.steps_per_pass(len(rows), config.batch_size)
  assert steps * config.passes_per_epoch * config.num_epochs == num_steps


def test_the_text_of_the_thesis_differs_from_the_code_where_it_says_so():
  assert differing(thesis_text.get_config(), isic2017.get_config()) == {
      'backbone': 'vgg16', 'rescale_pretrained': True, 'nesterov': False,
      'weight_decay': 0.0, 'passes_per_epoch': 1}


def test_every_experiment_is_a_config_that_can_run():
  for name in ('isic2016', 'isic2017', 'isic2018', 'isic2018_cv', 'isic2018_task1',
               'folder', 'thesis_text', 'demo', 'phantom_folder'):
    config = importlib.import_module(f'configs.{name}').get_config()
    config_lib.check(config.to_dict())
    if config.dataset != 'folder':
      known = catalogue.DATASETS[config.dataset].class_names
      assert set(config.positive) <= set(known)


def test_isic2016_and_2018_follow_the_released_code():
  for config, expected in (
      (isic2016, {'dataset': 'isic2016', 'crop_ratio': 0.8, 'positive': ('malignant',),
                  'normalisation': 'isic2016', 'validation_fraction': 0}),
      (isic2018, {'dataset': 'isic2018', 'crop_ratio': 1.0, 'positive': (),
                  'normalisation': 'isic2018'})):
    assert not differing(expected, config.get_config())


def test_the_cross_validation_is_of_five_grouped_folds():
  config = isic2018_cv.get_config()
  assert (config.num_folds, config.group_folds, config.validation_fraction) == (
      5, True, 0.1)
  assert differing(config, isic2018.get_config()) == {'num_folds': 5}


def test_masks_are_learnt_in_the_geometry_of_the_images_that_need_them():
  geometry = ('crop_ratio', 'resize_size', 'image_size', 'normalisation')
  assert not differing({name: isic2018_task1.get_config()[name] for name in geometry},
                       isic2018.get_config())


def test_phantoms_keep_the_experiment_and_shrink_it():
  for experiment in (isic2016, isic2017, isic2018_cv, isic2018_task1):
    name = experiment.__name__.rpartition('.')[2]
    phantom = importlib.import_module(f'configs.phantom_{name}').get_config()
    config_lib.check(phantom.to_dict())
    assert differing(phantom, experiment.get_config()).keys() <= {
        'data_dir', 'resize_size', 'image_size', 'width', 'gate_width', 'pretrained',
        'dice_weights', 'learning_rate', 'num_epochs', 'passes_per_epoch',
        'decay_every_epochs', 'oversample_factors'}
    assert phantom.pretrained == ''
    assert phantom.data_dir == demo.get_config().data_dir
  assert (demo.get_config().pretrained, demo.get_config().roi) == ('', 'lesion')
