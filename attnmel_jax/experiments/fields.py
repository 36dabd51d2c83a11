"""The fields of a config, each by itself: of which type, and between which bounds.

What contradicts another field is in `checks`. Here a config may lack fields, as one of
an older version does, or one that a stranger's run folder holds.
"""

from collections.abc import Mapping
import math
from typing import Any
from typing import NamedTuple

from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax.data import catalogue
from attnmel_jax.data import pipeline
from attnmel_jax.models import attention
from attnmel_jax.models import backbones
from attnmel_jax.models import classifiers

_CHOICES = {
    'dataset': catalogue.NAMES,
    'roi': pipeline.REGIONS,
    'sampler': pipeline.SAMPLERS,
    'model': (*classifiers.NAMES, 'unet'),
    'backbone': backbones.MODULES,
    'gate_norm': attention.NORMS,
    'dtype': classifiers.DTYPES,
    'normalisation': images.NORMALISATIONS,
}


class _Number(NamedTuple):
  """What a number may be; a float may be given as a whole number."""

  kind: type
  low: float   # a whole number, likewise the highest
  high: float
  above: bool = False  # the lowest is left out
  below: bool = False  # the highest is

  def holds(self, value: Any) -> bool:
    """Whether a finite number is within the bounds."""
    return ((self.low < value if self.above else self.low <= value)
            and (value < self.high if self.below else value <= self.high))

  @property
  def rule(self) -> str:
    """'must be at least 1 and at most 5'."""
    return (f'must be {"above" if self.above else "at least"} {int(self.low)} and '
            f'{"below" if self.below else "at most"} {int(self.high)}')


def _whole(low: int, high: int = 1_000_000) -> _Number:
  return _Number(int, low, high)


def _share(*, above: bool = False, below: bool = False) -> _Number:
  return _Number(float, 0, 1, above, below)


# The highest are beyond all use, and low enough that nothing overflows.
_SEED = _Number(int, 0, 2**32, below=True)
_NUMBERS = {
    'crop_ratio': _share(above=True),
    'resize_size': _whole(32, 4096),
    'image_size': _whole(32, 4096),
    'cache_gib': _Number(float, 0, 1e6),
    'fold': _whole(-1_000_000),  # which there are depends on num_folds: see `checks`
    'num_folds': _whole(1),
    'validation_fraction': _share(below=True),
    'width': _Number(float, 0, 16, above=True),
    'gate_width': _whole(1, 65536),
    'dropout_rate': _share(below=True),
    'focal_gamma': _Number(float, 0, 100),
    'batch_size': _whole(1),
    'accumulate_steps': _whole(1),
    'num_epochs': _whole(1),
    'passes_per_epoch': _whole(1, 1000),
    'learning_rate': _Number(float, 0, 1e6, above=True),
    'decay_every_epochs': _whole(1),
    'decay_factor': _Number(float, 0, 1e3, above=True),
    'momentum': _share(below=True),
    'weight_decay': _Number(float, 0, 1e6),
    'seed': _SEED,
    'split_seed': _SEED,
    'log_every_steps': _whole(1, 2**31),
    'checkpoint_every_steps': _whole(1, 2**31),
    'bootstrap_draws': _whole(100),
    'bootstrap_seed': _SEED,
    'overlay_images': _whole(0),
}
_TEXTS = ('data_dir', 'generated_masks', 'pretrained')
_FLAGS = ('group_folds', 'allow_leakage', 'random_crop', 'random_rotation',
          'random_flip', 'rescale_pretrained', 'accumulate_batch_norm', 'remat',
          'nesterov', 'tta', 'tensorboard')
_TUPLES = {'positive': str, 'dermo_attributes': str, 'taps': str,
           'dice_weights': _Number(float, 0, 1e6),
           'oversample_factors': _whole(1, 1000)}
# All that there is: a config has no other fields.
NAMES = frozenset((*_CHOICES, *_NUMBERS, *_TEXTS, *_FLAGS, *_TUPLES))


def check(config: Mapping[str, Any]) -> None:
  """Raises UserError for the first field that is of another type or out of range."""
  for name, value in config.items():
    if name in _CHOICES:
      _check_type(name, value, str)
      errors.check_choice(name, value, _CHOICES[name])
    elif name in _NUMBERS:
      _check_number(name, value, value, _NUMBERS[name])
    elif name in _TUPLES:
      _check_tuple(name, value, _TUPLES[name])
    elif name in _TEXTS:
      _check_type(name, value, str)
    elif name in _FLAGS:
      _check_type(name, value, bool)


def _check_type(name: str, value: Any, kind: type) -> None:
  if not isinstance(value, kind):
    raise errors.UserError(f'{name}={value!r} is of type {type(value).__name__}; give '
                           f'{kind.__name__}')


def _check_number(name: str, shown: Any, value: Any, number: _Number) -> None:
  """Of a field, or of an item of one that is `shown` as a whole."""
  types = (int, float) if number.kind is float else int
  if isinstance(value, bool) or not isinstance(value, types):
    raise errors.UserError(f'{name}={shown!r} holds {type(value).__name__}; give '
                           f'{"int or float" if number.kind is float else "int"}')
  if isinstance(value, float) and not math.isfinite(value):
    raise errors.UserError(f'{name}={shown} is out of range: it must be finite')
  if not number.holds(value):
    raise errors.UserError(f'{name}={shown} is out of range: it {number.rule}')


def _check_tuple(name: str, value: Any, item: type | _Number) -> None:
  _check_type(name, value, tuple)
  for one in value:
    if isinstance(item, _Number):
      _check_number(name, value, one, item)
    elif not isinstance(one, item):
      raise errors.UserError(f'{name}={value!r} has to hold {item.__name__} only')
  if item is str and len(set(value)) != len(value):
    raise errors.UserError(f'{name}={value} names one twice')
