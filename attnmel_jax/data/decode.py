"""One file of an archive -> one array: central square, resized once.

Pure functions of bytes. A file that cannot be used raises `Unusable`, whose
text says why; the caller knows the file's name.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import io
import json

import numpy as np
from PIL import Image
from PIL import ImageOps

# Names the filters below; part of a prepared data set's identity.
RESAMPLING = 'bilinear'

class Unusable(ValueError):
  """A file whose content cannot be used."""


def central_square(size: tuple[int, int], crop_ratio: float) -> tuple[int, ...]:
  """(width, height) -> (left, top, right, bottom) of the central square.

  Its side is int(crop_ratio * min(height, width)); the offsets are rounded
  down.
  """
  side = int(crop_ratio * min(size))
  if side < 1:
    raise Unusable(f'is only {size[0]}x{size[1]} pixels')
  left, top = (size[0] - side) // 2, (size[1] - side) // 2
  return left, top, left + side, top + side


def open_image(data: bytes) -> Image.Image:
  """Bytes of a JPEG or PNG -> the loaded image, as stored.

  Raises:
    Unusable: damaged, of another format, or beyond Pillow's limit of pixels.
  """
  try:
    image = Image.open(io.BytesIO(data), formats=('JPEG', 'PNG'))
    image.load()
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
    raise Unusable(
        f'has more than {Image.MAX_IMAGE_PIXELS} pixels') from error
  except Exception as error:  # Pillow raises of all sorts for a damaged file
    raise Unusable('cannot be read') from error
  return image


def read_image(data: bytes, *, crop_ratio: float, resize_size: int
               ) -> tuple[np.ndarray, tuple[int, int]]:
  """Bytes of a JPEG or PNG -> uint8 RGB [S, S, 3] and the full (width, height).

  An EXIF orientation is applied first. Resized bilinearly with antialiasing
  (Pillow's filter widens with the reduction).
  """
  image = open_image(data)
  with contextlib.suppress(Exception):  # damaged EXIF: pixels as they are stored
    image = ImageOps.exif_transpose(image)
  square = _to_rgb(image).crop(central_square(image.size, crop_ratio))
  square = square.resize((resize_size, resize_size), Image.Resampling.BILINEAR)
  return np.asarray(square), image.size


def read_mask(data: bytes, *, size: tuple[int, int], crop_ratio: float,
              resize_size: int) -> tuple[np.ndarray, bool]:
  """Bytes of a mask -> uint8 [S, S] of 0 and 255, and whether it was {0, 1}.

  The mask may be 1, 8 or 16 bits deep, grey, colour or palette; alpha is
  ignored. A mask of 0 and 1 is scaled, other greys are thresholded at 128.

  Args:
    data: a PNG or JPEG.
    size: (width, height) of its image.
    crop_ratio: side of the central square over the shorter side.
    resize_size: S.

  Raises:
    Unusable: damaged, or not of `size`.
  """
  image = open_image(data)
  _check_size(image.size, size)
  inside, scaled = binarise(_to_grey(image))
  square = _nearest(inside.astype(np.uint8) * 255, crop_ratio, resize_size)
  return square, scaled


def binarise(grey: np.ndarray) -> tuple[np.ndarray, bool]:
  """Greys [H, W] -> bool [H, W], and whether the greys were just 0 and 1."""
  if grey.max() == 1:
    return grey == 1, True
  return grey >= 128, False


def read_superpixels(data: bytes, features: bytes, *, attributes: Sequence[str],
                     size: tuple[int, int], crop_ratio: float, resize_size: int
                     ) -> np.ndarray:
  """Superpixel PNG + features JSON -> uint8 bit mask [S, S].

  Args:
    data: PNG of colours that number the superpixels, R + 256 G + 65536 B.
    features: JSON object, attribute -> a 0 or 1 for every superpixel.
    attributes: attribute k sets bit k; one that the JSON lacks stays 0.
    size: (width, height) of the image.
    crop_ratio: side of the central square over the shorter side.
    resize_size: S.

  Raises:
    Unusable: damaged, not of `size`, an unknown attribute, a value that is
      neither 0 nor 1, or a superpixel without a value.
  """
  table = _attribute_table(features, attributes)
  image = open_image(data)
  _check_size(image.size, size)
  # Four bytes a pixel, read as one little-endian number; the fourth is padding.
  quads = np.asarray(image.convert('RGB').convert('RGBX'))
  index = quads.view('<u4')[..., 0] & 0xFFFFFF
  if index.max() >= len(table):
    raise Unusable(
        f'has superpixel {index.max()}, but the features end at {len(table) - 1}')
  return _nearest(table[index], crop_ratio, resize_size)


def _attribute_table(features: bytes, attributes: Sequence[str]) -> np.ndarray:
  """JSON -> uint8 [superpixels], bit k set where attribute k is present."""
  try:
    values = json.loads(features)
  except (ValueError, RecursionError) as error:
    raise Unusable('features are no JSON') from error
  if not isinstance(values, Mapping) or not values:
    raise Unusable('features are no JSON object of attributes')
  columns = {}
  for name, column in values.items():
    if name not in attributes:
      raise Unusable(
          f'features name {name!r}; known are {", ".join(attributes)}')
    if not isinstance(column, list) or any(v not in (0, 1) for v in column):
      raise Unusable(f'features of {name!r} are not all 0 or 1')
    columns[name] = np.array(column, np.uint8)
  lengths = {len(column) for column in columns.values()}
  if len(lengths) != 1:
    raise Unusable(f'features have arrays of lengths {sorted(lengths)}')
  table = np.zeros(lengths.pop(), np.uint8)
  for name, column in columns.items():
    table |= column << attributes.index(name)
  return table


def _check_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
  if size != expected:
    raise Unusable(f'is {size[0]}x{size[1]} pixels, its image '
                   f'{expected[0]}x{expected[1]}')


def _nearest(values: np.ndarray, crop_ratio: float, resize_size: int) -> np.ndarray:
  """uint8 [H, W] -> uint8 [S, S], central square by the nearest pixel."""
  image = Image.fromarray(values)
  square = image.crop(central_square(image.size, crop_ratio))
  return np.asarray(
      square.resize((resize_size, resize_size), Image.Resampling.NEAREST))


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode.startswith('I'):  # 16 bits: Pillow would clip, not scale
    image = Image.fromarray(_to_grey(image))
  if image.mode == 'P' and 'transparency' in image.info:
    image = image.convert('RGBA')
  return image.convert('RGB')


def _to_grey(image: Image.Image) -> np.ndarray:
  """Any mode -> uint8 [H, W]; 16 bits are reduced to 8 unless they fit in 8."""
  if image.mode.startswith('I'):
    deep = np.asarray(image).astype(np.int32)
    return (deep // 257 if deep.max() > 255 else deep).astype(np.uint8)
  if image.mode != 'L':
    # Through RGB: '1' and 'P' turn to greys of their colours, alpha is dropped.
    image = _to_rgb(image).convert('L')
  return np.asarray(image)
