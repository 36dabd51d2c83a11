"""Parts of a task: some rows of a prepared split, that train, validate or test.

split.csv of a run folder lists which image is in which part.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import storage

_FEW = 10  # images of a class
_CONSEQUENCES = {'train': 'are hardly learned from',
                 'validation': 'choose checkpoint and threshold almost by chance',
                 'test': 'give wide intervals'}


@dataclasses.dataclass(frozen=True)
class Part:
  """Some rows of a prepared split, with the labels of the task."""

  prepared: storage.PreparedSplit
  rows: np.ndarray              # int [n], into `prepared`
  labels: np.ndarray            # int32 [len(prepared)], of the task
  class_names: tuple[str, ...]  # of the task, in the order of labels

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

  def choose(self, rows: np.ndarray) -> 'Part':
    """The part of these of its rows."""
    return dataclasses.replace(self, rows=self.rows[rows])


def counts(part: Part) -> dict[str, Any]:
  """Images, lesions, and images of each class of the task, as scores name them."""
  number = np.bincount(part.row_labels[part.row_labels >= 0],
                       minlength=len(part.class_names))
  return {'n': len(part.rows), 'groups': len(np.unique(part.groups)),
          'class_counts': dict(zip(part.class_names, number.tolist(), strict=False))}


def describe(part: Part) -> dict[str, int]:
  """Images, images of each of the data set's classes, annotated images."""
  prepared, rows = part.prepared, part.rows
  labels = prepared.labels[rows]
  counts = np.bincount(labels[labels >= 0], minlength=len(prepared.class_names))
  return {'images': len(rows),
          **dict(zip(prepared.class_names, counts.tolist(), strict=True)),
          'lesion masks': int(prepared.has_lesion[rows].sum()),
          'dermo maps': int(prepared.has_dermo[rows].sum())}


def few(name: str, part: Part) -> list[str]:
  """Warnings about classes of the task of which a part has hardly any image."""
  found = counts(part)['class_counts']
  return [f'warning: {name} has {count} of {kind}; fewer than {_FEW} images '
          f'{_CONSEQUENCES[name]}' for kind, count in found.items() if count < _FEW]


def write_split(path: pathlib.Path, parts: Mapping[str, Part]) -> None:
  """Writes which image trains, validates or tests: `image,group,part`, by id."""
  rows = sorted((image_id, group, name) for name, part in parts.items()
                for image_id, group in zip(part.ids, part.groups, strict=True))
  with files.replacing(path) as file:
    file.write(files.csv_text([('image', 'group', 'part'), *rows]).encode())


def read_split(path: pathlib.Path) -> dict[str, list[str]]:
  """Ids of the images of each part, from what `write_split` wrote.

  Raises:
    UserError: the file is missing or damaged.
  """
  parts: dict[str, list[str]] = {'train': [], 'validation': [], 'test': []}
  try:
    rows = files.csv_rows(path.read_bytes().decode())
    next(rows)
    for _, (image, _, part) in rows:
      parts[part].append(image)
  except (OSError, KeyError, ValueError, StopIteration) as error:
    raise errors.UserError(f'{path} is missing or damaged; name a whole run folder, as '
                           'launch/main.py makes one') from error
  return parts
