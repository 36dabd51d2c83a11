"""VGG-16 without its dense layers (Simonyan & Zisserman, 2015).

Five blocks of 3x3 convolutions, each closed by a 2x2 max pooling; with batch
normalisation as in torchvision's `vgg16_bn` or without as in its `vgg16`.
"""

from collections.abc import Callable
from collections.abc import Mapping
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax import errors
from attnmel_jax.models import backbones
from attnmel_jax.models import cpu_kernels
from attnmel_jax.models import layers

# Convolutions and channels of each block.
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
DENSE_SIDE = 7  # the side of pool5 that the dense layers expect
_DENSE_LAYERS = {'classifier.0': 'fc1', 'classifier.3': 'fc2'}
_CLASS_LAYER = 'classifier.6'


class VGG16(nn.Module):
  """Parameters `conv<block>_<layer>` and, if `batch_norm`, `bn<block>_<layer>`.

  Attributes:
    batch_norm: normalise between convolution and ReLU.
    width: factor on the channels of every layer.
    dtype: of the computation.
    axis_name: device axis over which batch statistics run in training, or None.
    remat: keep only the pooled maps for the backward pass, which computes the
      layers of a block again: a forward pass more for less memory, though not on
      a CPU, where XLA drops the barriers that keep the two computations apart.
  """

  batch_norm: bool
  width: float
  dtype: Any
  axis_name: str | None
  remat: bool

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """Normalised images [B, H, W, 3] -> {'pool1': [B, H/2, W/2, 64], ...}."""
    x = images.astype(self.dtype)
    pools = {}
    for block in range(1, len(BLOCKS) + 1):
      apply = functools.partial(_block, block=block, train=train)
      # A function instead of a module: the parameters keep their names.
      apply = nn.remat(apply) if self.remat else apply
      x = pools[f'pool{block}'] = apply(self, x)
    return pools


def _block(backbone: VGG16, x: jax.Array, *, block: int, train: bool) -> jax.Array:
  """The convolutions of a block and its pooling, [B, H, W, C] -> [B, H/2, W/2, D]."""
  convolutions, count = BLOCKS[block - 1]
  for layer in range(1, convolutions + 1):
    x = layers.Conv3x3(
        layers.channels(count, backbone.width), backbone.dtype,
        name=f'conv{block}_{layer}')(x, centred=backbone.batch_norm and train)
    if backbone.batch_norm:
      x = layers.BatchNorm(
          backbone.axis_name, name=f'bn{block}_{layer}')(x, train=train)
    x = nn.relu(x)
  return cpu_kernels.max_pool2x2(x)


def flatten(x: jax.Array) -> jax.Array:
  """pool5 [B, h, w, C] -> [B, C 7 7], the input of the dense layers."""
  x = adaptive_average_pool(x, DENSE_SIDE)
  # torch flattens [C, 7, 7], and its pretrained dense layers expect that.
  return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
  """[B, H, W, C] -> [B, size, size, C], torch's AdaptiveAvgPool2d.

  Cell i of an axis of length n averages the positions from floor(i n / size)
  to ceil((i + 1) n / size); cells overlap, or repeat positions, where `size`
  does not divide n.
  """
  rows, columns = (
      jnp.asarray(_averages(length, size), x.dtype) for length in x.shape[1:3])
  return jnp.einsum('ph,qw,bhwc->bpqc', rows, columns, x)


def _averages(length: int, size: int) -> list[list[float]]:
  """[size, length]: row i holds the weights of the positions of cell i."""
  weights = []
  for cell in range(size):
    start, stop = cell * length // size, -(-(cell + 1) * length // size)
    weights.append([1 / (stop - start) if start <= position < stop else 0.
                    for position in range(length)])
  return weights


