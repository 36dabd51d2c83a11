"""Trains on all devices in float64 and writes down what came of it.

  python -m tests.training.on_devices MODEL BACKBONE STEPS ACCUMULATE_STEPS \
    OUT.npz FIRST.npz [COORDINATOR PROCESSES PROCESS_ID]

Of each step: the augmented batch, the dropout masks, the losses and the BatchNorm
statistics; of every fifth and the last: the gradients; then all of the last state.
Once stdin ends, the predictions with the last state of FIRST.npz, which may be
OUT.npz. Ends with status 1 where two devices hold different states.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import socket
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import parallel
from attnmel_jax.evaluation import predict
from attnmel_jax.models import classifiers
from attnmel_jax.training import augment
from attnmel_jax.training import state as state_lib
from tests.training import tiny

_SPLIT_SIZE = 2 * tiny.BATCH_SIZE + 3  # the last batch is padding on most devices


def train_on(layouts, arguments, folder):
  """Runs this on forced CPU devices, all layouts at once, and reads what they wrote.

  Args:
    layouts: number of devices, or (processes, devices of each).
    arguments: MODEL BACKBONE STEPS ACCUMULATE_STEPS.
    folder: for the files.

  Returns:
    What was written, by name, one for each layout. All predict with the parameters
    that the first one trained.
  """
  runs = {}
  for layout in layouts:
    count, devices = layout if isinstance(layout, tuple) else (1, layout)
    together = [[]] if count == 1 else _addresses(count)
    runs[layout] = [_start(devices, folder / f'{count}x{devices}-{number}.npz',
                           arguments, folder, address)
                    for number, address in enumerate(together)]
    if len(runs) == 1:
      (folder / 'first').symlink_to(runs[layout][0][1].name)
  # The others read the first one's parameters when it has finished.
  ended = [(process, message) for group in runs.values()
           for process, message in _ended([process for process, _ in group])]
  for process, message in ended:
    assert process.returncode == 0, message
  results = []
  for layout, group in runs.items():
    first, *others = (dict(np.load(out)) for _, out in group)
    assert first.pop('devices') == np.prod(layout)
    # Where processes differ in a single bit of a state, training goes apart.
    for other in others:
      np.testing.assert_array_equal(other['digests'], first['digests'])
      for name in first:
        np.testing.assert_array_equal(other[name], first[name], err_msg=name)
    del first['digests']  # rounding makes other ones of another layout
    results.append(first)
  return results


def assert_alike(got, want, *, rounding):
  """Asserts that results are equal, up to `rounding` of the largest value of each.

  Devices add up their parts in another order, and nothing else may differ: integers
  (augmented pixels, masks) are equal. A bias that BatchNorm takes away again has no
  gradient but rounding, of 1e-15.
  """
  assert got.keys() == want.keys()
  for name, value in want.items():
    if np.issubdtype(value.dtype, np.floating):
      assert np.isfinite(value).all(), name  # NaN would equal NaN
      np.testing.assert_allclose(got[name], value, rtol=0, err_msg=name,
                                 atol=rounding * np.abs(value).max() + 1e-13)
    else:
      np.testing.assert_array_equal(got[name], value, err_msg=name)


def _addresses(count):
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    address = f'localhost:{probe.getsockname()[1]}'
  return [[address, str(count), str(number)] for number in range(count)]


def _ended(processes):
  """Lets the processes of a group go on together, and waits for what they say."""
  for process in processes:
    process.stdin.close()
    process.stdin = None  # as `communicate` would flush it
  return [(process, process.communicate()[1]) for process in processes]


def _start(devices, out, arguments, folder, address):
  flags = f'--xla_force_host_platform_device_count={devices}'
  return subprocess.Popen(
      [sys.executable, '-W', 'error', '-m', 'tests.training.on_devices', *arguments,
       out, folder / 'first', *address],
      cwd=pathlib.Path(__file__).parents[2], stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,  # Gloo's greeting
      stderr=subprocess.PIPE, text=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags}), out


def main() -> None:
  """Trains, compares the devices' copies, saves, and predicts."""
  name, backbone, steps, accumulate_steps, out, first, *together = sys.argv[1:]
  jax.config.update('jax_enable_x64', True)
  if together:
    coordinator, processes, process_id = together
    parallel.start_processes(coordinator, int(processes), int(process_id))
  update = parallel.update(_observed(tiny.step(
      name, backbone, 'float64', accumulate_steps=int(accumulate_steps))))
  state = parallel.replicated(tiny.state(name, backbone, 'float64'))
  # At 0.01, VGG-16 diverges without BatchNorm, and compares numbers without meaning.
  hyper = tiny.hyper('float64', learning_rate=0.001 if name == 'vgg16' else 0.01)
  result, digests = {}, []
  for number in range(int(steps)):
    batch = {key: value[parallel.batch_part(tiny.BATCH_SIZE)]
             for key, value in tiny.batch(number).items()}
    state, seen = update(state, parallel.shard(batch), hyper)
    if number % 5 and number != int(steps) - 1:
      del seen['gradients']  # which are large
    seen['batch_stats'] = state.batch_stats
    result |= leaves(f'step {number}', seen)
    digests.append(_digest_of_copies(state))
  result |= leaves('last state', state)
  np.savez(out, devices=jax.device_count(), digests=digests, **result)
  sys.stdin.read()
  trained = _refilled(tiny.state(name, backbone, 'float64'), np.load(first))
  predictions = leaves('prediction', _predict(name, backbone, trained))
  np.savez(out, devices=jax.device_count(), digests=digests, **result, **predictions)


