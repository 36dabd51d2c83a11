"""One photograph -> one array: central square, resized once.

Pure functions of bytes. A file that cannot be used raises `Unusable`, whose
text says why; the caller knows the file's name. `masks` reads what lies beside.
"""

from collections.abc import Iterator
import contextlib
import io
import warnings

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import UnidentifiedImageError

from attnmel_jax import errors

# Names the filters below; part of a prepared data set's identity. It stands for
# the pixels to within 2 grey levels (see `read_image`); the fingerprint of a
# prepared split stands for them exactly.
RESAMPLING = 'bilinear'

# A JPEG is decoded at a half, a quarter or an eighth where this much reduction
# is left to do afterwards. Largest difference to plain decoding in 7300 decodings
# of 2000 dermoscopic images, which were small ones and so sharper than full-size
# photographs: with 6 left, 2 grey levels in 6 decodings and else 1; with 5, 2 in
# 64; with 4, 3 or 4 in 11.
_REDUCTION_LEFT = 6

# Edges between clipped (0 or 255) and other values, as a share of all neighbours.
# Where there are more, the image is decoded plainly: the mean of clipped pixels is
# not the clipped mean, and fine texture of saturated colour differs by 3 to 10.
_CLIPPED_EDGES = 0.005

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


@contextlib.contextmanager
def strict_warnings() -> Iterator[None]:
  """Within it an enormous image is unusable, and odd metadata are no matter.

  Not for threads: it is entered once, around all of the work.
  """
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', module='PIL')  # of odd metadata
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


def _photographed(size: tuple[int, int], crop_ratio: float) -> tuple[int, ...]:
  """The central square, if it is large enough for a photograph."""
  square = central_square(size, crop_ratio)
  if square[2] - square[0] < _SMALLEST_SIDE:
    raise errors.Unusable(f'is only {size[0]}x{size[1]} pixels')
  return square


def open_image(data: bytes) -> Image.Image:
  """Bytes of a JPEG, PNG or BMP -> the loaded image, upright as its EXIF says.

  Raises:
    errors.Unusable: damaged, of another format, animated, or beyond Pillow's limit of
      pixels.
  """
  image = _open_header(data)
  _load(image)
  orientation = _orientation(image)
  if orientation in _UPRIGHT:
    image = image.transpose(_UPRIGHT[orientation])
  return image


def _open_header(data: bytes) -> Image.Image:
  other = 'HEIF or AVIF' if data[4:8] == b'ftyp' else _OTHER_FORMATS.get(data[:4])
  if other:
    raise errors.Unusable(f'is {other}, not JPEG, PNG or BMP; convert it')
  with _as_unusable():
    image = Image.open(io.BytesIO(data), formats=('JPEG', 'PNG', 'BMP'))
  if image.width * image.height > Image.MAX_IMAGE_PIXELS:  # here Pillow but warns
    raise errors.Unusable(f'has more than {Image.MAX_IMAGE_PIXELS} pixels')
  frames = getattr(image, 'n_frames', 1)
  if image.format == 'PNG' and frames > 1:  # a JPEG's second is a preview
    raise errors.Unusable(f'is an animation of {frames} frames')
  return image


def _load(image: Image.Image) -> None:
  with _as_unusable():
    image.load()


@contextlib.contextmanager
def _as_unusable() -> Iterator[None]:
  try:
    yield
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
    raise errors.Unusable(
        f'has more than {Image.MAX_IMAGE_PIXELS} pixels') from error
  except UnidentifiedImageError as error:
    raise errors.Unusable('cannot be read: it is no JPEG, PNG or BMP') from error
  except Exception as error:  # Pillow raises of all sorts for a damaged file
    raise errors.Unusable('cannot be read: it is damaged') from error


def read_image(data: bytes, *, crop_ratio: float, resize_size: int
               ) -> tuple[np.ndarray, tuple[int, int]]:
  """Bytes of a JPEG, PNG or BMP -> uint8 RGB [S, S, 3] and the full (width, height).

  An EXIF orientation is applied first. Resized bilinearly with antialiasing
  (Pillow's filter widens with the reduction). A large colour JPEG is decoded at
  a reduced size if 12-fold reduction or more lies ahead, with pixels within 2
  grey levels of those from decoding it in full; any other image is decoded in full.

  Raises:
    errors.Unusable: damaged, of another format, or too small or large.
  """
  scale = jpeg_scale(data, crop_ratio=crop_ratio, resize_size=resize_size)
  if scale > 1:
    scaled = read_scaled(
        data, crop_ratio=crop_ratio, resize_size=resize_size, scale=scale)
    if scaled is not None:
      return scaled
  return read_plain(data, crop_ratio=crop_ratio, resize_size=resize_size)


def read_plain(data: bytes, *, crop_ratio: float, resize_size: int
               ) -> tuple[np.ndarray, tuple[int, int]]:
  """`read_image` by decoding all pixels; what `read_scaled` is measured against."""
  image = open_image(data)
  square = to_rgb(image).crop(_photographed(image.size, crop_ratio))
  square = square.resize((resize_size, resize_size), Image.Resampling.BILINEAR)
  return np.asarray(square), image.size


