"""The known data sets: official names of their archives, meaning of their tables.

A reader of a table takes the text of a CSV and a list, to which it appends what is
wrong with it ('duplicate id A'). Where a label is wrong, it is -1.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import functools
import io
import re
import unicodedata

from attnmel_jax import errors


@dataclasses.dataclass(frozen=True)
class Schema:
  """What the records of a data set mean."""

  name: str
  class_names: tuple[str, ...]  # label = index; () without labels, which are -1
  attributes: tuple[str, ...]   # bit order of the dermo mask


@dataclasses.dataclass(frozen=True)
class Dataset(Schema):
  """Names and patterns of one data set; `{split}` is filled from `splits`."""

  base_url: str
  splits: Mapping[str, str]     # split -> the word in file names
  # images, labels, ... -> archive; one without {split} belongs to training alone.
  files: Mapping[str, str]
  required: tuple[str, ...]     # keys of `files`; a split without them is left out
  published: tuple[str, ...]    # keys of `files` that lie at `base_url`, those
                                # that are required first
  elsewhere: Mapping[str, str]  # key of `files` -> where else it is published
  # Archive -> (kind of file, pattern of its base name); the first match counts.
  members: Mapping[str, tuple[tuple[str, str], ...]]
  # (text, notes of what is wrong) -> label of every id, -1 where it is wrong;
  # None without labels. The same for the lesion of every id; None if unknown.
  read_labels: Callable[[str, list[str]], dict[str, int]] | None
  read_groups: Callable[[str, list[str]], dict[str, str]] | None

  def file(self, role: str, split: str) -> str:
    """Name of an archive of a split."""
    return self.files[role].format(split=self.splits[split])

  def roles(self, split: str) -> tuple[str, ...]:
    """The keys of `files` that the split has an archive for."""
    return tuple(role for role, name in self.files.items()
                 if split == 'train' or '{split}' in name)

  def required_of(self, split: str) -> tuple[str, ...]:
    """The archives without which the split is left out."""
    return tuple(role for role in self.required if role in self.roles(split))

  def places(self, roles: Iterable[str]) -> str:
    """'; available from <address>' for what lies somewhere official, else ''."""
    places = [self.base_url if role in self.published else self.elsewhere.get(role)
              for role in roles]
    places = list(dict.fromkeys(place for place in places if place))
    return f'; available from {" and ".join(places)}' if places else ''


def isic2016(text: str, bad: list[str]) -> dict[str, int]:
  """`<id>,<label>` without a header -> 0 benign, 1 malignant.

  The training table has the words, the test table 0.0 and 1.0.
  """
  labels = {}
  rows = csv.reader(io.StringIO(text), skipinitialspace=True)
  for row in filter(None, rows):
    image_id = _id(row[0])
    value = row[1].strip().lower() if len(row) > 1 else ''
    label = {'benign': 0, 'malignant': 1}.get(value, _flag(value))
    if not image_id:
      bad.append(f'line {rows.line_num} has no image id')
    elif image_id in labels:
      bad.append(f'duplicate id {image_id}, again in line {rows.line_num}')
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
    bad.append(f'has no column {", ".join(sorted(missing))}; its first line is '
               f'{",".join(found)[:100]!r}')
    return {}
  twice = [name for name in (id_column, *columns) if found.count(name) > 1]
  if twice:
    bad.append(f'has two columns {twice[0]}')
    return {}
  rows = {}
  for row in table:
    image_id = _id(row[id_column])
    if any(map(clean, row.get(None, ()))):
      bad.append(f'line {table.line_num} has more cells than there are columns')
    if not image_id:
      bad.append(f'line {table.line_num} has no {id_column}')
    elif image_id in rows:
      bad.append(f'duplicate id {image_id}, again in line {table.line_num}')
    else:
      rows[image_id] = row
  return rows


def clean(cell: str | None) -> str:
  """Without spaces around it; '' for a missing cell or NaN, as pandas writes it."""
  text = (cell or '').strip()
  return '' if text.lower() == 'nan' else text


def _id(cell: str | None) -> str:
  """The id of an image: some tables give its file name."""
  return re.sub(r'\.(jpe?g|png)$', '', composed(clean(cell)), flags=re.IGNORECASE)


def composed(name: str) -> str:
  """One form for an umlaut, which some systems store as two characters."""
  return unicodedata.normalize('NFC', name)


def _flag(text: str | None) -> int | None:
  """'0', '0.0', '1' or '1.0' -> 0 or 1; None for anything else."""
  try:
    return {0.0: 0, 1.0: 1}.get(float(text))
  except (TypeError, ValueError):
    return None


# The user's own photographs, from a table instead of archives; see `folder`.
FOLDER = 'folder'
SPLITS = ('train', 'validation', 'test')

_BUCKET = 'https://isic-challenge-data.s3.amazonaws.com/{year}/'
_ATTRIBUTES = ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks',
               'globules')
_ATTRIBUTE = ('attribute', r'(?P<id>.+?)_attribute_(?P<attribute>.+)\.png')
_IMAGE = ('image', r'(?P<id>.+)\.(jpe?g|png)')
_LESION = ('lesion', r'(?P<id>.+)_segmentation\.png')

_ISIC2016 = Dataset(
    name='isic2016',
    class_names=('benign', 'malignant'),
    attributes=(),
    base_url=_BUCKET.format(year=2016),
    splits={'train': 'Training', 'test': 'Test'},
    files={'images': 'ISBI2016_ISIC_Part3_{split}_Data.zip',
           'labels': 'ISBI2016_ISIC_Part3_{split}_GroundTruth.csv',
           'lesion': 'ISBI2016_ISIC_Part1_{split}_GroundTruth.zip'},
    required=('images', 'labels'),
    published=('images', 'labels', 'lesion'),
    elsewhere={},
    members={'images': (_IMAGE,), 'lesion': (_LESION,)},
    read_labels=isic2016,
    read_groups=None)

_ISIC2017 = Dataset(
    name='isic2017',
    class_names=('melanoma', 'seborrheic_keratosis', 'nevus'),
    attributes=_ATTRIBUTES,
    base_url=_BUCKET.format(year=2017),
    splits={'train': 'Training', 'validation': 'Validation', 'test': 'Test_v2'},
    files={'images': 'ISIC-2017_{split}_Data.zip',
           'labels': 'ISIC-2017_{split}_Part3_GroundTruth.csv',
           'lesion': 'ISIC-2017_{split}_Part1_GroundTruth.zip',
           'features': 'ISIC-2017_{split}_Part2_GroundTruth.zip',
           'attributes': 'ISIC-2017_{split}_AttributeMasks.zip'},
    required=('images', 'labels'),
    published=('images', 'labels', 'lesion', 'features'),
    elsewhere={},
    members={'images': (('superpixels', r'(?P<id>.+)_superpixels\.png'), _IMAGE),
             'lesion': (_LESION,),
             'features': (('features', r'(?P<id>.+)_features\.json'),),
             'attributes': (_ATTRIBUTE,)},
    read_labels=isic2017,
    read_groups=None)

_CLASSES_2018 = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
_ISIC2018 = Dataset(  # Task 3, the images of HAM10000
    name='isic2018',
    class_names=_CLASSES_2018,
    attributes=(),
    base_url=_BUCKET.format(year=2018),
    splits={'train': 'Training', 'validation': 'Validation', 'test': 'Test'},
    files={'images': 'ISIC2018_Task3_{split}_Input.zip',
           'labels': 'ISIC2018_Task3_{split}_GroundTruth.zip',
           'groups': 'ISIC2018_Task3_Training_LesionGroupings.csv',
           'lesion': 'HAM10000_segmentations_lesion_tschandl.zip'},
    # Without the lesions, folds that promise to keep them together would not.
    required=('images', 'labels', 'groups'),
    published=('images', 'labels', 'groups'),
    elsewhere={'lesion': 'https://doi.org/10.7910/DVN/DBW86T'},
    members={'images': (_IMAGE,), 'lesion': (_LESION,)},
    read_labels=functools.partial(isic2018, columns=_CLASSES_2018),
    read_groups=isic2018_lesions)

_ISIC2018_TASK1 = Dataset(  # segmentation; attributes of Task 2
    name='isic2018_task1',
    class_names=(),
    attributes=_ATTRIBUTES,
    base_url=_BUCKET.format(year=2018),
    splits={'train': 'Training', 'validation': 'Validation', 'test': 'Test'},
    files={'images': 'ISIC2018_Task1-2_{split}_Input.zip',
           'lesion': 'ISIC2018_Task1_{split}_GroundTruth.zip',
           'attributes': 'ISIC2018_Task2_Training_GroundTruth_v3.zip'},
    required=('images', 'lesion'),
    published=('images', 'lesion', 'attributes'),
    elsewhere={},
    members={'images': (_IMAGE,), 'lesion': (_LESION,), 'attributes': (_ATTRIBUTE,)},
    read_labels=None,
    read_groups=None)

DATASETS = {dataset.name: dataset for dataset in (
    _ISIC2016, _ISIC2017, _ISIC2018, _ISIC2018_TASK1)}
NAMES = (*DATASETS, FOLDER)


def splits(dataset: str) -> tuple[str, ...]:
  """The splits that a data set may have, in order.

  Raises:
    UserError: there is no such data set.
  """
  errors.check_choice('dataset', dataset, NAMES)
  return SPLITS if dataset == FOLDER else tuple(DATASETS[dataset].splits)
