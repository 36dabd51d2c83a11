"""A backbone of two dense layers, `two_blocks`, which compiles in a moment.

It is a backbone like any other, with pool3, pool4 and pool5, with batch normalisation
as `two_blocks_bn`. It is known within `added()`, or to the tests that ask for the
fixture `two_blocks`.
"""

from collections.abc import Iterator
import contextlib
import functools
from typing import Any

from flax import linen as nn
import jax
import pytest

from attnmel_jax import config as config_lib
from attnmel_jax.models import backbones
from attnmel_jax.models import layers

CHANNELS = {'pool3': 8, 'pool4': 16, 'pool5': 16}


class TwoBlocks(nn.Module):
  """Patches of 8 x 8 pixels become pool3, 2 x 2 of its positions become pool4."""

  batch_norm: bool
  width: float
  dtype: Any
  axis_name: str | None
  remat: bool

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """Normalised images [B, H, W, 3] -> {'pool3': [B, H/8, W/8, 8], ...}."""
    x, maps = images.astype(self.dtype), {}
    for block, (name, side) in enumerate((('pool3', 8), ('pool4', 2)), 1):
      x = nn.Dense(
          layers.channels(CHANNELS[name], self.width), dtype=self.dtype,
          param_dtype=layers.param_dtype(self.dtype), name=f'block{block}')(
              _patches(x, side))
      if self.batch_norm:
        x = layers.BatchNorm(self.axis_name, name=f'bn{block}')(x, train=train)
      x = maps[name] = nn.relu(x)
    batch, height, width, channels = x.shape
    maps['pool5'] = x.reshape(
        batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    return maps


def _patches(x: jax.Array, side: int) -> jax.Array:
  """[B, H, W, C] -> [B, H / side, W / side, side side C]."""
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height // side, side, width // side, side, channels)
  return x.swapaxes(2, 3).reshape(batch, height // side, width // side, -1)


def _declare(*, batch_norm: bool) -> backbones.Backbone:
  names = {}
  for block in (1, 2):
    names[f'block{block}.weight'] = ('params', f'block{block}', 'kernel')
    names[f'block{block}.bias'] = ('params', f'block{block}', 'bias')
    if batch_norm:
      names[f'bn{block}.weight'] = ('params', f'bn{block}', 'scale')
      names[f'bn{block}.bias'] = ('params', f'bn{block}', 'bias')
      names[f'bn{block}.running_mean'] = ('batch_stats', f'bn{block}', 'mean')
      names[f'bn{block}.running_var'] = ('batch_stats', f'bn{block}', 'var')
  return backbones.Backbone(
      create=functools.partial(TwoBlocks, batch_norm=batch_norm), channels=CHANNELS,
      torch_names=names, class_layer='head')


BACKBONES = {'two_blocks': _declare(batch_norm=False),
             'two_blocks_bn': _declare(batch_norm=True)}


def add(patch: pytest.MonkeyPatch) -> None:
  """Configs may name the two until `patch` is undone."""
  for name in BACKBONES:
    patch.setitem(config_lib.BACKBONES, name, config_lib.Backbone(
        'VGG-16',  # so that tables compare it with the thesis
        __name__, ('pool3', 'pool4'), batch_norm=name.endswith('bn'), rescales=False))


@contextlib.contextmanager
def added() -> Iterator[None]:
  """Within it configs may name the two."""
  with pytest.MonkeyPatch.context() as patch:
    add(patch)
    yield
