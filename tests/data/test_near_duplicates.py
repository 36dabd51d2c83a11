"""Near-duplicates: found in every disguise that is promised, and no others."""

import dataclasses
import io

import numpy as np
from PIL import Image
from PIL import ImageOps
from scipy import ndimage

from attnmel_jax.data import alignment
from attnmel_jax.data import near_duplicates
from attnmel_jax.phantom import drawing
from attnmel_jax.phantom import generate

LIMITS = {'min_correlation': near_duplicates.MIN_CORRELATION}
SIDE = 96


def _photographs(number: int, seed: int = 0) -> list[np.ndarray]:
  """uint8 [96, 96, 3] with structure of every size."""
  rng = np.random.default_rng(seed)
  images = []
  for _ in range(number):
    noise = sum(ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE, 3)), (s, s, 0))
                * s for s in (2, 6, 15))
    low, high = noise.min(), noise.max()
    images.append(((noise - low) / (high - low) * 255).astype(np.uint8))
  return images


def _look(images, prefix='a'):
  names = [f'{prefix}{row}' for row in range(len(images))]
  return near_duplicates.look(names, names, images)


def _found(first, second):
  common = near_duplicates.compare(_look(first), _look(second, 'b'), **LIMITS)
  return {(pair.first, pair.second): pair for pair in common.pairs}


PHOTOGRAPHS = _photographs(6)
# The darker, the nearer to the middle: what is seen is one large thing.
_DISTANCE = np.hypot(*(np.indices((SIDE, SIDE)) - SIDE / 2))[..., None]
LESIONS = [(image * 0.5 + 127 / (1 + np.exp((30 - _DISTANCE) / 5))).astype(np.uint8)
           for image in PHOTOGRAPHS[:4]]


def _jpeg(image: np.ndarray) -> np.ndarray:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'JPEG', quality=40)
  return np.asarray(Image.open(buffer))


DISGUISES = {
    'none': lambda image: image,
    'compressed': _jpeg,
    'smaller': lambda image: np.asarray(Image.fromarray(image).resize((70, 70))),
    'darker, flatter': lambda image: (image * 0.4 + 20).astype(np.uint8),
    'a cast of colour': lambda image: (image * [0.8, 0.7, 0.9]).astype(np.uint8),
    'grey': lambda image: np.asarray(Image.fromarray(image).convert('L')),
    'noisy': lambda image: np.clip(image + np.random.default_rng(0).normal(
        0, 10, image.shape), 0, 255).astype(np.uint8)}


def test_a_copy_is_found_in_any_disguise():
  turns = dict.fromkeys(DISGUISES, (None, Image.Transpose.TRANSVERSE))
  for disguise, moves in (turns | {'none': (None, *Image.Transpose)}).items():
    for turned in moves:
      copies = [DISGUISES[disguise](image) for image in PHOTOGRAPHS[:3]]
      if turned is not None:
        copies = [np.asarray(Image.fromarray(copy).transpose(turned))
                  for copy in copies]
      found = _found(PHOTOGRAPHS[:5], copies)
      assert found.keys() == {(f'a{row}', f'b{row}') for row in range(3)}, disguise
      for pair in found.values():
        assert pair.correlation >= (0.999 if disguise == 'none' else 0.98)
        assert pair.turned == (turned is not None)
        assert not pair.moved


def test_another_crop_is_found():
  """Of another aspect ratio, place or size."""
  for box, disguise in (((0, 0, 84, 96), 'none'),
                        ((8, 4, 96, 92), 'a cast of colour'),
                        ((10, 10, 86, 86), 'compressed')):
    crops = []
    for image in LESIONS:
      turned = Image.fromarray(DISGUISES[disguise](image)).transpose(
          Image.Transpose.ROTATE_90)
      crops.append(np.asarray(turned.crop(box).resize((SIDE, SIDE))))
    found = _found(LESIONS, crops)
    assert found.keys() == {(f'a{row}', f'b{row}') for row in range(len(LESIONS))}
    for pair in found.values():
      assert pair.turned
      assert pair.moved
      assert 0.98 <= pair.correlation < 1


