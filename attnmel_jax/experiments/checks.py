"""A config is refused before any work where a field cannot be right."""

from collections.abc import Callable
from collections.abc import Mapping
import math
from typing import Any

from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax.data import generated
from attnmel_jax.data import pipeline
from attnmel_jax.data import sampling
from attnmel_jax.models import attention
from attnmel_jax.models import classifiers
from attnmel_jax.models import vgg

_CHOICES = {
    'roi': pipeline.REGIONS,
    'sampler': sampling.SAMPLERS,
    'model': (*classifiers.NAMES, 'unet'),
    'backbone': vgg.BACKBONES,
    'gate_norm': attention.NORMS,
    'dtype': classifiers.DTYPES,
    'normalisation': images.NORMALISATIONS,
}


def _at_least(low: float) -> tuple[Callable[[Any], bool], str]:
  return (lambda v: v >= low), f'must be at least {low}'


def _above(low: float) -> tuple[Callable[[Any], bool], str]:
  return (lambda v: v > low), f'must be above {low}'


def _share(lowest_included: bool) -> tuple[Callable[[Any], bool], str]:
  if lowest_included:
    return (lambda v: 0 <= v < 1), 'must be at least 0 and below 1'
  return (lambda v: 0 < v <= 1), 'must be above 0 and at most 1'


_SEED = (lambda v: 0 <= v < 2**32), 'must be at least 0 and below 2**32'
_RANGES = {
    'crop_ratio': _share(False),
    'resize_size': _at_least(32),
    'image_size': ((lambda v: v >= 32 and v % 32 == 0), 'must be a multiple of 32'),
    'cache_gib': _at_least(0),
    'num_folds': _at_least(1),
    'validation_fraction': _share(True),
    'width': _above(0),
    'gate_width': _at_least(1),
    'dropout_rate': _share(True),
    'focal_gamma': _at_least(0),
    'batch_size': _at_least(1),
    'accumulate_steps': _at_least(1),
    'num_epochs': _at_least(1),
    'passes_per_epoch': _at_least(1),
    'learning_rate': _above(0),
    'decay_every_epochs': _at_least(1),
    'decay_factor': _above(0),
    'momentum': _share(True),
    'weight_decay': _at_least(0),
    'seed': _SEED,
    'split_seed': _SEED,
    'log_every_steps': _at_least(1),
    'checkpoint_every_steps': _at_least(1),
    'bootstrap_draws': _at_least(100),
    'bootstrap_seed': _SEED,
    'overlay_images': _at_least(0),
}


_ELEMENTS = {'positive': (str,), 'dermo_attributes': (str,), 'taps': (str,),
             'dice_weights': (int, float), 'oversample_factors': (int,)}


def check(config: Mapping[str, Any]) -> None:
  """Raises UserError for the first field that is unknown, or contradicts another."""
  _check_values(config)
  _check_taps(config)
  generated.check_name(config['generated_masks'])
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


def _check_values(config: Mapping[str, Any]) -> None:
  """Each field by itself."""
  for name, types in _ELEMENTS.items():
    if not all(isinstance(item, types) and not isinstance(item, bool)
               for item in config[name]):
      kind = ' or '.join(t.__name__ for t in types)
      raise errors.UserError(f'{name}={config[name]!r} has to hold {kind} only')
  for name, value in config.items():
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(v, float) and not math.isfinite(v) for v in numbers):
      raise errors.UserError(f'{name}={value} is out of range: it must be finite')
  if len(set(config['positive'])) != len(config['positive']):
    raise errors.UserError(f'positive={config["positive"]} names a class twice')
  for name, allowed in _CHOICES.items():
    errors.check_choice(name, config[name], allowed)
  for name, (holds, rule) in _RANGES.items():
    if not holds(config[name]):
      raise errors.UserError(f'{name}={config[name]} is out of range: it {rule}')


def _check_taps(config: Mapping[str, Any]) -> None:
  for tap in config['taps']:
    errors.check_choice('taps', tap, vgg.TAPS)
  if len(set(config['taps'])) != len(config['taps']):
    raise errors.UserError(f'taps={config["taps"]} names a tap twice')
  if config['model'] == 'attnmel_cnn' and not config['taps']:
    raise errors.UserError(
        "taps=() leaves no gate; choose model='vgg16_gap', or taps of "
        + ', '.join(vgg.TAPS))
  if len(config['dice_weights']) != len(config['taps']):
    raise errors.UserError(
        f'dice_weights={config["dice_weights"]} has to hold one weight for each of '
        f'taps={config["taps"]}')
  if any(weight < 0 for weight in config['dice_weights']):
    raise errors.UserError(
        f'dice_weights={config["dice_weights"]} is out of range: every weight is at '
        'least 0')
