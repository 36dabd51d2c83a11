"""What a benchmark times, within one process: our steps, and PyTorch's.

  ours = speed.Ours(config, cache, shared=False)
  ours.start()    # {'first_step_seconds': ..., 'compile_seconds': ..., ...}
  ours.train(speed.Limits(steps=20, seconds=60.))

Images are random and weights new. The learning rate is 0, so that the numbers
computed with stay ordinary however long it takes.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import os
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import parallel
from attnmel_jax import threads
from attnmel_jax.data import pipeline
from attnmel_jax.experiments import build
from benchmarks import apart
from benchmarks import torch_reference

FEWEST = 3  # measurements of everything, however slow
_IMAGES = 256  # in memory, or four batches
# Of a GPU's memory, where PyTorch shares it.
_SHARED_MEMORY = '0.45'


@dataclasses.dataclass(frozen=True)
class Limits:
  """When a series of measurements ends: whichever comes first."""

  steps: int      # measurements, at least FEWEST
  seconds: float  # FEWEST are made even if they take longer


@dataclasses.dataclass(frozen=True)
class _RandomSplit:
  """What a pipeline asks of a prepared split."""

  dataset: str
  split: str
  side: int
  class_names: tuple[str, ...]
  labels: np.ndarray
  has_lesion: np.ndarray
  has_dermo: np.ndarray
  has_generated: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)


def random_batches(config: Mapping[str, Any]) -> tuple[pipeline.TrainingBatches, int]:
  """The training batches of a data set of noise in memory, and its classes."""
  rng = np.random.default_rng(config['seed'])
  count, side = max(_IMAGES, 4 * config['batch_size']), config['resize_size']
  classes = max(2, len(config['oversample_factors']))
  split = _RandomSplit(
      'noise', 'train', side, tuple(f'class {k}' for k in range(classes)),
      np.arange(count, dtype=np.int32) % classes, *np.ones((3, count), bool))
  region = pipeline.find_region(
      config['roi'], dermo_attributes=config['dermo_attributes'],
      available=config['dermo_attributes'])
  maps = pipeline.needed_maps(region, evaluation=True)
  arrays = {'image': rng.integers(0, 256, (count, side, side, 3), np.uint8)}
  arrays |= {name: rng.integers(0, 256, (count, side, side), np.uint8)
             for name in maps}
  task_classes = 2 if config['positive'] else classes
  return pipeline.TrainingBatches(
      pipeline.ImageStore(split, maps, arrays), np.arange(count),
      split.labels % task_classes, region=region, batch_size=config['batch_size'],
      sampler=config['sampler'], oversample_factors=config['oversample_factors'],
      seed=config['seed'], part=slice(None)), task_classes


class _Timed:
  """What is timed in the same way on both sides: `_step` and `_infer`."""

  def time_steps(self) -> float:
    """Seconds of a step on a batch in memory."""
    return _seconds(lambda: self._step(self._batch), self._wait, self._group)

  def time_inference(self) -> float:
    """Seconds of a batch's predictions."""
    return _seconds(self._infer, self._wait, self._group)

  def cpu_seconds(self) -> float:
    """CPU seconds of this process so far."""
    return time.process_time()


