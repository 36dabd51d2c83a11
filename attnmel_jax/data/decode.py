"""One picture file -> one array: central square, resized once.

Pure functions of bytes: photographs, masks, probability maps, superpixels. A file
that cannot be used raises `errors.Unusable`, whose text says why; the caller knows
the file's name.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import io
import json
import math
import warnings

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import ImageCms
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

_RAW = 'a raw file of a camera'
# Where a mark stands in a file of a format, whatever the file's name.
_FORMATS = (
    (0, b'\xff\xd8\xff', 'JPEG'), (0, b'\x89PNG\r\n\x1a\n', 'PNG'), (0, b'GIF8', 'GIF'),
    (0, b'%PDF', 'PDF'), (8, b'WEBP', 'WebP'), (4, b'jP  ', 'JPEG 2000'),
    (0, b'\xff\x4f\xff\x51', 'JPEG 2000'), (4, b'JXL ', 'JPEG XL'),
    (0, b'\xff\x0a', 'JPEG XL'), (128, b'DICM', 'DICOM'), (4, b'ftypcrx', _RAW),
    (0, b'FUJIFILM', _RAW), (0, b'IIRO', _RAW), (0, b'IIU\0', _RAW),
    *((4, b'ftyp' + brand, 'HEIF or AVIF')
      for brand in (b'hei', b'hev', b'mif1', b'msf1', b'avi')),
    (0, b'II*\0', f'TIFF or {_RAW}'), (0, b'MM\0*', f'TIFF or {_RAW}'))
_READ = ('JPEG', 'PNG', 'BMP')
FIRST_BYTES = 132  # enough for `format_of`


@dataclasses.dataclass(frozen=True)
class Geometry:
  """Central square and side of the stored images; part of a split's identity."""

  crop_ratio: float  # side of the central square over the shorter side
  resize_size: int   # S, in pixels


@dataclasses.dataclass(frozen=True)
class Mask:
  """A mask or probability map, and what is odd about it before the crop."""

  square: np.ndarray  # uint8 [S, S]
  empty: bool         # nothing inside; of a probability map: nowhere half or more
  on_borders: bool    # inside on all four borders: inverted, or cut off


@dataclasses.dataclass(frozen=True)
class MaskValues:
  """What a mask file holds: greys of 8 or 16 bits, or colours of a palette."""

  depth: str               # '8 bits', '16 bits' or 'palette'
  values: frozenset[int]   # greys, or colours as 0xRRGGBB
  first: int               # colour of the palette's index 0, else 0


@dataclasses.dataclass(frozen=True)
class MaskReading:
  """How the masks of a folder are read: decided once, from all that they hold."""

  # Depth -> the lowest grey inside. Each depth is decided on its own.
  lowest: Mapping[str, float]
  background: frozenset[int]  # colours of palettes that are outside
  unit: int                   # a grey of 16 bits over the same of 8 bits: 1 or 257
  note: str                   # the decision in words; '' without masks


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


def format_of(data: bytes) -> str:
  """The format of a picture by its first bytes; '' of none that is known."""
  # Of a BMP: the size of the second header, as a text may begin with BM.
  if data[:2] == b'BM' and data[14:18] in [
      size.to_bytes(4, 'little') for size in (12, 40, 52, 56, 64, 108, 124)]:
    return 'BMP'
  return next((name for at, mark, name in _FORMATS if data.startswith(mark, at)), '')


def open_image(data: bytes) -> Image.Image:
  """Bytes of a JPEG, PNG or BMP -> the loaded image, upright as its EXIF says.

  Raises:
    errors.Unusable: damaged, of another format, animated, or beyond Pillow's limit of
      pixels.
  """
  if (other := format_of(data)) not in ('', *_READ):
    raise errors.Unusable(f'is {other}, not JPEG, PNG or BMP; convert it')
  try:
    image = Image.open(io.BytesIO(data), formats=_READ)
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


def open_photograph(data: bytes) -> Image.Image:
  """Bytes of a JPEG, PNG or BMP -> RGB, upright, in sRGB where it has a profile.

  Raises:
    errors.Unusable: see `open_image`.
  """
  image = open_image(data)
  return _to_rgb(_in_srgb(image) if image.info.get('icc_profile') else image)