def _torch_names(*, batch_norm: bool) -> dict[str, tuple[str, ...]]:
  """torchvision's tensors, numbered through convolutions, BatchNorms, ReLUs, pools."""
  names, index = {}, 0
  for block, (convolutions, _) in enumerate(BLOCKS, 1):
    for layer in range(1, convolutions + 1):
      conv, norm = f'conv{block}_{layer}', f'bn{block}_{layer}'
      names[f'features.{index}.weight'] = ('params', conv, 'kernel')
      names[f'features.{index}.bias'] = ('params', conv, 'bias')
      if batch_norm:
        index += 1
        names[f'features.{index}.weight'] = ('params', norm, 'scale')
        names[f'features.{index}.bias'] = ('params', norm, 'bias')
        names[f'features.{index}.running_mean'] = ('batch_stats', norm, 'mean')
        names[f'features.{index}.running_var'] = ('batch_stats', norm, 'var')
      index += 2  # ReLU
    index += 1  # pooling
  return names


def rescale(params: Mapping[str, Any], images: jax.Array) -> dict[str, Any]:
  """Brings every hidden layer of a plain vgg16 to unit RMS activation.

  A ReLU network is positively homogeneous: scaling layer l by c_l (weights by
  c_l / c_(l-1), biases by c_l) scales its activations by c_l and changes
  nothing else. SGD at the usual rates diverges on the unscaled weights. The
  hidden dense layers, if any, are rescaled too; gates and classifier are not.

  Args:
    params: of a classifier on vgg16.
    images: normalised [N, H, W, 3], over which the activations are measured.

  Raises:
    UserError: a layer is silent or not finite on these images.
  """
  params = {**params, 'backbone': dict(params['backbone'])}
  x, scale = images, 1.
  for block, (convolutions, _) in enumerate(BLOCKS, 1):
    for layer in range(1, convolutions + 1):
      name = f'conv{block}_{layer}'
      x, scale, params['backbone'][name] = _rescale_layer(
          cpu_kernels.conv3x3, x, scale, params['backbone'][name], name)
    x = cpu_kernels.max_pool2x2(x)
  if 'fc1' in params:
    x = flatten(x)
    for name in _DENSE_LAYERS.values():
      x, scale, params[name] = _rescale_layer(jnp.matmul, x, scale, params[name], name)
  return params


def _rescale_layer(apply: Callable[..., jax.Array], x: jax.Array, scale: jax.Array,
                   layer: Mapping[str, jax.Array], name: str):
  """x: input times `scale` -> unit activations, their scale, the layer's params."""
  bias = layer['bias'] * scale
  activation = jax.nn.relu(apply(x, layer['kernel']) + bias)
  size = jnp.sqrt(jnp.mean(activation ** 2))
  if not 0 < size < jnp.inf:
    raise errors.UserError(
        f'pretrained layer {name} has root-mean-square activation {size}, which cannot '
        'be rescaled; check --config.normalisation or choose another file')
  return (activation / size, scale / size,
          {'kernel': layer['kernel'] / size, 'bias': bias / size})


def _declare(name: str, pth: str, *, batch_norm: bool) -> backbones.Backbone:
  return backbones.Backbone(
      create=functools.partial(VGG16, batch_norm=batch_norm),
      channels={f'pool{block}': count for block, (_, count) in enumerate(BLOCKS, 1)},
      torch_names=_torch_names(batch_norm=batch_norm), class_layer=_CLASS_LAYER,
      dense_layers=_DENSE_LAYERS,
      # timm keeps the dense layers as convolutions.
      renamed_layers={
          'pre_logits.fc1': 'classifier.0', 'pre_logits.fc2': 'classifier.3',
          'head.fc': _CLASS_LAYER},
      pth=f'https://download.pytorch.org/models/{pth}',
      safetensors=f'https://huggingface.co/timm/{name}.tv_in1k/resolve/main/'
      'model.safetensors',
      normalisation='imagenet',
      rescale=None if batch_norm else rescale)  # BatchNorm undoes any scale


BACKBONES = {
    'vgg16': _declare('vgg16', 'vgg16-397923af.pth', batch_norm=False),
    'vgg16_bn': _declare('vgg16_bn', 'vgg16_bn-6c64b313.pth', batch_norm=True),
}
