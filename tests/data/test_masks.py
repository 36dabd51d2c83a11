import io
import json

import numpy as np
from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax.data import masks
from tests.data import conftest


def _save(image: Image.Image) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, 'PNG')
  return buffer.getvalue()


def _mask(data: bytes, size=(40, 30), **options):
  return masks.read_mask(
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
  mask = _mask(_save(image))
  np.testing.assert_array_equal(mask.square, disc[3:27, 8:32])
  assert not mask.scaled


def test_palette_mask_is_read_through_its_colours():
  image = Image.fromarray((_disc() == 0).astype(np.uint8))
  image.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white
  mask = _mask(_save(image))
  np.testing.assert_array_equal(mask.square, _disc()[3:27, 8:32])


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_mask_of_zero_and_one_is_scaled(dtype):
  mask = _mask(_save(Image.fromarray((_disc() // 255).astype(dtype))))
  np.testing.assert_array_equal(mask.square, _disc()[3:27, 8:32])
  assert mask.scaled


def test_empty_mask_stays_empty():
  mask = _mask(conftest.encode(np.zeros((30, 40), np.uint8)))
  assert not mask.square.any()
  assert mask.empty
  assert not mask.scaled


def test_greys_are_thresholded_at_128():
  grey = np.zeros((30, 40), np.uint8)
  grey[:, 10:20], grey[:, 20:30] = 127, 128
  mask = _mask(conftest.encode(grey))
  np.testing.assert_array_equal(mask.square, np.where(grey[3:27, 8:32] == 128, 255, 0))
  assert not mask.scaled


def test_masks_are_resized_to_the_nearest_pixel():
  disc = _disc()
  mask = _mask(conftest.encode(disc), resize_size=48)
  np.testing.assert_array_equal(mask.square, disc[3:27, 8:32].repeat(2, 0).repeat(2, 1))


def test_mask_of_another_size_is_unusable():
  with pytest.raises(errors.Unusable, match='is 40x30 pixels, its image 30x40'):
    _mask(conftest.encode(_disc()), size=(30, 40))


def _superpixels(index: np.ndarray, features, attributes=('a', 'b', 'c')):
  colours = np.stack([index & 255, index >> 8 & 255, index >> 16], -1)
  data = features if isinstance(features, bytes) else json.dumps(features).encode()
  return masks.read_superpixels(
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
  with pytest.raises(errors.Unusable, match=message):
    _superpixels(np.full((30, 40), 2), features)


def test_superpixels_of_another_size_are_unusable():
  with pytest.raises(errors.Unusable, match='is 20x10 pixels'):
    _superpixels(np.zeros((10, 20), int), {'a': [0]})


def test_probabilities_keep_their_values():
  ramp = np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1))
  options = {'size': (40, 30), 'crop_ratio': 1.0}
  square = masks.read_probability(
      conftest.encode(ramp), resize_size=30, **options).square
  np.testing.assert_array_equal(square, ramp[:, 5:35])
  halved = masks.read_probability(
      conftest.encode(ramp), resize_size=15, **options).square
  # Means of neighbours: between the two, whatever the exact filter.
  assert (halved[:, 1:-1] > ramp[0, 5:35][2:-2:2] - 1).all()
  assert (halved[:, 1:-1] < ramp[0, 5:35][3:-1:2] + 1).all()
  deep = Image.fromarray(ramp.astype(np.uint16) * 257)
  buffer = io.BytesIO()
  deep.save(buffer, 'PNG')
  np.testing.assert_array_equal(
      masks.read_probability(buffer.getvalue(), resize_size=30, **options).square,
      ramp[:, 5:35])
  with pytest.raises(errors.Unusable, match='is 40x30 pixels, its image 30x40'):
    masks.read_probability(conftest.encode(ramp), resize_size=30,
                           **{**options, 'size': (30, 40)})


@pytest.mark.parametrize('read', [masks.read_mask, masks.read_probability])
@pytest.mark.parametrize('rows, columns, expected', [
    ([0, 29], [0, 39], True), ([0, 15, 29], [5, 0, 39], True),
    ([0, 29], [5, 39], False), ([0, 28], [0, 39], False), ([1, 29], [0, 39], False),
    ([0, 29], [0, 38], False)])
def test_a_mask_that_touches_all_four_borders_is_odd(read, rows, columns, expected):
  grey = np.full((30, 40), 127, np.uint8)
  grey[rows, columns] = 128
  assert read(conftest.encode(grey), size=(40, 30), crop_ratio=0.8,
              resize_size=24).on_borders is expected


@pytest.mark.parametrize('read', [masks.read_mask, masks.read_probability])
def test_a_mask_is_empty_before_the_crop_and_not_after_it(read):
  corner = np.zeros((30, 40), np.uint8)
  corner[0, 0] = 128
  for grey, empty in ((corner, False), (corner // 2, True)):
    mask = read(conftest.encode(grey), size=(40, 30), crop_ratio=0.5, resize_size=8)
    assert mask.empty is empty
    assert (mask.square < 128).all()


def test_a_mask_is_turned_as_its_exif_says():
  exif = Image.Exif()
  exif[0x0112] = 6
  disc = _disc()
  data = conftest.encode(np.rot90(disc), exif=exif)
  np.testing.assert_array_equal(_mask(data).square, disc[3:27, 8:32])


@pytest.mark.parametrize('form, dtype', [('JPEG', np.uint8), ('PNG', np.uint16)])
def test_superpixels_need_exact_colours(form, dtype):
  data = conftest.encode(np.zeros((30, 40), dtype), form)
  with pytest.raises(errors.Unusable, match='exact colours'):
    masks.read_superpixels(data, b'{"a": [0]}', attributes=('a',), size=(40, 30),
                           crop_ratio=0.8, resize_size=24)
