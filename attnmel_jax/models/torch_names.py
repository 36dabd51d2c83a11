"""Variables of a classifier <-> named tensors, for other programs.

The backbone and the dense layers have torchvision's names and axes, so that
`pretrained` and PyTorch read them; what torchvision lacks is named after our modules:

  features.<n>.weight, .bias                     convolution, [out, in, 3, 3]
  features.<n>.weight, .bias, .running_mean, ..  batch normalisation
  classifier.0, classifier.3, classifier.6       the dense layers of vgg16, [out, in]
  gate_<tap>.feature.weight, .guidance.weight    W_f and W_g, [out, in, 1, 1]
  gate_<tap>.response.weight, .bias              W, [1, in, 1, 1]
  classifier.weight, .bias                       the one dense layer of the others
"""

from collections.abc import Mapping
from typing import Any

import flax
import jax.numpy as jnp
import numpy as np

from attnmel_jax.models import pretrained

_Path = tuple[str, ...]


def to_torchvision(variables: Any) -> dict[str, np.ndarray]:
  """All variables of a classifier, by name, contiguous and in their own type."""
  flat = flax.traverse_util.flatten_dict(variables)
  return {name: np.ascontiguousarray(_turned(np.asarray(flat[path]), path))
          for name, path in _names(flat).items()}


def from_torchvision(weights: Mapping[str, np.ndarray], like: Any) -> Any:
  """The inverse of `to_torchvision`.

  Args:
    weights: tensors by name; all that `like` has, and no other.
    like: variables of the classifier, or their shapes.

  Raises:
    ValueError: names or shapes do not fit.
  """
  flat = flax.traverse_util.flatten_dict(like)
  names = _names(flat)
  if weights.keys() != names.keys():
    raise ValueError(f'tensors {sorted(weights.keys() ^ names.keys())} are missing or '
                     'unknown')
  result = {}
  for name, path in names.items():
    value = _turned_back(np.asarray(weights[name]), path)
    if value.shape != flat[path].shape:
      raise ValueError(f'tensor {name} {weights[name].shape} does not fit '
                       f'{"/".join(path)} {flat[path].shape}')
    result[path] = jnp.asarray(value, flat[path].dtype)
  return flax.traverse_util.unflatten_dict(result)


def _names(flat: Mapping[_Path, Any]) -> dict[str, _Path]:
  """Name -> path in the variables."""
  modules = {path[1] for path in flat}
  dense = 'fc1' in modules
  table = pretrained.torchvision_table(
      ('batch_stats', 'backbone', 'bn1_1', 'mean') in flat,
      pretrained.DENSE if dense else {})
  names = {name: path for name, (path, _) in table}
  for path in sorted(set(flat) - set(names.values())):
    layer = '.'.join(path[1:-1])
    if layer == 'classifier' and dense:
      layer = pretrained.CLASS_HEAD
    names[f'{layer}.{"weight" if path[-1] == "kernel" else path[-1]}'] = path
  return names


def _turned(value: np.ndarray, path: _Path) -> np.ndarray:
  """Our axes -> PyTorch's."""
  if path[-1] != 'kernel':
    return value
  if value.ndim == 4:
    return value.transpose(3, 2, 0, 1)  # HWIO -> OIHW
  return value.T[..., None, None] if path[1].startswith('gate_') else value.T


def _turned_back(value: np.ndarray, path: _Path) -> np.ndarray:
  """PyTorch's axes -> ours."""
  if path[-1] != 'kernel':
    return value
  if path[1].startswith('gate_'):
    return value[..., 0, 0].T
  return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
