"""Which files make up a data set, and which belong to which image.

A data set is a row of `DATASETS`: the names of its archives, the names of the
files inside, and a reader of its labels. An archive is the official zip or
the folder it unpacks to. Files are paired by image id, never by position;
members are read by their base name and never extracted.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import concurrent.futures
import csv
import dataclasses
import hashlib
import io
import os
import pathlib
import re
import zipfile
import zlib

from attnmel_jax import errors

# What opening or reading a zip raises when its content is not whole. An
# encrypted member raises RuntimeError, an unknown compression the last.
READ_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError,
               NotImplementedError)


# The JPEG comment of an image that was drawn, not photographed. It stays with the
# image through zips, folders and downloads.
SYNTHETIC_COMMENT = b'synthetic image of attnmel_jax, not a photograph'


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Names and patterns of one data set; `{split}` is filled from `splits`."""

  name: str
  class_names: tuple[str, ...]  # label = index
  attributes: tuple[str, ...]   # bit order of the dermo mask
  base_url: str
  splits: Mapping[str, str]     # split -> the word in file names
  files: Mapping[str, str]      # images, labels, ... -> archive
  published: tuple[str, ...]    # keys of `files` that lie at `base_url`,
                                # those of REQUIRED first
  # Archive -> (kind of file, pattern of its base name); the first match counts.
  members: Mapping[str, tuple[tuple[str, str], ...]]
  # (text, notes of what is wrong) -> label of every id, -1 where it is wrong.
  read_labels: Callable[[str, list[str]], dict[str, int]]

  def file(self, role: str, split: str) -> str:
    """Name of an archive of a split."""
    return self.files[role].format(split=self.splits[split])


@dataclasses.dataclass(frozen=True)
class Member:
  """One file of an archive: of a zip, or on its own (entry '')."""

  path: pathlib.Path
  entry: str
  size: int
  crc: int

  @property
  def name(self) -> str:
    """Base name, whatever folders it lies in."""
    return self.parts[-1] if self.entry else self.path.name

  @property
  def parts(self) -> list[str]:
    """Parts of the path inside the zip; some zips are made with backslashes."""
    return re.split(r'[/\\]', self.entry)


@dataclasses.dataclass
class Example:
  """The files of one image; None or empty where there is no annotation."""

  id: str
  image: Member
  label: int = -1
  lesion: Member | None = None
  superpixels: Member | None = None
  features: Member | None = None
  attributes: dict[str, Member] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SplitFiles:
  """What the archives of one split hold."""

  split: str
  examples: tuple[Example, ...]  # sorted by id
  digests: Mapping[str, str]     # archive -> digest of the names and contents
  bad: tuple[str, ...]           # 'file: what is wrong'


def _read_isic2017_labels(text: str, bad: list[str]) -> dict[str, int]:
  """`image_id,melanoma,seborrheic_keratosis`; neither of them is a nevus."""
  columns = ('melanoma', 'seborrheic_keratosis')
  rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
  missing = {'image_id', *columns} - set(rows.fieldnames or ())
  if missing:
    bad.append(f'has no column {", ".join(sorted(missing))}')
    return {}
  labels = {}
  for row in rows:
    image_id = (row['image_id'] or '').strip()
    values = [_flag(row[column]) for column in columns]
    if not image_id:
      bad.append(f'line {rows.line_num} has no image_id')
    elif image_id in labels:
      bad.append(f'duplicate id {image_id}')
    else:
      labels[image_id] = values.index(1) if 1 in values else len(columns)
      if None in values:
        wrong = columns[values.index(None)]
        bad.append(f'unknown label {wrong}={row[wrong]!r} of {image_id}, not 0 or 1')
        labels[image_id] = -1
      elif sum(values) > 1:
        bad.append(f'{image_id} is both {" and ".join(columns)}')
        labels[image_id] = -1
  return labels


def _flag(text: str | None) -> int | None:
  """'0', '0.0', '1' or '1.0' -> 0 or 1; None for anything else."""
  try:
    return {0.0: 0, 1.0: 1}.get(float(text))
  except (TypeError, ValueError):
    return None


