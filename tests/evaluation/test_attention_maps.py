import jax
import numpy as np
import pytest

from attnmel_jax import images
from attnmel_jax.evaluation import attention_maps


def test_upsample_is_jaxs_bilinear_resize():
  rng = np.random.default_rng(0)
  for shape, side in (((14, 14), 224), ((1, 1), 5), ((3, 5), 16)):
    maps = rng.random((3, *shape)).astype(np.float32)
    expected = jax.image.resize(maps, (3, side, side), 'linear', antialias=False)
    np.testing.assert_allclose(attention_maps.upsample(maps, side), expected, atol=1e-6)
  # Half-pixel centres: -1/4, 1/4, 3/4, 5/4 on the source's axis, clamped.
  rows = attention_maps.upsample(np.array([[[0.0], [4.0]]]), 4)[0, :, 0]
  np.testing.assert_allclose(rows, [0, 1, 3, 4])
  with pytest.raises(ValueError, match=r'\[N, h, w\]'):
    attention_maps.upsample(np.zeros((4, 4)), 8)


def test_rescale_stretches_each_map_by_itself():
  maps = np.array([[[2.0, 4.0], [3.0, 2.5]], [[-1e-9, 0.0], [1e-9, 0.0]]])
  np.testing.assert_allclose(
      attention_maps.rescale(maps), [[[0, 1], [0.5, 0.25]], [[0, 0.5], [1, 0.5]]])
  maps = np.zeros((3, 2, 2))
  maps[1, 0, 0], maps[2] = np.nan, np.inf
  with pytest.raises(ValueError, match='2 of 3'):
    attention_maps.rescale(maps)


def test_a_constant_map_is_all_ones_but_a_small_difference_is_a_pattern():
  for value in (0.0, 0.3, 1.0, -2.0, 1e-12):
    maps = attention_maps.upsample(np.full((2, 14, 14), value, np.float32), 224)
    assert (attention_maps.rescale(maps) == 1).all()
  maps = np.ones((2, 4, 4), np.float32)
  maps[0, 1, 2] = np.nextafter(np.float32(1), np.float32(0))
  maps[1, 1, 2] = 1 - 1e-5
  rounding, pattern = attention_maps.rescale(maps)
  assert (rounding == 1).all()
  assert pattern[1, 2] == 0


def test_the_centre_is_what_the_network_sees():
  lesion = np.random.default_rng(0).integers(0, 256, (3, 9, 9)).astype(np.uint8)
  np.testing.assert_array_equal(
      attention_maps.central(lesion, 4), images.centre_crop(lesion, 4))
  for masks, side in ((lesion, 10), (lesion[:, :8], 4)):
    with pytest.raises(ValueError, match='no square'):
      attention_maps.central(masks, side)


def test_class_maps_by_hand():
  features = np.array([[[[1.0, 2.0], [0.0, 1.0]]], [[[3.0, 0.0], [1.0, 1.0]]]])
  kernel = np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 1.0]])
  maps = attention_maps.class_maps(features, kernel)
  np.testing.assert_array_equal(maps[0, 0], [[1, 3, 2], [0, 2, 1]])
  np.testing.assert_array_equal(
      attention_maps.of_classes(maps, np.array([1, 0])), [[[3, 2]], [[3, 1]]])
