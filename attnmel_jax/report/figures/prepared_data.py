"""The prepared data behind the figures: where it lies, and which images are shown."""

from collections.abc import Iterator
from collections.abc import Sequence
import pathlib
import re
from typing import NamedTuple

import numpy as np

from attnmel_jax import errors
from attnmel_jax.data import catalogue
from attnmel_jax.data import generated
from attnmel_jax.data import splits
from attnmel_jax.data import storage
from attnmel_jax.experiments import classification
from attnmel_jax.report import groups
from attnmel_jax.report import run_reader

# A figure shows about as many images: as many of each class, and at least one.
IMAGES = 8
RULE = ('Images: of each class the first annotated ones in the order of their ids '
        '(the first ones where none is annotated).')

_SPLIT_FOLDER = re.compile(
    r'(?P<split>train|validation|test)-crop(?P<ratio>[\d.]+)-side(?P<side>\d+)-'
    r'[a-z]+(-generated-(?P<masks>.+))?')


class SplitFolder(NamedTuple):
  """A prepared split, or the masks that were generated for it, by its path."""

  path: pathlib.Path
  dataset: str
  split: str
  crop_ratio: float
  resize_size: int
  masks: str  # name of the generated masks; '' for the split itself

  def open(self) -> storage.PreparedSplit:
    """The split, also where this is the folder of its masks."""
    return storage.open_split(
        self.dataset, self.split, data_dir=self.path.parents[1],
        crop_ratio=self.crop_ratio, resize_size=self.resize_size)


def data_dirs(runs: Sequence[run_reader.FinishedRun], data_dir: pathlib.Path | None
              ) -> list[pathlib.Path]:
  """The folder that was asked for, then those that the runs name."""
  named = [storage.resolve_data_dir(run.config['data_dir']) for run in runs]
  return list(dict.fromkeys([*([data_dir] if data_dir else []), *named]))


def split_folders(data_dir: pathlib.Path) -> Iterator[SplitFolder]:
  """What is prepared there, and the masks that were generated for it, by name."""
  for dataset in catalogue.NAMES:
    for path in sorted((data_dir / dataset).glob('*-crop*')):
      match = _SPLIT_FOLDER.fullmatch(path.name)
      if match and path.is_dir():
        yield SplitFolder(path, dataset, match['split'], float(match['ratio']),
                          int(match['side']), match['masks'] or '')


def read_index(found: SplitFolder) -> dict:
  """Ids, labels and class names of a prepared split; {} where it cannot be read."""
  return storage.read_index(found.path / storage.VERSION)


def open_photographs(
    one: groups.Member, split: str, candidates: Sequence[pathlib.Path],
) -> storage.PreparedSplit:
  """The prepared split that holds the images that a run was scored with.

  Raises:
    UserError: it is in none of the folders, or other data are.
  """
  reason = f'no prepared data of {one.run.folder.name}'
  for data_dir in candidates:
    try:
      return _open(one, split, data_dir)
    except errors.UserError as error:
      reason = str(error)
  raise errors.UserError(reason)


def _open(one: groups.Member, split: str, data_dir: pathlib.Path
          ) -> storage.PreparedSplit:
  """`open_photographs` in one folder."""
  config = one.run.config
  geometry = {'data_dir': data_dir, 'crop_ratio': config['crop_ratio'],
              'resize_size': config['resize_size']}
  available = storage.available_splits(config['dataset'], **geometry)
  # A run that divided the images itself took them all from the training split.
  name = split if split in available and config['num_folds'] == 1 else 'train'
  prepared = storage.open_split(config['dataset'], name, **geometry)
  scored = {name: one.scores.fingerprint} if one.scores.fingerprint else {}
  bound = one.run.environment['fingerprints'] | scored
  for other in {name, 'train'} & set(bound) & set(available):
    found = storage.open_split(config['dataset'], other, **geometry).fingerprint
    if found != bound[other]:
      raise errors.UserError(
          f'the {other} data in {data_dir} are not those of {one.run.folder.name} '
          f'(fingerprint {found[:12]}, of the run {bound[other][:12]})')
  labels, _ = splits.task_labels(
      prepared.labels, prepared.class_names, config['positive'])
  known = dict(zip(prepared.ids.tolist(), labels.tolist(), strict=True))
  expected = zip(one.table.ids.tolist(), one.table.labels.tolist(), strict=True)
  if any(known.get(image) != label for image, label in expected):
    raise errors.UserError(f'{prepared.path} does not hold the images and labels that '
                           f'{one.run.folder.name} was scored with')
  return prepared


def choose(labels: np.ndarray, annotated: np.ndarray) -> np.ndarray:
  """Rows to show: the first annotated ones of each class, class by class.

  Args:
    labels: int [N], rows in the order of their ids.
    annotated: bool [N].
  """
  rows = np.flatnonzero(annotated) if np.any(annotated) else np.arange(len(labels))
  number = len(np.unique(labels[rows]))
  turns = classification.shown_rows(labels[rows], max(1, IMAGES // number) * number)
  chosen = rows[turns]
  return chosen[np.argsort(labels[chosen], kind='stable')]


def generated_maps(one: SplitFolder, prepared: storage.PreparedSplit,
                   rows: np.ndarray) -> np.ndarray:
  """Lesion probability maps of some images, uint8 [N, S, S], 255 for certainty.

  Raises:
    UserError: the maps are not whole, damaged, or those of other images.
  """
  maps = generated.open_maps(prepared, one.masks)
  return np.stack([maps.load(int(row)) for row in rows])
