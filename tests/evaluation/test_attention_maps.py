import jax
import numpy as np
import pytest

from attnmel_jax import images
from attnmel_jax.evaluation import attention_maps


@pytest.mark.parametrize('shape, side', [
    ((28, 28), 224), ((14, 14), 224), ((7, 7), 96), ((1, 1), 5), ((3, 5), 16)])
def test_upsample_is_jaxs_bilinear_resize(shape, side):
  maps = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
  expected = jax.image.resize(maps, (3, side, side), 'linear', antialias=False)
  np.testing.assert_allclose(attention_maps.upsample(maps, side), expected, atol=1e-6)


def test_upsample_by_hand():
  # Half-pixel centres: -1/4, 1/4, 3/4, 5/4 on the source's axis, clamped.
  rows = attention_maps.upsample(np.array([[[0.0], [4.0]]]), 4)[0, :, 0]
  np.testing.assert_allclose(rows, [0, 1, 3, 4])


def test_upsample_takes_a_batch_of_maps():
  with pytest.raises(ValueError, match=r'\[N, h, w\]'):
    attention_maps.upsample(np.zeros((4, 4)), 8)


def test_rescale_stretches_each_map_by_itself():
  maps = np.array([[[2.0, 4.0], [3.0, 2.5]], [[-1e-9, 0.0], [1e-9, 0.0]]])
  np.testing.assert_allclose(
      attention_maps.rescale(maps), [[[0, 1], [0.5, 0.25]], [[0, 0.5], [1, 0.5]]])


@pytest.mark.parametrize('value', [0.0, 0.3, 1.0, -2.0, 1e-12])
def test_a_constant_map_is_all_ones_even_after_interpolation(value):
  maps = np.full((2, 14, 14), value, np.float32)
  rescaled = attention_maps.rescale(attention_maps.upsample(maps, 224))
  assert (rescaled == 1).all()


def test_rounding_is_no_pattern_but_a_small_difference_is():
  maps = np.ones((2, 4, 4), np.float32)
  maps[0, 1, 2] = np.nextafter(np.float32(1), np.float32(0))
  maps[1, 1, 2] = 1 - 1e-5
  rounding, pattern = attention_maps.rescale(maps)
  assert (rounding == 1).all()
  assert pattern[1, 2] == 0


def test_rescale_refuses_what_is_not_finite():
  maps = np.zeros((3, 2, 2))
  maps[1, 0, 0] = np.nan
  maps[2] = np.inf
  with pytest.raises(ValueError, match='2 of 3'):
    attention_maps.rescale(maps)


def test_jaccard_by_hand():
  a = np.zeros((4, 2, 2), bool)
  b = np.zeros((4, 2, 2), bool)
  a[0, 0] = b[0, :, 0] = True     # one shared of three
  a[1] = b[1] = True              # equal
  a[2, 0, 0] = True               # against an empty mask
  np.testing.assert_allclose(attention_maps.jaccard(a, b), [1 / 3, 1, 0, 1])


def test_jaccard_takes_masks_only():
  with pytest.raises(ValueError, match='not masks'):
    attention_maps.jaccard(np.zeros((1, 2, 2)), np.zeros((1, 2, 2), bool))
  with pytest.raises(ValueError, match='one shape'):
    attention_maps.jaccard(np.zeros((1, 2, 2), bool), np.zeros((1, 3, 3), bool))


def test_attention_jaccard_crops_the_mask_and_thresholds_the_map():
  # 8 x 8 masks, a network of side 4: rows and columns 2 to 5 count.
  lesion = np.zeros((4, 8, 8), np.uint8)
  lesion[0, :, :4] = 255             # in the crop: its left half
  lesion[1, 2:6, 2:6] = 127          # below the cut: empty
  lesion[2, 0, 0] = 255              # outside the crop: empty
  lesion[3, :, :4] = 255             # but not annotated
  maps = np.zeros((4, 4, 4))
  maps[0, :, 0] = 9.0                # rescaled 1, 1/2, 0, 0: attended up to 1/2
  maps[0, :, 1] = 4.5
  maps[1] = maps[2] = maps[3] = maps[0]
  has_lesion = np.array([True, True, True, False])
  found = attention_maps.attention_jaccard(
      maps, lesion, has_lesion, image_size=4, threshold=0.5)
  np.testing.assert_array_equal(found, [1, 0, 0, np.nan])
  found = attention_maps.attention_jaccard(
      maps, lesion, has_lesion, image_size=4, threshold=0.51)
  np.testing.assert_array_equal(found, [0.5, 0, 0, np.nan])


def test_maps_are_rescaled_after_they_are_upsampled():
  # A peak between zeros: 12 / 3 pixels a cell weigh it .625, .875, .875, .625 along
  # each axis, so its corners hold .39 of the peak but .51 of the largest pixel.
  peak = np.zeros((1, 3, 3))
  peak[0, 1, 1] = 1
  lesion = np.zeros((1, 12, 12), np.uint8)
  lesion[0, 4:8, 4:8] = 255
  index = attention_maps.attention_jaccard(
      peak, lesion, np.array([True]), image_size=12, threshold=0.5)
  assert index[0] == 1


def test_the_threshold_of_the_thesis():
  assert attention_maps.THRESHOLD == 0.5


def test_the_crop_is_that_of_the_network():
  rng = np.random.default_rng(0)
  lesion = np.where(rng.random((3, 9, 9)) < 0.5, 0, 255).astype(np.uint8)
  cropped = np.asarray(images.centre_crop(lesion, 4))
  found = attention_maps.attention_jaccard(
      cropped.astype(float), lesion, np.ones(3, bool), image_size=4, threshold=0.5)
  np.testing.assert_array_equal(found, 1)


