import io
import warnings

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax.data import decode
from attnmel_jax.phantom import artefacts
from attnmel_jax.phantom import drawing
from tests.data import conftest


def _noise(height: int, width: int, channels: int = 3) -> np.ndarray:
  return np.random.default_rng(0).integers(
      0, 256, (height, width, channels), dtype=np.uint8)


def _save(image: Image.Image, form: str = 'PNG', **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, form, **options)
  return buffer.getvalue()


def test_crop_is_the_square_of_the_recipe():
  # int(0.8 * 30) = 24; (40 - 24) // 2 = 8; (30 - 24) // 2 = 3
  assert decode.central_square((40, 30), 0.8) == (8, 3, 32, 27)
  # An odd rest is split downwards: (31 - 24) // 2 = 3
  assert decode.central_square((31, 31), 0.8) == (3, 3, 27, 27)


@given(st.integers(2, 5000), st.integers(2, 5000), st.floats(0.5, 1))
def test_crop_lies_centred_inside(width, height, ratio):
  left, top, right, bottom = decode.central_square((width, height), ratio)
  assert right - left == bottom - top == int(ratio * min(width, height))
  assert 0 <= (width - right) - left <= 1
  assert 0 <= (height - bottom) - top <= 1


def test_an_image_that_leaves_no_pixel_is_unusable():
  with pytest.raises(errors.Unusable, match='1x1 pixels'):
    decode.read_image(conftest.encode(_noise(1, 1)), crop_ratio=0.8, resize_size=8)


def test_image_of_the_right_size_is_only_cropped():
  picture = _noise(30, 40)
  square, size = decode.read_image(
      conftest.encode(picture), crop_ratio=0.8, resize_size=24)
  np.testing.assert_array_equal(square, picture[3:27, 8:32])
  assert size == (40, 30)
  assert square.dtype == np.uint8


def test_images_are_reduced_bilinearly_with_antialiasing():
  picture = _noise(32, 32)
  square, _ = decode.read_image(
      conftest.encode(picture), crop_ratio=1.0, resize_size=16)
  # A triangle stretched by the reduction, 2, at half-pixel centres: input pixels
  # 2i - 1 ... 2i + 2 weigh 1/8, 3/8, 3/8, 1/8.
  weights = np.zeros((16, 32))
  for i in range(16):
    for offset, weight in zip((-1, 0, 1, 2), (0.25, 0.75, 0.75, 0.25), strict=True):
      if 0 <= 2 * i + offset < 32:
        weights[i, 2 * i + offset] = weight
  weights /= weights.sum(axis=1, keepdims=True)
  expected = np.einsum('ih,hwc,jw->ijc', weights, picture.astype(float), weights)
  assert np.abs(square - expected).max() <= 1.01  # rounded after each axis


@pytest.mark.parametrize('orientation, turns', [(6, -1), (8, 1), (3, 2)])
def test_exif_orientation_is_applied(orientation, turns):
  picture = _noise(30, 40)
  image = Image.fromarray(picture)
  exif = image.getexif()
  exif[0x0112] = orientation
  square, size = decode.read_image(
      _save(image, exif=exif), crop_ratio=1.0, resize_size=30)
  upright = np.rot90(picture, turns)
  top, left = (upright.shape[0] - 30) // 2, (upright.shape[1] - 30) // 2
  np.testing.assert_array_equal(square, upright[top:top + 30, left:left + 30])
  assert size == upright.shape[1::-1]


@pytest.mark.parametrize('mode, form', [
    ('L', 'PNG'), ('L', 'JPEG'), ('CMYK', 'JPEG'), ('P', 'PNG'), ('RGBA', 'PNG'),
    ('LA', 'PNG'), ('1', 'PNG')])
def test_images_of_any_mode_become_rgb(mode, form):
  picture = Image.new('RGB', (40, 30), (200, 200, 200)).convert(mode)
  square, _ = decode.read_image(_save(picture, form), crop_ratio=0.8, resize_size=8)
  assert square.shape == (8, 8, 3)
  assert abs(square.mean() - 200) < 5  # '1' dithers, 'P' has few colours


