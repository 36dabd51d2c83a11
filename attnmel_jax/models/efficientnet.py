"""EfficientNet-Lite0 (Tan & Le, 2019, arXiv:1905.11946), without its dense layer.

The Lite variant has no squeeze-and-excitation, ReLU6 instead of swish, and a stem and a
head that no factor widens. Names, padding and epsilon are those of timm's
`tf_efficientnet_lite0`.
"""

from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax.models import backbones
from attnmel_jax.models import layers


class Stage(NamedTuple):
  """Blocks of one resolution; the first has the stride."""

  size: int       # of the depthwise kernels
  stride: int
  expansion: int  # channels of a block's inside over those of its input
  channels: int   # of the output
  repeats: int


STAGES = (Stage(3, 1, 1, 16, 1), Stage(3, 2, 6, 24, 2), Stage(5, 2, 6, 40, 2),
          Stage(3, 2, 6, 80, 3), Stage(5, 1, 6, 112, 3), Stage(5, 2, 6, 192, 4),
          Stage(3, 1, 6, 320, 1))
_STEM, _HEAD = 32, 1280  # channels
_MAPS = {'pool1': 0, 'pool2': 1, 'pool3': 2, 'pool4': 4}  # of which stage each map is
_EPSILON = 1e-3


class EfficientNetLite0(nn.Module):
  """Modules `conv_stem`, `blocks_<stage>_<k>`, `conv_head`; pool5 is the head's map.

  Attributes are those of `vgg.VGG16`.
  """

  width: float
  dtype: Any
  axis_name: str | None
  remat: bool

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """Normalised images [B, H, W, 3] -> {'pool1': [B, H/2, W/2, 16], ...}."""
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    x = layers.Conv(layers.channels(_STEM, self.width), 3, 2, True, self.dtype,
                    name='conv_stem')(images)
    x = _relu6(_norm(self, 'bn1', x, train))
    outputs = []
    for number, stage in enumerate(STAGES):
      for k in range(stage.repeats):
        x = block(stage if k == 0 else stage._replace(stride=1), self.width, self.dtype,
                  self.axis_name, name=f'blocks_{number}_{k}')(x, train)
      outputs.append(x)
    x = layers.Conv(layers.channels(_HEAD, self.width), 1, 1, True, self.dtype,
                    name='conv_head')(x)
    return {name: outputs[number] for name, number in _MAPS.items()} | {
        'pool5': _relu6(_norm(self, 'bn2', x, train))}


class Block(nn.Module):
  """Expansion, depthwise convolution and a linear projection; a residual if it can."""

  stage: Stage
  width: float
  dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """[B, H, W, C] -> [B, H / stride, W / stride, stage.channels]."""
    stage, before = self.stage, x
    features = layers.channels(stage.channels, self.width)
    names = _layer_names(stage)
    if stage.expansion > 1:
      x = layers.Conv(stage.expansion * x.shape[-1], 1, 1, True, self.dtype,
                      name=next(names))(x)
      x = _relu6(_norm(self, next(names), x, train))
    x = layers.DepthwiseConv(stage.size, stage.stride, self.dtype, name=next(names))(x)
    x = _relu6(_norm(self, next(names), x, train))
    x = layers.Conv(features, 1, 1, True, self.dtype, name=next(names))(x)
    x = _norm(self, next(names), x, train)
    return x + before if x.shape == before.shape else x


def _layer_names(stage: Stage) -> Iterator[str]:
  """timm's names of the layers of a block, in their order."""
  convolutions = (('conv_dw', 'conv_pw') if stage.expansion == 1
                  else ('conv_pw', 'conv_dw', 'conv_pwl'))
  for number, name in enumerate(convolutions, 1):
    yield name
    yield f'bn{number}'


def _norm(module: nn.Module, name: str, x: jax.Array, train: bool) -> jax.Array:
  return layers.BatchNorm(module.axis_name, _EPSILON, name=name)(x, train=train)


def _relu6(x: jax.Array) -> jax.Array:
  inside = (x > 0) & (x < 6)
  return jnp.where(inside, x, jax.lax.stop_gradient(x.clip(0, 6)))


def _torch_names() -> dict[str, tuple[str, ...]]:
  modules = [('conv_stem',), ('bn1',), ('conv_head',), ('bn2',)]
  for number, stage in enumerate(STAGES):
    modules += [(f'blocks.{number}.{k}', name) for k in range(stage.repeats)
                for name in _layer_names(stage)]
  return backbones.torch_names(modules)


BACKBONES = {'efficientnet_lite0': backbones.Backbone(
    create=EfficientNetLite0,
    channels={name: STAGES[number].channels for name, number in _MAPS.items()} | {
        'pool5': _HEAD},
    torch_names=_torch_names(),
    class_layer='classifier',
    safetensors='https://huggingface.co/timm/tf_efficientnet_lite0.in1k/resolve/main/'
    'model.safetensors',
    normalisation='inception')}