def _observed(step):
  """`step` that returns what it drew and found among its metrics, of all devices."""

  def gathered(shares):  # [B / devices, ...] -> [B, ...]
    return jax.lax.all_gather(shares, parallel.AXIS, tiled=True)

  def observed(state, batch, hyper):
    with contextlib.ExitStack() as stack:
      spy = lambda module, name: stack.enter_context(  # noqa: E731
          mock.patch.object(module, name, _Spy(getattr(module, name))))
      augmented, dropped, descended = (
          spy(augment, 'augment'), spy(classifiers, 'dropout'),
          spy(state_lib, 'apply_gradients'))
      state, seen = step(state, batch, hyper)
    seen['augmented image'], seen['augmented map'] = gathered(augmented.result)
    ((_, seen['gradients'], _), _), = descended.calls
    if step.keywords['accumulate_steps'] == 1:  # else the keys are those of a loop
      for (x, keys), settings in dropped.calls:
        kept = classifiers.dropout(jnp.ones(x.shape, x.dtype), keys, **settings) > 0
        seen[f'dropout {settings["layer"]}'] = gathered(kept)
    return state, seen

  return observed


class _Spy:
  """Calls `function`, and remembers."""

  def __init__(self, function):
    self.function, self.calls, self.result = function, [], None

  def __call__(self, *arguments, **settings):
    self.calls.append((arguments, settings))
    self.result = self.function(*arguments, **settings)
    return self.result


def leaves(title, tree):
  """The arrays of a tree by `title` and their place in it."""
  return {f'{title}{jax.tree_util.keystr(path)}': np.asarray(leaf)
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _refilled(state, saved):
  return jax.tree_util.tree_map_with_path(
      lambda path, _: saved[f'last state{jax.tree_util.keystr(path)}'], state)


def _predict(name, backbone, state):
  """As a run predicts a split of three batches, the last of them padded."""
  step = predict.on_devices(functools.partial(
      predict.eval_step, model=tiny.model(name, backbone, 'float64', parallel.AXIS),
      take=predict.take_classes, input=tiny.input_of('float64'), tta=False), tta=False)
  batches = []
  for start in range(0, _SPLIT_SIZE, tiny.BATCH_SIZE):
    batch = tiny.batch(start)
    index = np.arange(start, start + tiny.BATCH_SIZE, dtype=np.int32)
    valid = index < _SPLIT_SIZE
    batch |= {'lesion': batch.pop('roi'), 'has_lesion': batch.pop('has_roi')}
    batch = {key: np.where(valid.reshape(-1, *[1] * (value.ndim - 1)), value, 0)
             for key, value in batch.items()}
    batch |= {'index': np.where(valid, index, -1), 'valid': valid}
    part = parallel.batch_part(tiny.BATCH_SIZE)
    batches.append({key: value[part] for key, value in batch.items()})
  variables = parallel.replicated(state.variables())
  return dataclasses.asdict(predict.predict(step, variables, batches))


def _digest_of_copies(state):
  """Of the bits of `state`, which all devices hold alike."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    copies = [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
    if len(copies) != jax.local_device_count() or len(set(copies)) != 1:
      sys.exit(f'the devices differ in {jax.tree_util.keystr(path)}')
    digest.update(copies[0])
  return digest.hexdigest()


if __name__ == '__main__':
  main()
