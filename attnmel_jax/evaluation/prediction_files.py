"""Predictions, scores and attention maps of single images on disk.

`predictions/<split>.csv` has a row per image: `image`, `label` (a class name),
then one probability per class, under the class's name.

`predictions/<split>_images.csv` has what a comparison of runs needs to know of every
image: `image`, `lesion_id` (the image's own id where lesions are not known), then
one column for each score that an image has by itself, such as `jaccard_pool4`; a
cell is empty where it has none. Differences between runs are then resampled by
lesion, from run folders alone.

`predictions/<split>_submission.csv` is in the form of the ISIC 2018 challenge's Task
3. The official tool, `isic-challenge-scoring`, gives the same numbers for it as
`score_summary.classification` does for the rows of `scored`, but where two classes
share the largest probability: the first of them is predicted here, and the official
tool counts such an image as wrong.

Files are written whole or not at all, and numbers so that they come back as the
same float64.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
import os
import pathlib
import zipfile
import zlib

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import catalogue

# Of ISIC 2018 Task 3, in the order of its columns.
CHALLENGE_CLASSES = catalogue.DATASETS['isic2018'].class_names
# In the challenge's test set, but without weight in its score.
_UNSCORED = ('ISIC_0035068',)

_FIRST_COLUMNS = ('image', 'label')
_FIRST_SCORE_COLUMNS = ('image', 'lesion_id')
# Files may come from elsewhere, with fewer digits.
_SUM_TOLERANCE = 1e-3
# A share may be beyond 1 by the rounding of its sum.
_ROUNDING = 1e-6
_REMEDY = 'write the file again with launch/evaluate.py'


@dataclasses.dataclass(frozen=True)
class PredictionTable:
  """One row an image, in the order of the file."""

  ids: np.ndarray            # str [N], all different
  labels: np.ndarray         # int32 [N], index into class_names
  probabilities: np.ndarray  # float64 [N, K]
  class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ImageTable:
  """One row an image, in the order of the file: that of the predictions."""

  ids: np.ndarray                # str [N], all different
  groups: np.ndarray             # str [N], lesion of each image
  scores: dict[str, np.ndarray]  # float64 [N] by name; nan where undefined


def scored(ids: Sequence[str]) -> np.ndarray:
  """Which images count in a score: bool [N]; all but one test image of ISIC 2018."""
  return ~np.isin(np.asarray(ids, str), _UNSCORED)


def write_predictions(
    path: str | os.PathLike,
    ids: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> None:
  """Writes ids [N], labels int [N] in [0, K), probabilities [N, K] as CSV.

  Raises:
    ValueError: the arrays do not fit each other.
  """
  if probabilities.shape != (len(ids), len(class_names)):
    raise ValueError(f'{len(ids)} ids, probabilities {probabilities.shape} and classes '
                     f'{tuple(class_names)} do not fit')
  rows = zip(ids, labels, np.asarray(probabilities, np.float64).tolist(), strict=True)
  _write_csv(path, [*_FIRST_COLUMNS, *class_names],
             ([name, class_names[label], *row] for name, label, row in rows))


def write_submission(
    path: str | os.PathLike, ids: Sequence[str], probabilities: np.ndarray) -> None:
  """Writes ids [N] without extension and probabilities [N, 7] of CHALLENGE_CLASSES."""
  rows = zip(ids, np.asarray(probabilities, np.float64).tolist(), strict=True)
  _write_csv(path, ['image', *CHALLENGE_CLASSES], ([name, *row] for name, row in rows))


def write_image_scores(path: str | os.PathLike, ids: Sequence[str],
                       groups: Sequence[str], scores: Mapping[str, np.ndarray]
                       ) -> None:
  """Writes ids [N], groups [N] and scores name -> [N] as CSV.

  Raises:
    ValueError: the lengths differ.
  """
  columns = [['' if math.isnan(x) else x
              for x in np.asarray(values, np.float64).tolist()]
             for values in scores.values()]
  _write_csv(path, [*_FIRST_SCORE_COLUMNS, *scores],
             zip(ids, groups, *columns, strict=True))


def read_predictions(path: str | os.PathLike) -> PredictionTable:
  """Reads what `write_predictions` wrote, or a file from elsewhere in its form.

  Raises:
    UserError: the file is absent or no such CSV, an id is empty or occurs twice,
      a label is none of the classes, or the probabilities of a row are no
      numbers in [0, 1] with sum 1 (within 0.001). It names file and line.
  """
  text = _read_text(path)
  ids, labels, probabilities = [], [], []
  seen: set[str] = set()
  rows = files.csv_rows(text)
  try:
    _, header = next(rows, (1, []))
    if fault := _header_fault(header):
      raise ValueError(f'line 1: {fault}')
    class_names = tuple(header[len(_FIRST_COLUMNS):])
    for line, cells in rows:
      if not cells:
        continue
      try:
        label, values = _parse_row(cells, class_names, seen)
      except ValueError as error:
        raise ValueError(f'line {line}: {error}') from error
      ids.append(cells[0])
      labels.append(label)
      probabilities.append(values)
  except ValueError as error:
    raise errors.UserError(f'{path}, {error}; {_REMEDY}') from error
  if not ids:
    raise errors.UserError(f'{path} has no rows; {_REMEDY}')
  return PredictionTable(np.array(ids), np.array(labels, np.int32),
                     np.array(probabilities), class_names)


def read_image_scores(path: str | os.PathLike) -> ImageTable:
  """Reads what `write_image_scores` wrote.

  Raises:
    UserError: the file is absent or no such CSV, or a cell is no number in [0, 1].
  """
  text = _read_text(path)
  try:
    header, *rows = [cells for _, cells in files.csv_rows(text)] or [[]]
  except ValueError as error:
    raise errors.UserError(f'{path}, {error}; {_REMEDY}') from error
  if tuple(header[:2]) != _FIRST_SCORE_COLUMNS or not rows:
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
  for name, column in zip(header[2:], values, strict=True):
    outside = column[~(np.isnan(column) | (column >= 0) & (column <= 1 + _ROUNDING))]
    if len(outside):
      raise errors.UserError(
          f'{path} holds {outside[0]} in column {name}, not in [0, 1]; {_REMEDY}')
  return ImageTable(ids, groups, dict(zip(header[2:], values, strict=True)))


def write_attention(
    path: str | os.PathLike, ids: Sequence[str], maps: Mapping[str, np.ndarray],
) -> None:
  """Writes maps name -> [N, h, w] of images ids [N] as a compressed .npz.

  The type of the maps is kept, so that scores from the file are the same.
  """
  if 'ids' in maps:
    raise ValueError("a map cannot be called 'ids'")
  for name, values in maps.items():
    if values.ndim != 3 or len(values) != len(ids):
      raise ValueError(f'map {name} {values.shape} is not [{len(ids)}, h, w]')
  with files.replacing(path) as file:
    np.savez_compressed(file, ids=np.asarray(ids, dtype=str), **maps)


def read_attention(
    path: str | os.PathLike) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Returns ids str [N] and the maps name -> [N, h, w].

  Raises:
    UserError: the file is absent, damaged, or not what `write_attention` writes.
  """
  try:
    files.check(pathlib.Path(path))
    with zipfile.ZipFile(path) as archive:  # which may be small and hold much
      files.check_size(sum(member.file_size for member in archive.infolist()))
    with open(path, 'rb') as file, np.load(file, allow_pickle=False) as archive:
      maps = dict(archive)
    ids = maps.pop('ids')
    if ids.ndim != 1 or ids.dtype.kind != 'U' or len(np.unique(ids)) < len(ids):
      raise ValueError('ids')
  except FileNotFoundError as error:
    raise errors.UserError(f'{path} does not exist; {_REMEDY}') from error
  except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError,
          zlib.error, zipfile.BadZipFile, MemoryError, errors.Unusable) as error:
    raise errors.UserError(
        f'{path} is damaged or holds no attention maps; {_REMEDY}') from error
  for name, values in maps.items():
    if values.ndim != 3 or len(values) != len(ids):
      raise errors.UserError(f'{path}: map {name} {values.shape} does not belong to '
                             f'{len(ids)} images; {_REMEDY}')
    if values.dtype.kind != 'f' or not values.size or not np.isfinite(values).all():
      raise errors.UserError(
          f'{path}: map {name} holds values that are no finite numbers; {_REMEDY}')
  return ids, maps


