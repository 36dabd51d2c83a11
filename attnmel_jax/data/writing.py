"""The files of a split -> a TFDS data set of PNG records, shard by shard."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import hashlib
import io
import pathlib

from absl import logging
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from attnmel_jax import errors
from attnmel_jax import progress
from attnmel_jax import threads
from attnmel_jax.data import archives
from attnmel_jax.data import catalogue
from attnmel_jax.data import decode
from attnmel_jax.data import storage

# What may be odd about a mask: it is used, and its name is printed.
ON_BORDERS = ('masks whose inside touches all four borders of the image, inverted or '
              'cut off')
EMPTY = 'lesion masks without a lesion, kept as annotated and empty'
_NO_ATTRIBUTE = 'attribute masks without the attribute'  # odd if all are

# What decoding raises for a file that is bad.
_FAULTS = (errors.Unusable, *archives.READ_ERRORS)

_SHARD_RECORDS = 256  # TFDS keeps one shard in memory while it writes it


@dataclasses.dataclass(frozen=True)
class Record:
  """What is stored of an image, or what is wrong with its files."""

  id: str
  label: int
  group: str                 # its lesion; the id where that is not known
  has_lesion: bool
  has_dermo: bool
  synthetic: bool            # drawn by the phantom
  encoded: dict[str, bytes]  # PNG of image, lesion and dermo
  digest: bytes              # sha256 of id, label, group, flags, pixels
  odd: tuple[tuple[str, str], ...]  # (what is odd, name) of masks that are used
  bad: tuple[str, ...]       # 'file: what is wrong'


@dataclasses.dataclass
class _Maps:
  """Decodes the maps of one image; notes what is odd or wrong."""

  read: Callable[[archives.Member], bytes]
  geometry: decode.Geometry
  readings: Mapping[str, decode.MaskReading]  # 'lesion', 'attribute'
  size: tuple[int, int]
  odd: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  bad: list[str] = dataclasses.field(default_factory=list)

  def mask(self, member: archives.Member, of: str, *, kind: str) -> np.ndarray:
    """uint8 [S, S] of 0 to 255, of 'lesion' or 'attribute'; zeros for a bad file."""
    try:
      mask = decode.read_mask(
          self.read(member), self.geometry, size=self.size, kind=kind,
          reading=self.readings[of])
    except _FAULTS as error:
      self.bad.append(_problem(member, error))
      return self.empty()
    empty = EMPTY if of == 'lesion' else _NO_ATTRIBUTE
    for what, seen in ((ON_BORDERS, mask.on_borders), (empty, mask.empty)):
      if seen:
        self.odd.append((what, member.name))
    return mask.square

  def superpixels(self, example: archives.Example, attributes: tuple[str, ...]
                  ) -> np.ndarray:
    """uint8 [S, S] bit mask of Part 2; zeros where a file is bad."""
    if example.superpixels is None:
      self.bad.append(f'{example.features.name}: no superpixels of {example.id}')
      return self.empty()
    try:
      return decode.read_superpixels(
          self.read(example.superpixels), self.read(example.features), self.geometry,
          attributes=attributes, size=self.size)
    except _FAULTS as error:
      self.bad.append(_problem(example.superpixels, error))
      return self.empty()

  def dermo(self, example: archives.Example, attributes: tuple[str, ...]
            ) -> np.ndarray:
    """uint8 [S, S], bit k set where attribute k is; its own masks before superpixels.
    """
    if example.features is not None and not example.attributes:
      return self.superpixels(example, attributes)
    bits = self.empty()
    for name, member in example.attributes.items():
      if name in attributes:  # another is a bad file already
        bit = np.uint8(1 << attributes.index(name))
        bits |= self.mask(member, 'attribute', kind='binary') & bit
    return bits

  def empty(self) -> np.ndarray:
    """The map of an image without annotation."""
    return np.zeros((self.geometry.resize_size,) * 2, np.uint8)


def _problem(member: archives.Member, error: Exception) -> str:
  """'file: what is wrong', for the list of bad files."""
  if isinstance(error, errors.Unusable):
    return f'{member.name}: {error}'
  return f'{member.name}: cannot be read from its archive ({archives.reason(error)})'


def make_record(example: archives.Example, *, read: Callable[[archives.Member], bytes],
                attributes: tuple[str, ...], geometry: decode.Geometry,
                readings: Mapping[str, decode.MaskReading]) -> Record:
  """Decodes, crops, resizes and encodes the files of one image.

  Runs in threads: Pillow and zlib release the interpreter lock while they work.
  """
  try:
    data = read(example.image)
    image, size = decode.read_image(data, geometry)
  except _FAULTS as error:
    return Record(
        example.id, example.label, example.id, False, False, False, {}, b'', (),
        _with_origin(example, [_problem(example.image, error)]))
  maps = _Maps(read, geometry, readings, size)
  has_lesion = example.lesion is not None
  has_dermo = bool(example.attributes) or example.features is not None
  arrays = {
      'image': image,
      'lesion': (maps.mask(example.lesion, 'lesion', kind=example.lesion_kind)
                 if has_lesion else maps.empty()),
      'dermo': maps.dermo(example, attributes)}
  head = f'{example.id} {example.label} {has_lesion} {has_dermo}'
  if example.group:
    head += f' {example.group}'
  return Record(
      example.id, example.label, example.group or example.id, has_lesion, has_dermo,
      archives.SYNTHETIC_COMMENT in data,
      {name: encode_png(array) for name, array in arrays.items()},
      _digest(head, arrays), tuple(maps.odd), _with_origin(example, maps.bad))


def _with_origin(example: archives.Example, bad: list[str]) -> tuple[str, ...]:
  """The problems, each after the row of the table that names the files."""
  start = f'{example.origin}: ' if example.origin else ''
  return tuple(start + note for note in bad)


def encode_png(array: np.ndarray) -> bytes:
  """uint8 [H, W] or [H, W, 3] -> PNG."""
  buffer = io.BytesIO()
  # Level 4 takes a third of the time of the default, 6, for 5 % more bytes.
  Image.fromarray(array).save(buffer, 'PNG', compress_level=4)
  return buffer.getvalue()


def _digest(head: str, arrays: dict[str, np.ndarray]) -> bytes:
  # Pixels, not PNG bytes: another version of zlib may pack them differently.
  sha = hashlib.sha256(head.encode())
  for array in arrays.values():
    sha.update(np.ascontiguousarray(array))
  return sha.digest()


class _BadFiles(Exception):
  """Ends the writing of a split; TFDS then removes what it has written."""


class SplitBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Writes one split as a TFDS data set, in the order of the ids.

  Shard by shard, because TFDS's generator builder holds all records in memory
  and, beyond a gigabyte, asks for TensorFlow.
  """

  VERSION = tfds.core.Version(storage.VERSION)

  def __init__(self, files: archives.SplitFiles, *, schema: catalogue.Schema,
               geometry: decode.Geometry, data_dir: pathlib.Path,
               read: Callable[[archives.Member], bytes],
               readings: Mapping[str, decode.MaskReading], bar: progress.Progress):
    self.name = schema.name
    self.problems: list[str] = []  # 'file: what is wrong'
    self.odd: list[tuple[str, str]] = []  # (what is odd, name) of a mask
    self._files, self._schema, self._bar = files, schema, bar
    self._side = geometry.resize_size
    self._make = functools.partial(
        make_record, read=read, attributes=schema.attributes, geometry=geometry,
        readings=readings)
    self._rows: list[Record] = []  # those written, without pixels
    config = tfds.core.BuilderConfig(name=storage.config_name(files.split, geometry))
    super().__init__(data_dir=data_dir, config=config, file_format='array_record')

  def _info(self) -> tfds.core.DatasetInfo:
    grey = (self._side, self._side, 1)
    features = tfds.features.FeaturesDict({
        'id': tfds.features.Text(),
        'image': tfds.features.Image(
            shape=(self._side, self._side, 3), encoding_format='png'),
        'lesion': tfds.features.Image(shape=grey, encoding_format='png'),
        'dermo': tfds.features.Image(shape=grey, encoding_format='png'),
        'label': (tfds.features.ClassLabel(names=list(self._schema.class_names))
                  if self._schema.class_names else np.int32),
        'has_lesion': np.bool_,
        'has_dermo': np.bool_,
    })
    return tfds.core.DatasetInfo(
        builder=self, features=features, metadata=tfds.core.MetadataDict(),
        disable_shuffling=True)

  def _shard_iterators_per_split(self, dl_manager):
    del dl_manager  # nothing is downloaded
    total = len(self._files.examples)
    decoded = threads.in_order(self._make, self._files.examples)
    return {self._files.split: [
        functools.partial(self._shard, decoded, range(
            start, min(start + _SHARD_RECORDS, total)))
        for start in range(0, total, _SHARD_RECORDS)]}

  def _shard(self, decoded: Iterator[Record], rows: range
             ) -> Iterator[tuple[int, dict]]:
    for row in rows:
      record = next(decoded)
      self._bar.advance(1)
      self.problems += record.bad
      self.odd += record.odd
      self._rows.append(dataclasses.replace(record, encoded={}))
      if not self.problems:  # else only read on, to report all bad files together
        yield row, {'id': record.id, 'label': record.label,
                    'has_lesion': record.has_lesion, 'has_dermo': record.has_dermo,
                    **record.encoded}
    if len(self._rows) == len(self._files.examples):
      if self.problems:
        raise _BadFiles
      self.info.metadata.update(self._index())

  def _index(self) -> dict:
    """What `open_split` needs without touching a record."""
    sha = hashlib.sha256(
        repr((self._schema.class_names, self._schema.attributes)).encode())
    for row in self._rows:
      sha.update(row.digest)
    index = {
        'ids': [row.id for row in self._rows],
        'groups': [row.group for row in self._rows],
        'labels': [row.label for row in self._rows],
        'has_lesion': [row.has_lesion for row in self._rows],
        'has_dermo': [row.has_dermo for row in self._rows],
        'class_names': self._schema.class_names,
        'dermo_attributes': self._schema.attributes,
        'fingerprint': sha.hexdigest(),
        'synthetic': any(row.synthetic for row in self._rows),
        'archives': dict(self._files.digests),
    }
    return index | {'digest': storage.digest_of(index)}

  def _log_download_bytes(self) -> None:
    pass  # TFDS would print sizes that it does not know

  def _log_download_done(self) -> None:
    pass