def _in_srgb(image: Image.Image) -> Image.Image:
  """Converts from the colours of the embedded ICC profile.

  A profile that is damaged or not of the image's colours is ignored.
  """
  with contextlib.suppress(Exception):  # littlecms raises many kinds
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info['icc_profile']))
    if 'srgb' in ImageCms.getProfileDescription(profile).lower():
      return image
    modes = {'RGB': ('RGB', 'RGBA', 'P'), 'GRAY': ('L', 'LA'), 'CMYK': ('CMYK',)}[
        profile.profile.xcolor_space.strip()]
    if image.mode in modes:
      pixels = _to_rgb(image) if 'RGB' in modes else image.convert(modes[0])
      return ImageCms.profileToProfile(
          pixels, profile, ImageCms.createProfile('sRGB'), outputMode='RGB')
  return image


def looks_like_mask(photograph: Image.Image) -> bool:
  """Whether RGB pixels have one or two values, but for what JPEG adds."""
  if photograph.getcolors(2):
    return True
  sample = photograph.resize((256, 256), Image.Resampling.NEAREST).convert('L')
  counts = np.array(sample.histogram())
  low, high = np.flatnonzero(counts)[[0, -1]]
  ends = counts[low:low + 17].sum() + counts[high - 16:high + 1].sum()
  return bool(high - low > 64 and ends > 0.99 * counts.sum())


def photograph_square(photograph: Image.Image, geometry: Geometry) -> np.ndarray:
  """RGB -> uint8 [S, S, 3], resized bilinearly with antialiasing.

  Pillow's filter widens with the reduction.

  Raises:
    errors.Unusable: too small.
  """
  if int(geometry.crop_ratio * min(photograph.size)) < _SMALLEST_SIDE:
    raise errors.Unusable(f'is only {photograph.width}x{photograph.height} pixels')
  return _resized(photograph, geometry, Image.Resampling.BILINEAR)


def read_image(data: bytes, geometry: Geometry
               ) -> tuple[np.ndarray, tuple[int, int]]:
  """Bytes of a JPEG, PNG or BMP -> uint8 RGB [S, S, 3] and the full (width, height).

  See `open_photograph` and `photograph_square`.
  """
  image = open_photograph(data)
  return photograph_square(image, geometry), image.size


