import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.evaluation import cam
from attnmel_jax.models import classifiers


def test_the_mean_of_a_class_map_is_its_logit():
  model = classifiers.create(
      'vgg16_gap', num_classes=3, backbone='vgg16', width=1 / 16, taps=(),
      gate_width=8, gate_norm='sigmoid', dropout_rate=0.5, dtype='float32',
      axis_name=None, remat=False)
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=(2, 64, 64, 3)), jnp.float32)
  variables = model.init(jax.random.key(0), images, train=False)
  dense = variables['params']['classifier']
  dense['bias'] = jnp.arange(3.0)
  # Larger weights than those of a fresh layer, so that the classes differ.
  dense['kernel'] = 100 * dense['kernel']
  logits, out = model.apply(variables, images, train=False)
  maps = cam.class_maps(out['features']['pool5'], dense['kernel'])
  assert maps.shape == (2, 2, 2, 3)
  assert np.std(maps) > 1e-3
  np.testing.assert_allclose(maps.mean(axis=(1, 2)) + dense['bias'], logits, rtol=1e-4)


@pytest.mark.parametrize('array', [np.asarray, jnp.asarray])
def test_the_map_of_each_images_class_by_hand(array):
  features = array([[[[1.0, 2.0], [0.0, 1.0]]], [[[3.0, 0.0], [1.0, 1.0]]]])
  kernel = array([[1.0, -1.0, 0.0], [0.0, 2.0, 1.0]])
  maps = cam.class_maps(features, kernel)
  np.testing.assert_array_equal(
      maps[0, 0], [[1, 3, 2], [0, 2, 1]])
  np.testing.assert_array_equal(
      cam.of_classes(maps, np.array([1, 0])), [[[3, 2]], [[3, 1]]])
