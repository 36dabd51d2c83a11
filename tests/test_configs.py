"""The recipe of the released code, number by number, and what the demo changes."""

import importlib

import numpy as np
import pytest

from attnmel_jax.data import catalogue
from attnmel_jax.data import pipeline
from attnmel_jax.experiments import checks
from configs import common
from configs import demo
from configs import folder
from configs import isic2016
from configs import isic2017
from configs import isic2018
from configs import isic2018_cv
from configs import isic2018_task1
from configs import thesis_text

EXPERIMENTS = {'isic2018_task1': isic2018_task1,
               'isic2016': isic2016, 'isic2017': isic2017, 'isic2018': isic2018,
               'isic2018_cv': isic2018_cv, 'folder': folder}

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
  text, code = thesis_text.get_config().to_dict(), isic2017.get_config().to_dict()
  assert {name: text[name] for name in text if text[name] != code[name]} == {
      'backbone': 'vgg16', 'rescale_pretrained': True, 'nesterov': False,
      'weight_decay': 0.0, 'passes_per_epoch': 1}
  checks.check(text)


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_every_experiment_is_a_config_that_can_run(name):
  config = EXPERIMENTS[name].get_config()
  checks.check(config.to_dict())
  assert config.dataset == name.removesuffix('_cv')
  if config.dataset != 'folder':
    known = catalogue.DATASETS[config.dataset].class_names
    assert set(config.positive) <= set(known)


def test_isic2016_and_2018_follow_the_released_code():
  config = isic2016.get_config()
  assert (config.crop_ratio, config.normalisation) == (0.8, 'isic2016')
  assert config.positive == ('malignant',)
  assert config.validation_fraction == 0
  config = isic2018.get_config()
  assert (config.crop_ratio, config.normalisation) == (1.0, 'isic2018')
  assert config.positive == ()


def test_the_cross_validation_is_of_five_grouped_folds():
  config = isic2018_cv.get_config()
  assert (config.num_folds, config.group_folds, config.validation_fraction) == (
      5, True, 0.1)
  differing = {name for name, value in isic2018.get_config().items()
               if config[name] != value}
  assert differing == {'num_folds'}


def test_masks_are_learnt_in_the_geometry_of_the_images_that_need_them():
  for name in ('crop_ratio', 'resize_size', 'image_size', 'normalisation'):
    assert isic2018_task1.get_config()[name] == isic2018.get_config()[name]


def test_the_attributes_are_the_four_of_part_2():
  assert set(common.get_config().dermo_attributes) == {
      'pigment_network', 'negative_network', 'milia_like_cyst', 'streaks'}


@pytest.mark.parametrize('name', ['isic2016', 'isic2017', 'isic2018_cv',
                                  'isic2018_task1'])
def test_phantoms_keep_the_experiment_and_shrink_it(name):
  phantom = importlib.import_module(f'configs.phantom_{name}').get_config().to_dict()
  checks.check(phantom)
  changed = {field for field, value in EXPERIMENTS[name].get_config().items()
             if phantom[field] != value}
  assert changed <= {
      'data_dir', 'resize_size', 'image_size', 'width', 'gate_width', 'pretrained',
      'dice_weights', 'learning_rate', 'num_epochs', 'passes_per_epoch',
      'decay_every_epochs', 'oversample_factors'}
  assert phantom['pretrained'] == ''
  assert phantom['data_dir'] == demo.get_config().data_dir


def test_the_demo_needs_no_download():
  config = demo.get_config()
  assert config.pretrained == ''
  assert config.roi == 'lesion'
