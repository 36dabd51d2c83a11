"""Where a prepared split lies, and whether its folder may be opened."""

import dataclasses
import pathlib

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import decode

# A change of what is stored raises this; folders of another one are not opened.
VERSION = '1.0.0'

# TFDS imports the module of every class that features.json names.
_TRUSTED = frozenset('tensorflow_datasets.core.features.' + name for name in (
    'features_dict.FeaturesDict', 'image_feature.Image', 'text_feature.Text',
    'class_label_feature.ClassLabel', 'tensor_feature.Tensor'))
# Keys of other spellings that TFDS takes class names from; we write none of them.
_OTHER_SPELLINGS = frozenset(
    ('type', 'content', 'python_class_name', 'jsonFeature', 'json_feature'))

_INDEX = {'ids': list[str], 'groups': list[str], 'labels': list[int],
          'has_lesion': list[bool], 'has_dermo': list[bool], 'class_names': list[str],
          'dermo_attributes': list[str], 'fingerprint': str, 'synthetic': bool}


@dataclasses.dataclass(frozen=True)
class Geometry:
  """Central square and side of the stored images; part of a split's identity."""

  crop_ratio: float
  resize_size: int

  def config_name(self, split: str) -> str:
    """For example 'train-crop0.8-side256-bilinear'."""
    return (f'{split}-crop{float(self.crop_ratio)}-side{self.resize_size}-'
            f'{decode.RESAMPLING}')

  def folder(self, dataset: str, split: str, data_dir: pathlib.Path) -> pathlib.Path:
    """The TFDS folder of a split; it exists if and only if it is prepared."""
    return data_dir / dataset / self.config_name(split) / VERSION


def read_index(folder: pathlib.Path) -> dict:
  """The metadata that the builder wrote; {} where they cannot be read."""
  try:
    return files.read_json(folder / 'metadata.json')
  except (OSError, ValueError):
    return {}


def check_index(index: dict) -> None:
  """Raises ValueError where the metadata are not as the builder writes them.

  Ids become the names of files, so none may lead out of its folder.
  """
  files.check_types(index, _INDEX)
  ids, names, attributes = (
      index[name] for name in ('ids', 'class_names', 'dermo_attributes'))
  for name in ids:
    if not files.is_name(name):
      raise ValueError(f'id {name!a} names no file')
  if len(set(ids)) != len(ids):
    raise ValueError('an id is there twice')
  if len(set(names)) != len(names):
    raise ValueError('a class is there twice')
  if len(attributes) > 8:  # bits of the map
    raise ValueError(f'{len(attributes)} attributes do not fit a map')


def check_features(folder: pathlib.Path) -> None:
  """Raises UserError if features.json names code other than TFDS's own."""
  try:
    pending = [files.read_json(folder / 'features.json')]
  except (OSError, ValueError) as error:
    raise damaged(folder, error) from error
  while pending:
    value = pending.pop()
    if isinstance(value, list):
      pending += value
    elif isinstance(value, dict):
      pending += value.values()
      foreign = sorted(_OTHER_SPELLINGS & set(value))
      name = str(value.get('pythonClassName'))
      if 'pythonClassName' in value and name not in _TRUSTED:
        foreign.append(name)
      if foreign:
        raise errors.UserError(
            f'{folder / "features.json"} names {foreign[0]!r}, which is no feature '
            f'of a prepared split; delete {folder} and prepare again')


def damaged(folder: pathlib.Path, reason: object) -> errors.UserError:
  """The error for a folder that was prepared and cannot be read."""
  text = ' '.join(str(reason).split())[:200]
  return errors.UserError(f'the prepared split {folder} is damaged ({text}); delete '
                          'it and prepare again')
