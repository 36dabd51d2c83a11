"""Which files of a data set's archives belong to which image.

A `catalogue.Dataset` gives the names of archives and of the files inside, and the
readers of its tables. An archive is the official zip or the folder it unpacks to.
Files are paired by image id, never by position; members are read by their base name
and never extracted.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import concurrent.futures
import contextlib
import csv
import dataclasses
import hashlib
import os
import pathlib
import re
import stat
import struct
from typing import Any
import zipfile
import zlib

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import catalogue

# What opening or reading a damaged zip raises. An encrypted member raises
# RuntimeError, an unknown compression the last.
READ_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError,
               NotImplementedError)

# The JPEG comment of an image that was drawn, not photographed. It stays with the
# image through zips, folders and downloads.
SYNTHETIC_COMMENT = b'synthetic image of attnmel_jax, not a photograph'


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
  def place(self) -> str:
    """Where it lies: its folder or zip, and its path inside."""
    return (f'{self.path.name}/{"/".join(self.parts)}' if self.entry
            else f'{self.path.parent.name}/{self.path.name}')

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
  group: str = ''           # its lesion; '' where that is not known
  lesion: Member | None = None
  lesion_kind: str = 'binary'  # or 'probability', which is never thresholded
  superpixels: Member | None = None
  features: Member | None = None
  attributes: dict[str, Member] = dataclasses.field(default_factory=dict)
  origin: str = ''          # row of the user's table that names these files


@dataclasses.dataclass(frozen=True)
class SplitFiles:
  """What the archives of one split hold."""

  split: str
  examples: tuple[Example, ...]  # sorted by id
  digests: Mapping[str, str]     # archive -> digest of the names and contents
  bad: tuple[str, ...]           # 'file: what is wrong'


TABLES = ('labels', 'groups')  # archives that hold a CSV, or are one
# Kind of map -> archives that may hold it; without them nothing is annotated.
ANNOTATIONS = {'lesion': ('lesion',), 'dermo': ('features', 'attributes')}


def find(dataset: catalogue.Dataset, split: str, source: pathlib.Path
         ) -> dict[str, pathlib.Path]:
  """Role -> the zip, else the folder or CSV of the same name, in `source`."""
  found = {}
  for role in dataset.roles(split):
    path = source / dataset.file(role, split)
    folder, table = path.with_suffix(''), path.with_suffix('.csv')
    if path.is_file():
      found[role] = path
    elif path.suffix == '.zip' and folder.is_dir():
      found[role] = folder
    elif role in TABLES and table.is_file():
      found[role] = table
  return found


def check_source(dataset: catalogue.Dataset, source: pathlib.Path) -> None:
  """Raises UserError unless `source` is a folder with one archive or more."""
  expected = ', '.join(
      dataset.files[role].format(split='{' + ','.join(dataset.splits.values()) + '}')
      for role in dataset.files)
  if not source.is_dir():
    raise errors.UserError(
        f'--source={source} is not a folder; give the folder that holds {expected} '
        '(zips, or the folders they unpack to), or --source=download')

  def holds(folder: pathlib.Path) -> bool:
    return any(find(dataset, split, folder) for split in dataset.splits)

  if not holds(source):
    near = [folder for folder in (source.resolve().parent, *sorted(source.iterdir()))
            if folder.is_dir() and holds(folder)]
    hint = f'; did you mean --source={near[0]}?' if near else lookalikes(
        dataset, source)
    raise errors.UserError(
        f'--source={source} holds no archive of {dataset.name}{hint}; expected are '
        f'{expected} (zips, or the folders they unpack to)'
        f'{dataset.places(dataset.files)}')


def lookalikes(dataset: catalogue.Dataset, source: pathlib.Path) -> str:
  """'; X looks like Y, rename it' for a download that got another name, else ''."""
  official = [dataset.file(role, split) for split in dataset.splits
              for role in dataset.roles(split)]
  for path in sorted(source.iterdir()):
    bare = re.sub(r'( \(\d+\)|\.crdownload|\.part)', '', path.name)
    if path.name in official or not path.is_file():
      continue
    if path.name.endswith(('.crdownload', '.part')) and bare in official:
      return f'; {path.name} is an unfinished download of {bare}'
    for name in official:
      if bare == name or (path.suffix in ('.rar', '.gz', '.tar', '.7z')
                          and bare.partition('.')[0] == name.partition('.')[0]):
        return (f'; {path.name} looks like {name}: '
                f'{"rename it" if bare == name else "unpack it into a folder"}')
  return ''


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
      archive = self._zips[path] = _open_zip(path)
      return [Member(path, info.filename, info.file_size, info.CRC)
              for info in archive.infolist()
              # Not is_dir(), which fails for a damaged name that is empty.
              if info.filename and not info.filename.endswith('/')]
    # A link that leads nowhere is an error, not an image without annotation.
    files = sorted(p for p in path.rglob('*')
                   if p.is_file() or p.is_symlink() and not p.exists())
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      return list(pool.map(file_member, files))

  def read(self, member: Member) -> bytes:
    """Content of a member.

    Raises:
      one of READ_ERRORS: damaged, or encrypted.
      errors.Unusable: a link, or larger than any photograph.
    """
    if not member.entry:
      return files.read_bytes(member.path)
    return _read_entry(self._zips[member.path], member.entry)


def reason(error: Exception) -> str:
  """What one of READ_ERRORS says, in one line."""
  text = str(error)
  if isinstance(error, OSError) and error.filename:
    text = f'{pathlib.Path(error.filename).name}: {error.strerror}'
  return ' '.join(text.split())[:200] or type(error).__name__


def file_member(path: pathlib.Path) -> Member:
  """A file on its own; OSError where it cannot be read."""
  crc = 0
  with path.open('rb') as file:
    while chunk := file.read(1 << 20):
      crc = zlib.crc32(chunk, crc)
    return Member(path, '', file.tell(), crc)


def read_split(dataset: catalogue.Dataset, split: str,
               found: Mapping[str, pathlib.Path], reader: Reader) -> SplitFiles:
  """Pairs the files of a split by id; nothing is decoded yet.

  Args:
    dataset: one of catalogue.DATASETS.
    split: one of its splits.
    found: what `find` returned, with all that is required.
    reader: stays open as long as the members are read.
  """
  bad: list[str] = []
  digests: dict[str, str] = {}
  by_kind: dict[str, dict[str, Member]] = {
      kind: {} for kinds in dataset.members.values() for kind, _ in kinds}
  for role, path in found.items():
    if role in TABLES:
      continue
    try:
      members = reader.members(path)
    except READ_ERRORS as error:
      bad.append(f'{path.name}: cannot be opened ({reason(error)})')
      if role == 'images':  # all other faults would follow from this one
        return SplitFiles(split, (), digests, tuple(bad))
      continue
    used = _sort_members(dataset, role, members, by_kind, bad)
    if not used:
      bad.append(f'{path.name}: holds {len(members)} files, and none is called '
                 f'{" or ".join(_shown(p) for _, p in dataset.members[role])}; '
                 'rename them, or take it out of --source')
      if role == 'images':
        return SplitFiles(split, (), digests, tuple(bad))
    digests[dataset.file(role, split)] = _digest(
        f'{m.name} {m.size} {m.crc}' for m in used)
  tables: dict[str, _Table | None] = dict.fromkeys(TABLES)
  for role, parse in (('labels', dataset.read_labels), ('groups', dataset.read_groups)):
    if parse and role in found:
      tables[role] = _read_table(parse, found[role], reader, bad, by_kind['image'])
      digests[dataset.file(role, split)] = _digest([tables[role].text])
  examples = _pair(dataset, by_kind, tables['labels'], tables['groups'], bad)
  return SplitFiles(split, tuple(examples), digests, tuple(bad))


def _sort_members(dataset: catalogue.Dataset, role: str, members: Iterable[Member],
                  by_kind: dict[str, dict[str, Member]], bad: list[str]
                  ) -> list[Member]:
  """Enters members under kind and id (and attribute); returns those entered."""
  used = []
  for member in members:
    if _hidden(member):
      continue
    try:
      member.name.encode()
    except UnicodeEncodeError:  # of a folder: Linux takes any bytes for a name
      name = member.name.encode(errors='backslashreplace').decode()
      bad.append(f'{name}: its name is not UTF-8')
      continue
    for kind, pattern in dataset.members[role]:
      match = re.fullmatch(pattern, member.name, re.IGNORECASE)
      if match:
        key = catalogue.composed('/'.join(match.groupdict().values()))
        if key in by_kind[kind]:
          bad.append(f'{member.place}: duplicate id {key.partition("/")[0]}, also of '
                     f'{by_kind[kind][key].place}')
        by_kind[kind].setdefault(key, member)
        used.append(member)
        break
  return used


@dataclasses.dataclass(frozen=True)
class _Table:
  """One value an image."""

  name: str
  text: str
  values: dict[str, Any]


def _read_table(parse: Callable[[str, list[str]], dict[str, Any]], path: pathlib.Path,
                reader: Reader, bad: list[str], ids: Iterable[str]) -> _Table:
  """The values of a CSV, alone or in an archive; it may have a header alone."""
  notes: list[str] = []
  text, values = '', {}
  try:
    text = _table_text(path, reader)
    values = parse(text, notes)
  except csv.Error as error:
    notes = [f'is not a table ({error})']
  except (*READ_ERRORS, ValueError) as error:
    notes = [f'cannot be read ({reason(error)})']
  bad += [f'{path.name}: {note}' for note in notes]
  if not values and notes:  # all other faults would follow from this one
    values = dict.fromkeys(ids)
  return _Table(path.name, text, values)


def _table_text(path: pathlib.Path, reader: Reader) -> str:
  """Text of a CSV, or of the only one in an archive.

  Raises:
    ValueError: the number of tables is not one, or the table is not text.
  """
  if path.is_file() and path.suffix != '.zip':
    return path.read_text('utf-8-sig')
  tables = [member for member in reader.members(path)
            if member.name.lower().endswith('.csv') and not _hidden(member)]
  if len(tables) != 1:
    raise ValueError(f'it holds {len(tables)} tables, not one')
  return reader.read(tables[0]).decode('utf-8-sig')


def _shown(pattern: str) -> str:
  """'(?P<id>.+)_segmentation\\.png' -> '<id>_segmentation.png'."""
  name = re.sub(r'\(\?P(<\w+>)[^)]*\)', r'\1', pattern).replace('\\', '')
  return name.replace('(jpe?g|png)', 'jpg')


def _hidden(member: Member) -> bool:
  return member.name.startswith('.') or '__MACOSX' in member.parts


def _digest(lines: Iterable[str]) -> str:
  return hashlib.sha256('\n'.join(sorted(lines)).encode()).hexdigest()


def _pair(dataset: catalogue.Dataset, by_kind: Mapping[str, Mapping[str, Member]],
          labels: _Table | None, groups: _Table | None, bad: list[str]
          ) -> list[Example]:
  """One Example an image (with a label), sorted by id; the rest is bad."""
  examples = {image_id: Example(image_id, member)
              for image_id, member in sorted(by_kind['image'].items())}
  for table, word in ((labels, 'label'), (groups, 'lesion')):
    if table is not None:
      bad += [f'{example.image.name}: no {word} in {table.name}'
              for example in examples.values() if example.id not in table.values]
      bad += [f'{table.name}: {word} of {image_id}, but no image of it'
              for image_id in sorted(set(table.values) - set(examples))]
  for example in examples.values():
    if labels is not None and labels.values.get(example.id) is not None:
      example.label = labels.values[example.id]
    if groups is not None:
      example.group = groups.values.get(example.id) or ''
  _add_annotations(dataset, by_kind, examples, bad)
  return [example for example in examples.values()
          if example.label >= 0 or labels is None]


def _add_annotations(dataset: catalogue.Dataset,
                     by_kind: Mapping[str, Mapping[str, Member]],
                     examples: Mapping[str, Example], bad: list[str]) -> None:
  """Enters masks and features into the examples of their ids."""
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


def _open_zip(path: pathlib.Path) -> zipfile.ZipFile:
  """Opens a zip; BadZipFile or OSError if it is none."""
  try:
    with _as_bad_zip():
      return zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    with path.open('rb') as file:
      start = file.read(512).lstrip()
    if start.startswith(b'<'):
      raise zipfile.BadZipFile('it is a web page; download it again') from error
    if start.startswith(b'PK'):
      raise zipfile.BadZipFile(f'{error}, perhaps cut off; download it again'
                               ) from error
    raise


def _read_entry(archive: zipfile.ZipFile, entry: str) -> bytes:
  """Content of a file of the zip, never more of it than its entry says.

  Raises:
    errors.Unusable: a link, or larger than any photograph, or packed by a method
      that cannot be unpacked piece by piece.
    BadZipFile, zlib.error, EOFError: damaged.
    RuntimeError: encrypted.
  """
  info = archive.getinfo(entry)
  files.check_size(info.file_size)
  if stat.S_ISLNK(info.external_attr >> 16):
    raise errors.Unusable('is a link; put the file itself into the archive')
  if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    raise errors.Unusable('is not compressed with deflate; compress it again')
  with _as_bad_zip(), archive.open(info) as file:
    return file.read(info.file_size + 1)  # to the end, where the CRC is compared


@contextlib.contextmanager
def _as_bad_zip() -> Iterator[None]:
  """Turns what else zipfile raises for a damaged directory into BadZipFile."""
  try:
    yield
  except (ValueError, OverflowError, struct.error) as error:
    raise zipfile.BadZipFile(str(error)) from error
