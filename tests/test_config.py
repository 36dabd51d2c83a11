"""Fields: what they may hold, what contradicts what, and what the modules implement."""

import pathlib
import re
import subprocess
import sys

import pytest

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax.data import catalogue
from attnmel_jax.data import pipeline
from attnmel_jax.models import backbones
from configs import isic2018_task1

ROOT = pathlib.Path(__file__).resolve().parents[1]


def refusal(config):
  """The message with which `check` refuses a config."""
  with pytest.raises(errors.UserError) as caught:
    config_lib.check(config)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_names_are_those_of_the_modules():
  assert config_lib.DATASETS == catalogue.NAMES
  assert tuple(pipeline.REGIONS) == config_lib.ROIS
  assert tuple(images.NORMALISATIONS) == config_lib.NORMALISATIONS
  assert config_lib.SAMPLERS == pipeline.SAMPLERS
  for name, backbone in config_lib.BACKBONES.items():
    declared = backbones.find(name)
    assert backbone.taps == declared.taps
    assert backbone.batch_norm == any(
        collection == 'batch_stats' for collection, *_ in declared.torch_names.values())
    assert backbone.rescales == (declared.rescale is not None)


def test_the_page_of_the_docs_is_up_to_date_and_written_without_jax():
  code = ('import runpy, sys\n'
          'runpy.run_module("attnmel_jax.config", run_name="__main__")\n'
          'sys.exit("jax" in sys.modules)')
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True,
                        text=True, check=True, timeout=60)
  page = ROOT / 'docs' / 'config.md'
  assert done.stdout == page.read_text(), f'python -m attnmel_jax.config > {page}'
  assert set(re.findall(r'^\| `(\w+)`', done.stdout, re.MULTILINE)) == set(
      config_lib.defaults())


def test_every_field_refuses_other_types():
  for name, field in config_lib.FIELDS.items():
    config_lib.check_field(name, field.default)
    for value in (None, b'x', {}, [], {'a': 1}, (None,), (object(),)):
      with pytest.raises(errors.UserError, match=f'^{name}=.*the default is'):
        config_lib.check_field(name, value)


@pytest.mark.parametrize('name, value, words', [
    ('width', '0.8) or exit() or int(1', 'not of type float; the default is 1.0'),
    ('seed', 1.0, 'not of type int'), ('seed', True, 'not of type int'),
    ('width', True, 'not of type float'), ('tta', 1, 'not of type bool'),
    ('taps', 'pool3', r"tuple\[str, ...\]; the default is \('pool3', 'pool4'\)"),
    ('dice_weights', ('a', 0.2), r'tuple\[float'),
    ('oversample_factors', (True, 1, 1), r'tuple\[int'),
    ('dataset', 'x\n<b>', r"'x\\n<b>' is unknown; choose one of 'isic2016'"),
    ('taps', ('pool3', 'pool9'), "'pool9' is unknown"),
    ('taps', ('pool3', 'pool3'), 'names one twice'),
    ('width', 1e18, 'must be above 0 and at most 16'), ('width', 10**400, 'at most 16'),
    ('crop_ratio', 0.0, 'must be above 0'), ('momentum', 1.0, 'below 1'),
    ('num_epochs', 0, 'must be at least 1 and at most 1000000'), ('seed', -1, 'at lea'),
    ('seed', 2**32, 'below 4294967296'), ('dice_weights', (0.1, -0.1), 'at least 0'),
    ('oversample_factors', (0, 1, 1), 'at least 1'),
    ('weight_decay', float('inf'), 'must be finite'),
    ('dice_weights', (0.1, float('nan')), 'must be finite'),
    ('generated_masks', '../unet', 'cannot name a folder; use letters')])
def test_values_that_a_field_cannot_have(name, value, words):
  with pytest.raises(errors.UserError, match=f'^{name}=.*{words}') as caught:
    config_lib.check_field(name, value)
  assert '\n' not in str(caught.value)


