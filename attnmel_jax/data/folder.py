"""The user's own photographs: a table and a folder.

  image,label,mask,group,split
  photos/0001.jpg,melanoma,masks/0001.png,patient7,train

`image` and `label` are needed; paths start from the folder, and may have backslashes
or lack the ending. `mask` may be empty:
that image is not annotated. `group` names the lesion or patient whose images
stay together, the image alone if empty. `split` is train (if empty), validation
or test. Other columns are ignored. The id of an image is its file name
without the ending.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import difflib
import hashlib
import io
import pathlib

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import archives
from attnmel_jax.data import catalogue

MASK_KINDS = ('binary', 'probability')
_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp')
_REQUIRED = ('image', 'label')
_COLUMNS = (*_REQUIRED, 'mask', 'group', 'split')
# Columns beside those of the classes, in tables of predictions and scores.
_TAKEN = ('image', 'label', 'mean')
# A class is suspected to be another one misspelt if it is so much rarer, and so alike
# (difflib's ratio: 'melanom' and 'melanoma' 0.93, 'nevus' and 'naevus' 0.91).
_RARE, _ALIKE = 10, 0.85


def read_splits(source: pathlib.Path, *, table: pathlib.Path, classes: Sequence[str],
                mask_kind: str
                ) -> tuple[catalogue.Schema, dict[str, archives.SplitFiles]]:
  """What the table lists, split by split; nothing is decoded yet.

  Args:
    source: the folder that paths start from.
    table: a CSV with a header, see above.
    classes: names of the classes in the order of their labels; () sorts those
      that the table holds.
    mask_kind: 'binary' masks are thresholded, a 'probability' never is.

  Raises:
    UserError: no such folder, or no table with rows. What is wrong with a row
      is in `bad` of its split, after the row's number.
  """
  errors.check_choice('mask_kind', mask_kind, MASK_KINDS)
  classes = tuple(map(catalogue.composed, classes))
  if len(set(classes)) != len(classes):
    raise errors.UserError(f'--classes={",".join(classes)} names a class twice')
  for name in classes:
    if why := _bad_class(name):
      raise errors.UserError(f'--classes: {name!r} {why}; rename it')
  if not source.is_dir():
    raise errors.UserError(f'--source={source} is not a folder; give the folder that '
                           'the paths in the table start from')
  rows = _read_table(table)
  named = {row['label'] for row in rows.values()} - {''}
  names = tuple(classes) or tuple(sorted(named))
  known = set(names)
  _report_similar_classes(table.name, collections.Counter(
      row['label'] for row in rows.values() if row['label'] in known))
  _report_divided_groups(table.name, rows)
  splits = {}
  origins: dict[str, str] = {}  # id -> its first row, in whatever split
  for split in catalogue.SPLITS:
    chosen = {number: row for number, row in rows.items() if row['split'] == split}
    if chosen:
      splits[split] = _read_split(
          split, chosen, source, table.name, names, mask_kind, origins)
  unknown = [f'{table.name} row {number}: split {row["split"]!r} is none of '
             f'{", ".join(catalogue.SPLITS)}'
             for number, row in rows.items() if row['split'] not in catalogue.SPLITS]
  if unknown and not splits:
    raise errors.UserError('; '.join(unknown[:3]))
  if unknown:
    first = next(iter(splits.values()))
    splits[first.split] = archives.SplitFiles(
        first.split, first.examples, first.digests, (*first.bad, *unknown))
  return catalogue.Schema(catalogue.FOLDER, names, ()), splits


def _bad_class(name: str) -> str:
  """Why a class cannot have this name; '' if it can."""
  if not name:
    return 'is empty'
  if name in _TAKEN:
    return 'is the name of another column in tables of predictions and scores'
  if not name.isprintable():
    return 'holds unprintable characters'
  return 'has more than 100 characters' if len(name) > 100 else ''


def _report_similar_classes(table: str, counts: Mapping[str, int]) -> None:
  """Prints which rare classes look like a misspelt one."""
  frequent = {name: n for name, n in counts.items() if n > _RARE}
  forms: dict[str, str] = {}  # without regard of case -> the first class of that form
  for rare, count in sorted(counts.items()):
    twin = forms.setdefault(rare.casefold(), rare)
    for name, often in ({twin: counts[twin]} | frequent).items():
      if rare != name and (name == twin or (
          count * _RARE < often and _likeness(rare, name) >= _ALIKE)):
        print(f'{table}: the classes {rare!r} ({count}) and {name!r} ({often}) are '
              'distinct; if one is misspelt, correct it, or name all with --classes')


def _likeness(first: str, second: str) -> float:
  return difflib.SequenceMatcher(None, first.casefold(), second.casefold()).ratio()


def _report_divided_groups(table: str, rows: Mapping[int, Mapping[str, str]]) -> None:
  """Prints which groups are in several splits: a run would stop on them."""
  first: dict[str, tuple[int, str]] = {}
  printed = set()
  for number, row in rows.items():
    group, split = row['group'], row['split']
    if not group:
      continue
    other, before = first.setdefault(group, (number, split))
    if split != before and group not in printed:
      printed.add(group)
      print(f'{table} rows {other} and {number}: group {group} is in {before} and '
            f'{split}: a run on these splits aborts, because it would be scored on '
            'what it was trained on')


def _read_table(table: pathlib.Path) -> dict[int, dict[str, str]]:
  """Number in the file, the header being 1 -> the row's known columns, stripped."""
  try:
    text = table.read_text('utf-8-sig')
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    rows = {}
    for row in reader:
      rows[reader.line_num] = row
  except (OSError, ValueError, csv.Error) as error:
    reason = getattr(error, 'strerror', None) or 'it is not a table in UTF-8'
    raise errors.UserError(f'--table={table} cannot be read ({reason}); give a CSV '
                           f'with the columns {",".join(_COLUMNS)}') from error
  missing = [name for name in _REQUIRED if name not in columns]
  if missing:
    raise errors.UserError(
        f'{table} has no column {" and ".join(missing)}; its first line, cut at '
        f'commas, is {columns!r}, and image,label[,mask][,group][,split] are known')
  if not rows:
    raise errors.UserError(f'{table} has no row below its header')
  twice = [name for name in _COLUMNS if columns.count(name) > 1]
  if twice:
    raise errors.UserError(f'{table} has two columns {twice[0]}; remove one')
  for number, row in rows.items():
    if any(cell.strip() for cell in row.get(None, ())):
      raise errors.UserError(
          f'{table} row {number} has more cells than the header has columns; put '
          'quotes around a cell with a comma')
  unused = [name for name in columns if name not in _COLUMNS]
  if unused:
    print(f'{table.name}: not used: {", ".join(unused)}')
  known = {number: {name: catalogue.clean(row.get(name)) for name in _COLUMNS}
           for number, row in rows.items()}
  for row in known.values():  # paths stay as the file system spells them
    row |= {name: catalogue.composed(row[name]) for name in ('label', 'group')}
  return {number: {**row, 'split': row['split'] or 'train'}
          for number, row in known.items()}