def _read_text(path: str | os.PathLike) -> str:
  try:
    return files.read_bytes(pathlib.Path(path)).decode('utf-8-sig')
  except (OSError, UnicodeDecodeError, errors.Unusable) as error:
    reason = getattr(error, 'strerror', None) or (
        f'it {error}' if isinstance(error, errors.Unusable) else 'it is not UTF-8 text')
    raise errors.UserError(f'{path} cannot be read: {reason}; {_REMEDY}') from error


def _write_csv(path: str | os.PathLike, header: Sequence[str],
               rows: Iterable[Sequence[str | float]]) -> None:
  """Text and float64; `csv` writes a number so that it comes back as the same."""
  with files.replacing(path) as file:
    file.write(files.csv_text([header, *rows]).encode())


def _header_fault(header: Sequence[str]) -> str:
  """What is wrong with the columns; empty if nothing is."""
  classes = header[len(_FIRST_COLUMNS):]
  if tuple(header[:len(_FIRST_COLUMNS)]) != _FIRST_COLUMNS or len(classes) < 2:
    return ('these are no names of columns; expected image, label and one column for '
            'each of two or more classes')
  if len(set(header)) < len(header) or '' in header:
    return f'columns {", ".join(header)} are not all named and different'
  return ''


def _row_fault(name: str, values: np.ndarray, seen: set[str]) -> str:
  """What is wrong with a row; empty if nothing is. Adds the id to `seen`.

  Faults are found by their line: a report without images may not name any.
  """
  if not name:
    return 'the image has no id'
  if name in seen:
    return 'its image occurs in an earlier line'
  seen.add(name)
  if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
    return f'probabilities are {values.tolist()}, not all in [0, 1]'
  if abs(values.sum() - 1) > _SUM_TOLERANCE:
    return f'the probabilities sum to {values.sum():.4g}, not 1'
  return ''


def _parse_row(
    cells: Sequence[str], class_names: tuple[str, ...], seen: set[str],
) -> tuple[int, list[float]]:
  """Cells -> label index and probabilities; ValueError says what is wrong."""
  columns = len(_FIRST_COLUMNS) + len(class_names)
  if len(cells) != columns:
    raise ValueError(f'{len(cells)} cells under {columns} columns')
  name, label, *numbers = cells
  if label not in class_names:
    raise ValueError(f'the label is none of {", ".join(class_names)}')
  values = []
  for column, number in zip(class_names, numbers, strict=True):
    try:
      values.append(float(number))
    except ValueError as error:
      raise ValueError(f'column {column} holds no number') from error
  if fault := _row_fault(name, np.array(values), seen):
    raise ValueError(fault)
  return class_names.index(label), values
