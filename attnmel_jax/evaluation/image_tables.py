"""What a comparison of runs needs to know of every image, as a CSV.

`predictions/<split>_images.csv` has a row per image: `image`, `lesion_id` (the
image's own id where lesions are not known), then one column for each score that
an image has by itself, such as `jaccard_pool4`. A cell is empty where the image
has no such score. Differences between runs are then resampled by lesion, from run
folders alone.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import io
import math
import os
import pathlib

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files

_FIRST_COLUMNS = ('image', 'lesion_id')
_REMEDY = 'write the file again with launch/evaluate.py'


@dataclasses.dataclass(frozen=True)
class ImageTable:
  """One row an image, in the order of the file: that of the predictions."""

  ids: np.ndarray                # str [N], all different
  groups: np.ndarray             # str [N], lesion of each image
  scores: dict[str, np.ndarray]  # float64 [N] by name; nan where undefined


def write(path: str | os.PathLike, ids: Sequence[str], groups: Sequence[str],
          scores: Mapping[str, np.ndarray]) -> None:
  """Writes ids [N], groups [N] and scores name -> [N] as CSV.

  Raises:
    ValueError: the lengths differ, or a score has the name of a first column.
  """
  lengths = {name: len(values) for name, values in scores.items()}
  if len(groups) != len(ids) or set(lengths.values()) - {len(ids)}:
    raise ValueError(f'{len(ids)} ids, {len(groups)} groups and scores {lengths}')
  if set(scores) & set(_FIRST_COLUMNS):
    raise ValueError(f'scores {list(scores)} hold a column of {_FIRST_COLUMNS}')
  columns = [np.asarray(values, np.float64).tolist() for values in scores.values()]
  with files.replacing(path) as file:
    text = io.TextIOWrapper(file, encoding='utf-8', newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([*_FIRST_COLUMNS, *scores])
    for row, (name, group) in enumerate(zip(ids, groups, strict=True)):
      cells = (column[row] for column in columns)
      writer.writerow([name, group, *('' if math.isnan(x) else repr(x) for x in cells)])
    text.detach()


def read(path: str | os.PathLike) -> ImageTable:
  """Reads what `write` wrote.

  Raises:
    UserError: the file is absent or no such CSV, or a cell is no number.
  """
  try:
    text = pathlib.Path(path).read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
    raise errors.UserError(f'{path} cannot be read: {reason}; {_REMEDY}') from error
  header, *rows = csv.reader(io.StringIO(text, newline='')) if text else [[]]
  if tuple(header[:2]) != _FIRST_COLUMNS or not rows:
    raise errors.UserError(
        f'{path} holds no images under the columns image, lesion_id; {_REMEDY}')
  if len({len(cells) for cells in [header, *rows]}) > 1:
    raise errors.UserError(f'{path} has rows of different lengths; {_REMEDY}')
  ids, groups, *columns = (np.array(column) for column in zip(*rows, strict=True))
  if len(np.unique(ids)) < len(ids):
    raise errors.UserError(f'{path} names an image twice; {_REMEDY}')
  try:
    values = [np.where(column == '', 'nan', column).astype(np.float64)
              for column in columns]
  except ValueError as error:
    raise errors.UserError(f'{path}: {error}; {_REMEDY}') from error
  return ImageTable(ids, groups, dict(zip(header[2:], values, strict=True)))
