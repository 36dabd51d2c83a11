"""Views as a step draws them, and what maps are bound to. Steps: test_batches.py."""

import types

import jax
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax.training import augment
from attnmel_jax.training import frozen
from attnmel_jax.training import stored_maps


@pytest.mark.parametrize('turn, flip', [
    (False, False), (False, True), (True, False), (True, True)])
def test_every_view_that_is_allowed_is_drawn_and_no_other(turn, flip):
  augmentation = augment.Augmentation(
      random_crop=False, random_rotation=turn, random_flip=flip)
  drawn = frozen.draw_views(augmentation, seed=2**32 - 1, num_steps=20, batch_size=8)
  assert drawn.shape == (20, 8)
  assert tuple(np.unique(drawn)) == augment.views(augmentation)
  assert len(augment.views(augmentation)) == (4 if turn != flip else 8 if turn else 1)


def test_the_region_turns_with_its_view():
  roi = np.random.default_rng(0).integers(0, 256, (8, 6, 6), np.uint8)
  maps = types.SimpleNamespace(read=lambda rows, views: (rows, views))
  views = np.array([[0] * 8, range(8)])
  finish = frozen.training(maps, views, part=slice(2, 6), image_size=4)
  batch = finish(1, {'image': None, 'roi': roi[2:6], 'index': np.arange(4)})
  assert 'image' not in batch
  np.testing.assert_array_equal(batch['features'], [range(4), range(2, 6)])
  for position, view in enumerate(range(2, 6)):
    np.testing.assert_array_equal(
        batch['roi'][position], images.dihedral(roi[view, 1:5, 1:5], np.array(view)))


def test_maps_are_bound_to_trunk_images_and_config():
  variables = {'params': {'backbone': {'a': np.ones(2)}, 'classifier': np.ones(1)},
               'batch_stats': {'backbone': {'mean': np.zeros(2)}}}
  split = types.SimpleNamespace(fingerprint='x')
  known = frozen.identity(variables, split, {'image_size': 32})
  other_head = {**variables, 'params': variables['params'] | {'classifier': 5}}
  assert frozen.identity(other_head, split, {'image_size': 32}) == known
  for collection, values in variables.items():
    changed = jax.tree.map(lambda x: x + 1, values)
    assert frozen.identity(
        variables | {collection: changed}, split, {'image_size': 32}) != known
  assert frozen.identity(variables, split, {'image_size': 64}) != known
  split.fingerprint = 'y'
  assert frozen.identity(variables, split, {'image_size': 32}) != known


def test_a_value_beyond_float16_names_the_map_and_the_image():
  maps = {'pool3': np.ones((3, 2, 2, 1), stored_maps.DTYPE)}
  maps['pool5'] = maps['pool3'].copy()
  maps['pool5'][1, 0, 1] = np.inf
  with pytest.raises(errors.UserError, match='^the map pool5 of image b .*65504'):
    frozen._check_finite(maps, np.array(['a', 'b', 'c']))
