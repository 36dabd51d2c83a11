"""Every field of a config, once: name, default, type, allowed values and meaning.

Fields are flat and typed. The default of a field gives its type; a float may be given
as a whole number, and a tuple holds items of one type.

  config = config_lib.defaults()  # an ml_collections.ConfigDict
  config.roi = 'lesion'
  config_lib.check(config.to_dict())

`python -m attnmel_jax.config` prints docs/config.md. This module loads without JAX;
tests compare the names below with the modules that implement them.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import dataclasses
import difflib
import math
import re
from typing import Any
from typing import NamedTuple

import ml_collections

from attnmel_jax import errors

DATASETS = ('isic2016', 'isic2017', 'isic2018', 'isic2018_task1', 'folder')
ROIS = ('none', 'lesion', 'dermo', 'background', 'generated')
NORMALISATIONS = ('isic2016', 'isic2017', 'isic2018', 'imagenet', 'inception')
SAMPLERS = ('none', 'repeat', 'inverse_frequency')
CLASSIFIERS = ('vgg16', 'vgg16_gap', 'mel_cnn', 'attnmel_cnn')
MODELS = (*CLASSIFIERS, 'unet')
GATE_NORMS = ('sigmoid', 'softmax')
DTYPES = ('float32', 'bfloat16', 'float64')


class Backbone(NamedTuple):
  """What a config has to know of a backbone."""

  title: str             # in tables, figures and model cards
  module: str            # that declares it: see attnmel_jax/models/backbones.py
  taps: tuple[str, ...]  # where gates may attach
  batch_norm: bool       # whether it normalises over the batch
  rescales: bool         # whether rescale_pretrained can bring its layers to unit scale


_POOLS = ('pool1', 'pool2', 'pool3', 'pool4')
_VGG = 'attnmel_jax.models.vgg'
BACKBONES = {'vgg16': Backbone('VGG-16', _VGG, _POOLS, batch_norm=False, rescales=True),
             'vgg16_bn': Backbone('VGG-16', _VGG, _POOLS, batch_norm=True,
                                  rescales=False),
             'efficientnet_lite0': Backbone(
                 'EfficientNet-Lite0', 'attnmel_jax.models.efficientnet', _POOLS,
                 batch_norm=True, rescales=False),
             'resnet50': Backbone('ResNet-50', 'attnmel_jax.models.resnet', _POOLS,
                                  batch_norm=True, rescales=False)}


class Bounds(NamedTuple):
  """Where a number may lie."""

  low: float
  high: float
  above: bool = False  # `low` itself is excluded
  below: bool = False  # `high` itself is excluded

  def holds(self, value: float) -> bool:
    """Whether a finite number is within the bounds."""
    return ((self.low < value if self.above else self.low <= value)
            and (value < self.high if self.below else value <= self.high))

  @property
  def rule(self) -> str:
    """'at least 1 and at most 5'."""
    return (f'{"above" if self.above else "at least"} {int(self.low)} and '
            f'{"below" if self.below else "at most"} {int(self.high)}')


# The upper bounds are beyond all use, and low enough that nothing overflows.
_COUNT = Bounds(1, 1_000_000)
_STEPS = Bounds(1, 2**31)
_SEED = Bounds(0, 2**32, below=True)
_SIDE = Bounds(32, 4096)
_FRACTION = Bounds(0, 1, below=True)


@dataclasses.dataclass(frozen=True)
class Field:
  """One field of a config."""

  default: Any                   # bool, int, float, str, or a tuple of one of them
  meaning: str
  allowed: Collection[str] = ()  # texts that it, or an item of it, may be; (): any
  bounds: Bounds | None = None   # of a number, or of a tuple's numbers
  is_folder: bool = False        # a text that becomes part of a folder's name

  @property
  def is_tuple(self) -> bool:
    """Whether it holds several items."""
    return isinstance(self.default, tuple)

  @property
  def item(self) -> type:
    """The type of the field, of a tuple that of its items."""
    return type(self.default[0] if self.is_tuple else self.default)


SECTIONS: dict[str, dict[str, Field]] = {
    'Data': {
        'dataset': Field('isic2017', 'Data set, as prepared.', DATASETS),
        'data_dir': Field(
            '', 'Folder of prepared data sets; empty: $ATTNMEL_DATA, else '
            '~/attnmel_data.'),
        'positive': Field(
            ('melanoma',), 'Classes that count as positive in a binary task; (): every '
            'class by itself.'),
        'roi': Field(
            'none', 'Region that attention is pulled towards. background is whatever '
            'is not lesion; generated needs the masks of a U-Net.', ROIS),
        'generated_masks': Field(
            'unet', "Name of the masks that launch/generate_masks.py drew, for "
            "roi='generated'.", is_folder=True),
        'dermo_attributes': Field(
            ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks'),
            'Attributes whose union is the dermo map; by default the four of ISIC '
            '2017, Part 2.'),
        'crop_ratio': Field(
            0.8, 'Side of the prepared central square, as a share of the shorter '
            'image side.', bounds=Bounds(0, 1, above=True)),
        'resize_size': Field(256, 'Side of prepared images, in pixels.', bounds=_SIDE),
        'image_size': Field(
            224, "Side of the network's input, in pixels: a multiple of 32, at most "
            'resize_size.', bounds=_SIDE),
        'normalisation': Field(
            'isic2017', 'Data set whose channel means and deviations normalise the '
            'input; inception: to -1 ... 1.', NORMALISATIONS),
        'cache_gib': Field(
            4.0, 'Decoded images are kept in memory up to this size; larger sets are '
            'streamed.', bounds=Bounds(0, 1_000_000)),
    },
    'Split': {
        'fold': Field(
            0, 'Fold of the training images that tests, from 0; only 0 with '
            'num_folds=1.', bounds=Bounds(0, 1_000_000, below=True)),
        'num_folds': Field(
            1, 'Folds of a cross-validation over the training images; 1: the official '
            'split.', bounds=_COUNT),
        'group_folds': Field(True, 'Keep all images of a lesion in one fold.'),
        'validation_fraction': Field(
            0.1, 'Share of the training lesions held out to choose the checkpoint, '
            'where the data set has no validation split or the run is a fold.',
            bounds=_FRACTION),
        'split_seed': Field(
            0, 'Seed of folds and held-out images. It is not seed, so that several '
            'seeds train on one division.', bounds=_SEED),
        'allow_leakage': Field(
            False, 'Run although parts share images, lesions or near-duplicates; every '
            'table of the run then warns. group_folds=False does not need it.'),
    },
    'Sampling': {
        'sampler': Field(
            'repeat', 'repeat: rows repeated by oversample_factors. inverse_frequency: '
            'as many rows as images, drawn with weight 1/p of the class. none: every '
            'image once.', SAMPLERS),
        'oversample_factors': Field(
            (4, 1, 1), "One factor a class, in the data set's order of classes.",
            bounds=Bounds(1, 1000)),
    },
    'Augmentation': {
        'random_crop': Field(
            True, 'Crop image_size out of resize_size at random; else centrally.'),
        'random_rotation': Field(True, 'Rotate by a random multiple of 90 degrees.'),
        'random_flip': Field(
            True, 'Flip horizontally and vertically, with probability 1/2 each. Image '
            'and map share every draw.'),
    },
    'Model': {
        'model': Field(
            'attnmel_cnn', 'Classifier, or unet, which draws masks; of this section '
            'unet reads width alone.', MODELS),
        'backbone': Field('vgg16_bn', "The classifier's backbone.", BACKBONES),
        'width': Field(1.0, "Factor on the backbone's channels.",
                       bounds=Bounds(0, 16, above=True)),
        'taps': Field(('pool3', 'pool4'), 'Where gates, or plain pooling, attach.',
                      tuple(dict.fromkeys(
                          tap for one in BACKBONES.values() for tap in one.taps))),
        'gate_width': Field(256, 'Channels inside a gate.', bounds=Bounds(1, 65536)),
        'gate_norm': Field(
            'sigmoid', 'sigmoid averages the gated features, softmax sums them.',
            GATE_NORMS),
        'dropout_rate': Field(0.5, 'Of the dense layers, which only vgg16 has.',
                              bounds=_FRACTION),
        'dtype': Field('float32', 'Of the computation.', DTYPES),
        'pretrained': Field(
            'imagenet', 'imagenet (downloaded once), a .pth or .safetensors file, or '
            "'' for scratch."),
        'freeze_backbone': Field(
            False, 'Train the head alone, on maps of the backbone that are computed '
            'once and kept beside the prepared data: docs/performance.md. BatchNorm '
            'uses its running statistics.'),
        'rescale_pretrained': Field(
            False, 'Scale every layer of a plain vgg16 to activations of unit '
            'root-mean-square.'),
    },
    'Loss': {
        'focal_gamma': Field(2.0, 'Focusing exponent of the focal loss.',
                             bounds=Bounds(0, 100)),
        'dice_weights': Field(
            (0.001, 0.01), 'Weight of the Dice term, one a tap: lambda of Eq. 2.7.',
            bounds=Bounds(0, 1_000_000)),
    },
    'Optimisation': {
        'batch_size': Field(32, 'Images a step, over all devices.', bounds=_COUNT),
        'accumulate_steps': Field(
            1, 'Micro-batches that each device divides its share of the batch into, to '
            'save memory. The loss stays that of the whole batch. With gates every '
            'micro-batch runs forward twice: about a third more time.', bounds=_COUNT),
        'accumulate_batch_norm': Field(
            False, 'Accept that with accumulate_steps BatchNorm normalises each '
            "micro-batch by itself, which is no longer the large batch's step."),
        'remat': Field(
            False, "Compute the backbone's blocks again in the backward pass instead "
            'of keeping their layers: the same step in less memory on an accelerator. '
            'On a CPU it saves none.'),
        'num_epochs': Field(50, 'Epochs.', bounds=_COUNT),
        'passes_per_epoch': Field(
            2, 'Passes over the sampled rows in an epoch.', bounds=Bounds(1, 1000)),
        'min_steps': Field(
            0, 'Steps of a run at least: where few images give fewer, the epochs are '
            'longer.', bounds=Bounds(0, 2**31)),
        'learning_rate': Field(0.01, 'Learning rate of the first epochs.',
                               bounds=Bounds(0, 1_000_000, above=True)),
        'decay_every_epochs': Field(
            10, 'Epochs after which the learning rate is multiplied by decay_factor.',
            bounds=_COUNT),
        'decay_factor': Field(0.1, 'See decay_every_epochs.',
                              bounds=Bounds(0, 1, above=True)),
        'momentum': Field(0.9, 'Momentum of stochastic gradient descent.',
                          bounds=_FRACTION),
        'nesterov': Field(True, "Use Nesterov's momentum."),
        'weight_decay': Field(1e-4, 'L2 penalty, on every parameter.',
                              bounds=Bounds(0, 1_000_000)),
        'seed': Field(0, 'Seed of weights, batches and augmentation.', bounds=_SEED),
    },
    'Running and scoring': {
        'log_every_steps': Field(10, 'Steps between two lines of metrics.jsonl.',
                                 bounds=_STEPS),
        'checkpoint_every_steps': Field(
            200, 'Steps between two checkpoints, besides those at the end of every '
            'epoch.', bounds=_STEPS),
        'tta': Field(
            False, 'Average predictions over the 8 flips and quarter turns: eight '
            'times the work, also whenever the validation set chooses a checkpoint.'),
        'bootstrap_draws': Field(2000, 'Draws of the 95 % intervals.',
                                 bounds=Bounds(100, 1_000_000)),
        'bootstrap_seed': Field(
            0, 'Seed of the draws; runs that are compared need the same.',
            bounds=_SEED),
        'overlay_images': Field(8, 'Images in the picture of attention maps.',
                                bounds=Bounds(0, 1_000_000)),
        'tensorboard': Field(
            False, 'Write curves and, after each validation, that picture for '
            'TensorBoard, into tensorboard/ of the run folder.'),
    },
}
FIELDS = {name: field for section in SECTIONS.values()
          for name, field in section.items()}


def defaults() -> ml_collections.ConfigDict:
  """The released code's recipe, for ISIC 2017, without a prior."""
  return ml_collections.ConfigDict(
      {name: field.default for name, field in FIELDS.items()})


