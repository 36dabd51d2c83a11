"""How fast a config runs on this machine, alone and against PyTorch.

  cell = matrix.measure(config, speed.Limits(steps=20, seconds=60.),
                        against_torch=True, say=print)
  print(*matrix.lines(cell), sep='\n')

Neither data nor weights are needed: see `speed`. Every cell is measured in separate
processes, because the peak memory of a process only grows and a compilation is cold
once: one starts with an empty compilation cache, one with what the first left there,
which is then measured further, and PyTorch runs in a third.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import tempfile
from typing import Any

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import threads
from attnmel_jax.experiments import run_folder
from benchmarks import apart
from benchmarks import speed

# Share of the cores in the hands of other processes that spoils the numbers.
_DISTURBED = 0.05
_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy')
# What decides on which device JAX and PyTorch run, and how.
_OPTIONAL = ('torch', 'jax-cuda12-plugin', 'jax-cuda13-plugin', 'libtpu')
_VARIABLES = ('XLA_FLAGS', 'JAX_PLATFORMS', 'CUDA_VISIBLE_DEVICES')


def without_data(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config as it is measured: new weights and no data set.

  Raises:
    UserError: a field is invalid, or the config is not of a classifier.
  """
  errors.check_choice('model', config['model'], config_lib.CLASSIFIERS)
  config = {**config, 'pretrained': '', 'rescale_pretrained': False, 'data_dir': ''}
  config_lib.check(config)
  return config


