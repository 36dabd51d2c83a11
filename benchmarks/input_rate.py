"""Whether the input keeps up with a device that is faster than this machine's.

  measured = input_rate.measure(config, images_per_second=3000., seconds=10.)
  print(*input_rate.lines(measured), sep='\\n')

The batches are those of a training run, of noise in memory, and are placed on the
device. The step is replaced by the time it would take. As JAX does, the loop hands
over the next batch while the device is still at the last one.
"""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import time
from typing import Any

import jax

from attnmel_jax import parallel
from attnmel_jax import threads
from benchmarks import apart
from benchmarks import speed


def measure(config: Mapping[str, Any], *, images_per_second: float, seconds: float
            ) -> dict[str, Any]:
  """How long a device that takes so many images a second would wait for input.

  Args:
    config: of `matrix.without_data`.
    images_per_second: of the device.
    seconds: of the device's work, at least a batch of it.
  """
  batches, _ = speed.random_batches(config)
  step_seconds = config['batch_size'] / images_per_second
  steps = max(1, round(seconds / step_seconds))
  with contextlib.closing(batches.iterate(start_step=0, num_steps=1 + steps)) as items:

    def place():
      _, batch = next(items)
      jax.block_until_ready(placed(parallel.shard(batch)))

    place()  # threads start with it
    others = apart.Others(time.process_time)
    cpu, started = time.process_time(), time.perf_counter()
    waited = consume(place, steps=steps, step_seconds=step_seconds,
                     clock=time.perf_counter, sleep=time.sleep)
    taken = time.perf_counter() - started
  return {'images_per_second': images_per_second, 'steps': steps,
          'batch_size': config['batch_size'], 'side': config['resize_size'],
          'reached_images_per_second': steps * config['batch_size'] / taken,
          'wait_share': waited / taken,
          'cpu_share': (time.process_time() - cpu) / taken / threads.cores(),
          'others_cores': others.cores()}


def placed(shares: Any) -> list[Any]:
  """Copies arrays [devices, ...] to their devices, as a parallel step does."""
  return [jax.device_put(jax.tree.map(lambda array, i=i: array[i], shares), device)
          for i, device in enumerate(jax.local_devices())]


def consume(place: Callable[[], None], *, steps: int, step_seconds: float,
            clock: Callable[[], float], sleep: Callable[[float], None]) -> float:
  """Runs `steps` simulated steps; seconds for which the device had no batch.

  Args:
    place: returns when the next batch is on the device.
    steps: how many.
    step_seconds: that the device takes for each.
    clock: the time in seconds.
    sleep: lets so many seconds pass.
  """
  free, waited = clock(), 0.  # when the device ends all that it was given
  for _ in range(steps):
    place()
    ready = clock()
    waited += max(0., ready - free)
    free = max(free, ready) + step_seconds
    # One step ahead of the device, no further.
    sleep(max(0., free - step_seconds - clock()))
  return waited


def lines(measured: Mapping[str, Any]) -> list[str]:
  """The numbers to print."""
  m = measured
  return [
      f'a device that takes {m["images_per_second"]:.0f} images/s (simulated), batches '
      f'of {m["batch_size"]} from memory, {m["side"]} px, {m["steps"]} steps',
      f'  images/s reached       {m["reached_images_per_second"]:.0f}',
      f'  waiting for input      {m["wait_share"]:.2%} of the time',
      f'  the input took         {m["cpu_share"]:.0%} of {threads.cores()} cores',
      f'  other processes        kept {m["others_cores"]:.2f} cores busy']
