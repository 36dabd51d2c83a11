"""Pixels of photographs and masks; damage is met in `test_bad_inputs` as well."""

import io
import json
import struct
import zlib

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
from PIL import ImageCms
import pytest

from attnmel_jax import errors
from attnmel_jax.data import decode
from tests.data import conftest
from tests.data.conftest import cropped
from tests.data.conftest import encode

NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
GEOMETRY = decode.Geometry(0.8, 24)  # 24 = int(0.8 * 30): no resizing
FUZZ = settings(max_examples=50, deadline=None, database=None, derandomize=True)
# EXIF orientation -> what a camera that writes it stores of an upright picture.
STORED = {
    1: lambda upright: upright, 2: np.fliplr, 3: lambda upright: np.rot90(upright, 2),
    4: np.flipud, 5: lambda upright: upright.swapaxes(0, 1), 6: np.rot90,
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1)}


def _exif(orientation: int) -> Image.Exif:
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif


@FUZZ
@given(st.integers(2, 5000), st.integers(2, 5000), st.floats(0.5, 1))
def test_crop_lies_centred_inside(width, height, ratio):
  left, top, right, bottom = decode.central_square((width, height), ratio)
  assert right - left == bottom - top == int(ratio * min(width, height))
  # An odd rest is split downwards.
  assert 0 <= (width - right) - left <= 1
  assert 0 <= (height - bottom) - top <= 1


def test_images_are_reduced_bilinearly_with_antialiasing():
  picture = NOISE[:, :30]
  square, _ = decode.read_image(encode(picture), decode.Geometry(1.0, 15))
  # A triangle stretched by the reduction, 2, at half-pixel centres: input pixels
  # 2i - 1 ... 2i + 2 weigh 1/8, 3/8, 3/8, 1/8.
  weights = np.zeros((15, 30))
  for i in range(15):
    for offset, weight in zip((-1, 0, 1, 2), (1, 3, 3, 1), strict=True):
      if 0 <= 2 * i + offset < 30:
        weights[i, 2 * i + offset] = weight
  weights /= weights.sum(axis=1, keepdims=True)
  expected = np.einsum('ih,hwc,jw->ijc', weights, picture.astype(float), weights)
  assert np.abs(square - expected).max() <= 1.01  # rounded after each axis


def test_a_large_photograph_is_decoded_in_full():
  data = encode(np.tile(NOISE, (30, 30, 1)), 'JPEG')  # 900 x 1200 pixels
  square, _ = decode.read_image(data, decode.Geometry(0.9, 16))
  image = Image.open(io.BytesIO(data)).crop((195, 45, 1005, 855))
  np.testing.assert_array_equal(
      square, image.resize((16, 16), Image.Resampling.BILINEAR))


def test_exif_orientation_is_applied():
  disc = np.where(np.hypot(*(np.indices((30, 40)) - 12)) < 9, 255, 0)
  for orientation, stored in STORED.items():
    square, size = decode.read_image(
        encode(np.ascontiguousarray(stored(NOISE)), exif=_exif(orientation)), GEOMETRY)
    np.testing.assert_array_equal(square, cropped(NOISE), str(orientation))
    assert size == (40, 30)
    mask = _mask(np.ascontiguousarray(stored(disc.astype(np.uint8))),
                 exif=_exif(orientation))
    np.testing.assert_array_equal(mask.square, cropped(disc))


def test_photographs_of_any_mode_keep_their_colours():
  half = Image.fromarray(_disc()).convert('RGB')
  for mode, form, options in (
      ('P', 'PNG', {}), ('P', 'PNG', {'transparency': 0}), ('L', 'PNG', {}),
      ('LA', 'PNG', {}), ('1', 'PNG', {}), ('CMYK', 'JPEG', {'quality': 100})):
    square, _ = decode.read_image(encode(half.convert(mode), form, **options), GEOMETRY)
    difference = np.abs(square.astype(int) - cropped(np.asarray(half)))
    assert difference.max() <= (20 if form == 'JPEG' else 0), (mode, options)


