"""What more devices add to a step: forced CPU devices, so overhead and not speed.

  rows = scaling.measure(config, speed.Limits(steps=10, seconds=10.), say=print)
  print(*scaling.table(rows), sep='\\n')

Devices that XLA makes of the same cores cannot be faster together. What remains of
the images a second shows what the division of the work and the collectives cost; the
bytes that all devices add up in a step are the same on any hardware.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import math
import os
import re
import tempfile
from typing import Any

from benchmarks import apart
from benchmarks import speed

DEVICES = (1, 2, 4, 8)
# Images a device in weak scaling, and of the whole batch in strong scaling.
WEAK_SHARE, STRONG_BATCH = 4, 32
_BYTES = {'f64': 8, 's64': 8, 'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2, 'pred': 1}


class Scaled:
  """A config on forced CPU devices, in a process that has not started JAX."""

  def __init__(self, config: Mapping[str, Any], devices: int, cache: str):
    """Compiles, and takes the first step."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['XLA_FLAGS'] = (f'{os.environ.get("XLA_FLAGS", "")} '
                               f'--xla_force_host_platform_device_count={devices}')
    self._ours = speed.Ours(config, cache, shared=False)
    self._ours.start()

  def measure(self, limits: speed.Limits) -> dict[str, Any]:
    """Images a second, and what the compiled step adds up over the devices."""
    timed = self._ours.train(limits)
    count, size = all_reduces(self._ours.compiled_step().as_text())
    return {'step_seconds': timed['step_seconds'],
            'images_per_second': timed['images_per_second'],
            'others_cores': timed['others_cores'],
            'all_reduces': count, 'all_reduced_bytes': size}


def measure(config: Mapping[str, Any], limits: speed.Limits, *,
            say: Callable[[str], None]) -> list[dict[str, Any]]:
  """A row for each number of devices, with weak and then with strong scaling.

  Args:
    config: of `matrix.without_data`; its batch size is replaced.
    limits: of each measurement.
    say: called with the name of each stage as it begins.
  """
  rows = []
  for kind in ('weak', 'strong'):
    for devices in DEVICES:
      batch_size = WEAK_SHARE * devices if kind == 'weak' else STRONG_BATCH
      say(f'{kind} scaling: {devices} devices, batch {batch_size}')
      with (tempfile.TemporaryDirectory() as cache,
            apart.Process(Scaled, {**config, 'batch_size': batch_size}, devices,
                              cache) as process):
        rows.append({'scaling': kind, 'devices': devices, 'batch_size': batch_size,
                     **process.call('measure', limits)})
  return rows


def all_reduces(program: str) -> tuple[int, int]:
  """How many all-reduces an HLO text holds, and the bytes that go into them."""
  count = size = 0
  for shapes in re.findall(r'%\S+ = (.*?) all-reduce(?:-start)?\(', program):
    count += 1
    for dtype, dimensions in re.findall(r'(\w+)\[([\d,]*)\]', shapes):
      size += _BYTES[dtype] * math.prod(
          int(side) for side in dimensions.split(',') if side)
  return count, size


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The rows to print; images/s also as a share of those of one device."""
  one = {row['scaling']: row['images_per_second'] for row in rows
         if row['devices'] == 1}
  lines = [f'{"scaling":<9}{"devices":>8}{"batch":>7}{"step [ms]":>11}'
           f'{"images/s":>10}{"of one":>8}{"all-reduces":>13}{"MB a step":>11}']
  for row in rows:
    lines.append(
        f'{row["scaling"]:<9}{row["devices"]:>8}{row["batch_size"]:>7}'
        f'{1e3 * row["step_seconds"]["median"]:>11.4g}'
        f'{row["images_per_second"]:>10.4g}'
        f'{row["images_per_second"] / one[row["scaling"]]:>8.0%}'
        f'{row["all_reduces"]:>13}{row["all_reduced_bytes"] / 1e6:>11.3g}')
  return [*lines, 'forced CPU devices share the cores: the loss is overhead']
