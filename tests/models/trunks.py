"""Comparison of whole backbones with the golden arrays of make_trunks.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax.models import backbones
from attnmel_jax.models import torch_names
from tests.models import trunk_inputs as inputs


def check(got: np.ndarray, golden: np.ndarray, name: str) -> None:
  """Within 1e-4 of the largest magnitude, or of nothing where rounding is all there is.
  """
  np.testing.assert_allclose(
      inputs.digest(got)[2:], golden[2:], rtol=0, atol=max(1e-4 * golden[0], 1e-10),
      err_msg=name)
  np.testing.assert_allclose(inputs.digest(got)[:2], golden[:2], rtol=1e-4, atol=1e-10,
                             err_msg=name)


def _network(name: str, dtype: str):
  """Module, its variables with the golden weights, torch's names of them."""
  declared = backbones.find(name)
  module = declared.create(
      width=1., dtype=jnp.dtype(dtype), axis_name=None, remat=False, name=None)
  shapes = jax.eval_shape(functools.partial(module.init, train=False),
                          jax.random.key(0), inputs.images())
  flat = {}
  for collection, tree in shapes.items():
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      flat[collection, *(key.key for key in path)] = leaf.shape
  names = declared.torch_names
  drawn = inputs.weights({
      theirs: torch_names.to_torch_axes(np.empty(flat[path], np.bool_), path).shape
      for theirs, path in names.items()})
  variables = {}
  for theirs, path in names.items():
    node = variables
    for key in path[:-1]:
      node = node.setdefault(key, {})
    node[path[-1]] = jnp.asarray(
        torch_names.from_torch_axes(drawn[theirs], path), dtype)
  return module, variables, names


def check_maps(name: str, dtype: str) -> None:
  """The maps in evaluation mode are timm's."""
  golden = np.load(inputs.FOLDER / f'{name}.npz')
  module, variables, _ = _network(name, dtype)
  maps = jax.jit(functools.partial(module.apply, train=False))(
      variables, inputs.images().astype(dtype))
  assert len(maps) == 5
  for pool, values in maps.items():
    check(np.asarray(values).transpose(0, 3, 1, 2), golden[f'eval/{pool}'], pool)


def check_gradients(name: str) -> None:
  """Maps and gradients in training mode are timm's; needs float64."""
  golden = np.load(inputs.FOLDER / f'{name}.npz')
  module, variables, names = _network(name, 'float64')

  def product(params):
    maps, _ = module.apply({**variables, 'params': params}, inputs.images(), train=True,
                           mutable=['batch_stats'])
    return sum((values * inputs.slopes(pool, values.shape)).sum()
               for pool, values in maps.items()), maps

  gradients, maps = jax.jit(jax.grad(product, has_aux=True))(variables['params'])
  for pool, values in maps.items():
    check(np.asarray(values).transpose(0, 3, 1, 2), golden[f'train/{pool}'], pool)
  for theirs, (collection, *path) in names.items():
    if collection == 'params':
      value = gradients
      for key in path:
        value = value[key]
      check(torch_names.to_torch_axes(np.asarray(value), (collection, *path)),
            golden[f'gradient/{theirs}'], theirs)
