"""A whole training step, small enough for a test to compile."""

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import images
from attnmel_jax import parallel
from attnmel_jax.models import classifiers
from attnmel_jax.models import layers
from attnmel_jax.training import augment
from attnmel_jax.training import losses
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import step as step_lib

TAPS = ('pool3', 'pool4')
BATCH_SIZE, SIDE, SIZE = 8, 36, 32
TX = state_lib.optimiser(momentum=0.9, nesterov=True)
# Unevenly spread over devices, and one device of four has none.
HAS_ROI = np.array([True, True, True, False, False, False, False, True])


class Small(nn.Module):
  """What the step asks of a classifier, in a layer: compiled in a second."""

  dtype: Any
  batch_norm: bool
  axis_name: str | None

  @nn.compact
  def __call__(self, images, *, train, example_keys=None):
    """Logits, attention maps of pool3 and pool4; BatchNorm and dropout in between."""
    x = nn.Conv(6, (8, 8), strides=8, dtype=self.dtype, param_dtype=self.dtype)(images)
    if self.batch_norm:
      x = layers.BatchNorm(self.axis_name)(x, train=train)
    pool3 = nn.sigmoid(x)
    pool4 = pool3.reshape(-1, 2, 2, 2, 2, 6).mean((2, 4))
    features = (x * pool3).mean((1, 2))
    if train:
      features = classifiers.dropout(features, example_keys, rate=0.5, layer=1)
    logits = nn.Dense(2, dtype=self.dtype, param_dtype=self.dtype)(features)
    return logits, {'attention': {'pool3': pool3[..., 0], 'pool4': pool4[..., 1]}}


def model(name: str, backbone: str, dtype: str, axis_name: str | None,
          remat: bool = False) -> nn.Module:
  """'small', or a real classifier with a sixteenth of the channels."""
  if name == 'small':
    return Small(dtype=jnp.dtype(dtype), batch_norm=backbone != 'vgg16',
                 axis_name=axis_name)
  return classifiers.create(
      name, num_classes=2, backbone=backbone, width=1 / 16, taps=TAPS, gate_width=8,
      gate_norm='sigmoid', dropout_rate=0.5, dtype=dtype, axis_name=axis_name,
      remat=remat)


def input_of(dtype: str) -> images.Input:
  """Of a model that computes in `dtype`."""
  return images.Input(SIZE, 'isic2017', jnp.promote_types(dtype, jnp.float32))


def step(name: str, backbone: str, dtype: str, axis_name: str | None = parallel.AXIS,
         *, accumulate_steps: int = 1, remat: bool = False):
  """The per-device step."""
  return functools.partial(
      step_lib.train_step, model=model(name, backbone, dtype, axis_name, remat),
      loss=losses.classification(TAPS), tx=TX, input=input_of(dtype),
      augmentation=augment.Augmentation(
          random_crop=True, random_rotation=True, random_flip=True),
      accumulate_steps=accumulate_steps, axis_name=axis_name)


def state(name: str, backbone: str, dtype: str) -> state_lib.TrainState:
  """A first state, not yet placed on devices."""
  net = model(name, backbone, dtype, None)
  shapes = jax.eval_shape(lambda key: net.init(
      key, jnp.zeros((1, SIZE, SIZE, 3), dtype), train=False), jax.random.key(0))
  rng = np.random.default_rng(0)

  def fill(path, leaf):  # in numpy: there is nothing to compile
    kind = path[-1].key
    if kind == 'kernel':  # He
      deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
      return rng.normal(0, deviation, leaf.shape).astype(leaf.dtype)
    return np.full(leaf.shape, kind in ('scale', 'var'), leaf.dtype)

  return state_lib.create(jax.tree_util.tree_map_with_path(fill, shapes), TX)


def hyper(dtype: str, **changed: Any) -> dict[str, Any]:
  """Inputs of the step; weights that let the Dice terms count."""
  values = {'learning_rate': 0.01, 'weight_decay': 1e-3, 'focal_gamma': 2.,
            'dice_weights': (0.5, 1.), 'seed': 3, **changed}
  return {name: np.asarray(value, np.uint32 if name == 'seed' else dtype)
          for name, value in values.items()}


def batch(number: int) -> dict[str, np.ndarray]:
  """The batch of step `number`."""
  rng = np.random.default_rng(number)
  mask = np.zeros((BATCH_SIZE, SIDE, SIDE), np.uint8)
  for i, (row, column) in enumerate(rng.integers(0, SIDE // 2, (BATCH_SIZE, 2))):
    mask[i, row:row + 8 + 2 * i, column:column + 8 + i] = 255
  return {
      'image': rng.integers(0, 256, (BATCH_SIZE, SIDE, SIDE, 3), np.uint8),
      'roi': mask, 'has_roi': np.roll(HAS_ROI, number),
      'label': rng.integers(0, 2, BATCH_SIZE).astype(np.int32)}