def _matrix_profile(gamma: float) -> bytes:
  """An ICC profile of sRGB's, with another curve and a name of its own."""
  profile = bytearray(ImageCms.ImageCmsProfile(
      ImageCms.createProfile('sRGB')).tobytes().replace(
          'sRGB'.encode('utf-16-be'), 'Mine'.encode('utf-16-be')))
  for number in range(int.from_bytes(profile[128:132])):
    entry = 132 + 12 * number
    if profile[entry + 1:entry + 4] == b'TRC':
      at = int.from_bytes(profile[entry + 4:entry + 8])
      profile[at:at + 16] = b'para' + bytes(8) + round(gamma * 65536).to_bytes(4)
  return bytes(profile)


def test_colours_are_brought_to_srgb_where_a_profile_says_of_what_they_are():
  linear = _matrix_profile(1.0)
  for form in ('PNG', 'JPEG'):
    grey = np.full((30, 40, 3), 128, np.uint8)
    square, _ = decode.read_image(encode(grey, form, icc_profile=linear), GEOMETRY)
    # Half of the light is 188 in sRGB.
    assert np.abs(square.astype(int) - 188).max() <= 1
  alpha = Image.fromarray(grey).convert('RGBA')
  assert decode.read_image(encode(alpha, icc_profile=linear), GEOMETRY)[0].max() >= 187
  mask = _mask(_disc(), icc_profile=linear)
  np.testing.assert_array_equal(mask.square, cropped(_disc()))
  srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  noise = Image.fromarray(NOISE)
  for picture, form, profile in (
      (noise, 'PNG', srgb), (noise, 'PNG', b'broken'), (noise, 'PNG', linear[:300]),
      (noise.convert('L'), 'PNG', linear), (noise.convert('CMYK'), 'JPEG', linear)):
    np.testing.assert_array_equal(
        decode.read_image(encode(picture, form, icc_profile=profile), GEOMETRY)[0],
        decode.read_image(encode(picture, form), GEOMETRY)[0])


def test_previews_are_left_out_and_sixteen_bits_scaled():
  data = encode(Image.fromarray(NOISE), 'MPO', save_all=True, quality=95,
                append_images=[Image.new('RGB', (40, 30))])
  square, _ = decode.read_image(data, GEOMETRY)
  np.testing.assert_array_equal(
      square, cropped(np.asarray(Image.open(io.BytesIO(data)))))
  assert square.std() > 10
  deep = np.full((30, 40), 32896, np.uint16)  # 128 * 257: scaled, not clipped
  assert (decode.read_image(encode(deep), GEOMETRY)[0] == 128).all()


def test_colours_of_sixteen_bits_are_reduced_to_eight():
  """Written by hand: Pillow cannot."""
  for colour_type, alpha in ((2, False), (6, True)):
    deep = NOISE.astype('>u2') * 257
    if alpha:
      deep = np.concatenate([deep, deep[..., :1]], -1)
    lines = b''.join(b'\0' + line.tobytes() for line in deep)
    data = b'\x89PNG\r\n\x1a\n'
    for kind, content in (
        (b'IHDR', struct.pack('>IIBBBBB', 40, 30, 16, colour_type, 0, 0, 0)),
        (b'IDAT', zlib.compress(lines)), (b'IEND', b'')):
      data += struct.pack('>I', len(content)) + kind + content + struct.pack(
          '>I', zlib.crc32(kind + content))
    square, _ = decode.read_image(data, GEOMETRY)
    np.testing.assert_array_equal(square, cropped(NOISE))


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_enormous_images_are_unusable(monkeypatch):
  for limit in (500, 1199):  # Pillow raises beyond twice its limit, and warns below
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    with pytest.raises(errors.Unusable, match=f'more than {limit} pixels'):
      decode.read_image(encode(NOISE), GEOMETRY)


def test_the_smallest_photograph():
  decode.read_image(encode(NOISE[:10, :10]), GEOMETRY)  # int(0.8 * 10) = 8 pixels
  for side in (9, 1):
    with pytest.raises(errors.Unusable, match=f'is only {side}x{side} pixels'):
      decode.read_image(encode(NOISE[:side, :side]), GEOMETRY)