def test_chunks_do_not_change_the_result(monkeypatch):
  rng = np.random.default_rng(0)
  maps = rng.random((11, 4, 4))
  lesion = np.where(rng.random((11, 40, 40)) < 0.5, 0, 255).astype(np.uint8)
  has_lesion = rng.random(11) < 0.7
  whole = attention_maps.attention_jaccard(
      maps, lesion, has_lesion, image_size=32, threshold=0.5)
  monkeypatch.setattr(attention_maps, '_CHUNK', 3)
  np.testing.assert_array_equal(attention_maps.attention_jaccard(
      maps, lesion, has_lesion, image_size=32, threshold=0.5), whole)
  np.testing.assert_array_equal(np.isnan(whole), ~has_lesion)


@pytest.mark.parametrize('lesion, flags, image_size, message', [
    (np.zeros((2, 8, 8)), [True], 4, 'do not belong together'),
    (np.zeros((1, 8, 8)), [True], 9, 'no square'),
    (np.zeros((1, 8, 10)), [True], 4, 'no square')])
def test_arrays_that_do_not_fit_raise(lesion, flags, image_size, message):
  with pytest.raises(ValueError, match=message):
    attention_maps.attention_jaccard(
        np.zeros((1, 2, 2)), lesion, np.array(flags), image_size=image_size,
        threshold=0.5)


def test_a_map_of_ones_scores_the_share_of_the_lesion():
  side = 96
  lesion = np.zeros((1, side, side), np.uint8)
  lesion[:, :, :side // 4] = 255
  found = attention_maps.attention_jaccard(
      attention_maps.all_ones(side)[None], lesion, np.array([True]), image_size=side,
      threshold=0.5)
  np.testing.assert_allclose(found, 0.25)


def _random(seed, count=5, cells=4, side=40):
  rng = np.random.default_rng(seed)
  lesion = np.where(rng.random((count, side, side)) < 0.4, 255, 0).astype(np.uint8)
  has_lesion = np.ones(count, bool)
  has_lesion[1] = False
  return rng.random((count, cells, cells)), lesion, has_lesion


def test_a_sweep_is_an_index_at_each_threshold():
  maps, lesion, has_lesion = _random(0)
  lesion[2] = 0
  thresholds = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
  found = attention_maps.threshold_sweep(
      maps, lesion, has_lesion, image_size=32, thresholds=thresholds)
  for threshold, row in zip(thresholds, found, strict=True):
    np.testing.assert_array_equal(row, attention_maps.attention_jaccard(
        maps, lesion, has_lesion, image_size=32, threshold=threshold))


def test_a_threshold_that_nothing_reaches():
  masks = np.zeros((2, 3, 3), bool)
  masks[0, 0] = True
  found = attention_maps.jaccard_at(np.zeros((2, 3, 3)), masks, np.array([0.0, 1.0]))
  np.testing.assert_allclose(found, [[1 / 3, 0], [0, 1]])
  with pytest.raises(ValueError, match='do not increase'):
    attention_maps.jaccard_at(np.zeros((2, 3, 3)), masks, np.array([1.0, 0.5]))


def test_the_released_protocol_thresholds_before_it_upsamples():
  # Two cells of four pixels each: 1, 1/4, 0, 0 over 8 pixels of a row.
  maps = np.tile([4.0, 1.0, 0.0, 0.0], (1, 4, 1))
  lesion = np.zeros((1, 8, 8), np.uint8)
  lesion[:, :, :2] = 255
  found = attention_maps.released_jaccard(
      maps, lesion, np.array([True]), image_size=8, threshold=0.5)
  # The first cell alone is attended: 1, 3/4, 1/4, 0 over its edge.
  assert found[0] == pytest.approx((1 + 0.75) / (1 + 1 + 0.25))
  fair = attention_maps.attention_jaccard(
      maps, lesion, np.array([True]), image_size=8, threshold=0.5)
  # Upsampled first, 4, 13/4, 7/4 ...: the first two pixels reach a half.
  assert fair[0] == 1
  unannotated = attention_maps.released_jaccard(
      maps, lesion, np.array([False]), image_size=8, threshold=0.5)
  assert np.isnan(unannotated[0])


def test_mass_inside_by_hand():
  maps = np.array([[[0.0, 1.0], [2.0, 4.0]]] * 3)   # rescaled 0, 1/4, 1/2, 1
  lesion = np.zeros((3, 2, 2), np.uint8)
  lesion[0, 1] = lesion[2] = 255
  found = attention_maps.mass_inside(
      maps, lesion, np.array([True, True, False]), image_size=2)
  np.testing.assert_allclose(found, [1.5 / 1.75, np.nan, np.nan])


def test_all_ones_scores_the_share_of_the_lesion():
  lesion = np.zeros((1, 8, 8), np.uint8)
  lesion[0, 2:4, 2:6] = 255               # 8 of 16 pixels in the crop
  ones = attention_maps.all_ones(4)[None]
  for score in (attention_maps.mass_inside, attention_maps.pointing_game):
    assert score(ones, lesion, np.array([True]), image_size=4)[0] == 0.5


def test_pointing_game_by_hand():
  maps = np.zeros((4, 4, 4))
  maps[:, 1, 2] = 1
  maps[3, 0, 0] = 1                       # two maxima
  lesion = np.zeros((4, 4, 4), np.uint8)
  lesion[[0, 3], 1, 2] = 255
  lesion[1, 2, 1] = 255
  found = attention_maps.pointing_game(
      maps, lesion, np.array([True, True, True, True]), image_size=4)
  np.testing.assert_array_equal(found, [1, 0, np.nan, 0.5])