def _read_split(split: str, rows: Mapping[int, Mapping[str, str]],
                source: pathlib.Path, table: str, names: tuple[str, ...],
                mask_kind: str, origins: dict[str, str]) -> archives.SplitFiles:
  numbers = {name: label for label, name in enumerate(names)}
  examples: dict[str, archives.Example] = {}
  bad: list[str] = []
  for number, row in rows.items():
    origin = f'{table} row {number}'
    image = _member(source, row, 'image', origin, bad)
    mask = _member(source, row, 'mask', origin, bad) if row['mask'] else None
    label = numbers.get(row['label'], -1)
    if label < 0:
      known = f'is none of {", ".join(names)}' if row['label'] else 'is missing'
      bad.append(f'{origin}: label {row["label"]!r} {known}')
    elif why := _bad_class(row['label']):
      bad.append(f'{origin}: label {row["label"]!r} {why}')
    if not row['group'].isprintable():
      bad.append(f'{origin}: group {row["group"]!r} holds unprintable characters')
    if image is None:
      continue
    image_id = catalogue.composed(pathlib.PurePath(image.name).stem)
    if not files.is_name(image_id):
      bad.append(f'{origin}: the id {image_id!r} cannot name a file')
    if image_id in origins:
      bad.append(f'{origin}: duplicate id {image_id}, also in {origins[image_id]}')
      continue
    origins[image_id] = origin
    examples[image_id] = archives.Example(
        image_id, image, label=label, group=row['group'], lesion=mask,
        lesion_kind=mask_kind, origin=origin)
  ordered = tuple(examples[image_id] for image_id in sorted(examples))
  return archives.SplitFiles(
      split, ordered, _digests(ordered, names, mask_kind), tuple(bad))


def _member(source: pathlib.Path, row: Mapping[str, str], column: str, origin: str,
            bad: list[str]) -> archives.Member | None:
  """The file of a column; None, with a note, where there is none."""
  if not row[column]:
    bad.append(f'{origin}: {column} is missing')
    return None
  try:
    path = _found(source, row[column])
    files.check(path)
    return archives.file_member(path)
  except FileNotFoundError:
    bad.append(f'{origin}: {column} {row[column]} is not in {source.name}, with or '
               'without an ending')
  except OSError as error:
    bad.append(f'{origin}: {column} {row[column]} cannot be read ({error.strerror})')
  except errors.Unusable as error:
    bad.append(f'{origin}: {column} {row[column]} {error}')
  except ValueError:  # a NUL
    bad.append(f'{origin}: {column} {row[column]!r} is not a file name')
  return None


def _found(source: pathlib.Path, text: str) -> pathlib.Path:
  """The file that a cell names, perhaps with backslashes or without its ending."""
  path = source / text
  if path.exists():
    return path
  path = source / text.replace('\\', '/')
  stem = path.with_suffix('') if path.suffix.lower() in _ENDINGS else path
  others = [path, *(stem.with_name(stem.name + ending) for known in _ENDINGS
                    for ending in (known, known.upper()))]
  return next((other for other in others if other.is_file()), source / text)


def _digests(examples: Sequence[archives.Example], names: Sequence[str], mask_kind: str
             ) -> dict[str, str]:
  """Digests of the rows and of the files, so that a change of either is noticed."""
  said = [repr((example.id, example.label, example.group)) for example in examples]
  digests = {'table': _digest([repr(tuple(names)), *said])}
  for word, kind, members in (
      ('images', '', [example.image for example in examples]),
      ('masks', mask_kind, [example.lesion for example in examples])):
    digests[word] = _digest([kind, *(
        f'{example.id} {member and (member.size, member.crc)}'
        for example, member in zip(examples, members, strict=True))])
  return digests


def _digest(lines: Sequence[str]) -> str:
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()