def _to_rgb(image: Image.Image) -> Image.Image:
  """Any mode -> RGB; alpha is dropped."""
  if image.mode.startswith('I'):  # 16 bits: Pillow would clip, not scale
    deep = np.asarray(image).astype(np.int32)
    unit = 257 if deep.max() > 255 else 1
    image = Image.fromarray((deep // unit).astype(np.uint8))
  if image.mode == 'P' and 'transparency' in image.info:
    image = image.convert('RGBA')
  # `convert` would copy an RGB image.
  return image if image.mode == 'RGB' else image.convert('RGB')


def _mask_pixels(image: Image.Image) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
  """Depth of a mask, its indices [H, W], what each index means, those that occur.

  Alpha is dropped, and other colours than those of a palette turn to greys.
  """
  if image.mode.startswith('I'):
    pixels = np.asarray(image).astype(np.uint16)
    used = np.bincount(pixels.ravel()).nonzero()[0]
    return '16 bits', pixels, np.arange(1 << 16), used
  if image.mode not in ('L', 'P'):
    image = _to_rgb(image).convert('L')
  used = np.flatnonzero(image.histogram())
  if image.mode == 'L':
    return '8 bits', np.asarray(image), np.arange(256), used
  palette = np.zeros((256, 3), np.int64)
  stored = np.array(image.getpalette('RGB')).reshape(-1, 3)
  palette[:len(stored)] = stored
  red, green, blue = palette.T
  is_grey = (red == green) & (green == blue)
  # Nothing but black tells only by the whole palette what it belongs to.
  if is_grey[used if red[used].any() else slice(None)].all():
    return '8 bits', np.asarray(image), red, used
  return 'palette', np.asarray(image), red << 16 | green << 8 | blue, used


def mask_values(data: bytes) -> MaskValues:
  """Which greys or colours a mask holds, as `mask_reading` needs them.

  Raises:
    errors.Unusable: damaged, or of another format.
  """
  depth, _, meaning, used = _mask_pixels(open_image(data))
  return MaskValues(depth, frozenset(meaning[used].tolist()),
                    int(meaning[0]) if depth == 'palette' else 0)


def mask_reading(masks: Iterable[MaskValues], *, kind: str) -> MaskReading:
  """Decides how a folder of masks is read, from the values of all of them.

  Two values are background, the lower, and inside; one alone is inside unless it is 0;
  more are thresholded at half of their range. In a palette of colours all is inside
  but black, or where there is no black, index 0. Of probability maps only the unit of
  16 bits is decided: where none is beyond 255, they hold 8 bits.

  Args:
    masks: of all files of the folder.
    kind: 'binary' or 'probability'.
  """
  held: dict[str, set[int]] = {}
  firsts = set()
  for mask in masks:
    held.setdefault(mask.depth, set()).update(mask.values)
    if mask.depth == 'palette':
      firsts.add(mask.first)
  colours = held.pop('palette', set())
  lowest, notes = {}, []
  for depth, values in sorted(held.items(), reverse=True):
    low, high = min(values), max(values)
    where = f' of {depth}' if depth != '8 bits' else ''
    if len(values) > 2:
      lowest[depth] = (low + high) / 2
      notes.append(f'{len(values)} values{where} from {low} to {high}, '
                   f'inside from {math.ceil(lowest[depth])} on')
    else:
      lowest[depth] = max(high, 1)
      notes.append(f'{" and ".join(map(str, sorted(values)))}{where}, '
                   f'inside is {lowest[depth]}')
  if colours:
    notes.append('palettes of colours, inside is all but '
                 f'{"black" if 0 in colours else "their first colour"}')
  unit = 257 if max(held.get('16 bits', {0})) > 255 else 1
  return MaskReading(
      lowest, frozenset({0}) if 0 in colours else frozenset(firsts), unit,
      '; '.join(notes) if kind == 'binary' else '')


def read_mask(data: bytes, geometry: Geometry, *, size: tuple[int, int], kind: str,
              reading: MaskReading) -> Mask:
  """Bytes of a mask -> one of 0 and 255, or of a probability map -> one of 0 to 255.

  The file may be 1, 8 or 16 bits deep, grey, colour or palette; alpha is ignored. Of a
  mask the nearest pixel is taken. A probability is never thresholded, and is resized
  as a photograph is.

  Args:
    data: a PNG, JPEG or BMP.
    geometry: of the square.
    size: (width, height) of its image.
    kind: 'binary' or 'probability'.
    reading: of the folder that the mask is from.

  Raises:
    errors.Unusable: damaged, not of `size`, or two values on the same side of the
      threshold: a mask on another scale than its folder.
  """
  image = open_image(data)
  _check_size(image.size, size)
  depth, pixels, meaning, used = _mask_pixels(image)
  if kind == 'probability':
    grey = (np.asarray(_to_rgb(image).convert('L')) if depth != '16 bits'
            else (pixels // reading.unit).astype(np.uint8))
    inside = grey >= 128
    square = _resized(Image.fromarray(grey), geometry, Image.Resampling.BILINEAR)
  else:
    is_inside = (~np.isin(meaning, list(reading.background)) if depth == 'palette'
                 else meaning >= reading.lowest[depth])
    if depth != 'palette' and len(used) == 2 and len(set(is_inside[used])) == 1:
      low, high = meaning[used]
      raise errors.Unusable(
          f'holds {low} and {high}, while the masks of its folder are divided at '
          f'{reading.lowest[depth]:g}; bring all to the same values')
    inside = is_inside[pixels]
    square = _resized(Image.fromarray(inside.astype(np.uint8) * 255), geometry,
                      Image.Resampling.NEAREST)
  on_borders = all(border.any() for border in (
      inside[0], inside[-1], inside[:, 0], inside[:, -1]))
  return Mask(square, not inside.any(), on_borders)


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
