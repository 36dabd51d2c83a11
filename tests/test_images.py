"""Image operations against numpy, scipy and hand calculations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from attnmel_jax import errors
from attnmel_jax import images


def test_dihedral_is_quarter_turns_then_a_flip_and_its_inverse_undoes_it():
  dihedral, inverse = jax.jit(images.dihedral), jax.jit(images.inverse_dihedral)
  seen = set()
  for shape in ((5, 5), (4, 4, 3)):
    image = np.arange(np.prod(shape)).reshape(shape)
    for element in range(8):
      expected = np.rot90(image, element % 4)
      if element >= 4:
        expected = np.fliplr(expected)
      result = dihedral(image, element)
      np.testing.assert_array_equal(result, expected)
      np.testing.assert_array_equal(dihedral(result, inverse(element)), image)
      seen.add(expected.tobytes())
  assert len(seen) == 16


def test_resize_bilinear_by_hand():
  # Half-pixel centres: outputs sit at -1/4, 1/4, 3/4, 5/4 of the inputs' grid.
  maps = jnp.array([[[0., 1.]]])
  np.testing.assert_allclose(
      images.resize_bilinear(maps, (1, 4))[0, 0], [0, 0.25, 0.75, 1], atol=1e-7)


def test_resize_bilinear_is_interpolation_with_clamped_edges():
  # Down to (2, 3) as well: without antialiasing it still interpolates.
  features = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
  for target in ((8, 20), (5, 7), (2, 3)):
    rows, columns = ((np.arange(n) + 0.5) * old / n - 0.5
                     for n, old in zip(target, (4, 5), strict=True))
    grid = np.meshgrid(rows, columns, indexing='ij')
    expected = np.empty((2, *target, 3))
    for b in range(2):
      for c in range(3):
        expected[b, :, :, c] = scipy.ndimage.map_coordinates(
            features[b, :, :, c].astype(np.float64), grid, order=1, mode='nearest')
    np.testing.assert_allclose(
        jax.jit(images.resize_bilinear, static_argnums=1)(features, target), expected,
        atol=1e-5)


def test_block_mean_by_hand():
  maps = jnp.array([[[1., 3., 0., 0., 8., 0.],
                     [5., 7., 0., 4., 0., 0.]]])
  np.testing.assert_array_equal(images.block_mean(maps, (1, 3)), [[[4., 1., 2.]]])
  np.testing.assert_allclose(
      images.block_mean(maps, (2, 2)), [[[4 / 3, 8 / 3], [4., 4 / 3]]], rtol=1e-6)
  with pytest.raises(ValueError, match='6x4 is not a multiple of 4x4'):
    images.block_mean(jnp.zeros((1, 6, 4)), (4, 4))


def test_centre_crop_rounds_odd_margins_up_and_left():
  for side, size, start in ((256, 224, 16), (7, 4, 1), (5, 3, 1), (6, 6, 0), (8, 3, 2)):
    batch = np.arange(2 * side * side).reshape(2, side, side)
    expected = batch[:, start:start + size, start:start + size]
    np.testing.assert_array_equal(images.centre_crop(batch, size), expected)
    np.testing.assert_array_equal(
        images.centre_crop(batch[..., None], size), expected[..., None])


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.float64])
def test_normalise(float64, dtype):
  image = np.array([[[0, 128, 255]]], np.uint8)
  result = images.normalise(jnp.asarray(image), 'isic2017', dtype)
  assert result.dtype == dtype
  expected = [(0 - 0.6820) / 0.0840, (128 / 255 - 0.5312) / 0.1140,
              (1 - 0.4736) / 0.1282]
  np.testing.assert_allclose(
      result[0, 0], expected, rtol=1e-5 if dtype == jnp.float32 else 1e-12)


def test_unknown_normalisation_is_named():
  with pytest.raises(errors.UserError, match='normalisation=.isic2015.*isic2017'):
    images.normalise(jnp.zeros((1, 1, 3), jnp.uint8), 'isic2015')
