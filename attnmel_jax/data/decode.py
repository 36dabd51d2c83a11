"""One picture file -> one array: central square, resized once.

Pure functions of bytes: photographs, masks, probability maps, superpixels. A file
that cannot be used raises `errors.Unusable`, whose text says why; the caller knows
the file's name.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import io
import json
import warnings

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import UnidentifiedImageError

from attnmel_jax import errors

# Names the filters below; part of a prepared data set's identity.
RESAMPLING = 'bilinear'

# EXIF orientation -> what sets the stored pixels upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90}

# A square of fewer pixels is no photograph, but a thumbnail or a strip.
_SMALLEST_SIDE = 8

# First bytes -> a format that other programs show under any name.
_OTHER_FORMATS = {b'GIF8': 'GIF', b'II*\0': 'TIFF', b'MM\0*': 'TIFF', b'RIFF': 'WebP',
                  b'%PDF': 'PDF'}


@dataclasses.dataclass(frozen=True)
class Geometry:
  """Central square and side of the stored images; part of a split's identity."""

  crop_ratio: float  # side of the central square over the shorter side
  resize_size: int   # S, in pixels


@dataclasses.dataclass(frozen=True)
class Mask:
  """A mask or probability map, and what is odd about it before the crop."""

  square: np.ndarray  # uint8 [S, S]
  scaled: bool        # held 0 and 1 for 0 and 255
  empty: bool         # nowhere 128 or more
  on_borders: bool    # 128 or more on all four: inverted, or cut off


@contextlib.contextmanager
def strict_warnings() -> Iterator[None]:
  """Makes an enormous image unusable, and ignores Pillow's remarks on odd metadata.

  Not for threads: enter it once, around all of the work.
  """
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', module='PIL')
    warnings.simplefilter('error', Image.DecompressionBombWarning)
    yield


def central_square(size: tuple[int, int], crop_ratio: float) -> tuple[int, ...]:
  """(width, height) -> (left, top, right, bottom) of the central square.

  Its side is int(crop_ratio * min(height, width)); the offsets are rounded
  down.
  """
  side = int(crop_ratio * min(size))
  if side < 1:
    raise errors.Unusable(f'is only {size[0]}x{size[1]} pixels')
  left, top = (size[0] - side) // 2, (size[1] - side) // 2
  return left, top, left + side, top + side


def _resized(image: Image.Image, geometry: Geometry, filter_: Image.Resampling
             ) -> np.ndarray:
  """The central square, [S, S] or [S, S, 3]."""
  square = image.crop(central_square(image.size, geometry.crop_ratio))
  return np.asarray(square.resize((geometry.resize_size,) * 2, filter_))


def open_image(data: bytes) -> Image.Image:
  """Bytes of a JPEG, PNG or BMP -> the loaded image, upright as its EXIF says.

  Raises:
    errors.Unusable: damaged, of another format, animated, or beyond Pillow's limit of
      pixels.
  """
  other = 'HEIF or AVIF' if data[4:8] == b'ftyp' else _OTHER_FORMATS.get(data[:4])
  if other:
    raise errors.Unusable(f'is {other}, not JPEG, PNG or BMP; convert it')
  try:
    image = Image.open(io.BytesIO(data), formats=('JPEG', 'PNG', 'BMP'))
    if image.width * image.height > Image.MAX_IMAGE_PIXELS:  # Pillow only warns
      raise Image.DecompressionBombError
    frames = getattr(image, 'n_frames', 1)
    if image.format == 'PNG' and frames > 1:  # a JPEG's second is a preview
      raise errors.Unusable(f'is an animation of {frames} frames')
    image.load()
  except errors.Unusable:
    raise
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
    raise errors.Unusable(
        f'has more than {Image.MAX_IMAGE_PIXELS} pixels') from error
  except UnidentifiedImageError as error:
    raise errors.Unusable('cannot be read: it is not a JPEG, PNG or BMP') from error
  except Exception as error:  # Pillow raises many kinds for a damaged file
    raise errors.Unusable('cannot be read: it is damaged') from error
  with contextlib.suppress(Exception):  # damaged EXIF turns nothing
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if turn is None else image.transpose(turn)
  return image


def read_image(data: bytes, geometry: Geometry
               ) -> tuple[np.ndarray, tuple[int, int]]:
  """Bytes of a JPEG, PNG or BMP -> uint8 RGB [S, S, 3] and the full (width, height).

  An EXIF orientation is applied first. Resized bilinearly with antialiasing
  (Pillow's filter widens with the reduction).

  Raises:
    errors.Unusable: damaged, of another format, or too small or large.
  """
  image = open_image(data)
  if int(geometry.crop_ratio * min(image.size)) < _SMALLEST_SIDE:
    raise errors.Unusable(f'is only {image.width}x{image.height} pixels')
  square = _resized(_to_rgb(image), geometry, Image.Resampling.BILINEAR)
  return square, image.size


