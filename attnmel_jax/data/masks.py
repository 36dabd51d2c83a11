"""One mask, probability map or superpixel file -> one array, as its photograph.

Pure functions of bytes; a file that cannot be used raises `errors.Unusable`.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json

import numpy as np
from PIL import Image

from attnmel_jax import errors
from attnmel_jax.data import decode


@dataclasses.dataclass(frozen=True)
class Mask:
  """A mask or probability map, and what is odd about it before the crop."""

  square: np.ndarray  # uint8 [S, S]
  scaled: bool        # held 0 and 1 for 0 and 255
  empty: bool         # nowhere 128 or more
  on_borders: bool    # 128 or more on all four: inverted, or cut off


def read_mask(data: bytes, *, size: tuple[int, int], crop_ratio: float,
              resize_size: int) -> Mask:
  """Bytes of a mask -> one of 0 and 255.

  The mask may be 1, 8 or 16 bits deep, grey, colour or palette; alpha is
  ignored. A mask of 0 and 1 is scaled, other greys are thresholded at 128.

  Args:
    data: a PNG, JPEG or BMP.
    size: (width, height) of its image.
    crop_ratio: side of the central square over the shorter side.
    resize_size: S.

  Raises:
    Unusable: damaged, or not of `size`.
  """
  image = decode.open_image(data)
  _check_size(image.size, size)
  inside, scaled = binarise(decode.to_grey(image))
  square = _nearest(inside.astype(np.uint8) * 255, crop_ratio, resize_size)
  return Mask(square, scaled, not inside.any(), _on_borders(inside))


def read_probability(data: bytes, *, size: tuple[int, int], crop_ratio: float,
                     resize_size: int) -> Mask:
  """Bytes of a probability map -> one of 0 to 255, for certain; no threshold.

  As many bits deep as a mask may be. Resized as a photograph is.

  Args:
    data: a PNG, JPEG or BMP.
    size: (width, height) of its image.
    crop_ratio: side of the central square over the shorter side.
    resize_size: S.

  Raises:
    Unusable: damaged, or not of `size`.
  """
  image = decode.open_image(data)
  _check_size(image.size, size)
  grey = decode.to_grey(image)
  square = Image.fromarray(grey).crop(decode.central_square(size, crop_ratio))
  square = square.resize((resize_size, resize_size), Image.Resampling.BILINEAR)
  inside = grey >= 128
  return Mask(np.asarray(square), False, not inside.any(), _on_borders(inside))


def _on_borders(inside: np.ndarray) -> bool:
  return all(border.any() for border in (
      inside[0], inside[-1], inside[:, 0], inside[:, -1]))


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
  image = decode.open_image(data)
  _check_size(image.size, size)
  if data.startswith(b'\xff\xd8') or image.mode.startswith('I'):
    raise errors.Unusable('does not hold exact colours, which number the superpixels')
  # Four bytes a pixel, read as one little-endian number; the fourth is padding.
  quads = np.asarray(image.convert('RGB').convert('RGBX'))
  index = quads.view('<u4')[..., 0] & 0xFFFFFF
  if index.max() >= len(table):
    raise errors.Unusable(
        f'has superpixel {index.max()}, but the features end at {len(table) - 1}')
  return _nearest(table[index], crop_ratio, resize_size)


def _attribute_table(features: bytes, attributes: Sequence[str]) -> np.ndarray:
  """JSON -> uint8 [superpixels], bit k set where attribute k is present."""
  try:
    values = json.loads(features)
  except (ValueError, RecursionError) as error:
    raise errors.Unusable('features are no JSON') from error
  if not isinstance(values, Mapping) or not values:
    raise errors.Unusable('features are no JSON object of attributes')
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


def _nearest(values: np.ndarray, crop_ratio: float, resize_size: int) -> np.ndarray:
  """uint8 [H, W] -> uint8 [S, S], central square by the nearest pixel."""
  image = Image.fromarray(values)
  square = image.crop(decode.central_square(image.size, crop_ratio))
  return np.asarray(
      square.resize((resize_size, resize_size), Image.Resampling.NEAREST))