def sweep(config: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The config at two sizes, batch sizes, backbones and dtypes: 16 configs."""
  return [
      _resized(config, size) | {
          'batch_size': batch_size, 'backbone': backbone, 'dtype': dtype}
      for size in (128, 224) for batch_size in (8, 32)
      for backbone in ('vgg16', 'vgg16_bn') for dtype in ('float32', 'bfloat16')]


def quick(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config made small enough for a minute."""
  return _resized(config, 96) | {
      'batch_size': 8, 'backbone': 'vgg16', 'width': 0.25, 'gate_width': 64}


def _resized(config, size):
  # As much room for the crop as 256 leaves around 224.
  return {**config, 'image_size': size, 'resize_size': size * 8 // 7}


def machine() -> dict[str, Any]:
  """What the numbers depend on, besides the config and the devices."""
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  for name in _OPTIONAL:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  known = run_folder.environment(versions, [])
  del known['devices']  # only the measuring processes start JAX
  chosen = {name: os.environ.get(name, '') for name in _VARIABLES}
  return known | {'cpu': _cpu(), 'cores': threads.cores(), 'variables': chosen}


def _cpu() -> str:
  with contextlib.suppress(OSError):
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()


def check_torch() -> None:
  """Raises UserError unless PyTorch is installed."""
  if importlib.util.find_spec('torch') is None:
    raise errors.UserError(
        '--against=torch needs PyTorch, which is not installed: pip install torch')


def measure(config: Mapping[str, Any], limits: speed.Limits, *, against_torch: bool,
            say: Callable[[str], None]) -> dict[str, Any]:
  """Measures one cell.

  Args:
    config: of `without_data`.
    limits: of each series of measurements.
    against_torch: measure PyTorch too, in turns with ours.
    say: called with the name of each stage as it begins.

  Returns:
    What can be written as JSON; names end in the unit.

  Raises:
    UserError: PyTorch is missing, or a measuring process ended early.
  """
  if against_torch:
    check_torch()
  with contextlib.ExitStack() as stack:
    cache = stack.enter_context(tempfile.TemporaryDirectory())

    def ours():
      return apart.Process(speed.Ours, config, cache, shared=against_torch)

    say('first step, cold cache')
    with ours() as process:
      cold = process.call('start')
    say('first step, warm cache')
    process = stack.enter_context(ours())
    warm = process.call('start')
    say('training steps')
    cell = {
        'machine': machine(), 'devices': warm['devices'], 'config': dict(config),
        'compile_seconds': cold['compile_seconds'],
        'first_step_cold_seconds': cold['first_step_seconds'],
        'first_step_warm_seconds': warm['first_step_seconds'],
        **process.call('train', limits)}
    say('inference')
    cell['inference_seconds_per_image'] = process.call('infer', limits)
    say('matrix products')
    flops, peak = (process.call(what) for what in (
        'flops_per_step', 'peak_flops_per_second'))
    rate = flops / cell['step_seconds']['median']
    cell |= {'flops_per_step': flops, 'flops_per_second': rate,
             'peak_flops_per_second': peak, 'share_of_peak': rate / peak, 'torch': None}
    if against_torch:
      say('PyTorch')
      variables, batch, outputs = process.call('given')
      other = stack.enter_context(
          apart.Process(
              speed.Torch, config, variables, batch, backend=warm['backend']))
      cell['torch'] = {'description': other.call('description'),
                       'output_difference': other.call('difference', outputs),
                       **_in_turns(process, other, limits, say)}
  return cell


def _in_turns(ours: apart.Process, other: apart.Process,
              limits: speed.Limits, say: Callable[[str], None]) -> dict[str, Any]:
  """Ours, PyTorch, ours, ...: what slows the machine for a while slows both.

  Of each turn the first call is not timed: the system may have taken back the memory
  that was given up before the pause, and in a training run there are no pauses.
  """
  measured = {}

  def turn(process: apart.Process, method: str) -> float:
    process.call(method)
    return process.call(method)

  others = apart.Others(
      lambda: ours.call('cpu_seconds') + other.call('cpu_seconds'))
  for name in ('step', 'inference'):
    method = {'step': 'time_steps', 'inference': 'time_inference'}[name]
    say(f'{name}: ours and PyTorch in turns')
    pairs = speed.series(lambda m=method: (turn(ours, m), turn(other, m)), limits)
    measured |= {
        f'ours_{name}_seconds': speed.quartiles([a for a, _ in pairs]),
        f'torch_{name}_seconds': speed.quartiles([b for _, b in pairs]),
        f'{name}_ratio': speed.quartiles([a / b for a, b in pairs])}
  return measured | {'others_cores': others.cores()}


# --- the file of cells ---


def read_cells(path: pathlib.Path) -> list[dict[str, Any]]:
  """The cells that an earlier call wrote; none where there is no such file.

  Raises:
    UserError: it is something else.
  """
  if not path.exists():
    return []
  content = run_folder.read_json(path)
  if not isinstance(content, dict) or 'cells' not in content:
    raise errors.UserError(
        f'{path} is not a file of benchmarks; name another file, or remove it')
  return content['cells']


def write_cell(path: pathlib.Path, cell: Mapping[str, Any]) -> None:
  """Adds a cell to the file, in the place of one of the same config."""
  others = [old for old in read_cells(path) if not _same(old['config'], cell['config'])]
  files.write_json(path, {'cells': [*others, cell]})


def find_cell(cells: Sequence[Mapping[str, Any]], config: Mapping[str, Any], *,
              against_torch: bool) -> Mapping[str, Any] | None:
  """The cell of this config, if this machine, code and versions measured it."""
  here = machine()
  for cell in cells:
    if (_same(cell['config'], config) and cell['machine'] == here
        and (cell['torch'] or not against_torch)):
      return cell
  return None


def _same(stored: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
  return stored == json.loads(json.dumps(config))


# --- what is printed ---


def title(config: Mapping[str, Any]) -> str:
  """A cell's name."""
  return (f'{config["model"]} on {config["backbone"]}, {config["image_size"]} px, '
          f'batch {config["batch_size"]}, {config["dtype"]}'
          + (f', width {config["width"]:g}' if config['width'] != 1 else ''))


def machine_lines(cell: Mapping[str, Any]) -> list[str]:
  """Where a cell was measured."""
  here = cell['machine']
  versions = ', '.join(f'{name} {v}' for name, v in here['versions'].items())
  return [f'{here["cpu"]}, cores: {here["cores"]}; devices: {cell["devices"]}',
          f'Python {here["python"]}, {versions}; {here["platform"]}; '
          f'commit {here["commit"][:18]}']


def lines(cell: Mapping[str, Any]) -> list[str]:
  """A cell to print: a name, a number and its unit on every line."""
  rows = [f'  {name:<28}{value}' for name, value in _quantities(cell)]
  return [title(cell['config']), *rows, *_warnings(cell), *_ratio_lines(cell)]


def _quantities(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  yield 'compilation of the step', f'{cell["compile_seconds"]:.1f} s'
  yield 'first step, cold cache', f'{cell["first_step_cold_seconds"]:.1f} s'
  warm = cell['first_step_warm_seconds']
  yield 'first step, warm cache', (
      f'{warm:.1f} s, {max(0., warm - cell["step_seconds"]["median"]):.1f} s of them '
      'before the step')
  yield 'training step', _spread(cell['step_seconds'])
  yield 'training', f'{cell["images_per_second"]:.4g} images/s'
  yield 'waiting for input', f'{cell["input_wait_share"]:.2%} of the training time'
  yield 'arithmetic of a step', (f'{cell["flops_per_step"] / 1e9:.4g} GFLOP '
                                 "(XLA's count of the forward pass x 3)")
  yield 'achieved', (f'{cell["flops_per_second"] / 1e9:.4g} GFLOP/s, '
                     f'{cell["share_of_peak"]:.0%} of the peak')
  yield 'peak (matrix product)', f'{cell["peak_flops_per_second"] / 1e9:.4g} GFLOP/s'
  yield 'inference of an image', _spread(cell['inference_seconds_per_image'])
  yield 'peak memory, process', _gib(cell['process_peak_bytes'])
  if cell['device_peak_bytes'] is not None:
    yield 'peak memory, device', _gib(cell['device_peak_bytes'])
  else:
    yield 'peak memory, device', (
        f'not reported here; the step has {_gib(cell["step_temporary_bytes"])} of '
        'temporaries')
  yield 'other processes', _others(cell, cell['others_cores'])
  if cell['torch']:
    other = cell['torch']
    yield 'against', other['description']
    yield 'other processes meanwhile', _others(cell, other['others_cores'])
    yield 'outputs differ by', f'{other["output_difference"]:.1g} at most'
    for name in ('step', 'inference'):
      for who in ('ours', 'torch'):
        yield (f'{name} of a batch, {who}', _spread(other[f'{who}_{name}_seconds']))


def _others(cell, cores):
  total = cell['machine']['cores']
  return 'unknown' if cores is None else f'kept {cores:.2f} of {total} cores busy'


def _warnings(cell):
  measured = [cell['others_cores'], (cell['torch'] or {}).get('others_cores')]
  if max(cores or 0. for cores in measured) <= _DISTURBED * cell['machine']['cores']:
    return []
  text = '  warning: other processes were busy, so these numbers are unfit to quote'
  if cell['torch']:
    # Seen on two busy cores: a step of PyTorch took 3 to 8 times as long with two
    # threads as with one.
    text += ("; above all the ratios, which may flatter ours: PyTorch's threads "
             'wait for the slowest of them')
  return [text]


def _ratio_lines(cell):
  if not cell['torch']:
    return []
  return [f'ratio ours/torch {name}={cell["torch"][f"{name}_ratio"]["median"]:.2f}'
          for name in ('step', 'inference')]


def _spread(values: Mapping[str, float]) -> str:
  unit, factor = ('s', 1) if values['median'] >= 1 else ('ms', 1e3)
  median, lower, upper = (
      values[name] * factor for name in ('median', 'lower_quartile', 'upper_quartile'))
  return (f'{median:.4g} {unit} (quartiles {lower:.4g} to {upper:.4g} {unit}, '
          f'{values["measurements"]} measurements)')


def _gib(count: int) -> str:
  return f'{count / 2**30:.2f} GiB'