DATASETS = {
    'isic2017': Dataset(
        name='isic2017',
        class_names=('melanoma', 'seborrheic_keratosis', 'nevus'),
        attributes=('pigment_network', 'negative_network', 'milia_like_cyst',
                    'streaks', 'globules'),
        base_url='https://isic-challenge-data.s3.amazonaws.com/2017/',
        splits={'train': 'Training', 'validation': 'Validation',
                'test': 'Test_v2'},
        files={'images': 'ISIC-2017_{split}_Data.zip',
               'labels': 'ISIC-2017_{split}_Part3_GroundTruth.csv',
               'lesion': 'ISIC-2017_{split}_Part1_GroundTruth.zip',
               'features': 'ISIC-2017_{split}_Part2_GroundTruth.zip',
               'attributes': 'ISIC-2017_{split}_AttributeMasks.zip'},
        published=('images', 'labels', 'lesion', 'features'),
        members={
            'images': (('superpixels', r'(?P<id>.+)_superpixels\.png'),
                       ('image', r'(?P<id>.+)\.(jpe?g|png)')),
            'lesion': (('lesion', r'(?P<id>.+)_segmentation\.png'),),
            'features': (('features', r'(?P<id>.+)_features\.json'),),
            'attributes': (
                ('attribute', r'(?P<id>.+?)_attribute_(?P<attribute>.+)\.png'),)},
        read_labels=_read_isic2017_labels),
}

REQUIRED = ('images', 'labels')  # without these a split is left out
# Kind of map -> archives that may hold it; without them nothing is annotated.
ANNOTATIONS = {'lesion': ('lesion',), 'dermo': ('features', 'attributes')}


def find(dataset: Dataset, split: str, source: pathlib.Path
         ) -> dict[str, pathlib.Path]:
  """Role -> the zip, else the folder of the same name, that lies in `source`."""
  found = {}
  for role in dataset.files:
    path = source / dataset.file(role, split)
    folder = path.with_suffix('')
    if path.is_file():
      found[role] = path
    elif path.suffix == '.zip' and folder.is_dir():
      found[role] = folder
  return found


def check_source(dataset: Dataset, source: pathlib.Path) -> None:
  """Raises UserError unless `source` is a folder with one archive or more."""
  expected = ', '.join(
      dataset.files[role].format(split='{' + ','.join(dataset.splits.values()) + '}')
      for role in dataset.files)
  if not source.is_dir():
    raise errors.UserError(
        f'--source={source} is no folder; give the folder that holds {expected} '
        '(zips, or the folders they unpack to), or --source=download')
  if not any(find(dataset, split, source) for split in dataset.splits):
    raise errors.UserError(
        f'--source={source} holds no archive of {dataset.name}; expected are '
        f'{expected} (zips, or the folders they unpack to)')


class Reader:
  """Reads members from several threads; keeps the zips open. Close after use."""

  def __init__(self) -> None:
    self._zips: dict[pathlib.Path, zipfile.ZipFile] = {}

  def __enter__(self) -> 'Reader':
    return self

  def __exit__(self, *unused) -> None:
    for archive in self._zips.values():
      archive.close()

  def members(self, path: pathlib.Path) -> list[Member]:
    """All files of a zip or folder; raises one of READ_ERRORS if damaged."""
    if path.is_file():
      archive = self._zips[path] = zipfile.ZipFile(path)
      return [Member(path, info.filename, info.file_size, info.CRC)
              for info in archive.infolist() if not info.is_dir()]
    files = sorted(p for p in path.rglob('*') if p.is_file())
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      return list(pool.map(_file_member, files))

  def read(self, member: Member) -> bytes:
    """Content of a member; raises one of READ_ERRORS if damaged."""
    if not member.entry:
      return member.path.read_bytes()
    return self._zips[member.path].read(member.entry)


def _file_member(path: pathlib.Path) -> Member:
  data = path.read_bytes()
  return Member(path, '', len(data), zlib.crc32(data))


