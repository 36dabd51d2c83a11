"""A whole training step, small enough for a test to compile."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import parallel
from attnmel_jax.models import classifiers
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import step as step_lib

TAPS = ('pool3', 'pool4')
BATCH_SIZE, SIDE, SIZE = 8, 36, 32
TX = state_lib.optimiser(momentum=0.9, nesterov=True)
# Unevenly spread over devices, and one device of four has none.
HAS_ROI = np.array([True, True, True, False, False, False, False, True])


def model(name: str, backbone: str, dtype: str, axis_name: str | None):
  """A classifier with a sixteenth of the channels."""
  return classifiers.create(
      name, num_classes=2, backbone=backbone, width=1 / 16, taps=TAPS, gate_width=8,
      gate_norm='sigmoid', dropout_rate=0.5, dtype=dtype, axis_name=axis_name)


def step(name: str, backbone: str, dtype: str):
  """The per-device step over the axis."""
  return functools.partial(
      step_lib.train_step, model=model(name, backbone, dtype, parallel.AXIS), tx=TX,
      taps=TAPS, normalisation='isic2017', dtype=jnp.dtype(dtype), image_size=SIZE,
      random_crop=True, random_rotation=True, random_flip=True,
      axis_name=parallel.AXIS)


def state(name: str, backbone: str, dtype: str) -> state_lib.TrainState:
  """A first state, not yet placed on devices."""
  net = model(name, backbone, dtype, None)
  variables = jax.jit(lambda key: net.init(
      key, jnp.zeros((1, SIZE, SIZE, 3), dtype), train=False))(jax.random.key(0))
  return state_lib.create(variables, TX)


def hyper(dtype: str, **changed: float) -> dict[str, Any]:
  """Inputs of the step; weights that let the Dice terms count."""
  values = {'learning_rate': 0.01, 'weight_decay': 1e-3, 'focal_gamma': 2.,
            'dice_weights': (0.5, 1.), **changed}
  return {'seed': np.uint32(3)} | {
      name: np.asarray(value, dtype) for name, value in values.items()}


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
