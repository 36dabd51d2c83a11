"""Prepares a data set: official archives -> cropped, resized, ready to train on.

  python launch/prepare.py --dataset=isic2017 --source=DIR
  python launch/prepare.py --dataset=folder --source=DIR --table=DIR/labels.csv

DIR holds the official zips, or the folders that they unpack to, in any mixture;
--source=download fetches them. A split whose archives are absent is left out; the same
command adds it later. With --dataset=folder DIR holds photographs (and masks), and the
table lists them: image,label[,mask][,group][,split].
"""

import importlib
import pathlib
import sys
import time

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # the repository

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax import errors
from attnmel_jax.data import catalogue
from attnmel_jax.data import download
from attnmel_jax.data import folder
from attnmel_jax.data import prepare
from attnmel_jax.data import storage

_DATASET = flags.DEFINE_enum(
    'dataset', None, catalogue.NAMES, 'data set to prepare', required=True)
_SOURCE = flags.DEFINE_string(
    'source', None, 'folder of the official archives or, with --dataset=folder, of the '
    'photographs; download fetches the archives', required=True)
_DATA_DIR = flags.DEFINE_string(
    'data_dir', '', 'folder of prepared data; default $ATTNMEL_DATA, else '
    '~/attnmel_data')
_TABLE = flags.DEFINE_string(
    'table', None, 'with --dataset=folder: the CSV; default labels.csv in --source')
_CLASSES = flags.DEFINE_list(
    'classes', None, 'with --dataset=folder: the classes in order, as nevus,melanoma; '
    'default those of the table, sorted')
_MASK_KIND = flags.DEFINE_enum(
    'mask_kind', None, folder.MASK_KINDS, 'with --dataset=folder: binary masks are '
    'thresholded, probability masks never; default binary')
_BASE_URL = flags.DEFINE_string(
    'base_url', None, 'mirror for --source=download; default the official address')
_CROP_RATIO = flags.DEFINE_float(
    'crop_ratio', None, 'side of the central square over the shorter side; default '
    "the config's")
_RESIZE_SIZE = flags.DEFINE_integer(
    'resize_size', None, "side of prepared images in pixels; default the config's")


def main() -> None:
  """Prepares the data set; prints the splits that are prepared now."""
  start = time.monotonic()
  data_dir = storage.resolve_data_dir(_DATA_DIR.value)
  # The experiment's config, so that its runs find what is prepared here.
  config = importlib.import_module(f'configs.{_DATASET.value}').get_config()
  geometry = {
      name: getattr(config, name) if flag.value is None else flag.value
      for name, flag in (('crop_ratio', _CROP_RATIO), ('resize_size', _RESIZE_SIZE))}
  source = command.path(_SOURCE.value)
  if _DATASET.value == catalogue.FOLDER:
    _refuse_flags(_BASE_URL, reason='works only for official archives')
    prepare.from_table(
        source, table=command.path(_TABLE.value or str(source / 'labels.csv')),
        classes=tuple(_CLASSES.value or ()), mask_kind=_MASK_KIND.value or 'binary',
        data_dir=data_dir, **geometry)
  else:
    _refuse_flags(_TABLE, _CLASSES, _MASK_KIND,
                  reason='works only with --dataset=folder')
    if _SOURCE.value == 'download':
      source = download.fetch(
          _DATASET.value, data_dir=data_dir, base_url=_BASE_URL.value)
    else:
      _refuse_flags(_BASE_URL, reason='works only with --source=download')
    prepare.from_archives(_DATASET.value, source=source, data_dir=data_dir, **geometry)
  splits = storage.available_splits(_DATASET.value, data_dir=data_dir, **geometry)
  for name in splits:
    print(_summary(storage.open_split(
        _DATASET.value, name, data_dir=data_dir, **geometry)))
  print(f'{_DATASET.value}: {", ".join(splits)} in {data_dir / _DATASET.value}, '
        f'{time.monotonic() - start:.0f} s')


def _refuse_flags(*unused: flags.FlagHolder, reason: str) -> None:
  for flag in unused:
    if flag.value is not None:
      raise errors.UserError(f'--{flag.name} {reason}')


def _summary(split: storage.PreparedSplit) -> str:
  """'train: 2000 images (374 melanoma, ...), 2000 lesion masks, ...'."""
  counts = ', '.join(f'{(split.labels == label).sum()} {name}'
                     for label, name in enumerate(split.class_names))
  lesions = len(set(split.groups))
  plural = '' if lesions == 1 else 's'
  grouped = f' of {lesions} lesion{plural}' if lesions < len(split) else ''
  return (f'{split.split}: {len(split)} images{grouped} ({counts or "no labels"}), '
          f'{split.has_lesion.sum()} lesion masks, '
          f'{split.has_dermo.sum()} dermo masks, {split.side} px, {split.path}')


if __name__ == '__main__':
  command.run(main)