def read_split(dataset: Dataset, split: str, found: Mapping[str, pathlib.Path],
               reader: Reader) -> SplitFiles:
  """Pairs the files of a split by id; nothing is decoded yet.

  Args:
    dataset: a row of DATASETS.
    split: one of its splits.
    found: what `find` returned, with all of REQUIRED.
    reader: stays open as long as the members are read.
  """
  bad: list[str] = []
  digests: dict[str, str] = {}
  by_kind: dict[str, dict[str, Member]] = {
      kind: {} for kinds in dataset.members.values() for kind, _ in kinds}
  for role, path in found.items():
    if role == 'labels':
      continue
    try:
      members = reader.members(path)
    except READ_ERRORS as error:
      bad.append(f'{path.name}: cannot be opened ({error})')
      if role == 'images':  # all other faults would follow from this one
        return SplitFiles(split, (), digests, tuple(bad))
      continue
    used = _sort_members(dataset, role, members, by_kind, bad)
    digests[dataset.file(role, split)] = _digest(
        f'{m.name} {m.size} {m.crc}' for m in used)
  labels_path = found['labels']
  labels, text = _labels(dataset, labels_path, bad)
  if not labels and any(note.startswith(labels_path.name) for note in bad):
    labels = dict.fromkeys(by_kind['image'], -1)  # its header is the whole story
  digests[dataset.file('labels', split)] = _digest([text])
  examples = _pair(dataset, by_kind, labels, labels_path.name, bad)
  return SplitFiles(split, tuple(examples), digests, tuple(bad))


def _sort_members(dataset: Dataset, role: str, members: Iterable[Member],
                  by_kind: dict[str, dict[str, Member]], bad: list[str]
                  ) -> list[Member]:
  """Enters members under kind and id (and attribute); returns those entered."""
  used = []
  for member in members:
    if member.name.startswith('.') or '__MACOSX' in member.parts:
      continue
    for kind, pattern in dataset.members[role]:
      match = re.fullmatch(pattern, member.name, re.IGNORECASE)
      if match:
        key = '/'.join(match.groupdict().values())
        if key in by_kind[kind]:
          bad.append(f'{member.name}: duplicate id {match["id"]}')
        by_kind[kind].setdefault(key, member)
        used.append(member)
        break
  return used


def _labels(dataset: Dataset, path: pathlib.Path, bad: list[str]
            ) -> tuple[dict[str, int], str]:
  """The label of every id, and the normalised text they were read from."""
  try:
    text = path.read_text('utf-8-sig')
  except (OSError, ValueError):
    bad.append(f'{path.name}: cannot be read')
    return {}, ''
  notes: list[str] = []
  try:
    labels = dataset.read_labels(text, notes)
  except csv.Error as error:
    labels, notes = {}, [f'is no table ({error})']
  bad += [f'{path.name}: {note}' for note in notes]
  return labels, text


def _digest(lines: Iterable[str]) -> str:
  return hashlib.sha256('\n'.join(sorted(lines)).encode()).hexdigest()


def _pair(dataset: Dataset, by_kind: Mapping[str, Mapping[str, Member]],
          labels: Mapping[str, int], labels_name: str, bad: list[str]
          ) -> list[Example]:
  """One Example an image with a label, sorted by id; the rest is bad."""
  examples = {image_id: Example(image_id, member, labels.get(image_id, -1))
              for image_id, member in sorted(by_kind['image'].items())}
  bad += [f'{example.image.name}: no label in {labels_name}'
          for example in examples.values() if example.id not in labels]
  bad += [f'{labels_name}: label of {image_id}, but no image of it'
          for image_id in sorted(set(labels) - set(examples))]
  for kind, members in by_kind.items():
    for key, member in members.items():
      image_id, _, attribute = key.partition('/')
      example = examples.get(image_id)
      if example is None:
        bad.append(f'{member.name}: no image of {image_id}')
      elif kind == 'attribute':
        if attribute not in dataset.attributes:
          bad.append(f'{member.name}: unknown attribute {attribute!r}; known are '
                     f'{", ".join(dataset.attributes)}')
        example.attributes[attribute] = member
      elif kind != 'image':
        setattr(example, kind, member)
  return [example for example in examples.values() if example.label >= 0]
