"""Prepared splits: where they lie, and how they are opened.

  split = storage.open_split('isic2017', 'train', data_dir=data_dir,
                             crop_ratio=0.8, resize_size=256)
  split.load(0)['image']   # uint8 [256, 256, 3]

A split is a TFDS data set of PNG records, in `<data_dir>/<dataset>/<split>-crop<ratio>-
side<side>-<resampling>/<version>`, so that a test set can arrive later.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import catalogue
from attnmel_jax.data import decode

# Raise this when what is stored changes; folders of another version are not opened.
VERSION = '1.1.0'

# TFDS imports the module of every class that features.json names.
_TRUSTED = frozenset('tensorflow_datasets.core.features.' + name for name in (
    'features_dict.FeaturesDict', 'image_feature.Image', 'text_feature.Text',
    'class_label_feature.ClassLabel', 'tensor_feature.Tensor'))
# Other keys that TFDS reads class names from; we write none of them.
_OTHER_SPELLINGS = frozenset(
    ('type', 'content', 'python_class_name', 'jsonFeature', 'json_feature'))

_COLUMNS = {'ids': list[str], 'groups': list[str], 'labels': list[int],
            'has_lesion': list[bool], 'has_dermo': list[bool]}
_INDEX = {**_COLUMNS, 'class_names': list[str], 'dermo_attributes': list[str],
          'fingerprint': str, 'synthetic': bool, 'digest': str}
_MAPS = ('image', 'lesion', 'dermo')


def resolve_data_dir(text: str) -> pathlib.Path:
  """The folder of prepared data: `text`, else $ATTNMEL_DATA, else ~/attnmel_data.

  Raises:
    UserError: ~ is of nobody.
  """
  text = text or os.environ.get('ATTNMEL_DATA', '')
  try:
    return errors.expanded(text or '~/attnmel_data').absolute()
  except errors.UserError:
    if text:
      raise
    raise errors.UserError(
        'there is no home folder to keep prepared data in; name a folder with '
        '$ATTNMEL_DATA, or with --data_dir (in a config: data_dir)') from None


@contextlib.contextmanager
def locked(root: pathlib.Path) -> Iterator[None]:
  """Makes the folder of a data set and holds its lock; see files.locked."""
  with files.locked(root, name=str(root), remedy='choose another folder with '
                    '--data_dir or $ATTNMEL_DATA'):
    yield


def config_name(split: str, geometry: decode.Geometry) -> str:
  """For example 'train-crop0.8-side256-bilinear'."""
  return (f'{split}-crop{float(geometry.crop_ratio)}-side{geometry.resize_size}-'
          f'{decode.RESAMPLING}')


def folder(dataset: str, split: str, data_dir: pathlib.Path, geometry: decode.Geometry
           ) -> pathlib.Path:
  """The TFDS folder of a split; it exists if and only if the split is prepared."""
  return data_dir / dataset / config_name(split, geometry) / VERSION


def available_splits(dataset: str, *, data_dir: pathlib.Path, crop_ratio: float,
                     resize_size: int) -> tuple[str, ...]:
  """Names of the prepared splits, in the data set's order."""
  geometry = decode.Geometry(crop_ratio, resize_size)
  return tuple(split for split in catalogue.splits(dataset)
               if folder(dataset, split, data_dir, geometry).exists())


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedSplit:
  """One split, opened for reading. Rows are in the order of `ids`."""

  dataset: str
  split: str
  path: pathlib.Path
  side: int
  class_names: tuple[str, ...]       # label = index; () without labels
  dermo_attributes: tuple[str, ...]  # bit order of the `dermo` map
  ids: np.ndarray                    # str, sorted
  labels: np.ndarray                 # int32; -1 without labels
  groups: np.ndarray                 # str; the id where no lesion ids exist
  has_lesion: np.ndarray             # bool
  has_dermo: np.ndarray              # bool
  fingerprint: str  # equal if and only if ids, labels, flags and pixels are
  synthetic: bool   # some images were drawn, so no result is about patients
  records: Sequence[dict] = dataclasses.field(repr=False)  # maps still encoded
  generated: Any = None  # a U-Net's maps of the rows; see generated.attach

  def __len__(self) -> int:
    return len(self.ids)

  @property
  def has_generated(self) -> np.ndarray:
    """bool [N], like has_lesion: all of them, or none."""
    return np.full(len(self), self.generated is not None)

  def load(self, row: int) -> dict[str, np.ndarray]:
    """Decodes a row; may be called from several threads.

    Returns:
      `image` uint8 RGB [S, S, 3]; `lesion` uint8 [S, S] of 0 and 255 (any value
      between, where it is a probability); `dermo` uint8 [S, S], bit k set where
      attribute k is; zeros where not annotated. If generated masks are attached,
      `generated` uint8 [S, S], 255 for certain.

    Raises:
      UserError: the files are damaged.
    """
    try:
      record = self.records[row]
      # PNG alone: Pillow would start Ghostscript for PostScript in a foreign folder.
      arrays = {name: np.asarray(Image.open(io.BytesIO(record[name]), formats=('PNG',)))
                for name in _MAPS}
      _check_shapes(arrays, self.side)
    except Exception as error:  # array_record raises many kinds
      raise _damaged(self.path, f'{self.ids[row]}: {error}') from error
    indexed = {'label': self.labels, 'has_lesion': self.has_lesion,
               'has_dermo': self.has_dermo}
    if record['id'].decode() != self.ids[row] or any(
        record[name] != values[row] for name, values in indexed.items()):
      raise _damaged(self.path, f'{self.ids[row]}: its record and the index disagree')
    if self.generated is not None:
      arrays['generated'] = self.generated.load(row)
    return arrays


