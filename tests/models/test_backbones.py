"""Every backbone keeps the contract that it declares."""

import flax
import jax
import jax.numpy as jnp
import pytest

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax.models import backbones

pytestmark = pytest.mark.usefixtures('two_blocks')


def _shapes(backbone, *, dtype='float32', remat=False):
  """Maps and variables of a full-width module on two images of 64 x 96 pixels."""
  module = backbone.create(width=1., dtype=jnp.dtype(dtype), axis_name=None,
                           remat=remat, name=None)
  return jax.eval_shape(
      lambda x: module.init_with_output(jax.random.key(0), x, train=False),
      jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32))


def test_maps_have_the_declared_channels_and_their_strides():
  for name in config_lib.BACKBONES:
    backbone = backbones.find(name)
    maps, variables = _shapes(backbone)
    assert {pool: map_.shape for pool, map_ in maps.items()} == {
        pool: (2, 64 >> int(pool[4:]), 96 >> int(pool[4:]), channels)
        for pool, channels in backbone.channels.items()}, name
    assert list(backbone.channels)[-1] == 'pool5'
    assert _shapes(backbone, remat=True)[1] == variables, name


def test_bfloat16_is_the_computations_alone():
  for name in config_lib.BACKBONES:
    maps, variables = _shapes(backbones.find(name), dtype='bfloat16')
    assert {leaf.dtype for leaf in jax.tree.leaves(maps)} == {jnp.dtype('bfloat16')}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}


def test_torch_names_are_those_of_all_variables():
  for name in config_lib.BACKBONES:
    backbone = backbones.find(name)
    flat = flax.traverse_util.flatten_dict(dict(_shapes(backbone)[1]))
    assert set(backbone.torch_names.values()) == set(flat), name
    assert len(backbone.torch_names) == len(flat)
    assert backbone.normalisation in images.NORMALISATIONS


def test_an_unknown_name():
  with pytest.raises(errors.UserError, match="backbone='alexnet' is unknown"):
    backbones.find('alexnet')