class Ours(_Timed):
  """One config in JAX, from its start on."""

  _wait = staticmethod(jax.block_until_ready)

  def __init__(self, config: Mapping[str, Any], cache: str, *, shared: bool):
    """Keeps compiled steps in folder `cache`; `shared`: PyTorch is on the device."""
    if shared:
      os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', _SHARED_MEMORY)
    jax.config.update('jax_compilation_cache_dir', cache)
    parallel.configure_compiler()  # as a run has it, but for the folder
    self._config = config
    self._batches, self._classes = random_batches(config)
    self._batch = self._batches.batch_at(0)
    dtype = build.loss_dtype(config)
    self._hyper = build.hyperparameters(config) | {
        'learning_rate': np.zeros((), dtype)}

  def start(self) -> dict[str, Any]:
    """Seconds to the end of the first step, those of XLA on it, the devices."""
    config, started = self._config, time.perf_counter()
    parallel.check_devices()
    build.enable_float64(config)
    parallel.check_batch_size(
        config['batch_size'], accumulate_steps=config['accumulate_steps'])
    variables, _ = build.initial_variables(config, self._classes, sample=None)
    self._state = build.initial_state(config, variables)
    self._update = parallel.update(build.training_step(config, self._classes))
    self._predict = build.prediction_step(config, self._classes)
    self._group = _group_size(jax.default_backend())
    compiling = _compile_seconds(
        lambda: jax.block_until_ready(self._step(self._batch)))
    devices = jax.local_devices()
    return {'first_step_seconds': time.perf_counter() - started,
            'compile_seconds': compiling, 'backend': jax.default_backend(),
            'devices': f'{len(devices)} x {devices[0].device_kind}'}

  def _step(self, batch):
    self._state, metrics = self._update(
        self._state, parallel.shard(batch), self._hyper)
    return self._state, metrics

  def train(self, limits: Limits) -> dict[str, Any]:
    """The loop of a training run: its speed, its memory, its wait for input."""
    waits, group = [], self._group
    with contextlib.closing(self._batches.iterate(
        start_step=0, num_steps=1 + group * limits.steps)) as items:

      def run_group():
        started, waited = time.perf_counter(), 0.
        for _ in range(group):
          asked = time.perf_counter()
          _, batch = next(items)
          waited += time.perf_counter() - asked
          outputs = self._step(batch)
        jax.block_until_ready(outputs)
        seconds = time.perf_counter() - started
        waits.append(waited / seconds)
        return seconds / group

      jax.block_until_ready(self._step(next(items)[1]))  # threads start with it
      others = apart.Others(time.process_time)
      step = quartiles(series(run_group, limits))
      others_cores = others.cores()
    return {'step_seconds': step,
            'images_per_second': self._config['batch_size'] / step['median'],
            'input_wait_share': float(np.median(waits)), 'others_cores': others_cores,
            'process_peak_bytes': _peak_of_process(), **self._device_memory()}

  def _device_memory(self):
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get('peak_bytes_in_use')
    if peak is not None:
      return {'device_peak_bytes': peak, 'step_temporary_bytes': None}
    memory = self.compiled_step().memory_analysis()
    return {'device_peak_bytes': None,
            'step_temporary_bytes': memory.temp_size_in_bytes}

  def compiled_step(self) -> jax.stages.Compiled:
    """The program of a step, as XLA made it."""
    return self._update.lower(
        self._state, parallel.shard(self._batch), self._hyper).compile()

  def _infer(self):
    return self._predict(
        self._state.variables(), parallel.shard({'image': self._batch['image']}))

  def infer(self, limits: Limits) -> dict[str, Any]:
    """Seconds of inference an image."""
    self.time_inference()  # compiles
    return quartiles([seconds / self._config['batch_size']
                      for seconds in series(self.time_inference, limits)])

  def flops_per_step(self) -> float:
    """XLA's count of the forward pass of the global batch, times three.

    A backward pass computes each layer's product twice, for its input and its
    weights. XLA's own count of the whole step would take the body of a loop
    once and depend on how a gradient is written. Zero padding is not counted. It
    is counted for a GPU, whatever is here, because the convolutions written for a
    CPU are loops with fewer multiplications.
    """
    traced = jax.jit(self._predict).trace(
        self._state.variables(), parallel.shard({'image': self._batch['image']}))
    lowered = traced.lower(lowering_platforms=('cuda',))
    return 3 * lowered.cost_analysis()['flops'] * jax.local_device_count()

  def peak_flops_per_second(self) -> float:
    """Of the fastest of some large matrix products in the config's dtype."""
    cpu = jax.default_backend() == 'cpu'
    side = 2048 if cpu else 8192
    matrix = jax.random.normal(
        jax.random.key(0), (side, side)).astype(self._config['dtype'])
    product = jax.jit(jnp.matmul)
    run = functools.partial(
        _seconds, lambda: product(matrix, matrix), self._wait, self._group)
    run()
    # Forced CPU devices share the cores.
    devices = 1 if cpu else jax.local_device_count()
    return devices * 2 * side ** 3 / min(run() for _ in range(10))

  def given(self) -> tuple[Any, dict[str, np.ndarray], Any]:
    """Variables and batch for PyTorch, and what we predict from them."""
    return (jax.device_get(self._state.variables()), self._batch,
            parallel.unshard(self._infer()))


class Torch(_Timed):
  """The same config in PyTorch."""

  def __init__(self, config: Mapping[str, Any], variables: Any,
               batch: dict[str, np.ndarray], *, backend: str):
    """Takes over the variables; `backend`: JAX's, whose kind of device it takes."""
    self._batch = batch
    self._reference = torch_reference.Reference(
        config, variables, device='cuda' if backend == 'gpu' else 'cpu',
        threads=threads.cores(), learning_rate=0.)
    self._group = _group_size(self._reference.device_type)

  def description(self) -> str:
    """Version, device and how it runs."""
    return self._reference.description

  def difference(self, ours: Any) -> float:
    """The largest between our probabilities and attention maps and these.

    Asked before the first step, which would change BatchNorm's running averages.
    """
    theirs = self._reference.predict(self._batch['image'])
    return max(jax.tree.leaves(jax.tree.map(
        lambda a, b: float(np.abs(a - b.double().cpu().numpy()).max()), ours, theirs)))

  def _step(self, batch):
    return self._reference.step(batch)

  def _infer(self):
    return self._reference.predict(self._batch['image'])

  def _wait(self, _):
    self._reference.wait()


def _group_size(backend: str) -> int:
  """Steps between two waits: accelerators are fed ahead, as in a training run."""
  return 1 if backend == 'cpu' else 10


def _seconds(run: Callable[[], Any], wait: Callable[[Any], Any], repeats: int) -> float:
  """Seconds of a run, of `repeats` that are awaited together."""
  started = time.perf_counter()
  for _ in range(repeats):
    outputs = run()
  wait(outputs)
  return (time.perf_counter() - started) / repeats


def series(run: Callable[[], Any], limits: Limits) -> list[Any]:
  """Results of `run`, again and again."""
  results, started = [], time.perf_counter()
  while len(results) < FEWEST or (
      len(results) < limits.steps and time.perf_counter() - started < limits.seconds):
    results.append(run())
  return results


def quartiles(values: Sequence[float]) -> dict[str, float]:
  """Median, quartiles (interpolated) and number of the values."""
  lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
  return {'median': median, 'lower_quartile': lower, 'upper_quartile': upper,
          'measurements': len(values)}


def _compile_seconds(call: Callable[[], Any]) -> float:
  """Seconds that XLA compiles, or reads from the cache, while `call` runs."""
  seconds = []

  def listen(event, duration, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      seconds.append(duration)

  jax.monitoring.register_event_duration_secs_listener(listen)
  call()
  jax.monitoring.unregister_event_duration_listener(listen)
  return sum(seconds)


def _peak_of_process() -> int:
  """Bytes; the operating system counts in KiB, but for macOS."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else peak * 1024
