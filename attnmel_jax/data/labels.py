"""The tables of the challenges: text -> label or lesion of every image.

A reader takes the text of a CSV and a list to which it adds notes of what is
wrong with it ('duplicate id A'). Where a label is wrong, it is -1.
"""

from collections.abc import Sequence
import csv
import io
import unicodedata


def isic2016(text: str, bad: list[str]) -> dict[str, int]:
  """`<id>,<label>` without a header -> 0 benign, 1 malignant.

  The training table has the words, the test table 0.0 and 1.0.
  """
  labels = {}
  rows = csv.reader(io.StringIO(text), skipinitialspace=True)
  for row in filter(None, rows):
    image_id = composed(clean(row[0]))
    value = row[1].strip().lower() if len(row) > 1 else ''
    label = {'benign': 0, 'malignant': 1}.get(value, _flag(value))
    if not image_id:
      bad.append(f'line {rows.line_num} has no image id')
    elif image_id in labels:
      bad.append(f'duplicate id {image_id}')
    elif any(map(clean, row[2:])):
      bad.append(f'line {rows.line_num} has {len(row)} cells, not 2')
      labels[image_id] = -1
    else:
      labels[image_id] = -1 if label is None else label
      if label is None:
        bad.append(f'unknown label {value!r} of {image_id}, not benign or malignant, '
                   '0 or 1')
  return labels


def isic2017(text: str, bad: list[str]) -> dict[str, int]:
  """`image_id,melanoma,seborrheic_keratosis`; neither of them (2) is a nevus."""
  columns = ('melanoma', 'seborrheic_keratosis')
  return _one_hot(text, bad, id_column='image_id', columns=columns,
                  neither=len(columns))


def isic2018(text: str, bad: list[str], *, columns: Sequence[str]) -> dict[str, int]:
  """`image` and one column a class, of which just one is 1 -> its place."""
  return _one_hot(text, bad, id_column='image', columns=columns, neither=-1)


def isic2018_lesions(text: str, bad: list[str]) -> dict[str, str]:
  """`image,lesion_id,...` -> the lesion of every image."""
  rows = _rows(text, bad, 'image', ('lesion_id',))
  lesions = {image_id: clean(row['lesion_id']) for image_id, row in rows.items()}
  bad += [f'no lesion_id of {name}' for name, lesion in lesions.items() if not lesion]
  return lesions


def _one_hot(text, bad, *, id_column, columns, neither) -> dict[str, int]:
  labels = {}
  for image_id, row in _rows(text, bad, id_column, columns).items():
    values = [_flag(row[column]) for column in columns]
    labels[image_id] = -1
    if None in values:
      wrong = columns[values.index(None)]
      bad.append(f'unknown label {wrong}={row[wrong]!r} of {image_id}, not 0 or 1')
    elif sum(values) > 1:
      both = [name for name, value in zip(columns, values, strict=True) if value]
      bad.append(f'{image_id} is both {" and ".join(both)}')
    elif not any(values) and neither < 0:
      bad.append(f'{image_id} is none of {", ".join(columns)}')
    else:
      labels[image_id] = values.index(1) if any(values) else neither
  return labels


def _rows(text, bad, id_column, columns) -> dict[str, dict[str, str]]:
  """Rows by id, found by the names of their columns; the first of an id counts."""
  table = csv.DictReader(io.StringIO(text), skipinitialspace=True)
  found = list(table.fieldnames or ())
  missing = {id_column, *columns} - set(found)
  if missing:
    bad.append(f'has no column {", ".join(sorted(missing))}')
    return {}
  twice = [name for name in (id_column, *columns) if found.count(name) > 1]
  if twice:
    bad.append(f'has two columns {twice[0]}')
    return {}
  rows = {}
  for row in table:
    image_id = composed(clean(row[id_column]))
    if any(map(clean, row.get(None, ()))):
      bad.append(f'line {table.line_num} has more cells than there are columns')
    if not image_id:
      bad.append(f'line {table.line_num} has no {id_column}')
    elif image_id in rows:
      bad.append(f'duplicate id {image_id}')
    else:
      rows[image_id] = row
  return rows


def clean(cell: str | None) -> str:
  """Without spaces around it; '' for a missing cell or NaN, as pandas writes it."""
  text = (cell or '').strip()
  return '' if text.lower() == 'nan' else text


def composed(name: str) -> str:
  """One form for an umlaut, which some systems store as two characters."""
  return unicodedata.normalize('NFC', name)


def _flag(text: str | None) -> int | None:
  """'0', '0.0', '1' or '1.0' -> 0 or 1; None for anything else."""
  try:
    return {0.0: 0, 1.0: 1}.get(float(text))
  except (TypeError, ValueError):
    return None
