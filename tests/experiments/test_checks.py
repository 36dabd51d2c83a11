"""Configs that cannot be right are refused with the field's name."""

import ast

import pytest

from attnmel_jax import errors
from attnmel_jax.experiments import checks
from configs import common
from configs import demo
from configs import isic2017
from configs import isic2018_task1


@pytest.mark.parametrize('module', [common, isic2017, demo, isic2018_task1])
def test_shipped_configs_pass_and_stay_as_they_are(module):
  config = module.get_config().to_dict()
  checks.check(config)
  assert config == module.get_config().to_dict()


@pytest.mark.parametrize('change, words', [
    ({'roi': 'leson'}, ['roi', "'leson'", "'lesion'"]),
    ({'model': 'resnet'}, ['model', "'resnet'", "'vgg16_gap'"]),
    ({'backbone': 'vgg19'}, ['backbone', "'vgg16_bn'"]),
    ({'normalisation': 'cifar'}, ['normalisation', "'isic2017'"]),
    ({'sampler': 'smote'}, ['sampler', "'repeat'"]),
    ({'dtype': 'int8'}, ['dtype', "'bfloat16'"]),
    ({'taps': ('pool3', 'pool9')}, ['taps', "'pool9'", "'pool4'"]),
    ({'taps': ('pool3', 'pool3')}, ['taps', 'twice']),
    ({'taps': (), 'dice_weights': ()}, ['taps=()', 'vgg16_gap']),
    ({'dice_weights': (0.1,)}, ['dice_weights', 'one weight for each']),
    ({'dice_weights': (0.1, -0.1)}, ['dice_weights', 'at least 0']),
    ({'dice_weights': ('a', 0.2)}, ['dice_weights', 'int or float']),
    ({'taps': (3, 4)}, ['taps', 'str']),
    ({'image_size': 100}, ['image_size=100', 'multiple of 32']),
    ({'image_size': 288}, ['image_size=288', 'resize_size=256']),
    ({'batch_size': 0}, ['batch_size=0']),
    ({'accumulate_steps': 0}, ['accumulate_steps=0', 'at least 1']),
    ({'accumulate_steps': 4},
     ['accumulate_steps=4', 'BatchNorm', 'accumulate_batch_norm=True']),
    ({'learning_rate': 0.0}, ['learning_rate=0.0']),
    ({'learning_rate': float('nan')}, ['learning_rate=nan']),
    ({'weight_decay': float('inf')}, ['weight_decay=inf', 'finite']),
    ({'dice_weights': (float('inf'), 0.1)}, ['dice_weights', 'finite']),
    ({'oversample_factors': (True, 1, 1)}, ['oversample_factors', 'int']),
    ({'positive': ('melanoma', 'melanoma')}, ['positive', 'twice']),
    ({'momentum': 1.0}, ['momentum=1.0']),
    ({'seed': -1}, ['seed=-1']),
    ({'split_seed': -1}, ['split_seed=-1']),
    ({'fold': 1}, ['fold=1', 'num_folds=1']),
    ({'num_folds': 5, 'fold': 5}, ['fold=5', '0 to 4']),
    ({'roi': 'lesion', 'model': 'mel_cnn'}, ["roi='lesion'", "model='mel_cnn'"]),
    ({'width': 0.25}, ['width=0.25', "pretrained=''"]),
    ({'rescale_pretrained': True}, ['rescale_pretrained', "backbone='vgg16'"]),
])
def test_a_wrong_field_is_named(change, words):
  config = common.get_config().to_dict() | change
  with pytest.raises(errors.UserError) as caught:
    checks.check(config)
  message = str(caught.value)
  assert '\n' not in message
  for word in words:
    assert word in message


@pytest.mark.parametrize('change', [
    {'roi': 'none'}, {'pretrained': 'imagenet'}, {'accumulate_steps': 2},
    {'remat': True}])
def test_what_a_unet_needs(change):
  config = isic2018_task1.get_config().to_dict() | change
  with pytest.raises(errors.UserError) as caught:
    checks.check(config)
  (name, value), = change.items()
  message = str(caught.value)
  assert message.startswith(f"{name}={value!r} is not for model='unet'")
  remedy = message.rpartition(f'set {name}=')[2]
  checks.check(config | {name: ast.literal_eval(remedy)})


@pytest.mark.parametrize('change, refused', [
    ({}, True), ({'backbone': 'vgg16'}, False),
    ({'accumulate_batch_norm': True}, False)])
def test_accumulation_asks_for_consent_with_batch_norm_alone(change, refused):
  config = common.get_config().to_dict() | {'accumulate_steps': 4} | change
  try:
    checks.check(config)
  except errors.UserError as error:
    assert refused and 'accumulate_batch_norm' in str(error)
  else:
    assert not refused