@FUZZ
@given(st.sampled_from(['JPEG', 'PNG', 'BMP']), st.data())
def test_damage_gives_a_square_or_is_unusable(form, data):
  content = bytearray(encode(NOISE, form))
  for _ in range(data.draw(st.integers(1, 3))):
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
        st.integers(0, 255))
  cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
  with decode.strict_warnings():
    try:
      square, _ = decode.read_image(bytes(content[:cut]), GEOMETRY)
    except errors.Unusable:
      return
  assert square.shape == (24, 24, 3)
  assert square.dtype == np.uint8


def _mask(picture, kind='binary', geometry=GEOMETRY, others=(), **options
          ) -> decode.Mask:
  """Of a folder with `others`."""
  data = encode(picture, **options)
  reading = decode.mask_reading(
      map(decode.mask_values, [data, *map(encode, others)]), kind=kind)
  return decode.read_mask(
      data, geometry, size=conftest.SIZE, kind=kind, reading=reading)


def _disc() -> np.ndarray:
  rows, columns = np.indices((30, 40))
  return np.where((rows - 13) ** 2 + (columns - 18) ** 2 < 81, 255, 0).astype(np.uint8)


def _palette(indices: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
  image = Image.fromarray(indices.astype(np.uint8), 'P')
  image.putpalette([value for colour in colours for value in colour])
  return image


BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (128, 0, 0), (0, 0, 255)


def test_two_values_of_any_kind_are_background_and_lesion():
  disc, inside = Image.fromarray(_disc()), _disc() > 0
  coloured = [Image.fromarray(
      np.where(inside[..., None], colour, BLACK).astype(np.uint8))
              for colour in (RED, BLUE)]
  for image in (
      *map(disc.convert, ('L', '1', 'RGB', 'RGBA', 'LA')), *coloured,
      *(inside * np.uint8(value) for value in (1, 127)), inside + np.uint8(1),
      *(inside * np.uint16(value) for value in (1, 255, 256, 65535)),
      _palette(~inside, WHITE, BLACK), _palette(inside, BLACK, RED),
      _palette(~inside, RED, BLACK),  # as Pillow's quantisation may number them
      _palette(inside, WHITE, RED), coloured[0].quantize(4)):
    np.testing.assert_array_equal(_mask(image).square, cropped(_disc()))


def test_how_masks_are_read_is_decided_by_all_of_the_folder():
  low = (_disc() // 255).astype(np.uint8)
  grey = np.zeros((30, 40), np.uint8)
  grey[:, 10:20], grey[:, 20:30] = 100, 101
  # Half of the range is 100.5, or with a mask of 0 and 255 beside it, 127.5.
  np.testing.assert_array_equal(
      _mask(grey, others=[low * 201]).square, cropped(np.where(grey == 101, 255, 0)))
  assert _mask(grey, others=[_disc()]).empty
  np.testing.assert_array_equal(_mask(low, others=[low * 0]).square, cropped(_disc()))
  with pytest.raises(errors.Unusable, match=r'holds 0 and 1, .* divided at 127\.5;'):
    _mask(low, others=[_disc()])
  assert _mask(low * 0).empty and not _mask(low * 0 + 1).empty
  # Masks of 16 bits beside those of 8 are decided on their own.
  np.testing.assert_array_equal(
      _mask(low * np.uint16(256), others=[_disc()]).square, cropped(_disc()))
  # A mask of nothing but a palette's first colour: outside if another holds black.
  ones = np.zeros((30, 40))
  assert _mask(_palette(ones, RED)).empty
  assert not _mask(_palette(ones, RED), others=[_palette(ones + 1, RED, BLACK)]).empty


def test_the_decision_is_put_in_words():
  def note(*pictures):
    return decode.mask_reading(
        [decode.mask_values(encode(picture)) for picture in pictures],
        kind='binary').note
  low = (_disc() // 255).astype(np.uint8)
  assert note(low) == '0 and 1, inside is 1'
  assert note(low, low + np.uint8(1)) == '3 values from 0 to 2, inside from 1 on'
  assert note(low * 255, low * np.uint16(256)) == (
      '0 and 255, inside is 255; 0 and 256 of 16 bits, inside is 256')
  assert note(_palette(low, BLACK, RED)) == (
      'palettes of colours, inside is all but black')
  assert note() == ''


def test_masks_are_resized_to_the_nearest_pixel():
  mask = _mask(_disc(), geometry=decode.Geometry(0.8, 48))
  np.testing.assert_array_equal(
      mask.square, cropped(_disc()).repeat(2, 0).repeat(2, 1))


def test_probabilities_keep_their_values():
  ramp = np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1))
  for picture in (ramp, ramp.astype(np.uint16) * 257):
    mask = _mask(picture, 'probability')
    np.testing.assert_array_equal(mask.square, cropped(ramp))
  # Below 256 in the whole folder, 16 bits hold 8; one beyond decides for all.
  dim = ramp.astype(np.uint16)
  np.testing.assert_array_equal(_mask(dim, 'probability').square, cropped(ramp))
  assert not _mask(dim, 'probability', others=[dim * 257]).square.any()
  halved = _mask(ramp, 'probability', decode.Geometry(0.8, 12)).square
  # Means of neighbours: between the two, whatever the exact filter.
  assert (halved[:, 1:-1] > ramp[0, 8:32][2:-2:2] - 1).all()
  assert (halved[:, 1:-1] < ramp[0, 8:32][3:-1:2] + 1).all()


def test_what_is_odd_about_a_mask():
  for rows, columns, expected in [
      ([0, 29], [0, 39], True), ([0, 15, 29], [5, 0, 39], True),
      ([0, 29], [5, 39], False), ([0, 28], [0, 39], False), ([1, 29], [0, 39], False),
      ([0, 29], [0, 38], False)]:
    grey = np.full((30, 40), 127, np.uint8)
    grey[rows, columns] = 128
    for kind in ('binary', 'probability'):
      assert _mask(grey, kind).on_borders is expected
  corner = np.zeros((30, 40), np.uint8)  # outside the square
  corner[0, 0] = 128
  for grey, empty in ((corner, False), (corner * 0, True)):
    mask = _mask(grey)
    assert mask.empty is empty
    assert not mask.square.any()
  with pytest.raises(errors.Unusable, match='is 30x40 pixels, its image 40x30'):
    _mask(_disc().T.copy())


def _superpixels(index: np.ndarray, features) -> np.ndarray:
  colours = np.stack([index & 255, index >> 8 & 255, index >> 16], -1)
  data = features if isinstance(features, bytes) else json.dumps(features).encode()
  return decode.read_superpixels(
      encode(colours.astype(np.uint8)), data, GEOMETRY, attributes=('a', 'b', 'c'),
      size=conftest.SIZE)


def test_superpixels_set_one_bit_an_attribute():
  index = np.zeros((30, 40), int)
  index[:, 10:20], index[:, 20:30], index[:, 30:] = 7, 300, 66000
  first, third = [0] * 66001, [0] * 66001
  first[7] = first[300] = third[300] = third[66000] = 1
  bits = _superpixels(index, {'c': third, 'a': first})
  expected = np.zeros((30, 40), np.uint8)
  expected[:, 10:20], expected[:, 20:30], expected[:, 30:] = 1, 5, 4
  np.testing.assert_array_equal(bits, cropped(expected))
  assert bits.dtype == np.uint8


def test_wrong_features_are_unusable():
  for features, message in [
      (b'{', 'not JSON'), ([1], 'not a JSON object'), ({}, 'not a JSON object'),
      ({'z': [0]}, "name 'z'; known are a, b, c"),
      ({'a': 5}, "'a' are not all 0 or 1"), ({'a': [0, 2]}, "'a' are not all 0 or 1"),
      ({'a': ['0']}, "'a' are not all 0 or 1"), ({'a': [0], 'b': [0, 1]}, 'lengths'),
      ({'a': [0, 1]}, 'superpixel 2, but the features end at 1')]:
    with pytest.raises(errors.Unusable, match=message):
      _superpixels(np.full((30, 40), 2), features)
  with pytest.raises(errors.Unusable, match='is 20x10 pixels'):
    _superpixels(np.zeros((10, 20), int), {'a': [0]})
  for form, dtype in (('JPEG', np.uint8), ('PNG', np.uint16)):
    with pytest.raises(errors.Unusable, match='exact colours'):
      decode.read_superpixels(
          encode(np.zeros((30, 40), dtype), form), b'{"a": [0]}', GEOMETRY,
          attributes=('a',), size=conftest.SIZE)
