"""ResNet-50 (He et al., 2016, arXiv:1512.03385), without its dense layer.

With the stride in the 3x3 convolution of a block, as in torchvision and timm, whose
names it has.
"""

from collections.abc import Iterator
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax.models import backbones
from attnmel_jax.models import layers

# Blocks and inner channels of each stage; the output has four times as many.
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
_EXPANSION = 4
_STEM = 64  # channels


class ResNet50(nn.Module):
  """Modules `conv1`, `bn1`, `layer<stage>_<k>`; pool1 comes before the max pooling.

  Attributes are those of `vgg.VGG16`.
  """

  width: float
  dtype: Any
  axis_name: str | None
  remat: bool

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """Normalised images [B, H, W, 3] -> {'pool1': [B, H/2, W/2, 64], ...}."""
    block = nn.remat(Bottleneck, static_argnums=(2,)) if self.remat else Bottleneck
    x = layers.Conv(layers.channels(_STEM, self.width), 7, 2, False, self.dtype,
                    name='conv1')(images)
    x = nn.relu(layers.BatchNorm(self.axis_name, name='bn1')(x, train=train))
    maps = {'pool1': x}
    x = _max_pool3x3(x)
    for stage, (repeats, inner) in enumerate(STAGES, 1):
      for k in range(repeats):
        x = block(layers.channels(inner, self.width), 2 if stage > 1 and k == 0 else 1,
                  self.dtype, self.axis_name, name=f'layer{stage}_{k}')(x, train)
      maps[f'pool{stage + 1}'] = x
    return maps


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolution beside a shortcut."""

  inner: int   # channels of the 3x3 convolution
  stride: int
  dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """[B, H, W, C] -> [B, H / stride, W / stride, 4 inner]."""

    def layer(x, features, size, stride, conv, norm):
      x = layers.Conv(features, size, stride, False, self.dtype, name=conv)(x)
      return layers.BatchNorm(self.axis_name, name=norm)(x, train=train)

    outer = _EXPANSION * self.inner
    shortcut = x
    if x.shape[-1] != outer or self.stride > 1:
      shortcut = layer(x, outer, 1, self.stride, 'downsample_0', 'downsample_1')
    x = nn.relu(layer(x, self.inner, 1, 1, 'conv1', 'bn1'))
    x = nn.relu(layer(x, self.inner, 3, self.stride, 'conv2', 'bn2'))
    return nn.relu(layer(x, outer, 1, 1, 'conv3', 'bn3') + shortcut)


def _max_pool3x3(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), C]: maxima of 3x3 windows, stride 2.

  As maxima of shifted maps: on a CPU the gradient of a window reduction is a slow
  scatter. The maps are not negative, so zeros around them change nothing. Equal maxima
  share the gradient.
  """
  for axis in (1, 2):
    length = x.shape[axis]
    outputs = -(-length // 2)
    padded = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(4)])
    x = jnp.stack([jax.lax.slice_in_dim(
        padded, k, k + 2 * outputs - 1, 2, axis) for k in range(3)]).max(0)
  return x


def _modules() -> Iterator[tuple[str, ...]]:
  yield from (('conv1',), ('bn1',))
  for stage, (repeats, _) in enumerate(STAGES, 1):
    for k in range(repeats):
      for number in (1, 2, 3):
        yield from ((f'layer{stage}.{k}', f'{kind}{number}') for kind in ('conv', 'bn'))
      if k == 0:
        yield from ((f'layer{stage}.{k}', f'downsample.{part}') for part in (0, 1))


BACKBONES = {'resnet50': backbones.Backbone(
    create=ResNet50,
    channels={'pool1': _STEM} | {
        f'pool{stage + 1}': _EXPANSION * inner
        for stage, (_, inner) in enumerate(STAGES, 1)},
    torch_names=backbones.torch_names(_modules()),
    class_layer='fc',
    safetensors='https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/'
    'model.safetensors')}
