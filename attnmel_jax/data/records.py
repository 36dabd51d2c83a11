"""The files of one image -> one record of the prepared data set.

Runs in threads: Pillow and zlib release the interpreter lock while they work.
"""

from collections.abc import Callable
import dataclasses
import hashlib
import io

import numpy as np
from PIL import Image

from attnmel_jax import errors
from attnmel_jax.data import archives
from attnmel_jax.data import decode
from attnmel_jax.data import masks

# What may be odd about a mask: it is used, and its name is printed.
SCALED = 'masks of 0 and 1, scaled to 0 and 255'
ON_BORDERS = ('masks whose inside touches all four borders of the image, inverted or '
              'cut off')
EMPTY = 'lesion masks without a lesion, kept as annotated and empty'

_READERS = {'binary': masks.read_mask, 'probability': masks.read_probability}


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
  """Decodes the maps of one image and notes what was odd or wrong."""

  read: Callable[[archives.Member], bytes]
  size: tuple[int, int]
  crop_ratio: float
  resize_size: int
  odd: list[tuple[str, str]]
  bad: list[str]

  def attribute(self, member: archives.Member) -> np.ndarray:
    """uint8 [S, S] of 0 and 255; zeros where the file is bad."""
    return self._map(member, masks.read_mask, may_be_empty=True)

  def lesion(self, member: archives.Member, kind: str) -> np.ndarray:
    """uint8 [S, S] of 0 to 255; zeros where the file is bad."""
    return self._map(member, _READERS[kind], may_be_empty=False)

  def _map(self, member: archives.Member, reader: Callable[..., masks.Mask], *,
           may_be_empty: bool) -> np.ndarray:
    try:
      mask = reader(self.read(member), size=self.size, crop_ratio=self.crop_ratio,
                    resize_size=self.resize_size)
    except (errors.Unusable, *archives.READ_ERRORS) as error:
      self.bad.append(problem(member, error))
      return self.empty()
    for what, seen in ((SCALED, mask.scaled), (ON_BORDERS, mask.on_borders),
                       (EMPTY, mask.empty and not may_be_empty)):
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
      return masks.read_superpixels(
          self.read(example.superpixels), self.read(example.features),
          attributes=attributes, size=self.size, crop_ratio=self.crop_ratio,
          resize_size=self.resize_size)
    except (errors.Unusable, *archives.READ_ERRORS) as error:
      self.bad.append(problem(example.superpixels, error))
      return self.empty()

  def empty(self) -> np.ndarray:
    """The map of an image without annotation."""
    return np.zeros((self.resize_size, self.resize_size), np.uint8)


def problem(member: archives.Member, error: Exception) -> str:
  """'file: what is wrong', for the list of bad files."""
  if isinstance(error, errors.Unusable):
    return f'{member.name}: {error}'
  return f'{member.name}: cannot be read from its archive ({archives.reason(error)})'


def make_record(example: archives.Example, *, read: Callable[[archives.Member], bytes],
                attributes: tuple[str, ...], crop_ratio: float, resize_size: int
                ) -> Record:
  """Decodes, crops, resizes and encodes the files of one image.

  Masks of single attributes go before superpixels where an image has both.
  """
  odd: list[tuple[str, str]] = []
  bad: list[str] = []
  try:
    data = read(example.image)
    image, size = decode.read_image(
        data, crop_ratio=crop_ratio, resize_size=resize_size)
  except (errors.Unusable, *archives.READ_ERRORS) as error:
    return Record(
        example.id, example.label, example.id, False, False, False, {}, b'', (),
        _with_origin(example, [problem(example.image, error)]))
  maps = _Maps(read, size, crop_ratio, resize_size, odd, bad)
  lesion = maps.empty()
  if example.lesion is not None:
    lesion = maps.lesion(example.lesion, example.lesion_kind)
  dermo = maps.empty()
  if example.attributes:
    for name, member in example.attributes.items():
      if name in attributes:
        bit = np.uint8(1 << attributes.index(name))
        dermo = dermo | (maps.attribute(member) & bit)
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
      _digest(head, arrays), tuple(odd), _with_origin(example, bad))


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
