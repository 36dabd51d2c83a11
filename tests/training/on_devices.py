"""Trains on all devices in float64 and writes down what came of it.

  python -m tests.training.on_devices MODEL BACKBONE STEPS OUT.npz

The losses of each step, the momentum after the first (the gradient and the
weight decay) and all of the last state. Ends with status 1 where two devices
hold different states.
"""

import sys

import jax
import numpy as np

from attnmel_jax import parallel
from tests.training import tiny


def main() -> None:
  """Trains, compares the devices' copies, and saves."""
  name, backbone, steps, out = sys.argv[1:]
  jax.config.update('jax_enable_x64', True)
  update = parallel.update(tiny.step(name, backbone, 'float64'))
  state = parallel.replicated(tiny.state(name, backbone, 'float64'))
  result = {}
  for number in range(int(steps)):
    state, metrics = update(
        state, parallel.shard(tiny.batch(number)), tiny.hyper('float64'))
    for term, value in metrics.items():
      result[f'{term} of step {number}'] = np.asarray(value)
    if number == 0:
      result |= _leaves('first momentum', state.momentum)
    _check_copies(state)
  np.savez(out, devices=jax.device_count(), **result, **_leaves('state', state))


def _leaves(title, tree):
  return {f'{title}{jax.tree_util.keystr(path)}': np.asarray(leaf)
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _check_copies(state):
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    copies = [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
    if len(copies) != jax.device_count() or len(set(copies)) != 1:
      sys.exit(f'the devices differ in {jax.tree_util.keystr(path)}')


if __name__ == '__main__':
  main()
