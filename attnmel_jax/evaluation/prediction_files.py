"""Predictions, scores and attention maps on disk: whole or not at all.

`predictions/<split>.csv` has a row per image: `image`, `label` (a class name),
then one probability per class, under the class's name. Numbers are written so
that they come back as the same float64.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import io
import os
import pathlib
import zipfile
import zlib

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files

_FIRST_COLUMNS = ('image', 'label')
# Files may come from elsewhere, with fewer digits.
_SUM_TOLERANCE = 1e-3
_REMEDY = 'write the file again with launch/evaluate.py'


@dataclasses.dataclass(frozen=True)
class PredictionTable:
  """One row an image, in the order of the file."""

  ids: np.ndarray            # str [N], all different
  labels: np.ndarray         # int32 [N], index into class_names
  probabilities: np.ndarray  # float64 [N, K]
  class_names: tuple[str, ...]


def write_predictions(
    path: str | os.PathLike,
    ids: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> None:
  """Writes ids [N], labels int [N] in [0, K), probabilities [N, K] as CSV.

  Raises:
    ValueError: the arrays do not fit each other, or hold what `read_predictions`
      would refuse.
  """
  ids, class_names = [str(name) for name in ids], tuple(class_names)
  labels = np.asarray(labels)
  probabilities = np.asarray(probabilities, np.float64)
  if (labels.shape != (len(ids),)
      or probabilities.shape != (len(ids), len(class_names))):
    raise ValueError(f'{len(ids)} ids, labels {labels.shape}, probabilities '
                     f'{probabilities.shape} and classes {class_names} do not fit')
  if ids and not 0 <= labels.min() <= labels.max() < len(class_names):
    raise ValueError(f'labels are not all in [0, {len(class_names)})')
  if fault := _header_fault([*_FIRST_COLUMNS, *class_names]):
    raise ValueError(fault)
  seen: set[str] = set()
  for row, name in enumerate(ids):
    if fault := _row_fault(name, probabilities[row], seen):
      raise ValueError(f'row {row}: {fault}')
  with files.replacing(path) as file:
    text = io.TextIOWrapper(file, encoding='utf-8', newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([*_FIRST_COLUMNS, *class_names])
    for name, label, row in zip(ids, labels, probabilities.tolist(), strict=True):
      writer.writerow([name, class_names[label], *map(repr, row)])
    text.detach()


def read_predictions(path: str | os.PathLike) -> PredictionTable:
  """Reads what `write_predictions` wrote, or a file from elsewhere in its form.

  Raises:
    UserError: the file is absent or no such CSV, an id is empty or occurs twice,
      a label is none of the classes, or the probabilities of a row are no
      numbers in [0, 1] with sum 1 (within 0.001). It names file and line.
  """
  try:
    text = pathlib.Path(path).read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
    raise errors.UserError(f'{path} cannot be read: {reason}; {_REMEDY}') from error
  reader = csv.reader(io.StringIO(text, newline=''))
  try:
    header = next(reader, [])
    if fault := _header_fault(header):
      raise errors.UserError(f'{path}, line 1: {fault}; {_REMEDY}')
    class_names = tuple(header[len(_FIRST_COLUMNS):])
    ids, labels, probabilities = [], [], []
    seen: set[str] = set()
    for cells in reader:
      if not cells:
        continue
      try:
        label, values = _parse_row(cells, class_names, seen)
      except ValueError as error:
        raise errors.UserError(
            f'{path}, line {reader.line_num}: {error}; {_REMEDY}') from error
      ids.append(cells[0])
      labels.append(label)
      probabilities.append(values)
  except csv.Error as error:
    raise errors.UserError(
        f'{path}, line {reader.line_num}: {error}; {_REMEDY}') from error
  if not ids:
    raise errors.UserError(f'{path} has no rows; {_REMEDY}')
  return PredictionTable(np.array(ids), np.array(labels, np.int32),
                     np.array(probabilities), class_names)


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
    with open(path, 'rb') as file, np.load(file, allow_pickle=False) as archive:
      maps = dict(archive)
    ids = maps.pop('ids')
  except FileNotFoundError as error:
    raise errors.UserError(f'{path} does not exist; {_REMEDY}') from error
  except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError,
          zlib.error, zipfile.BadZipFile) as error:
    raise errors.UserError(
        f'{path} is damaged or holds no attention maps; {_REMEDY}') from error
  for name, values in maps.items():
    if values.ndim != 3 or len(values) != len(ids):
      raise errors.UserError(f'{path}: map {name} {values.shape} does not belong to '
                             f'{len(ids)} images; {_REMEDY}')
  return ids, maps


def _header_fault(header: Sequence[str]) -> str:
  """What is wrong with the columns; empty if nothing is."""
  classes = header[len(_FIRST_COLUMNS):]
  if tuple(header[:len(_FIRST_COLUMNS)]) != _FIRST_COLUMNS or len(classes) < 2:
    return (f'columns are {", ".join(header) or "none"}; expected image, label and '
            'one column for each of two or more classes')
  if len(set(header)) < len(header) or '' in header:
    return f'columns {", ".join(header)} are not all named and different'
  return ''


def _row_fault(name: str, values: np.ndarray, seen: set[str]) -> str:
  """What is wrong with a row; empty if nothing is. Adds the id to `seen`."""
  if not name:
    return 'the image has no id'
  if name in seen:
    return f'image {name!r} occurs twice'
  seen.add(name)
  if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
    return f'image {name!r} has probabilities {values.tolist()}, not all in [0, 1]'
  if abs(values.sum() - 1) > _SUM_TOLERANCE:
    return f'the probabilities of image {name!r} sum to {values.sum():.4g}, not 1'
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
    raise ValueError(f'label {label!r} is none of {", ".join(class_names)}')
  values = []
  for column, number in zip(class_names, numbers, strict=True):
    try:
      values.append(float(number))
    except ValueError as error:
      raise ValueError(f'{number!r} in column {column} is no number') from error
  if fault := _row_fault(name, np.array(values), seen):
    raise ValueError(fault)
  return class_names.index(label), values