def test_the_ends_of_the_bounds_are_allowed_or_not():
  config_lib.check_field('crop_ratio', 1)  # a whole number does for a float
  for name, field in config_lib.FIELDS.items():
    if field.bounds:
      for end, excluded in ((field.bounds.low, field.bounds.above),
                            (field.bounds.high, field.bounds.below)):
        value = (field.item(end),) if field.is_tuple else field.item(end)
        if excluded:
          with pytest.raises(errors.UserError, match='out of range'):
            config_lib.check_field(name, value)
        else:
          config_lib.check_field(name, value)


def test_unknown_and_missing_fields():
  whole = config_lib.defaults().to_dict()
  assert refusal(whole | {'learnig_rate': 0.1}) == (
      'learnig_rate is not a field of a config; did you mean learning_rate?')
  assert 'docs/config.md lists all' in refusal(whole | {'qqq': 1})
  earlier = {name: value for name, value in whole.items()
             if name not in ('freeze_backbone', 'min_steps')}
  assert config_lib.from_json(earlier) == whole
  del whole['tta']
  assert refusal(whole).startswith('the config lacks tta; start it from get_config()')


@pytest.mark.parametrize('change, words', [
    ({'image_size': 100}, ['image_size=100', 'multiple of 32']),
    ({'image_size': 288}, ['image_size=288', 'resize_size=256']),
    ({'fold': 1}, ['fold=1', 'num_folds=1', '0 to 0']),
    ({'freeze_backbone': True}, ['random_crop=True', 'set random_crop=False']),
    ({'num_folds': 5, 'fold': 5}, ['fold=5', '0 to 4']),
    ({'roi': 'lesion', 'model': 'mel_cnn'}, ["roi='lesion'", "model='mel_cnn'"]),
    ({'taps': (), 'dice_weights': ()}, ['taps=()', 'vgg16_gap', 'pool3']),
    ({'dice_weights': (0.1,)}, ['dice_weights', 'one weight for each']),
    ({'accumulate_steps': 4},
     ['accumulate_steps=4', 'accumulate_batch_norm=True', "backbone='vgg16'"]),
    ({'width': 0.25}, ['width=0.25', "pretrained=''"]),
    ({'rescale_pretrained': True}, ['rescale_pretrained', "backbone='vgg16'"]),
    ({'rescale_pretrained': True, 'backbone': 'vgg16', 'pretrained': ''},
     ['rescale_pretrained', 'needs pretrained weights'])])
def test_fields_that_contradict_each_other(change, words):
  message = refusal(config_lib.defaults().to_dict() | change)
  for word in words:
    assert word in message


def test_what_the_messages_offer_is_accepted():
  for change in ({'num_folds': 5, 'fold': 4}, {'roi': 'lesion'}, {'image_size': 256},
                 {'accumulate_steps': 4, 'backbone': 'vgg16'},
                 {'accumulate_steps': 4, 'accumulate_batch_norm': True},
                 {'width': 0.25, 'pretrained': ''},
                 {'rescale_pretrained': True, 'backbone': 'vgg16'},
                 {'taps': (), 'dice_weights': (), 'model': 'vgg16_gap'}):
    config_lib.check(config_lib.defaults().to_dict() | change)


def test_what_a_unet_needs():
  unet = isic2018_task1.get_config().to_dict()
  config_lib.check(unet)
  for name, value in (('roi', 'none'), ('pretrained', 'imagenet'), ('remat', True),
                      ('accumulate_steps', 2)):
    assert refusal(unet | {name: value}).startswith(
        f"{name}={value!r} does not go with model='unet'")


def test_a_config_out_of_json_has_tuples_again_and_is_checked():
  config = config_lib.defaults().to_dict()
  assert config_lib.from_json(config | {'taps': ['pool3', 'pool4']}) == config
  with pytest.raises(errors.UserError, match='num_epochs=-1'):
    config_lib.from_json(config | {'num_epochs': -1})
