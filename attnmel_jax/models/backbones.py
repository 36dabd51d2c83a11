"""What a backbone declares; `config.BACKBONES` lists the known ones.

The module that the list names declares the backbone, in its own BACKBONES.

A backbone is a Flax module, `maps = module(images, train=...)`: normalised images
[B, H, W, 3] -> {'pool1': [B, H/2, W/2, C], ..., 'pool5': [B, H/32, W/32, C]}. A map
`poolK` has stride 2^K in every backbone; all have pool5, and not all have every other.

  backbone = backbones.find('vgg16_bn')
  module = backbone.create(width=1., dtype=jnp.dtype('float32'), axis_name=None,
                           remat=False, name=None)
  backbone.channels['pool3']  # 256
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import importlib
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax

from attnmel_jax import config as config_lib
from attnmel_jax import errors


class Backbone(NamedTuple):
  """Functions and facts of one backbone.

  Attributes:
    create: `create(width=, dtype=, axis_name=, remat=, name=)` gives the module.
      `width` is a factor on the channels, `dtype` that of the computation, `axis_name`
      the device axis of batch statistics or None, `remat` trades time for memory in
      the backward pass, `name` is Flax's.
    channels: of each map at width 1; its names, but for pool5, are the taps.
    torch_names: tensor of a PyTorch file -> collection and path in the module's
      variables, such as ('params', 'conv1_1', 'kernel').
    class_layer: the layer of such a file that predicts ImageNet's classes.
    dense_layers: its hidden dense layers -> ours, if it has any.
    renamed_layers: layers of the .safetensors file -> the names used above.
    pth: address of the ImageNet weights for PyTorch, whose name ends in the first
      digits of its sha256; '' if there are none.
    safetensors: address of the same weights as .safetensors; '' if there are none.
    normalisation: what these weights expect of images, a key of
      `images.NORMALISATIONS`.
    rescale: `rescale(params, images)` brings the layers of a classifier to unit
      activation without changing what it computes; None where that cannot be done.
  """

  create: Callable[..., nn.Module]
  channels: Mapping[str, int]
  torch_names: Mapping[str, tuple[str, ...]]
  class_layer: str
  dense_layers: Mapping[str, str] = {}
  renamed_layers: Mapping[str, str] = {}
  pth: str = ''
  safetensors: str = ''
  normalisation: str = 'imagenet'
  rescale: Callable[[Any, jax.Array], Any] | None = None

  @property
  def taps(self) -> tuple[str, ...]:
    """Where a gate or plain pooling may attach; pool5 is always part of the head."""
    return tuple(name for name in self.channels if name != 'pool5')


def torch_names(modules: Iterable[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
  """`Backbone.torch_names` of convolutions without bias and BatchNorms.

  Args:
    modules: path of each in PyTorch's names; dots within a part are underscores in
      ours, so that ('blocks.0.1', 'bn2') is the module blocks_0_1/bn2. A convolution
      is one whose last part holds 'conv' or ends in '.0'.
  """
  norm = {'weight': ('params', 'scale'), 'bias': ('params', 'bias'),
          'running_mean': ('batch_stats', 'mean'),
          'running_var': ('batch_stats', 'var')}
  names = {}
  for module in modules:
    is_conv = 'conv' in module[-1] or module[-1].endswith('.0')
    for theirs, (collection, ours) in (
        {'weight': ('params', 'kernel')} if is_conv else norm).items():
      names['.'.join((*module, theirs))] = (
          collection, *(part.replace('.', '_') for part in module), ours)
  return names


def find(name: str) -> Backbone:
  """The backbone of that name.

  Raises:
    UserError: an unknown name.
  """
  errors.check_choice('backbone', name, config_lib.BACKBONES)
  return importlib.import_module(config_lib.BACKBONES[name].module).BACKBONES[name]
