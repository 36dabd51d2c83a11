"""What a run is trained on and scored with: its parts, their labels, the region."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from attnmel_jax import errors
from attnmel_jax.data import generated
from attnmel_jax.data import near_duplicates
from attnmel_jax.data import pipeline
from attnmel_jax.data import splits
from attnmel_jax.data import storage
from attnmel_jax.experiments import methods
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run_folder


@dataclasses.dataclass(frozen=True)
class Task:
  """The data side of a run: a pure function of its config and prepared data."""

  parts: dict[str, parts_lib.Part]  # train; validation and test where there are any
  region: pipeline.Region

  @property
  def class_names(self) -> tuple[str, ...]:
    """Of the task, in the order of labels; () for a U-Net."""
    return self.parts['train'].class_names

  @property
  def generated(self) -> generated.Maps | None:
    """The U-Net's maps that the region is made from, if it is."""
    return self.parts['train'].prepared.generated

  @property
  def synthetic(self) -> bool:
    """Whether any part holds phantom images."""
    return any(part.prepared.synthetic for part in self.parts.values())


def _available_splits(config: Mapping[str, Any]) -> tuple[str, ...]:
  return storage.available_splits(
      config['dataset'], data_dir=storage.resolve_data_dir(config['data_dir']),
      crop_ratio=config['crop_ratio'], resize_size=config['resize_size'])


def open_part(config: Mapping[str, Any], split: str) -> parts_lib.Part:
  """All rows of a prepared split.

  Raises:
    UserError: the split is not prepared, or has no such class.
  """
  prepared = storage.open_split(
      config['dataset'], split,
      data_dir=storage.resolve_data_dir(config['data_dir']),
      crop_ratio=config['crop_ratio'], resize_size=config['resize_size'])
  if not prepared.synthetic:  # phantoms have ids of the archive's form
    prepared = dataclasses.replace(
        prepared, groups=near_duplicates.join_lesions(prepared.ids, prepared.groups))
  labels, names = methods.of(config).task_labels(prepared, config)
  return parts_lib.Part(prepared, np.arange(len(prepared)), labels, names)


def open_task(config: Mapping[str, Any]) -> Task:
  """Opens the prepared splits that the config names.

  Raises:
    UserError: nothing is prepared, there are no labels for a classifier, the region
      of interest is unknown, splits differ in their classes, the validation images are
      all of one class, or without a mask for a U-Net, or the generated masks are
      missing or of a U-Net that knows test images.
  """
  method = methods.of(config)
  train = open_part(config, 'train')
  method.check_labels(train, config)
  if config['roi'] == 'generated':
    train = dataclasses.replace(train, prepared=generated.attach(
        train.prepared, config['generated_masks']))
  divide = _fold if config['num_folds'] > 1 else _official
  parts = divide(config, train)
  for part in parts.values():
    _check_classes(train.prepared, part.prepared)
  if train.prepared.generated is not None and 'test' in parts:
    test = parts['test'].ids
    generated.check_unseen(train.prepared.generated.unet, test,
                           f'the {len(test)} test images of this run')
  if 'validation' in parts:
    method.check_validation(parts['validation'], config)
  region = pipeline.find_region(
      config['roi'], dermo_attributes=config['dermo_attributes'],
      available=train.prepared.dermo_attributes)
  return Task(parts, region)


def open_learnt(unet: generated.Identity, data_dir: str,
                lesions: Mapping[str, str]) -> list[parts_lib.Part]:
  """The images that trained a U-Net or chose its checkpoint, a part for each split.

  Args:
    unet: its identity.
    data_dir: folder of prepared data; '' for the default one.
    lesions: image id -> lesion, of images whose own data set may not know it.

  Raises:
    UserError: some of them are not prepared there, or the identity is damaged.
  """
  config = run_folder.unbound(unet['config'], data_dir)
  if not unet['trained_on']:
    raise errors.UserError('the identity of the U-Net of the masks is damaged: it '
                           'names no images that trained it')
  parts = []
  missing = set(unet['trained_on'])
  for split in _available_splits(config):
    if split == 'test':
      continue
    part = open_part(config, split)
    prepared = part.prepared
    groups = np.array([lesions.get(name, own) for name, own in zip(
        prepared.ids.tolist(), prepared.groups.tolist(), strict=True)])
    rows = np.flatnonzero(np.isin(prepared.ids, unet['trained_on']))
    missing -= set(prepared.ids[rows].tolist())
    parts.append(dataclasses.replace(
        part, prepared=dataclasses.replace(prepared, groups=groups), rows=rows))
  if missing:
    raise errors.UserError(
        f'{len(missing)} of the {len(unet["trained_on"])} images that the U-Net learnt '
        f'from are not prepared as {config["dataset"]} in '
        f'{storage.resolve_data_dir(data_dir)}')
  return [part for part in parts if len(part.rows)]


def _check_classes(train: storage.PreparedSplit, other: storage.PreparedSplit
                   ) -> None:
  """Raises UserError if two splits were prepared with different classes."""
  if other.class_names != train.class_names:
    raise errors.UserError(
        f'{other.path} has the classes {", ".join(other.class_names)}, {train.path} '
        f'{", ".join(train.class_names)}; prepare both with the same --classes, or '
        'one of them into another --data_dir')


def _official(config, train: parts_lib.Part) -> dict[str, parts_lib.Part]:
  available = _available_splits(config)
  parts = {'train': train}
  if 'validation' in available:
    parts['validation'] = open_part(config, 'validation')
  elif config['validation_fraction'] > 0:
    rest, held_out = splits.hold_out(
        train.ids, train.prepared.labels[train.rows], train.groups,
        fraction=config['validation_fraction'], group_folds=config['group_folds'],
        seed=config['split_seed'], class_names=train.prepared.class_names)
    parts = {'train': train.choose(rest), 'validation': train.choose(held_out)}
  if 'test' in available:
    parts['test'] = open_part(config, 'test')
  return parts


def unused_splits(config: Mapping[str, Any], task: Task) -> list[str]:
  """Prepared splits that no part of the task is of."""
  used = {part.prepared.split for part in task.parts.values()}
  return [split for split in _available_splits(config) if split not in used]


def _fold(config, part: parts_lib.Part) -> dict[str, parts_lib.Part]:
  rows = splits.cross_validation(
      part.ids, part.prepared.labels[part.rows], part.groups,
      num_folds=config['num_folds'], fold=config['fold'],
      group_folds=config['group_folds'],
      validation_fraction=config['validation_fraction'], seed=config['split_seed'],
      class_names=part.prepared.class_names)
  return {'train': part.choose(rows.train),
          'validation': part.choose(rows.validation),
          'test': part.choose(rows.test)}


def is_divided(task: Task) -> bool:
  """Whether this run, not the data set, decided which images are which part."""
  return len({part.prepared.split for part in task.parts.values()}) < len(task.parts)
