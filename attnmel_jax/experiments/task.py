"""What a run learns from and is scored with: splits, labels, batches, schedule."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import io
import itertools
import pathlib
from typing import Any

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import parallel
from attnmel_jax.data import generated
from attnmel_jax.data import near_duplicates
from attnmel_jax.data import pipeline
from attnmel_jax.data import splits
from attnmel_jax.data import storage
from attnmel_jax.experiments import run_folder
from attnmel_jax.training import loop


@dataclasses.dataclass(frozen=True)
class Part:
  """Some rows of a prepared split, with the labels of the task."""

  prepared: storage.PreparedSplit
  rows: np.ndarray    # int [n], into `prepared`
  labels: np.ndarray  # int32 [len(prepared)], of the task

  @property
  def ids(self) -> np.ndarray:
    """Image id of each row."""
    return self.prepared.ids[self.rows]

  @property
  def groups(self) -> np.ndarray:
    """Lesion of each row; the image's own id where lesions are not known."""
    return self.prepared.groups[self.rows]

  @property
  def row_labels(self) -> np.ndarray:
    """Label of each row."""
    return self.labels[self.rows]


@dataclasses.dataclass(frozen=True)
class Task:
  """The data side of a run: a pure function of its config and prepared data."""

  class_names: tuple[str, ...]  # of the task, in the order of labels
  parts: dict[str, Part]        # train, and validation and test where there are any
  region: pipeline.Region

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


