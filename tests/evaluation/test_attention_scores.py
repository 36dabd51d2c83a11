import numpy as np
import pytest

from attnmel_jax.evaluation import attention_scores


def _random(count=11, cells=4, side=40):
  rng = np.random.default_rng(0)
  lesion = np.where(rng.random((count, side, side)) < 0.4, 255, 0).astype(np.uint8)
  return rng.random((count, cells, cells)), lesion, rng.random(count) < 0.7


def _scores(maps, lesion, has_lesion, **kwargs):
  """The columns of one map, by score."""
  found = attention_scores.per_image(
      {'x': maps}, lesion, np.array(has_lesion), **kwargs)
  return {name.removesuffix('_x'): values for name, values in found.items()
          if name.endswith('_x')}


def test_jaccard_by_hand():
  a, b = np.zeros((2, 4, 2, 2), bool)
  a[0, 0] = b[0, :, 0] = True     # one shared of three
  a[1] = b[1] = True              # equal
  a[2, 0, 0] = True               # against an empty mask
  np.testing.assert_allclose(attention_scores.jaccard(a, b), [1 / 3, 1, 0, 1])
  for other, message in ((np.zeros((4, 2, 2)), 'not masks'), (b[:, :1], 'one shape')):
    with pytest.raises(ValueError, match=message):
      attention_scores.jaccard(a, other)


def test_maps_and_masks_of_other_forms_are_refused():
  values, masks = np.ones((2, 4, 4)), np.ones((2, 4, 4), bool)
  for score in attention_scores.SCORES.values():
    for bad in ((values[:1], masks), (values[0], masks[0]), (values, masks * 255),
                (np.uint8(values), masks), (values[..., None], masks[..., None])):
      with pytest.raises(ValueError, match='not floating-point maps'):
        score.function(*bad)
  for lesion, annotated in ((masks, [True, True]), (np.uint8(masks) * 255, [1, 1])):
    with pytest.raises(ValueError, match='0 to 255, and bool'):
      attention_scores.released_jaccard(
          values, lesion, np.array(annotated), image_size=4)


def test_every_map_and_all_ones_has_every_score():
  maps, lesion, has_lesion = _random()
  found = attention_scores.per_image(
      {'pool3': maps, 'cam': -maps}, lesion, has_lesion, image_size=32)
  assert list(found) == [
      f'{score}_{name}' for name in ('pool3', 'cam', 'all_ones')
      for score in ('jaccard', 'mass', 'pointing')]
  for values in found.values():
    np.testing.assert_array_equal(np.isnan(values), ~has_lesion)
  # A map that marks everything scores the share of the lesion.
  share = (lesion[:, 4:-4, 4:-4] > 0).mean(axis=(1, 2))[has_lesion]
  for score in attention_scores.SCORES:
    np.testing.assert_allclose(found[f'{score}_all_ones'][has_lesion], share)


def test_the_mask_is_cropped_and_the_map_is_cut_at_a_half():
  # 8 x 8 masks, a network of side 4: rows and columns 2 to 5 count.
  lesion = np.zeros((5, 8, 8), np.uint8)
  lesion[[0, 1], :, :4] = 255        # in the crop: its left half
  lesion[2, 2:6, 2:6] = 127          # below the cut: empty
  lesion[3, 0, 0] = 255              # outside the crop: empty
  lesion[4, :, :4] = 255             # but not annotated
  maps = np.zeros((5, 4, 4))
  maps[:, :, :2] = (9.0, 4.5)        # rescaled 1, 1/2, 0, 0: attended up to 1/2
  maps[1, :, 1] = 4.4                # or less
  found = _scores(maps, lesion, [True] * 4 + [False], image_size=4)
  np.testing.assert_array_equal(found['jaccard'], [1, 0.5, 0, 0, np.nan])
  # Without a lesion in the crop there is no mass and no point.
  np.testing.assert_array_equal(np.isnan(found['mass']), [0, 0, 1, 1, 1])
  np.testing.assert_array_equal(found['pointing'], [1, 1, np.nan, np.nan, np.nan])


def test_maps_are_rescaled_after_they_are_upsampled():
  # A peak between zeros: 12 / 3 pixels a cell weigh it .625, .875, .875, .625 along
  # each axis, so its corners hold .39 of the peak but .51 of the largest pixel.
  peak = np.zeros((1, 3, 3))
  peak[0, 1, 1] = 1
  lesion = np.zeros((1, 12, 12), np.uint8)
  lesion[0, 4:8, 4:8] = 255
  assert _scores(peak, lesion, [True], image_size=12)['jaccard'] == [1]


def test_mass_and_pointing_by_hand():
  maps = np.array([[[0.0, 1.0], [2.0, 4.0]]] * 2 + [[[0.0, 4.0], [2.0, 4.0]]])
  lesion = np.zeros((3, 2, 2), np.uint8)
  lesion[:, 1] = 255                 # rescaled 0, 1/4 over 1/2, 1; then two maxima
  lesion[1] = 255 - lesion[1]
  found = _scores(maps, lesion, [True] * 3, image_size=2)
  np.testing.assert_allclose(found['mass'], [1.5 / 1.75, 0.25 / 1.75, 1.5 / 2.5])
  np.testing.assert_array_equal(found['pointing'], [1, 0, 0.5])


