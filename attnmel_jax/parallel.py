"""The device axis, and the only pmap of the project.

A step is written for one device's share of the batch. It names the axis
`AXIS` where a statistic has to run over the global batch. State goes in and
comes out un-stacked: every device holds the same copy.
"""

from collections.abc import Callable
import os
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from attnmel_jax import errors

AXIS = 'batch'


# XLA hands convolutions and matrix products of a CPU to YNNPACK by default, which is
# slower than its Eigen kernels here: 1.3 times for wide layers, 2 to 5 times for the
# gradient of a kernel. An empty list of operations turns that off.
_CPU_KERNELS = '--xla_cpu_experimental_ynn_fusion_type'


def configure_compiler() -> None:
  """Chooses the faster kernels of a CPU, and keeps compiled steps on disk.

  To be called before JAX computes anything. A second start need not compile: the
  steps lie in $XDG_CACHE_HOME or ~/.cache, unless JAX was told another folder by
  $JAX_COMPILATION_CACHE_DIR. A choice of kernels in $XLA_FLAGS stands, too.
  """
  chosen = os.environ.get('XLA_FLAGS', '')
  if _CPU_KERNELS not in chosen:
    os.environ['XLA_FLAGS'] = f'{chosen} {_CPU_KERNELS}='.lstrip()
  if jax.config.jax_compilation_cache_dir is None:
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
    jax.config.update('jax_compilation_cache_dir', str(cache / 'attnmel_jax' / 'xla'))


def check_batch_size(batch_size: int, *, accumulate_steps: int) -> None:
  """Raises UserError unless the batch divides evenly among the local devices.

  Args:
    batch_size: of the global batch.
    accumulate_steps: micro-batches that each device divides its share into; 1
      where nothing is trained.
  """
  devices = jax.local_device_count()
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
  """Splits the first axis [B, ...] of every array over the local devices.

  Returns arrays [devices, B / devices, ...]; the position of an example in the
  global batch is `axis_index * (B / devices) + i`.
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

  An unplaced state would compile the step a second time.
  """
  return jax.device_put(state, replication())


def update(step: Callable[..., Any]) -> Callable[..., Any]:
  """`step(state, batch, hyper) -> (state, metrics)` over all local devices.

  `state` is donated. The step must reduce every leaf it returns over `AXIS`.
  """
  return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None),
                  out_axes=(None, None), donate_argnums=0)


def apply(step: Callable[..., Any]) -> Callable[..., Any]:
  """`step(variables, batch) -> outputs [B, ...]` over all local devices."""
  return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=0)