def write_split(files: archives.SplitFiles, schema: catalogue.Schema,
                geometry: decode.Geometry, stage: pathlib.Path,
                read: Callable[[archives.Member], bytes]) -> list[str]:
  """Writes one split below `stage`; returns what is wrong with its files.

  Raises:
    UserError: it cannot be written.
  """
  if not files.examples:
    return [] if files.bad else [f'{next(iter(files.digests))}: holds no image']
  with _quiet_libraries():
    readings = {of: _mask_reading(files, of, read) for of in ('lesion', 'attribute')}
  bar = progress.Progress(files.split, len(files.examples), unit='images')
  with contextlib.closing(bar), _quiet_libraries():
    builder = SplitBuilder(files, schema=schema, geometry=geometry, data_dir=stage,
                           read=read, readings=readings, bar=bar)
    try:
      builder.download_and_prepare(
          download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except _BadFiles:
      pass
    except (OSError, RuntimeError) as error:  # array_record raises the latter
      raise errors.UserError(
          f'{files.split} cannot be written to {stage.parent} ({error}); free some '
          'space or choose another --data_dir') from error
  _report_odd(files, builder, readings['lesion'].note)
  return builder.problems


def _masks(files: archives.SplitFiles, of: str) -> list[archives.Member]:
  """All masks of a split, of 'lesion' or 'attribute'."""
  if of == 'lesion':
    return [example.lesion for example in files.examples if example.lesion]
  return [member for example in files.examples
          for member in example.attributes.values()]


def _mask_reading(files: archives.SplitFiles, of: str,
                  read: Callable[[archives.Member], bytes]) -> decode.MaskReading:
  """Looks at the values of all masks of a split, and prints how they are read."""
  members = _masks(files, of)
  kind = files.examples[0].lesion_kind if of == 'lesion' else 'binary'

  def values(member: archives.Member) -> decode.MaskValues | None:
    try:
      return decode.mask_values(read(member))
    except _FAULTS:  # reported when the mask is read for good
      return None

  bar = progress.Progress(f'{files.split}, looking at {of} masks', len(members),
                          unit='masks')
  with contextlib.closing(bar):
    found = []
    for held in threads.in_order(values, members):
      bar.advance(1)
      found += [] if held is None else [held]
  reading = decode.mask_reading(found, kind=kind)
  if reading.note:
    print(f'{files.split}: {of} masks hold {reading.note}')
  return reading


def _report_odd(files: archives.SplitFiles, builder: SplitBuilder, note: str) -> None:
  """Prints what is odd about masks; no lesion in any of them is a problem."""
  for what in (ON_BORDERS, EMPTY, _NO_ATTRIBUTE):
    names = [name for found, name in builder.odd if found == what]
    all_of_them = len(names) == len(_masks(
        files, 'attribute' if what == _NO_ATTRIBUTE else 'lesion'))
    if names and what == EMPTY and all_of_them:
      held = f'; they hold {note}' if note else ''
      builder.problems.append(
          f'{files.split}: all {len(names)} lesion masks are without a lesion, for '
          f'example {names[0]}{held}')
    elif names and (what != _NO_ATTRIBUTE or all_of_them):
      print(f'{files.split}: {what}: {len(names)}, for example {names[0]}')


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
  """No notes of TFDS, and Pillow's warnings as `decode.strict_warnings` has them."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  tfds.disable_progress_bar()
  with decode.strict_warnings():
    try:
      yield
    finally:
      logging.set_verbosity(verbosity)