def open_part(config: Mapping[str, Any], split: str) -> tuple[Part, tuple[str, ...]]:
  """All rows of a prepared split, and the class names of the task; () for a U-Net.

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
  if config['model'] == 'unet':
    return Part(prepared, np.arange(len(prepared)), prepared.labels), ()
  labels, names = splits.task_labels(
      prepared.labels, prepared.class_names, config['positive'])
  return Part(prepared, np.arange(len(prepared)), labels), names


def open_task(config: Mapping[str, Any]) -> Task:
  """Opens the prepared splits that the config names.

  Raises:
    UserError: nothing is prepared, there are no labels for a classifier, the region
      of interest is unknown, splits share an image or a lesion or differ in their
      classes, the validation images are all of one class, or without a mask for a
      U-Net, or the generated masks are not there or of a U-Net that knows test images.
  """
  train, names = open_part(config, 'train')
  if len(names) < 2 and config['model'] != 'unet':
    found = f'the one class {names[0]}' if names else 'no labels'
    raise errors.UserError(
        f'dataset={config["dataset"]} has {found}: there is nothing to tell apart; '
        'choose another dataset')
  if config['roi'] == 'generated':
    train = dataclasses.replace(train, prepared=generated.attach(
        train.prepared, config['generated_masks']))
  divide = _fold if config['num_folds'] > 1 else _official
  parts = divide(config, train)
  for part in parts.values():
    _check_classes(train.prepared, part.prepared)
  if not config['allow_leakage']:
    _check_disjoint(parts, config['group_folds'])
  if train.prepared.generated is not None and 'test' in parts:
    test = parts['test'].ids
    generated.check_unseen(train.prepared.generated.unet, test,
                           f'the {len(test)} test images of this run')
  if 'validation' in parts:
    _check_validation(config, parts['validation'], names)
  region = pipeline.find_region(
      config['roi'], dermo_attributes=config['dermo_attributes'],
      available=train.prepared.dermo_attributes)
  return Task(names, parts, region)


def open_learnt(unet: generated.Identity, data_dir: str,
                lesions: Mapping[str, str]) -> list[Part]:
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
    part, _ = open_part(config, split)
    prepared = part.prepared
    groups = np.array([lesions.get(name, own) for name, own in zip(
        prepared.ids.tolist(), prepared.groups.tolist(), strict=True)])
    rows = np.flatnonzero(np.isin(prepared.ids, unet['trained_on']))
    missing -= set(prepared.ids[rows].tolist())
    parts.append(Part(dataclasses.replace(prepared, groups=groups), rows, part.labels))
  if missing:
    raise errors.UserError(
        f'{len(missing)} of the {len(unet["trained_on"])} images that the U-Net learnt '
        f'from are not prepared as {config["dataset"]} in '
        f'{storage.resolve_data_dir(data_dir)}')
  return [part for part in parts if len(part.rows)]


def _check_disjoint(parts: Mapping[str, Part], group_folds: bool) -> None:
  """Raises UserError if parts share an image, or a lesion not meant to be divided."""
  for (first, one), (second, other) in itertools.combinations(parts.items(), 2):
    splits.check_disjoint('image', {first: one.ids, second: other.ids})
    if group_folds or one.prepared.split != other.prepared.split:
      splits.check_disjoint('lesion', {first: one.groups, second: other.groups})


def _check_classes(train: storage.PreparedSplit, other: storage.PreparedSplit
                   ) -> None:
  """Raises UserError if two splits were prepared with different classes."""
  if other.class_names != train.class_names:
    raise errors.UserError(
        f'{other.path} has the classes {", ".join(other.class_names)}, {train.path} '
        f'{", ".join(train.class_names)}; prepare both with the same --classes, or '
        'one of them into another --data_dir')


def _check_validation(config: Mapping[str, Any], part: Part, names: tuple[str, ...]
                      ) -> None:
  """Raises UserError if no score on the part could choose a checkpoint."""
  if config['model'] == 'unet':
    if not part.prepared.has_lesion[part.rows].any():
      raise errors.UserError(
          f'no validation image of dataset={config["dataset"]} has a lesion mask: no '
          'score can choose a checkpoint; prepare it with its masks')
  elif len(np.unique(part.row_labels)) < 2:
    raise errors.UserError(
        f'the validation images are all {names[part.row_labels[0]]}: no score can '
        'choose a checkpoint; change positive, or set validation_fraction=0 where the '
        'data set has no validation split of its own')


def _official(config, train: Part) -> dict[str, Part]:
  available = _available_splits(config)
  parts = {'train': train}
  if 'validation' in available:
    parts['validation'], _ = open_part(config, 'validation')
  elif config['validation_fraction'] > 0:
    rest, held_out = splits.hold_out(
        train.ids, train.prepared.labels[train.rows], train.groups,
        fraction=config['validation_fraction'], group_folds=config['group_folds'],
        seed=config['split_seed'])
    parts = {'train': _choose(train, rest), 'validation': _choose(train, held_out)}
  if 'test' in available:
    parts['test'], _ = open_part(config, 'test')
  return parts


def unused_splits(config: Mapping[str, Any], task: Task) -> list[str]:
  """Prepared splits that no part of the task is of."""
  used = {part.prepared.split for part in task.parts.values()}
  return [split for split in _available_splits(config) if split not in used]


def _fold(config, part: Part) -> dict[str, Part]:
  rows = splits.cross_validation(
      part.ids, part.prepared.labels[part.rows], part.groups,
      num_folds=config['num_folds'], fold=config['fold'],
      group_folds=config['group_folds'],
      validation_fraction=config['validation_fraction'], seed=config['split_seed'])
  return {'train': _choose(part, rows.train),
          'validation': _choose(part, rows.validation),
          'test': _choose(part, rows.test)}


def write_split(path: pathlib.Path, task: Task) -> None:
  """Writes which image trains, validates or tests: `image,group,part`, by id.

  Raises:
    UserError: the file is there and says otherwise of training or validation.
  """
  if path.exists():
    before = read_split(path)
    for name in ('train', 'validation'):
      now = sorted(task.parts[name].ids.tolist()) if name in task.parts else []
      if sorted(before[name]) != now:
        raise errors.UserError(
            f'{path} divided the images otherwise, as an older version did; name '
            'another --workdir')
  rows = sorted((image_id, group, name) for name, part in task.parts.items()
                for image_id, group in zip(part.ids, part.groups, strict=True))
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows([('image', 'group', 'part'), *rows])
  with files.replacing(path) as file:
    file.write(text.getvalue().encode())


def read_split(path: pathlib.Path) -> dict[str, list[str]]:
  """Ids of the images of each part, from what `write_split` wrote.

  Raises:
    UserError: the file is missing or damaged.
  """
  parts: dict[str, list[str]] = {'train': [], 'validation': [], 'test': []}
  try:
    with path.open(newline='') as file:
      for row in csv.DictReader(file):
        parts[row['part']].append(row['image'])
  except (OSError, KeyError, csv.Error) as error:
    raise errors.UserError(f'{path} is missing or damaged; name a whole run folder, as '
                           'launch/main.py makes one') from error
  return parts


def is_divided(task: Task) -> bool:
  """Whether this run, not the data set, decided which images are which part."""
  return len({part.prepared.split for part in task.parts.values()}) < len(task.parts)


def _choose(part: Part, rows: np.ndarray) -> Part:
  return dataclasses.replace(part, rows=part.rows[rows])


def open_store(prepared: storage.PreparedSplit, region: pipeline.Region,
               cache_gib: float) -> pipeline.ImageStore:
  """The split's images and maps, in memory where they fit `cache_gib`."""
  return pipeline.open_store(
      prepared, maps=pipeline.needed_maps(region, evaluation=True),
      cache_gib=cache_gib)


