"""What the thesis calls systems and maps, and the challenges data sets."""

from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any

from attnmel_jax import config as config_lib

_SYSTEMS = {
    ('vgg16', 'none'): 'VGG-16',
    ('vgg16_gap', 'none'): 'VGG-16-GAP',
    ('mel_cnn', 'none'): 'Mel-CNN',
    ('attnmel_cnn', 'none'): 'AttnMel-CNN',
    ('attnmel_cnn', 'dermo'): 'AttnMel-CNN-Dermo',
    ('attnmel_cnn', 'lesion'): 'AttnMel-CNN-Lesion',
    ('attnmel_cnn', 'background'): 'AttnMel-CNN-Bkg',
    ('attnmel_cnn', 'generated'): 'AttnMel-CNN-Lesion*',
}
_BACKBONE = 'VGG-16'  # of the thesis
_ON = ' on '
_UNET = 'U-Net'  # whatever its roi
_MASKS = 'unet'  # the default name of generated masks
# In the order of tables and figures.
CLASSIFIERS = tuple(_SYSTEMS.values())
SYSTEMS = (*CLASSIFIERS, _UNET)

_LISTED = 5  # classes in a title

# A map that an attention gate made at a pool; `sorted` puts taps in their order.
_TAP = re.compile(r'pool(\d)')

_DATASETS = {'isic2016': 'ISIC 2016', 'isic2017': 'ISIC 2017', 'isic2018': 'ISIC 2018',
             'isic2018_task1': 'ISIC 2018 Task 1', 'folder': 'own photographs'}


def system_name(config: Mapping[str, Any]) -> str:
  """The system that a run trained; '<model>-<roi>' where the thesis has no name.

  Generated masks of another name than the default make another system, and so does
  another backbone than the thesis's: 'GAP on ResNet-50', 'Mel-CNN on ResNet-50'.
  """
  model, roi = config['model'], config['roi']
  if model == 'unet':
    return _UNET
  name = _SYSTEMS.get((model, roi), f'{model}-{roi}')
  masks = config['generated_masks']
  if roi == 'generated' and masks != _MASKS:
    name += f' ({masks})'
  title = config_lib.BACKBONES[config['backbone']].title
  return name if title == _BACKBONE else (
      f'{name.removeprefix(f"{_BACKBONE}-")}{_ON}{title}')


def system_position(name: str) -> tuple[str, int, str]:
  """Sorts systems by their order in the thesis, others after them.

  Those on other backbones follow, in the same order on each.
  """
  name, _, backbone = name.partition(_ON)
  if backbone and f'{_BACKBONE}-{name}' in SYSTEMS:
    name = f'{_BACKBONE}-{name}'
  position = SYSTEMS.index(name) if name in SYSTEMS else len(SYSTEMS)
  return backbone, position, name


def dataset_name(dataset: str) -> str:
  """'isic2017' -> 'ISIC 2017'; an unknown name as it is."""
  return _DATASETS.get(dataset, dataset)


def task_title(dataset: str, classes: Sequence[str]) -> str:
  """'ISIC 2017, melanoma against the rest'; of more classes, which there are."""
  listed = ', '.join(map(class_name, classes[:_LISTED]))
  more = ', ...' if len(classes) > _LISTED else ''
  task = f'{len(classes)} classes ({listed}{more})'
  if len(classes) == 2:
    rest = 'the rest' if classes[0] == 'other' else class_name(classes[0])
    task = f'{class_name(classes[1])} against {rest}'
  title = f'{dataset_name(dataset)}, {task}'
  return title[0].upper() + title[1:]


def class_name(name: str) -> str:
  """A class as a figure shows it: 'seborrheic_keratosis' without the underscore."""
  return name.replace('_', ' ')


def map_name(name: str) -> str:
  """'pool3' -> 'pool-3', 'cam' -> 'CAM'; another map as it is."""
  return 'CAM' if name == 'cam' else _TAP.sub(r'pool-\1', name)


def is_tap(name: str) -> bool:
  """Whether a map is that of an attention gate: 'pool1' to 'pool9'."""
  return _TAP.fullmatch(name) is not None