def test_sixteen_bit_image_is_scaled_not_clipped():
  deep = Image.fromarray(np.full((30, 40), 32896, np.uint16))  # 128 * 257
  square, _ = decode.read_image(_save(deep), crop_ratio=0.8, resize_size=8)
  assert (square == 128).all()


@pytest.mark.parametrize('content', [
    b'', b'no image', conftest.encode(_noise(30, 40), 'JPEG')[:500],
    conftest.encode(_noise(30, 40))[:500]])
def test_damaged_images_are_unusable(content):
  with pytest.raises(errors.Unusable, match='cannot be read'):
    decode.read_image(content, crop_ratio=0.8, resize_size=8)


def test_enormous_images_are_unusable(monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 500)
  with pytest.raises(errors.Unusable, match='more than 500 pixels'):
    decode.read_image(conftest.encode(_noise(30, 40)), crop_ratio=0.8, resize_size=8)


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_they_are_unusable_where_pillow_does_but_warn(monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1199)  # it raises beyond twice that
  with pytest.raises(errors.Unusable, match='more than 1199 pixels'):
    decode.read_image(conftest.encode(_noise(30, 40)), crop_ratio=0.8, resize_size=8)


@pytest.fixture(scope='module')
def photograph() -> np.ndarray:
  """A drawing with hair, ruler and sensor noise, of odd sides."""
  return drawing.draw(drawing.Case(
      'melanoma', seed=(0, 4), height=1101, width=1503,
      artefacts=tuple(artefacts.ARTEFACTS))).image


def _difference(data: bytes, *, scale: int, crop_ratio: float, resize_size: int
                ) -> int:
  """Largest difference of the reduced decoding in grey levels."""
  assert decode.jpeg_scale(
      data, crop_ratio=crop_ratio, resize_size=resize_size) == scale
  plain, size = decode.read_plain(
      data, crop_ratio=crop_ratio, resize_size=resize_size)
  reduced = decode.read_scaled(
      data, crop_ratio=crop_ratio, resize_size=resize_size, scale=scale)
  assert reduced is not None
  assert reduced[1] == size
  assert reduced[0].dtype == np.uint8
  return np.abs(reduced[0].astype(int) - plain).max()


@pytest.mark.slow
@settings(max_examples=80, deadline=None, database=None, derandomize=True)
@given(height=st.integers(700, 1101), width=st.integers(700, 1503),
       quality=st.integers(80, 95), subsampling=st.sampled_from([0, 1, 2]),
       scale=st.sampled_from([2, 4, 8]), crop_ratio=st.sampled_from([0.8, 0.93, 1.0]),
       orientation=st.integers(1, 8))