def test_other_images_are_not_found():
  assert not _found(PHOTOGRAPHS, _photographs(6, seed=1))
  inverted = [np.asarray(ImageOps.invert(Image.fromarray(image)))
              for image in PHOTOGRAPHS]
  assert not _found(PHOTOGRAPHS, inverted)  # their correlation is -1
  flat = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 0, 200)]
  assert not _found(flat, [*flat, *PHOTOGRAPHS])


def test_two_lesions_of_one_shape_are_not_one():
  """They agree, some once one is moved, but for what is fine."""
  for shift in (0, 8):
    rng = np.random.default_rng(0)
    lesions = []
    for moved in (0, shift):
      lesion = 150 / (1 + np.exp((28 - np.roll(_DISTANCE[..., 0], moved, 1)) / 4))
      fine = 16 * ndimage.gaussian_filter(rng.normal(size=lesion.shape), 1.5)
      lesions.append((50 + lesion + fine).astype(np.uint8))
    first, second = (_look([lesion]) for lesion in lesions)
    assert alignment.overlay(first.small, second.small).correlation > 0.98
    alike = near_duplicates.correlations(first.small, second.small) >= 0.98
    assert alike == (shift == 0)
    assert not near_duplicates.near_duplicates(first, second, **LIMITS)


def test_no_phantom_image_looks_like_another():
  rows = generate.rows(year=2017, split='train', total=12, size=64, seed=2,
                      artefact_bias={})
  images = [drawing.draw(row.case).image[:, 10:74] for row in rows]
  found = near_duplicates.near_duplicates(_look(images), _look(images), **LIMITS)
  assert found.keys() == {
      (row, row) for row in range(len(rows))}


def test_correlations_are_those_of_numpy():
  first, second = (_look(_photographs(3, seed)).small for seed in (3, 4))
  second[2] = 7
  expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1]
              for a, b in zip(first[:2], second[:2], strict=True)]
  np.testing.assert_allclose(
      near_duplicates.correlations(first, second), [*expected, 0], atol=1e-6)


def test_the_limit_is_a_limit():
  image = PHOTOGRAPHS[0]
  cloud = ndimage.gaussian_filter(
      np.random.default_rng(0).normal(size=image.shape), (15, 15, 0))
  shaded = np.clip(image + 9 * cloud / cloud.std(), 0, 255)  # what is fine stays
  first, second = _look([image]), _look([shaded.astype(np.uint8)])
  (correlation, *_), = near_duplicates.near_duplicates(
      first, second, min_correlation=0.5).values()
  assert 0.5 < correlation < 0.98
  for min_correlation, found in ((correlation, 1), (np.nextafter(correlation, 1), 0)):
    assert len(near_duplicates.near_duplicates(
        first, second, min_correlation=min_correlation)) == found


def test_blocks_change_nothing(monkeypatch):
  monkeypatch.setattr(near_duplicates, '_MIN_DETAIL', -1)
  monkeypatch.setattr(near_duplicates, '_MIN_DETAIL_UNMOVED', -1)
  copies = [_jpeg(image[::-1]) for image in PHOTOGRAPHS]
  first, second = _look(PHOTOGRAPHS), _look(copies)
  monkeypatch.setattr(near_duplicates, '_MIN_FIRST', 0.2)
  monkeypatch.setattr(near_duplicates, '_MIN_NEAR', 0.2)
  whole = near_duplicates.near_duplicates(first, second, min_correlation=0.2)
  assert len(whole) > len(PHOTOGRAPHS)
  monkeypatch.setattr(near_duplicates, '_BLOCK', 2 * 64 * 64)  # two pairs
  parts = near_duplicates.near_duplicates(first, second, min_correlation=0.2)
  assert list(parts) == list(whole)
  np.testing.assert_allclose(list(parts.values()), list(whole.values()), atol=1e-5)