def open_stores(config: Mapping[str, Any], task: Task
                ) -> dict[str, pipeline.ImageStore]:
  """The store of every part; parts of one split share it, all share the budget.

  The region's map is read where there is training.
  """
  stores: dict[str, pipeline.ImageStore] = {}
  regions = {task.parts['train'].prepared.split: task.region}
  left = config['cache_gib']
  for part in task.parts.values():
    split = part.prepared.split
    if split not in stores:
      region = regions.get(split, pipeline.NO_REGION)
      stores[split] = open_store(part.prepared, region, left)
      left -= stores[split].nbytes / 2**30
  return {name: stores[part.prepared.split] for name, part in task.parts.items()}


def training_batches(config: Mapping[str, Any], task: Task, store: pipeline.ImageStore
                     ) -> pipeline.TrainingBatches:
  """This process's part of the batch of every training step."""
  train = task.parts['train']
  return pipeline.TrainingBatches(
      store, train.rows, train.labels, region=task.region,
      batch_size=config['batch_size'], sampler=config['sampler'],
      oversample_factors=config['oversample_factors'], seed=config['seed'],
      part=parallel.batch_part(config['batch_size']))


def undecoded(task: Task) -> pipeline.ImageStore:
  """A store of the training images for what needs none of their pixels."""
  return pipeline.ImageStore(task.parts['train'].prepared, (), None)


def evaluation_batches(config: Mapping[str, Any], part: Part,
                       store: pipeline.ImageStore) -> Iterator[pipeline.Batch]:
  """Every row of the part once, in padded batches; this process's part of each."""
  return pipeline.evaluation_batches(
      store, part.rows, part.labels, region=pipeline.NO_REGION,
      batch_size=config['batch_size'], part=parallel.batch_part(config['batch_size']))


def schedule(config: Mapping[str, Any], steps_per_pass: int) -> loop.Schedule:
  """Steps, learning rates and checkpoints of a run."""
  return loop.Schedule(
      steps_per_epoch=steps_per_pass * config['passes_per_epoch'],
      num_epochs=config['num_epochs'], learning_rate=config['learning_rate'],
      decay_every_epochs=config['decay_every_epochs'],
      decay_factor=config['decay_factor'],
      checkpoint_every_steps=config['checkpoint_every_steps'],
      log_every_steps=config['log_every_steps'])


def counts(part: Part, class_names: Sequence[str]) -> dict[str, Any]:
  """Images, lesions, and images of each class of the task, as scores name them."""
  number = np.bincount(part.row_labels[part.row_labels >= 0],
                       minlength=len(class_names))
  return {'n': len(part.rows), 'groups': len(np.unique(part.groups)),
          'class_counts': dict(zip(class_names, number.tolist(), strict=False))}


def describe(part: Part) -> dict[str, int]:
  """Images, images of each of the data set's classes, annotated images."""
  prepared, rows = part.prepared, part.rows
  labels = prepared.labels[rows]
  counts = np.bincount(labels[labels >= 0], minlength=len(prepared.class_names))
  return {'images': len(rows),
          **dict(zip(prepared.class_names, counts.tolist(), strict=True)),
          'lesion masks': int(prepared.has_lesion[rows].sum()),
          'dermo maps': int(prepared.has_dermo[rows].sum())}