def open_split(dataset: str, split: str, *, data_dir: pathlib.Path,
               crop_ratio: float, resize_size: int) -> PreparedSplit:
  """Opens a prepared split; decodes no image.

  Raises:
    UserError: not prepared (the message has the command that does it), damaged, or a
      folder that names code outside TFDS.
  """
  errors.check_choice('split', split, catalogue.splits(dataset))
  path = folder(dataset, split, data_dir, decode.Geometry(crop_ratio, resize_size))
  if not path.exists():
    raise errors.UserError(
        f'split {split!r} of {dataset} is not prepared in {data_dir} with '
        f'crop_ratio={crop_ratio} and resize_size={resize_size}; run python '
        f'launch/prepare.py --dataset={dataset} --source=DIR --data_dir={data_dir} '
        f'--crop_ratio={crop_ratio} --resize_size={resize_size}')
  _check_features(path)
  try:
    index = files.read_json(path / 'metadata.json')
    _check_index(index)
    builder = tfds.builder_from_directory(path)
    described = getattr(builder.info.features['label'], 'names', [])
    if described != index['class_names']:
      raise ValueError(f'metadata.json has the classes {index["class_names"]}, '
                       f'features.json {described}')
    records = builder.as_data_source(
        split, decoders={name: tfds.decode.SkipDecoding() for name in _MAPS})
    if len(records) != len(index['ids']):
      raise ValueError(f'{len(records)} records, {len(index["ids"])} ids')
  except Exception as error:  # TFDS raises many kinds
    raise _damaged(path, error) from error
  return PreparedSplit(
      dataset=dataset, split=split, path=path, side=resize_size, records=records,
      class_names=tuple(index['class_names']),
      dermo_attributes=tuple(index['dermo_attributes']),
      ids=np.array(index['ids']), labels=np.array(index['labels'], np.int32),
      groups=np.array(index['groups']),
      has_lesion=np.array(index['has_lesion'], bool),
      has_dermo=np.array(index['has_dermo'], bool),
      fingerprint=index['fingerprint'], synthetic=index['synthetic'])


def read_index(path: pathlib.Path) -> dict:
  """The metadata in the folder of a split; {} where they cannot be read."""
  try:
    return files.read_json(path / 'metadata.json')
  except (OSError, ValueError):
    return {}


def digest_of(index: dict) -> str:
  """sha256 of the metadata, but for `digest` itself, which keeps this."""
  rest = {name: value for name, value in index.items() if name != 'digest'}
  return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_index(index: dict) -> None:
  """Raises ValueError where the metadata are not as the builder writes them.

  Ids become the names of files, so none may lead out of its folder.
  """
  files.check_types(index, _INDEX)
  ids, labels, names, attributes = (
      index[name] for name in ('ids', 'labels', 'class_names', 'dermo_attributes'))
  for name in ids:
    if not files.is_name(name):
      raise ValueError(f'id {name!a} names no file')
  for name, words in (('ids', 'an id'), ('class_names', 'a class')):
    if len(set(index[name])) != len(index[name]):
      raise ValueError(f'{words} is there twice')
  for name in _COLUMNS:
    if len(index[name]) != len(ids):
      raise ValueError(f'{name} are not one for each image')
  if not ids:
    raise ValueError('no image')
  if not -1 <= min(labels) <= max(labels) < max(len(names), 1):
    raise ValueError(f'labels are from {min(labels)} to {max(labels)}, of {len(names)} '
                     'classes')
  if len(attributes) > 8:  # bits of the map
    raise ValueError(f'{len(attributes)} attributes do not fit a map')
  if index['digest'] != digest_of(index):
    raise ValueError('metadata.json has changed since it was written')


def _check_features(path: pathlib.Path) -> None:
  """Raises UserError if features.json names code other than TFDS's own."""
  try:
    pending = [files.read_json(path / 'features.json')]
  except (OSError, ValueError) as error:
    raise _damaged(path, error) from error
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
            f'{path / "features.json"} names {foreign[0]!r}, which is no feature '
            f'of a prepared split; delete {path} and prepare again')


def _check_shapes(arrays: dict[str, np.ndarray], side: int) -> None:
  for name, array in arrays.items():
    shape = (side, side, 3) if name == 'image' else (side, side)
    if array.shape != shape or array.dtype != np.uint8:
      raise ValueError(f'{name} is {array.dtype} {array.shape}, not uint8 {shape}')


def _damaged(path: pathlib.Path, reason: object) -> errors.UserError:
  """The error for a folder that was prepared and cannot be read."""
  text = ' '.join(str(reason).split())[:200]
  return errors.UserError(f'the prepared split {path} is damaged ({text}); delete '
                          'it and prepare again')
