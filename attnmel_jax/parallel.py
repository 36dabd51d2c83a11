"""Devices and processes: the device axis, and the only pmap of the project.

A step is written for one device's share of the batch. It names the axis
`AXIS` where a statistic has to run over the global batch. State goes in and
comes out un-stacked: every device holds the same copy.

With several processes (one a host), each feeds its own devices with its own part of
the global batch, `batch_part`, and all take the same decisions; the main one alone
writes.
"""

from collections.abc import Callable
import json
import os
from typing import Any
import warnings

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from attnmel_jax import errors
from attnmel_jax import files

AXIS = 'batch'


# XLA hands convolutions and matrix products of a CPU to YNNPACK by default, which is
# slower than its Eigen kernels here: 1.3 times for wide layers, 2 to 5 times for the
# gradient of a kernel. An empty list of operations turns that off.
_CPU_KERNELS = '--xla_cpu_experimental_ynn_fusion_type'


def configure_compiler() -> None:
  """Chooses the faster kernels of a CPU, and keeps compiled steps on disk.

  Call it before JAX computes anything. A second start need not compile: the steps lie
  in $XDG_CACHE_HOME or ~/.cache, or in $JAX_COMPILATION_CACHE_DIR where that is set,
  if such a folder can be had. A choice of kernels in $XLA_FLAGS is kept as well.
  """
  chosen = os.environ.get('XLA_FLAGS', '')
  if _CPU_KERNELS not in chosen:
    os.environ['XLA_FLAGS'] = f'{chosen} {_CPU_KERNELS}='.lstrip()
  cache = files.cache_dir()
  if jax.config.jax_compilation_cache_dir is None and cache is not None:
    jax.config.update('jax_compilation_cache_dir', str(cache / 'xla'))
  # It saves time; JAX warns of each step that it cannot read or write.
  warnings.filterwarnings('ignore', 'Error (reading|writing) persistent compilation')


def check_devices() -> None:
  """Lets JAX look for devices, after `configure_compiler` and `start_processes`.

  Raises:
    UserError: $JAX_PLATFORMS asks for devices that are not here.
  """
  try:
    jax.local_devices()
  except (RuntimeError, AssertionError) as error:  # the latter without an NVIDIA GPU
    asked = {name: value for name, value in os.environ.items()
             if name in ('JAX_PLATFORMS', 'JAX_PLATFORM_NAME')}
    names = ', '.join(f'{name}={value}' for name, value in asked.items()) or 'JAX'
    reason = ' '.join(str(error).split('(set JAX_PLATFORMS')[0].split())
    raise errors.UserError(
        f'{names}: no such device can be used{reason and f" ({reason})"}; install '
        "JAX for this device, as pip install 'jax[cuda12]', or set JAX_PLATFORMS=cpu"
    ) from None


def start_processes(coordinator: str | None, num_processes: int | None,
                    process_id: int | None) -> None:
  """Joins the processes of a run; to be called before JAX looks for devices.

  Args:
    coordinator: host:port of process 0, the same in all; None: SLURM, Open MPI or
      the TPU pod says, and the next two as well.
    num_processes: of the run.
    process_id: of this one, 0 to num_processes - 1.

  If the others do not start, JAX ends the process after five minutes.

  Raises:
    UserError: there is no such environment, or the port cannot be had.
  """
  # JAX's own handler only records a SIGTERM: a run that is asked to stop before its
  # first step would continue.
  jax.config.update('jax_enable_preemption_service', False)
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (RuntimeError, ValueError) as error:  # JAX raises these, with a long story
    reason = str(error).splitlines()[0]
    raise errors.UserError(
        f'the processes of the run do not come together ({reason}); start one on each '
        'host under SLURM, Open MPI or on a TPU pod, or give --coordinator, '
        '--num_processes and --process_id') from None
  if _is_alone_on_its_host() and 'JAX_LOCAL_DEVICE_IDS' not in os.environ:
    # JAX assumes that SLURM and Open MPI start a process for each GPU, and hides the
    # other GPUs.
    for platform in ('cuda', 'rocm'):
      jax.config.update(f'jax_{platform}_visible_devices', 'all')


def _is_alone_on_its_host() -> bool:
  """Whether SLURM or Open MPI started one process a host."""
  nodes = os.environ.get('SLURM_STEP_NUM_NODES')
  if nodes is not None:
    return os.environ.get('SLURM_NTASKS') == nodes
  return os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') == '1'


def is_main_process() -> bool:
  """Whether this process writes: process 0, or the only one."""
  return jax.process_index() == 0