def test_reduced_decoding_differs_by_two_grey_levels_at_most(
    photograph, height, width, quality, subsampling, scale, crop_ratio, orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = conftest.encode(photograph[:height, :width], 'JPEG', quality=quality,
                         subsampling=subsampling, exif=exif)
  side = int(crop_ratio * min(height, width))
  assert _difference(data, scale=scale, crop_ratio=crop_ratio,
                     resize_size=side // (6 * scale)) <= 2


def test_progressive_and_sequential_photographs_are_the_same(photograph):
  squares = [decode.read_image(
      conftest.encode(photograph, 'JPEG', quality=90, progressive=progressive),
      crop_ratio=0.8, resize_size=80)[0] for progressive in (False, True)]
  np.testing.assert_array_equal(*squares)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('scale', [2, 4, 8])
def test_edges_stay_where_they_are(scale, orientation):
  upright = np.full((803, 907, 3), 60, np.uint8)
  upright[299:, :] += 50
  upright[:, 511:] += 90
  # The stored rows begin at the right in 2, 3, 6, 7 and at the bottom in 3, 4, 7,
  # 8; they run downwards from 5 on.
  stored = upright[:, ::-1] if orientation in (2, 3, 6, 7) else upright
  stored = stored[::-1] if orientation in (3, 4, 7, 8) else stored
  stored = stored.swapaxes(0, 1) if orientation >= 5 else stored
  exif = Image.Exif()
  exif[0x0112] = orientation
  square, size = decode.read_scaled(
      conftest.encode(stored, 'JPEG', quality=98, exif=exif), crop_ratio=0.9,
      resize_size=64, scale=scale)
  assert size == (907, 803)
  # int(0.9 * 803) = 722 pixels from row 40 and column 92. The mean brightness
  # of a row or column says where its edge lies.
  rows = 722 * (1 - (square[:, 1, 0].mean() - 60) / 50)
  columns = 722 * (1 - (square[1, :, 0].mean() - 60) / 90)
  assert abs(rows - (299 - 40)) < 0.6
  assert abs(columns - (511 - 92)) < 0.6


def test_fine_texture_of_clipped_pixels_is_decoded_plainly():
  rng = np.random.default_rng(0)
  texture = np.full((800, 1000, 3), (190, 60, 25), float)
  texture += 60 * rng.standard_normal((800, 1000, 1))
  data = conftest.encode(np.clip(texture, 0, 255).astype(np.uint8), 'JPEG')
  geometry = {'crop_ratio': 0.8, 'resize_size': 40}
  assert decode.read_scaled(data, scale=2, **geometry) is None
  np.testing.assert_array_equal(decode.read_image(data, **geometry)[0],
                                decode.read_plain(data, **geometry)[0])


@pytest.mark.parametrize('mode, form, side', [
    ('RGB', 'JPEG', 90), ('L', 'JPEG', 16), ('CMYK', 'JPEG', 16), ('RGB', 'PNG', 16)])
def test_other_images_are_decoded_in_full(photograph, mode, form, side):
  data = _save(Image.fromarray(photograph).convert(mode), form)
  square, _ = decode.read_image(data, crop_ratio=0.98, resize_size=side)
  # int(0.98 * 1101) = 1078 < 12 * 90
  image = Image.open(io.BytesIO(data)).convert('RGB').crop((212, 11, 1290, 1089))
  np.testing.assert_array_equal(
      square, image.resize((side, side), Image.Resampling.BILINEAR))


def test_a_photograph_that_breaks_off_is_unusable(photograph):
  data = conftest.encode(photograph, 'JPEG')
  with pytest.raises(errors.Unusable, match='cannot be read'):
    decode.read_image(data[:len(data) // 2], crop_ratio=0.8, resize_size=32)


def test_a_bmp_is_read():
  picture = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
  buffer = io.BytesIO()
  Image.fromarray(picture).save(buffer, 'BMP')
  image, _ = decode.read_image(buffer.getvalue(), crop_ratio=1.0, resize_size=30)
  np.testing.assert_array_equal(image, picture)


FUZZ = settings(max_examples=150, deadline=None, database=None, derandomize=True)


@FUZZ
@given(st.sampled_from(['JPEG', 'PNG', 'BMP']), st.data())
def test_damage_gives_a_square_or_is_unusable(form, data):
  content = bytearray(conftest.encode(_noise(30, 40), form))
  for _ in range(data.draw(st.integers(1, 3))):
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
        st.integers(0, 255))
  cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
  with warnings.catch_warnings():
    # As `writing` has it: of odd metadata, and of enormous images.
    warnings.filterwarnings('ignore', module='PIL')
    warnings.simplefilter('error', Image.DecompressionBombWarning)
    try:
      square, _ = decode.read_image(
          bytes(content[:cut]), crop_ratio=0.8, resize_size=8)
    except errors.Unusable:
      return
  assert square.shape == (8, 8, 3)
  assert square.dtype == np.uint8


@FUZZ
@given(st.binary(max_size=200))
def test_what_is_no_image_is_unusable(content):
  with pytest.raises(errors.Unusable):
    decode.read_image(content, crop_ratio=0.8, resize_size=8)


@FUZZ
@given(width=st.integers(10, 60), height=st.integers(10, 60),
       ratio=st.floats(0.8, 1), side=st.integers(1, 50),
       colour=st.tuples(*[st.integers(0, 255)] * 3),
       form=st.sampled_from(['PNG', 'BMP']), orientation=st.integers(1, 8))
def test_one_colour_stays_as_it_is(width, height, ratio, side, colour, form,
                                   orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  options = {'exif': exif} if form == 'PNG' else {}
  data = _save(Image.new('RGB', (width, height), colour), form, **options)
  square, size = decode.read_image(data, crop_ratio=ratio, resize_size=side)
  assert (square == colour).all()
  assert square.shape == (side, side, 3)
  turned = form == 'PNG' and orientation >= 5
  assert size == ((height, width) if turned else (width, height))
