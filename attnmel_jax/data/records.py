"""The files of one image -> one record of the prepared data set.

Runs in threads: Pillow and zlib release the interpreter lock while they work.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import concurrent.futures
import dataclasses
import hashlib
import io
import os

import numpy as np
from PIL import Image

from attnmel_jax.data import archives
from attnmel_jax.data import decode


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
  scaled: tuple[str, ...]    # names of masks that held {0, 1}
  bad: tuple[str, ...]       # 'file: what is wrong'


@dataclasses.dataclass
class _Maps:
  """Decodes the maps of one image and notes what was odd or wrong."""

  read: Callable[[archives.Member], bytes]
  size: tuple[int, int]
  crop_ratio: float
  resize_size: int
  scaled: list[str]
  bad: list[str]

  def mask(self, member: archives.Member) -> np.ndarray:
    """uint8 [S, S] of 0 and 255; zeros where the file is bad."""
    try:
      mask, scaled = decode.read_mask(
          self.read(member), size=self.size, crop_ratio=self.crop_ratio,
          resize_size=self.resize_size)
    except (decode.Unusable, *archives.READ_ERRORS) as error:
      self.bad.append(problem(member, error))
      return self.empty()
    if scaled:
      self.scaled.append(member.name)
    return mask

  def probability(self, member: archives.Member) -> np.ndarray:
    """uint8 [S, S] of 0 to 255; zeros where the file is bad."""
    try:
      return decode.read_probability(
          self.read(member), size=self.size, crop_ratio=self.crop_ratio,
          resize_size=self.resize_size)
    except (decode.Unusable, *archives.READ_ERRORS) as error:
      self.bad.append(problem(member, error))
      return self.empty()

  def superpixels(self, example: archives.Example, attributes: tuple[str, ...]
                  ) -> np.ndarray:
    """uint8 [S, S] bit mask of Part 2; zeros where a file is bad."""
    if example.superpixels is None:
      self.bad.append(f'{example.features.name}: no superpixels of {example.id}')
      return self.empty()
    try:
      return decode.read_superpixels(
          self.read(example.superpixels), self.read(example.features),
          attributes=attributes, size=self.size, crop_ratio=self.crop_ratio,
          resize_size=self.resize_size)
    except (decode.Unusable, *archives.READ_ERRORS) as error:
      self.bad.append(problem(example.superpixels, error))
      return self.empty()

  def empty(self) -> np.ndarray:
    """The map of an image without annotation."""
    return np.zeros((self.resize_size, self.resize_size), np.uint8)


def problem(member: archives.Member, error: Exception) -> str:
  """'file: what is wrong', for the list of bad files."""
  if isinstance(error, decode.Unusable):
    return f'{member.name}: {error}'
  return f'{member.name}: cannot be read from its archive'


def make_record(example: archives.Example, *, read: Callable[[archives.Member], bytes],
                attributes: tuple[str, ...], crop_ratio: float, resize_size: int
                ) -> Record:
  """Decodes, crops, resizes and encodes the files of one image.

  Masks of single attributes go before superpixels where an image has both.
  """
  scaled: list[str] = []
  bad: list[str] = []
  try:
    data = read(example.image)
    image, size = decode.read_image(
        data, crop_ratio=crop_ratio, resize_size=resize_size)
  except (decode.Unusable, *archives.READ_ERRORS) as error:
    return Record(
        example.id, example.label, example.id, False, False, False, {}, b'', (),
        _with_origin(example, [problem(example.image, error)]))
  maps = _Maps(read, size, crop_ratio, resize_size, scaled, bad)
  lesion = maps.empty()
  if example.lesion is not None:
    decoded = {'binary': maps.mask, 'probability': maps.probability}
    lesion = decoded[example.lesion_kind](example.lesion)
  dermo = maps.empty()
  if example.attributes:
    for name, member in example.attributes.items():
      if name in attributes:
        bit = np.uint8(1 << attributes.index(name))
        dermo = dermo | (maps.mask(member) & bit)
  elif example.features is not None:
    dermo = maps.superpixels(example, attributes)
  has_lesion = example.lesion is not None
  has_dermo = bool(example.attributes) or example.features is not None
  arrays = {'image': image, 'lesion': lesion, 'dermo': dermo}
  head = f'{example.id} {example.label} {has_lesion} {has_dermo}'
  if example.group:
    head += f' {example.group}'
  return Record(
      example.id, example.label, example.group or example.id, has_lesion, has_dermo,
      archives.SYNTHETIC_COMMENT in data,
      {name: encode_png(array) for name, array in arrays.items()},
      _digest(head, arrays), tuple(scaled), _with_origin(example, bad))


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


def cores() -> int:
  """Number of cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def in_order(function: Callable, items: Iterable) -> Iterator:
  """`map(function, items)` on all cores, with few results in memory."""
  workers = cores()
  pending: collections.deque[concurrent.futures.Future] = collections.deque()
  pool = concurrent.futures.ThreadPoolExecutor(workers)
  try:
    for item in items:
      pending.append(pool.submit(function, item))
      if len(pending) > 2 * workers:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)
