"""A config is refused before any work where it cannot be right."""

from collections.abc import Mapping
from typing import Any

from attnmel_jax import errors
from attnmel_jax.data import generated
from attnmel_jax.experiments import fields
from attnmel_jax.models import backbones


def check(config: Mapping[str, Any]) -> None:
  """Raises UserError for the first field that is wrong, or contradicts another."""
  fields.check(config)
  _check_taps(config)
  generated.check_name(config['generated_masks'])
  if config['image_size'] % 32:
    raise errors.UserError(
        f'image_size={config["image_size"]} is out of range: it must be a multiple of '
        '32')
  if config['image_size'] > config['resize_size']:
    raise errors.UserError(
        f'image_size={config["image_size"]} is larger than '
        f'resize_size={config["resize_size"]}; the first is cropped out of the second')
  if not 0 <= config['fold'] < config['num_folds']:
    raise errors.UserError(
        f'fold={config["fold"]} is out of range: with num_folds={config["num_folds"]} '
        f'it is one of 0 to {config["num_folds"] - 1}')
  if config['model'] == 'unet':
    _check_unet(config)
  elif config['roi'] != 'none' and config['model'] != 'attnmel_cnn':
    raise errors.UserError(
        f'roi={config["roi"]!r} needs attention maps, and '
        f'model={config["model"]!r} has none; choose roi=\'none\' or '
        "model='attnmel_cnn'")
  if (config['accumulate_steps'] > 1 and config['backbone'] == 'vgg16_bn'
      and not config['accumulate_batch_norm']):
    raise errors.UserError(
        f'accumulate_steps={config["accumulate_steps"]} would let the BatchNorm of '
        "backbone='vgg16_bn' normalise each micro-batch by itself, unlike the whole "
        "batch; accept that with accumulate_batch_norm=True, or choose "
        "backbone='vgg16'")
  if config['pretrained'] and config['width'] != 1:
    raise errors.UserError(
        f'width={config["width"]} has no pretrained weights; set width=1.0, or '
        "pretrained=''")
  if config['rescale_pretrained'] and (
      config['backbone'] != 'vgg16' or not config['pretrained']):
    raise errors.UserError(
        'rescale_pretrained=True needs pretrained weights and backbone=\'vgg16\'; '
        'BatchNorm undoes any scale')


# What the U-Net needs, and why.
_OF_UNET = {
    'roi': ('lesion', 'learns lesion masks'),
    'pretrained': ('', 'learns from scratch'),
    'rescale_pretrained': (False, 'learns from scratch'),
    'accumulate_steps': (1, 'has BatchNorm, which needs the whole batch at once'),
    'remat': (False, 'cannot recompute its layers'),
}


def _check_unet(config: Mapping[str, Any]) -> None:
  for name, (needed, why) in _OF_UNET.items():
    if config[name] != needed:
      raise errors.UserError(
          f"{name}={config[name]!r} is not for model='unet', which {why}; set "
          f'{name}={needed!r}')


def _check_taps(config: Mapping[str, Any]) -> None:
  for tap in config['taps']:
    errors.check_choice('taps', tap, backbones.find(config['backbone']).taps)
  if config['model'] == 'attnmel_cnn' and not config['taps']:
    raise errors.UserError(
        "taps=() leaves no gate; choose model='vgg16_gap', or taps of "
        + ', '.join(backbones.find(config['backbone']).taps))
  if len(config['dice_weights']) != len(config['taps']):
    raise errors.UserError(
        f'dice_weights={config["dice_weights"]} has to hold one weight for each of '
        f'taps={config["taps"]}')