def _to_rgb(image: Image.Image) -> Image.Image:
  """Any mode -> RGB; alpha is dropped."""
  if image.mode.startswith('I'):  # 16 bits: Pillow would clip, not scale
    image = Image.fromarray(_to_grey(image))
  if image.mode == 'P' and 'transparency' in image.info:
    image = image.convert('RGBA')
  # `convert` would copy an RGB image.
  return image if image.mode == 'RGB' else image.convert('RGB')


def _to_grey(image: Image.Image) -> np.ndarray:
  """Any mode -> uint8 [H, W]; 16 bits are reduced to 8 unless they fit in 8."""
  if image.mode.startswith('I'):
    deep = np.asarray(image).astype(np.int32)
    return (deep // 257 if deep.max() > 255 else deep).astype(np.uint8)
  if image.mode != 'L':
    # Through RGB: '1' and 'P' turn to greys of their colours, alpha is dropped.
    image = _to_rgb(image).convert('L')
  return np.asarray(image)


def read_mask(data: bytes, geometry: Geometry, *, size: tuple[int, int], kind: str
              ) -> Mask:
  """Bytes of a mask -> one of 0 and 255, or of a probability map -> one of 0 to 255.

  The file may be 1, 8 or 16 bits deep, grey, colour or palette; alpha is ignored. A
  mask of 0 and 1 is scaled, other greys are thresholded at 128, and the nearest pixel
  is taken. A probability is never thresholded, and is resized as a photograph is.

  Args:
    data: a PNG, JPEG or BMP.
    geometry: of the square.
    size: (width, height) of its image.
    kind: 'binary' or 'probability'.

  Raises:
    errors.Unusable: damaged, or not of `size`.
  """
  image = open_image(data)
  _check_size(image.size, size)
  grey = _to_grey(image)
  if kind == 'probability':
    scaled, inside = False, grey >= 128
    square = _resized(Image.fromarray(grey), geometry, Image.Resampling.BILINEAR)
  else:
    scaled = grey.max() == 1
    inside = grey >= (1 if scaled else 128)
    square = _resized(Image.fromarray(inside.astype(np.uint8) * 255), geometry,
                      Image.Resampling.NEAREST)
  on_borders = all(border.any() for border in (
      inside[0], inside[-1], inside[:, 0], inside[:, -1]))
  return Mask(square, bool(scaled), not inside.any(), on_borders)


def read_superpixels(data: bytes, features: bytes, geometry: Geometry, *,
                     attributes: Sequence[str], size: tuple[int, int]) -> np.ndarray:
  """Superpixel PNG + features JSON -> uint8 bit mask [S, S].

  Args:
    data: PNG of colours that number the superpixels, R + 256 G + 65536 B.
    features: JSON object, attribute -> a 0 or 1 for every superpixel.
    geometry: of the square.
    attributes: attribute k sets bit k; one that the JSON lacks stays 0.
    size: (width, height) of the image.

  Raises:
    errors.Unusable: damaged, not of `size`, an unknown attribute, a value that is
      neither 0 nor 1, or a superpixel without a value.
  """
  table = _attribute_table(features, attributes)
  image = open_image(data)
  _check_size(image.size, size)
  if data.startswith(b'\xff\xd8') or image.mode.startswith('I'):
    raise errors.Unusable('does not hold exact colours, which number the superpixels')
  # Four bytes a pixel, read as one little-endian number; the fourth is padding.
  quads = np.asarray(image.convert('RGB').convert('RGBX'))
  index = quads.view('<u4')[..., 0] & 0xFFFFFF
  if index.max() >= len(table):
    raise errors.Unusable(
        f'has superpixel {index.max()}, but the features end at {len(table) - 1}')
  return _resized(Image.fromarray(table[index]), geometry, Image.Resampling.NEAREST)


def _attribute_table(features: bytes, attributes: Sequence[str]) -> np.ndarray:
  """JSON -> uint8 [superpixels], bit k set where attribute k is present."""
  try:
    values = json.loads(features)
  except (ValueError, RecursionError) as error:
    raise errors.Unusable('features are not JSON') from error
  if not isinstance(values, Mapping) or not values:
    raise errors.Unusable('features are not a JSON object of attributes')
  columns = {}
  for name, column in values.items():
    if name not in attributes:
      raise errors.Unusable(
          f'features name {name!r}; known are {", ".join(attributes)}')
    if not isinstance(column, list) or any(v not in (0, 1) for v in column):
      raise errors.Unusable(f'features of {name!r} are not all 0 or 1')
    columns[name] = np.array(column, np.uint8)
  lengths = {len(column) for column in columns.values()}
  if len(lengths) != 1:
    raise errors.Unusable(f'features have arrays of lengths {sorted(lengths)}')
  table = np.zeros(lengths.pop(), np.uint8)
  for name, column in columns.items():
    table |= column << attributes.index(name)
  return table


def _check_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
  if size != expected:
    raise errors.Unusable(f'is {size[0]}x{size[1]} pixels, its image '
                          f'{expected[0]}x{expected[1]}')