def test_ids_and_lesions_are_compared():
  images = PHOTOGRAPHS
  train = near_duplicates.look(
      ['a', 'b', 'c', 'd'], ['L1', 'L2', 'L3', 'd'], images[:4])
  test = near_duplicates.look(['b', 'e', 'f', 'g'], ['L2', 'L3', 'f', 'g'],
                      [images[1], images[4], images[5], images[0]])
  common = near_duplicates.compare(train, test, **LIMITS)
  assert common
  assert common.ids == ('b',)
  assert common.groups == ('L3',)  # L2 is that of image b alone
  pair, = common.pairs  # b is the same image, not a pair
  assert (pair.first, pair.second, pair.turned) == ('a', 'g', False)
  assert common.line('train', 'test') == (
      'train and test share 1 images: b; 1 lesions: L3; 1 near-duplicate pairs: a = g '
      '(correlation 1.000)')
  crop = dataclasses.replace(pair, turned=True, moved=True)
  assert dataclasses.replace(common, pairs=(crop,)).line('x', 'y').endswith(
      '(correlation 1.000, turned, another crop)')
  # A lesion of a shared image that has others is shared.
  two = near_duplicates.look(['x', 'y'], ['L', 'L'], PHOTOGRAPHS[:2])
  one = near_duplicates.look(['x'], ['L'], PHOTOGRAPHS[:1])
  assert near_duplicates.compare(two, one, **LIMITS).groups == ('L',)
  assert near_duplicates.compare(one, two, **LIMITS).groups == ('L',)


def test_nothing_in_common():
  train, nobody = _look(PHOTOGRAPHS[:2]), near_duplicates.look([], [], [])
  for test in (_look(PHOTOGRAPHS[2:4], 'b'), nobody):
    common = near_duplicates.compare(train, test, **LIMITS)
    assert not common
    assert common.line('train', 'test') == 'train and test share nothing'


def test_pairs_are_listed_by_correlation_and_cut():
  copies = [np.clip(image + np.random.default_rng(0).normal(0, 4 * row, image.shape),
                    0, 255).astype(np.uint8) for row, image in enumerate(PHOTOGRAPHS)]
  common = near_duplicates.compare(_look(PHOTOGRAPHS), _look(copies, 'b'), **LIMITS)
  assert len(common.pairs) > 3
  correlations = [pair.correlation for pair in common.pairs]
  assert correlations == sorted(correlations, reverse=True)
  line = common.line('train', 'test')
  assert line.count(' = ') == 3
  assert line.endswith(', ...')


def test_lesions_of_one_photograph_have_one_name(monkeypatch):
  ids = ['ISIC_0025226', 'ISIC_0030074', 'ISIC_0000001', 'ISIC_0000002', 'ISIC_0029036']
  groups = ['HAM_0004919', 'HAM_0000140', 'HAM_0004919', 'HAM_0000002', 'HAM_0000955']
  assert near_duplicates.join_lesions(ids, groups).tolist() == [
      'HAM_0000140', 'HAM_0000140', 'HAM_0000140', 'HAM_0000002', 'HAM_0000955']
  pairs = {frozenset(pair) for pair in near_duplicates._PAIRS}
  assert len(pairs) == len(near_duplicates._PAIRS) == 25
  assert all(len(pair) == 2 for pair in pairs)
  monkeypatch.setattr(near_duplicates, '_PAIRS', (  # a chain, and a known lesion
      ('a', 'b'), ('c', 'b'), ('d', 'a'), ('e', 'f')))
  assert near_duplicates.join_lesions('abcdef', 'ABCDEE').tolist() == list('AAAAEE')
  assert near_duplicates.join_lesions('bd', 'BD').tolist() == list('BD')
