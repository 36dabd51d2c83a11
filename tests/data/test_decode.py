import io
import json

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from attnmel_jax.data import decode
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
  with pytest.raises(decode.Unusable, match='1x1 pixels'):
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
  with pytest.raises(decode.Unusable, match='cannot be read'):
    decode.read_image(content, crop_ratio=0.8, resize_size=8)


def test_enormous_images_are_unusable(monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 500)
  with pytest.raises(decode.Unusable, match='more than 500 pixels'):
    decode.read_image(conftest.encode(_noise(30, 40)), crop_ratio=0.8, resize_size=8)


def _mask(data: bytes, size=(40, 30), **options):
  return decode.read_mask(
      data, size=size, **{'crop_ratio': 0.8, 'resize_size': 24, **options})


def _disc() -> np.ndarray:
  rows, columns = np.indices((30, 40))
  return np.where((rows - 13) ** 2 + (columns - 18) ** 2 < 81, 255, 0).astype(np.uint8)


@pytest.mark.parametrize('mode', ['L', '1', 'P', 'RGB', 'RGBA', 'LA', 'I;16'])
def test_masks_of_any_mode_are_the_same(mode):
  disc = _disc()
  if mode == 'I;16':
    image = Image.fromarray(disc.astype(np.uint16) * 257)
  else:
    image = Image.fromarray(disc).convert('RGB' if mode == 'P' else 'L').convert(mode)
  mask, scaled = _mask(_save(image))
  np.testing.assert_array_equal(mask, disc[3:27, 8:32])
  assert not scaled


def test_palette_mask_is_read_through_its_colours():
  image = Image.fromarray((_disc() == 0).astype(np.uint8))
  image.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white
  mask, _ = _mask(_save(image))
  np.testing.assert_array_equal(mask, _disc()[3:27, 8:32])


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_mask_of_zero_and_one_is_scaled(dtype):
  mask, scaled = _mask(_save(Image.fromarray((_disc() // 255).astype(dtype))))
  np.testing.assert_array_equal(mask, _disc()[3:27, 8:32])
  assert scaled


def test_empty_mask_stays_empty():
  mask, scaled = _mask(conftest.encode(np.zeros((30, 40), np.uint8)))
  assert not mask.any()
  assert not scaled


def test_greys_are_thresholded_at_128():
  grey = np.zeros((30, 40), np.uint8)
  grey[:, 10:20], grey[:, 20:30] = 127, 128
  mask, scaled = _mask(conftest.encode(grey))
  np.testing.assert_array_equal(mask, np.where(grey[3:27, 8:32] == 128, 255, 0))
  assert not scaled


def test_masks_are_resized_to_the_nearest_pixel():
  disc = _disc()
  mask, _ = _mask(conftest.encode(disc), resize_size=48)
  np.testing.assert_array_equal(mask, disc[3:27, 8:32].repeat(2, 0).repeat(2, 1))


def test_mask_of_another_size_is_unusable():
  with pytest.raises(decode.Unusable, match='is 40x30 pixels, its image 30x40'):
    _mask(conftest.encode(_disc()), size=(30, 40))


def _superpixels(index: np.ndarray, features, attributes=('a', 'b', 'c')):
  colours = np.stack([index & 255, index >> 8 & 255, index >> 16], -1)
  data = features if isinstance(features, bytes) else json.dumps(features).encode()
  return decode.read_superpixels(
      conftest.encode(colours.astype(np.uint8)), data, attributes=attributes,
      size=(40, 30), crop_ratio=0.8, resize_size=24)


def test_superpixels_set_one_bit_an_attribute():
  index = np.zeros((30, 40), int)
  index[:, 10:20], index[:, 20:30], index[:, 30:] = 7, 300, 66000
  first, third = [0] * 66001, [0] * 66001
  first[7] = first[300] = third[300] = third[66000] = 1
  bits = _superpixels(index, {'c': third, 'a': first})
  expected = np.zeros((30, 40), np.uint8)
  expected[:, 10:20], expected[:, 20:30], expected[:, 30:] = 1, 5, 4
  np.testing.assert_array_equal(bits, expected[3:27, 8:32])
  assert bits.dtype == np.uint8


@pytest.mark.parametrize('features, message', [
    (b'{', 'no JSON'),
    ([1], 'no JSON object'),
    ({}, 'no JSON object'),
    ({'z': [0]}, "name 'z'; known are a, b, c"),
    ({'a': 5}, "'a' are not all 0 or 1"),
    ({'a': [0, 2]}, "'a' are not all 0 or 1"),
    ({'a': ['0']}, "'a' are not all 0 or 1"),
    ({'a': [[]]}, "'a' are not all 0 or 1"),
    ({'a': [0], 'b': [0, 1]}, r'lengths \[1, 2\]'),
    ({'a': [0, 1]}, 'superpixel 2, but the features end at 1')])
def test_wrong_features_are_unusable(features, message):
  with pytest.raises(decode.Unusable, match=message):
    _superpixels(np.full((30, 40), 2), features)


def test_superpixels_of_another_size_are_unusable():
  with pytest.raises(decode.Unusable, match='is 20x10 pixels'):
    _superpixels(np.zeros((10, 20), int), {'a': [0]})