def test_chunks_do_not_change_the_result(monkeypatch):
  maps, lesion, has_lesion = _random()
  whole = _scores(maps, lesion, has_lesion, image_size=32)
  monkeypatch.setattr(attention_scores, '_CHUNK', 3)
  for name, values in _scores(maps, lesion, has_lesion, image_size=32).items():
    np.testing.assert_array_equal(values, whole[name])
  with pytest.raises(ValueError, match='do not belong together'):
    _scores(maps, lesion, has_lesion[1:], image_size=32)


def test_the_released_protocol_cuts_before_it_upsamples():
  # Two cells of four pixels each: 1, 1/4, 0, 0 over 8 pixels of a row.
  maps = np.tile([4.0, 1.0, 0.0, 0.0], (2, 4, 1))
  lesion = np.zeros((2, 8, 8), np.uint8)
  lesion[:, :, :2] = 255
  has_lesion = np.array([True, False])
  found = attention_scores.released_jaccard(maps, lesion, has_lesion, image_size=8)
  # The first cell alone is attended: 1, 3/4, 1/4, 0 over its edge.
  np.testing.assert_allclose(found, [(1 + 0.75) / (1 + 1 + 0.25), np.nan])
  # Upsampled first, 4, 13/4, 7/4 ...: the first two pixels reach a half.
  assert _scores(maps, lesion, has_lesion, image_size=8)['jaccard'][0] == 1


def test_a_sweep_is_the_mean_index_at_each_threshold():
  maps, lesion, has_lesion = _random(side=8, cells=8)
  lesion[np.flatnonzero(has_lesion)[0]] = 0
  found = attention_scores.threshold_sweep(
      {'pool4': maps}, lesion, has_lesion, image_size=8)
  low = maps.min(axis=(1, 2), keepdims=True)
  values = (maps - low) / np.ptp(maps, axis=(1, 2), keepdims=True)
  assert found['thresholds'] == pytest.approx(np.linspace(0.05, 0.95, 19))
  assert found['jaccard_pool4'] == pytest.approx([
      attention_scores.jaccard(values >= t, lesion > 127)[has_lesion].mean()
      for t in found['thresholds']])
  nothing = attention_scores.threshold_sweep(
      {'pool4': maps}, lesion, np.zeros(11, bool), image_size=8)
  assert nothing['jaccard_pool4'] == [None] * 19
  # A threshold that nothing reaches.
  flat, masks = np.zeros((2, 3, 3)), np.arange(18).reshape(2, 3, 3) < 3
  np.testing.assert_allclose(
      attention_scores.jaccard_at(flat, masks, np.array([0.0, 1.0])),
      [[1 / 3, 0], [0, 1]])


def _disc(side, radius):
  """1 within `radius` sides of the centre; 0.5 touches the border."""
  offsets = (np.arange(side) + 0.5) / side - 0.5
  return offsets[:, None]**2 + offsets**2 <= radius**2


def test_the_best_disc_is_the_best_of_all():
  discs = np.stack([_disc(64, radius) for radius in (0.2, 0.25, 0.45, 0.5)])
  # In a frame that the network does not see.
  lesion = np.pad(255 * discs.astype(np.uint8), ((0, 0), (8, 8), (8, 8)),
                  constant_values=255)
  found = attention_scores.best_disc(lesion[:1], np.array([True]), image_size=64)
  assert (found.radius, found.jaccard.tolist()) == (pytest.approx(0.2), [1])
  found = attention_scores.best_disc(
      lesion, np.array([True, True, True, False]), image_size=64)
  by_radius = {radius: attention_scores.jaccard(
      np.broadcast_to(_disc(64, radius), (3, 64, 64)), discs[:3])
               for radius in np.arange(5, 72) / 100}
  best = max(by_radius, key=lambda radius: by_radius[radius].mean())
  assert found.radius == best
  np.testing.assert_allclose(found.jaccard, [*by_radius[best], np.nan])
  nothing = attention_scores.best_disc(lesion, np.zeros(4, bool), image_size=64)
  assert np.isnan([nothing.radius, *nothing.jaccard]).all()


def _within_class_variance(grey, threshold):
  """Otsu's other definition: the smallest sum of the classes' variances."""
  low, high = grey[grey <= threshold], grey[grey > threshold]
  if not low.size or not high.size:
    return np.inf
  return low.size * low.var() + high.size * high.var()


def test_otsus_threshold_leaves_the_least_variance():
  for seed in range(4):
    rng = np.random.default_rng(seed)
    grey = np.clip(np.concatenate(
        [rng.normal(70, 20, 300), rng.normal(150, 30, 500 + 300 * seed)]),
        0, 255).astype(np.uint8)
    best = min(_within_class_variance(grey, t) for t in range(256))
    found = _within_class_variance(grey, attention_scores.otsu_threshold(grey))
    assert found == pytest.approx(best)
  assert attention_scores.otsu_threshold(np.array([9, 9, 200], np.uint8)) == 9
  assert attention_scores.otsu_threshold(np.full((4, 4), 77, np.uint8)) == 77


def test_the_dark_part_is_the_lesion():
  photograph = np.full((20, 20, 3), (220, 180, 160), np.uint8)
  photograph[5:12, 6:15] = (90, 60, 50)
  expected = np.zeros((20, 20), bool)
  expected[5:12, 6:15] = True
  np.testing.assert_array_equal(attention_scores.otsu_mask(photograph), expected)
  # Blue counts little: luma is .299 R + .587 G + .114 B.
  photograph[:] = (100, 100, 0)
  photograph[0] = (100, 100, 255)
  photograph[1] = (100, 150, 0)
  dark = attention_scores.otsu_mask(photograph)
  assert not dark[:2].any()
  assert dark[2:].all()