# Fields that were added since runs are kept, and what runs without them did.
_ADDED = {'freeze_backbone': False, 'min_steps': 0}


def from_json(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config out of a JSON file: lists become tuples again, and `check` passes.

  Raises:
    UserError: as `check`.
  """
  config = _ADDED | {name: tuple(value) if isinstance(value, list) else value
                     for name, value in config.items()}
  check(config)
  return config


def check(config: Mapping[str, Any]) -> None:
  """Raises UserError for the first field that is wrong or contradicts another."""
  for name in config:
    if name not in FIELDS:
      near = difflib.get_close_matches(str(name), FIELDS, n=1)
      hint = f'did you mean {near[0]}?' if near else 'docs/config.md lists all'
      raise errors.UserError(f'{name} is not a field of a config; {hint}')
  for name in FIELDS:
    if name not in config:
      raise errors.UserError(f'the config lacks {name}; start it from get_config() of '
                             'configs/common.py')
    check_field(name, config[name])
  _check_sizes(config)
  _check_model(config)
  _check_taps(config)
  _check_backbone(config)


def check_field(name: str, value: Any) -> None:
  """Raises UserError unless the field `name` may have this value."""
  field = FIELDS[name]
  items = value if isinstance(value, tuple) else (value,)
  if isinstance(value, tuple) != field.is_tuple or not all(
      _is_of(field.item, item) for item in items):
    kind = field.item.__name__
    raise errors.UserError(
        f'{name}={value!r} is not of type '
        f'{f"tuple[{kind}, ...]" if field.is_tuple else kind}; the default is '
        f'{field.default!r}')
  if field.item is str and len(set(items)) < len(items):
    raise errors.UserError(f'{name}={value!r} names one twice')
  for item in items:
    if field.bounds and isinstance(item, float) and not math.isfinite(item):
      raise errors.UserError(f'{name}={value} is out of range: it must be finite')
    if field.bounds and not field.bounds.holds(item):
      raise errors.UserError(
          f'{name}={value} is out of range: it must be {field.bounds.rule}')
    if field.allowed:
      errors.check_choice(name, item, field.allowed)
    if field.is_folder and not re.fullmatch(r'[A-Za-z0-9][\w.-]*', item):
      raise errors.UserError(
          f'{name}={value!r} cannot name a folder; use letters, digits and . - _, such '
          f'as {field.default}')


def _is_of(kind: type, value: Any) -> bool:
  """Whether a value has a field's type; True is not a number, 1 is a float."""
  types = (int, float) if kind is float else kind
  return isinstance(value, types) and isinstance(value, bool) == (kind is bool)


def _check_sizes(config: Mapping[str, Any]) -> None:
  if config['image_size'] % 32:
    raise errors.UserError(
        f'image_size={config["image_size"]} is out of range: it must be a multiple of '
        '32')
  if config['image_size'] > config['resize_size']:
    raise errors.UserError(
        f'image_size={config["image_size"]} is larger than '
        f'resize_size={config["resize_size"]}, which it is cropped from')
  if config['fold'] >= config['num_folds']:
    raise errors.UserError(
        f'fold={config["fold"]} is out of range: with num_folds={config["num_folds"]} '
        f'it is one of 0 to {config["num_folds"] - 1}')


# What the U-Net needs, and why.
_OF_UNET = {
    'roi': ('lesion', 'learns lesion masks'),
    'pretrained': ('', 'learns from scratch'),
    'rescale_pretrained': (False, 'learns from scratch'),
    'freeze_backbone': (False, 'has no backbone'),
    'accumulate_steps': (1, 'has BatchNorm, which needs the whole batch at once'),
    'remat': (False, 'cannot recompute its layers'),
}


def _check_model(config: Mapping[str, Any]) -> None:
  model, roi = config['model'], config['roi']
  if model == 'unet':
    for name, (needed, why) in _OF_UNET.items():
      if config[name] != needed:
        raise errors.UserError(
            f"{name}={config[name]!r} does not go with model='unet', which {why}; set "
            f'{name}={needed!r}')
  elif roi != 'none' and model != 'attnmel_cnn':
    raise errors.UserError(
        f'roi={roi!r} needs attention maps, and model={model!r} has none; choose '
        "roi='none' or model='attnmel_cnn'")


def _check_taps(config: Mapping[str, Any]) -> None:
  taps, known = config['taps'], BACKBONES[config['backbone']].taps
  for tap in taps:
    errors.check_choice('taps', tap, known)
  if config['model'] == 'attnmel_cnn' and not taps:
    raise errors.UserError("taps=() leaves no gate; choose model='vgg16_gap', or taps "
                           f'of {", ".join(known)}')
  if len(config['dice_weights']) != len(taps):
    raise errors.UserError(
        f'dice_weights={config["dice_weights"]} has to hold one weight for each of '
        f'taps={taps}')


def _check_backbone(config: Mapping[str, Any]) -> None:
  backbone = BACKBONES[config['backbone']]
  if config['freeze_backbone'] and config['random_crop']:
    raise errors.UserError(
        'random_crop=True does not go with freeze_backbone=True, whose maps are '
        'computed once for each view: a crop of the image is not a crop of its maps; '
        'set random_crop=False')
  if (config['accumulate_steps'] > 1 and backbone.batch_norm
      and not config['accumulate_batch_norm'] and not config['freeze_backbone']):
    raise errors.UserError(
        f'accumulate_steps={config["accumulate_steps"]} would let the BatchNorm of '
        f'backbone={config["backbone"]!r} normalise each micro-batch by itself, unlike '
        'the whole batch; accept that with accumulate_batch_norm=True, or choose '
        f'backbone={_backbones(lambda one: not one.batch_norm)}')
  if config['pretrained'] and config['width'] != 1:
    raise errors.UserError(
        f'width={config["width"]} has no pretrained weights; set width=1.0, or '
        "pretrained=''")
  if config['rescale_pretrained'] and not (backbone.rescales and config['pretrained']):
    raise errors.UserError(
        'rescale_pretrained=True needs pretrained weights and '
        f'backbone={_backbones(lambda one: one.rescales)}')


def _backbones(holds: Callable[[Backbone], bool]) -> str:
  """Those of which something holds, for a message."""
  return ' or '.join(repr(name) for name, one in BACKBONES.items() if holds(one))


def page() -> str:
  """The text of docs/config.md."""
  lines = [
      '# Fields of a config', '',
      '`python -m attnmel_jax.config` writes this page from `attnmel_jax/config.py`.',
      '', 'An experiment file states only what differs from these defaults. Override a',
      'field with `--config.<field>=<value>`; tuples take Python syntax:',
      '`--config.dice_weights=\'(0.01, 0.1)\'`.']
  for title, fields in SECTIONS.items():
    lines += ['', f'## {title}', '', '| field | default | allowed | meaning |',
              '|---|---|---|---|']
    for name, field in fields.items():
      lines.append(f'| `{name}` | `{field.default!r}` | {_allowed(field)} | '
                   f'{field.meaning} |')
  return '\n'.join(lines) + '\n'


def _allowed(field: Field) -> str:
  """What a field may hold, for people."""
  kind = ', '.join(field.allowed) or {
      bool: 'True, False', int: 'whole number', float: 'number', str: 'text'}[
          field.item]
  if field.bounds:
    kind += f', {field.bounds.rule}'
  return f'tuple of: {kind}' if field.is_tuple else kind


if __name__ == '__main__':
  print(page(), end='')