def jpeg_scale(data: bytes, *, crop_ratio: float, resize_size: int) -> int:
  """The factor, 1, 2, 4 or 8, by which a JPEG may be reduced while decoding."""
  image = _open_header(data)
  if image.format != 'JPEG' or image.mode != 'RGB':
    return 1
  reduction = int(crop_ratio * min(image.size)) / resize_size
  fitting = [s for s in (2, 4, 8) if reduction >= s * _REDUCTION_LEFT]
  return max(fitting, default=1)


def read_scaled(data: bytes, *, crop_ratio: float, resize_size: int, scale: int
                ) -> tuple[np.ndarray, tuple[int, int]] | None:
  """`read_image` of a JPEG decoded at 1/scale by its smallest frequencies.

  A pixel of the reduced image, a cell, stands for scale x scale pixels. It gets
  the sum of the weights that they have in `read_plain`, those outside the central
  square having none: no edge moves, and no border bleeds into the square unless
  a cell straddles it.

  Returns:
    As `read_image`; None where many pixels are clipped, which would make more of
    a difference, or where the decoder does not reduce by `scale`.

  Raises:
    errors.Unusable: damaged.
  """
  image = _open_header(data)
  width, height = image.size
  image.draft(None, (width // scale, height // scale))
  _load(image)
  if image.size != (-(-width // scale), -(-height // scale)):
    return None
  orientation = _orientation(image)
  if orientation in _UPRIGHT:
    image = image.transpose(_UPRIGHT[orientation])
  size = (height, width) if orientation >= 5 else (width, height)
  left, top, right, bottom = _photographed(size, crop_ratio)
  # The last cell of a stored row or column may reach beyond the image; turned
  # round, it is the first, and the image begins inside it.
  if orientation in (2, 3, 6, 7):
    left, right = left + -size[0] % scale, right + -size[0] % scale
  if orientation in (3, 4, 7, 8):
    top, bottom = top + -size[1] % scale, bottom + -size[1] % scale
  cells = np.asarray(image.crop((
      left // scale, top // scale, -(-right // scale), -(-bottom // scale))))
  clipped = (cells == 0) | (cells == 255)
  edges = np.count_nonzero(clipped[:, 1:] != clipped[:, :-1])
  if edges > _CLIPPED_EDGES * clipped.size:
    return None
  for start in (top % scale, left % scale):  # each turn swaps rows and columns
    cells = _resize_cells(cells, start=start, side=right - left,
                          resize_size=resize_size, scale=scale).swapaxes(0, 1)
  return np.rint(cells).astype(np.uint8), size


def _resize_cells(cells: np.ndarray, *, start: int, side: int, resize_size: int,
                  scale: int) -> np.ndarray:
  """[cells, N, 3] -> float32 [S, N, 3], the bilinear filter over `side` pixels.

  Args:
    cells: means of `scale` pixels along the first axis.
    start: pixel of the first cell at which the `side` pixels begin.
    side: their number, at least S.
    resize_size: S.
    scale: pixels in a cell.
  """
  flat = cells.reshape(len(cells), -1)
  rows = np.empty((resize_size, flat.shape[1]), np.float32)
  reduction = side / resize_size
  for row in range(resize_size):
    # Pillow's weights: a triangle of half width `reduction` around the centre.
    centre = (row + 0.5) * reduction
    pixels = np.arange(max(int(centre - reduction + 0.5), 0),
                       min(int(centre + reduction + 0.5), side))
    weights = 1 - np.abs(pixels + 0.5 - centre) / reduction
    of_cell = (pixels + start) // scale
    summed = np.bincount(of_cell - of_cell[0], weights / weights.sum())
    band = flat[of_cell[0]:of_cell[-1] + 1]
    rows[row] = summed.astype(np.float32) @ band.astype(np.float32)
  return rows.reshape(resize_size, *cells.shape[1:])


def _orientation(image: Image.Image) -> int:
  """The EXIF orientation; 1 where there is none or the EXIF is damaged."""
  with contextlib.suppress(Exception):
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in _UPRIGHT else 1
  return 1


def to_rgb(image: Image.Image) -> Image.Image:
  """Any mode -> RGB; alpha is dropped."""
  if image.mode.startswith('I'):  # 16 bits: Pillow would clip, not scale
    image = Image.fromarray(to_grey(image))
  if image.mode == 'P' and 'transparency' in image.info:
    image = image.convert('RGBA')
  # `convert` would copy an RGB image.
  return image if image.mode == 'RGB' else image.convert('RGB')


def to_grey(image: Image.Image) -> np.ndarray:
  """Any mode -> uint8 [H, W]; 16 bits are reduced to 8 unless they fit in 8."""
  if image.mode.startswith('I'):
    deep = np.asarray(image).astype(np.int32)
    return (deep // 257 if deep.max() > 255 else deep).astype(np.uint8)
  if image.mode != 'L':
    # Through RGB: '1' and 'P' turn to greys of their colours, alpha is dropped.
    image = to_rgb(image).convert('L')
  return np.asarray(image)
