"""Variables of a classifier <-> tensors under PyTorch's names, for other programs.

The backbone and VGG-16's dense layers have the names and axes of the published files,
so that `pretrained` and PyTorch read them: VGG-16 and ResNet-50 those of torchvision,
EfficientNet-Lite0 those of timm. The remaining layers are named after our modules; here
they are beside those of VGG-16:

  features.<n>.weight, .bias                     convolution, [out, in, 3, 3]
  features.<n>.weight, .bias, .running_mean, ..  batch normalisation
  classifier.0, classifier.3, classifier.6       the dense layers of vgg16, [out, in]
  gate_<tap>.feature.weight, .guidance.weight    W_f and W_g, [out, in, 1, 1]
  gate_<tap>.response.weight, .bias              W, [1, in, 1, 1]
  classifier.weight, .bias                       the dense layer of the other models
"""

from collections.abc import Mapping
from typing import Any

import flax
import jax.numpy as jnp
import numpy as np

from attnmel_jax.models import backbones

Path = tuple[str, ...]  # in the variables, the collection first


def to_torch(variables: Any, backbone: str) -> dict[str, np.ndarray]:
  """All variables of a classifier on `backbone`, contiguous, in their own dtype."""
  flat = flax.traverse_util.flatten_dict(variables)
  return {name: np.ascontiguousarray(to_torch_axes(np.asarray(flat[path]), path))
          for name, path in _all_names(flat, backbone).items()}


def from_torch(weights: Mapping[str, np.ndarray], like: Any, backbone: str) -> Any:
  """The inverse of `to_torch`.

  Args:
    weights: tensors by name; all that `like` has, and no other.
    like: variables of the classifier, or their shapes.
    backbone: of the classifier.

  Raises:
    ValueError: names or shapes do not fit.
  """
  flat = flax.traverse_util.flatten_dict(like)
  names = _all_names(flat, backbone)
  if weights.keys() != names.keys():
    raise ValueError(f'tensors {sorted(weights.keys() ^ names.keys())} are missing or '
                     'unknown')
  result = {}
  for name, path in names.items():
    value = from_torch_axes(np.asarray(weights[name]), path)
    if value.shape != flat[path].shape:
      raise ValueError(f'tensor {name} {weights[name].shape} does not fit '
                       f'{"/".join(path)} {flat[path].shape}')
    result[path] = jnp.asarray(value, flat[path].dtype)
  return flax.traverse_util.unflatten_dict(result)


def published_names(backbone: backbones.Backbone, *, dense: bool) -> dict[str, Path]:
  """Tensors of a published file -> path in the variables of a classifier.

  Args:
    backbone: of the classifier and the file.
    dense: with the hidden dense layers; the layer of ImageNet's classes is left out.
  """
  names = {name: (collection, 'backbone', *path)
           for name, (collection, *path) in backbone.torch_names.items()}
  for theirs, ours in backbone.dense_layers.items() if dense else ():
    names[f'{theirs}.weight'] = ('params', ours, 'kernel')
    names[f'{theirs}.bias'] = ('params', ours, 'bias')
  return names


def _all_names(flat: Mapping[Path, Any], backbone: str) -> dict[str, Path]:
  """Name -> path of all variables."""
  declared = backbones.find(backbone)
  dense = ('params', 'fc1', 'kernel') in flat
  names = published_names(declared, dense=dense)
  for path in sorted(set(flat) - set(names.values())):
    layer = '.'.join(path[1:-1])
    if layer == 'classifier' and dense:
      layer = declared.class_layer
    names[f'{layer}.{"weight" if path[-1] == "kernel" else path[-1]}'] = path
  return names


def to_torch_axes(value: np.ndarray, path: Path) -> np.ndarray:
  """Our axes -> PyTorch's, for the variable at `path`."""
  if path[-1] != 'kernel':
    return value
  if value.ndim == 4:
    return value.transpose(3, 2, 0, 1)  # HWIO -> OIHW
  return value.T[..., None, None] if path[1].startswith('gate_') else value.T


def from_torch_axes(value: np.ndarray, path: Path) -> np.ndarray:
  """PyTorch's axes -> ours, for the variable at `path`."""
  if path[-1] != 'kernel':
    return value
  if path[1].startswith('gate_'):
    return value[..., 0, 0].T
  return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