def batch_part(batch_size: int) -> slice:
  """Positions in the global batch of what this process feeds to its devices."""
  share = batch_size // jax.process_count()
  return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def any_process(flag: bool) -> bool:
  """Whether `flag` is set in any process; with several, all have to ask."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def in_every_process(produce: Callable[[], Any]) -> Any:
  """What `produce` returns here, once it has succeeded in every process.

  Raises:
    UserError: some process raised it; the others say so.
  """
  value, mistake = None, None
  try:
    value = produce()
  except errors.UserError as error:
    mistake = error
  failed = any_process(mistake is not None)
  if mistake is not None:
    raise mistake
  if failed:
    raise errors.UserError(
        'another process of the run cannot start; its own error says why')
  return value


def broadcast(tree: Any) -> Any:
  """The main process's arrays, in every process; all have to give such a tree."""
  if jax.process_count() == 1:
    return tree
  return multihost_utils.broadcast_one_to_all(tree)


def from_main(produce: Callable[[], Any]) -> Any:
  """What `produce` returns in the main process, which alone calls it.

  Args:
    produce: returns something that JSON can hold; with several processes it comes
      out as JSON has it, with lists for tuples.

  Raises:
    UserError: the main process raised it.
  """
  if jax.process_count() == 1:
    return produce()
  outcome = {}
  if is_main_process():
    try:
      outcome = {'value': produce()}
    except errors.UserError as error:
      outcome = {'error': str(error)}
  text = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
  length = int(broadcast(np.asarray(len(text))))
  text = text if is_main_process() else np.zeros(length, np.uint8)
  outcome = json.loads(np.asarray(broadcast(text)).tobytes())
  if 'error' in outcome:
    raise errors.UserError(outcome['error'])
  return outcome['value']


def check_equal(what: str, value: str) -> None:
  """Raises UserError in every process unless `value` is the same in all."""
  if any_process(from_main(lambda: value) != value):
    raise errors.UserError(
        f'{what} differ between the {jax.process_count()} processes of the run; start '
        'all of them with the same command on the same prepared data')


def gather_batches(arrays: Any, part_size: int) -> Any:
  """The parts of all processes, joined batch by batch in the order of positions.

  Args:
    arrays: numpy [n b, ...], this process's parts of n batches.
    part_size: b, the positions of a part.

  Returns:
    numpy [n P b, ...] with P processes, the same in every process.
  """
  processes = jax.process_count()
  if processes == 1:
    return arrays

  def join(x):  # [P, n b, ...] -> [n, P, b, ...]
    parts = np.asarray(multihost_utils.process_allgather(x))
    parts = parts.reshape(processes, -1, part_size, *x.shape[1:])
    return parts.swapaxes(0, 1).reshape(-1, *x.shape[1:])

  return jax.tree.map(join, arrays)


def check_batch_size(batch_size: int, *, accumulate_steps: int) -> None:
  """Raises UserError unless the batch divides evenly among all devices.

  Args:
    batch_size: of the global batch.
    accumulate_steps: micro-batches that each device divides its share into; 1
      where nothing is trained.
  """
  devices = jax.device_count()
  if batch_size % devices:
    raise errors.UserError(
        f'batch_size={batch_size} does not divide among {devices} devices; '
        f'choose a multiple of {devices} or show fewer devices to JAX')
  share = batch_size // devices
  if share % accumulate_steps:
    raise errors.UserError(
        f'accumulate_steps={accumulate_steps} does not divide a device\'s share of '
        f'{share} images (batch_size={batch_size} on {devices} devices); choose a '
        f'divisor of {share}')


def shard(batch: Any) -> Any:
  """Splits the first axis [b, ...] of every array over the local devices.

  Returns arrays [devices, b / devices, ...]. Where the arrays are `batch_part` of a
  global batch, the position of an example in that is `axis_index * (b / devices) + i`.
  """
  devices = jax.local_device_count()
  return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)


def unshard(outputs: Any) -> Any:
  """[devices, B / devices, ...] -> numpy [B, ...], the inverse of `shard`."""
  return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), outputs)


def replication() -> NamedSharding:
  """The sharding of a state: a copy on each local device."""
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return NamedSharding(mesh, PartitionSpec())


def replicated(state: Any) -> Any:
  """Places `state` on all local devices, as a parallel step returns it.

  An unplaced state would compile the step a second time. With several processes
  the main one's state goes to all.
  """
  return jax.device_put(broadcast(state), replication())


def update(step: Callable[..., Any]) -> Callable[..., Any]:
  """`step(state, batch, hyper) -> (state, metrics)` over all devices.

  `state` is donated. The step must reduce every leaf it returns over `AXIS`.
  """
  return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None),
                  out_axes=(None, None), donate_argnums=0)


def apply(step: Callable[..., Any]) -> Callable[..., Any]:
  """`step(variables, batch) -> outputs [B, ...]` over all local devices."""
  return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=0,
                  devices=jax.local_devices())
