"""Trains on all devices in float64 and writes down what came of it.

  python -m tests.training.on_devices MODEL BACKBONE STEPS ACCUMULATE_STEPS OUT.npz

The losses of each step, the momentum after the first (the gradient and the
weight decay) and all of the last state. Ends with status 1 where two devices
hold different states.
"""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np

from attnmel_jax import parallel
from tests.training import tiny


def train_on(counts, arguments, folder):
  """Runs this on forced CPU devices, all counts at once, and reads what they wrote."""
  runs = {}
  for count in counts:
    flags = f'--xla_force_host_platform_device_count={count}'
    out = folder / f'{count}.npz'
    runs[out] = subprocess.Popen(
        [sys.executable, '-W', 'error', '-m', 'tests.training.on_devices',
         *arguments, out],
        cwd=pathlib.Path(__file__).parents[2], stderr=subprocess.PIPE, text=True,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags})
  for process in runs.values():
    _, messages = process.communicate()
    assert process.returncode == 0, messages
  results = [dict(np.load(out)) for out in runs]
  assert [r.pop('devices') for r in results] == list(counts)
  return results


def main() -> None:
  """Trains, compares the devices' copies, and saves."""
  name, backbone, steps, accumulate_steps, out = sys.argv[1:]
  jax.config.update('jax_enable_x64', True)
  update = parallel.update(tiny.step(
      name, backbone, 'float64', accumulate_steps=int(accumulate_steps)))
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
