"""Measures how fast a config trains and predicts here, without data or weights.

  python launch/benchmark.py --quick
  python launch/benchmark.py --config.image_size=128 --against=torch
  python launch/benchmark.py --sweep --against=torch --json=matrix.json
  python launch/benchmark.py --scaling
  python launch/benchmark.py --input

With --json, --sweep resumes when started again. Keep the machine idle meanwhile.
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags
from ml_collections import config_flags

from attnmel_jax import errors

try:
  from benchmarks import input_rate
  from benchmarks import matrix
  from benchmarks import scaling
  from benchmarks import speed
except ModuleNotFoundError as error:
  if error.name != 'benchmarks':
    raise
  command.fail('benchmarks/ is not installed; run this command in a checkout of the '
               'repository')

CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'experiment file; default configs/isic2017.py', lock_config=True)
JSON = flags.DEFINE_string(
    'json', '', 'file to add the measurements to, as JSON')
AGAINST = flags.DEFINE_enum(
    'against', None, ['torch'], 'also measure this library, in turns with JAX')
SWEEP = flags.DEFINE_bool(
    'sweep', False, 'measure sizes 128 and 224, batches 8 and 32, both backbones, '
    "float32 and bfloat16, instead of the config's values")
QUICK = flags.DEFINE_bool(
    'quick', False, 'measure a slim vgg16 at 96 px, batch 8, for a few steps: under a '
    'minute')
SCALING = flags.DEFINE_bool(
    'scaling', False, 'measure what 1, 2, 4 and 8 forced CPU devices add to a step of '
    'the network of --quick, in weak and strong scaling: overhead, not speed')
INPUT = flags.DEFINE_bool(
    'input', False, 'measure whether batches from memory keep up with a simulated '
    'device that takes --images_per_second')
IMAGES_PER_SECOND = flags.DEFINE_float(
    'images_per_second', 3000., 'rate of the device that --input simulates',
    lower_bound=1.)
STEPS = flags.DEFINE_integer(
    'steps', 20, 'maximum number of measurements of each kind',
    lower_bound=speed.FEWEST)
SECONDS = flags.DEFINE_float(
    'seconds', 60., 'maximum seconds to measure each kind; at least '
    f'{speed.FEWEST} measurements are made', lower_bound=0.)


def main() -> None:
  """Measures cell by cell; numbers go to stdout, progress to stderr."""
  check_flags()
  if AGAINST.value:
    matrix.check_torch()
  # No weights are loaded, so those of another width or backbone are no mistake.
  config = command.require_config(
      CONFIG.value, pretrained='', rescale_pretrained=False)
  limits = speed.Limits(STEPS.value, SECONDS.value)
  if SCALING.value:
    config = matrix.without_data(matrix.quick(config))
    rows = scaling.measure(config, limits, say=lambda t: print(t, file=sys.stderr))
    print(*scaling.table(rows), sep='\n')
    return
  if INPUT.value:
    print(*input_rate.lines(input_rate.measure(
        matrix.without_data(config), images_per_second=IMAGES_PER_SECOND.value,
        seconds=SECONDS.value)), sep='\n')
    return
  configs = [config]
  if SWEEP.value:
    configs = matrix.sweep(config)
  elif QUICK.value:
    configs, limits = [matrix.quick(config)], speed.Limits(speed.FEWEST, 0.)
  for number, config in enumerate(map(matrix.without_data, configs), 1):
    cell = measure(config, limits, f'{number}/{len(configs)}')
    if number == 1:
      print(*matrix.machine_lines(cell), '', sep='\n')
    print(*matrix.lines(cell), '', sep='\n', flush=True)


def check_flags() -> None:
  """Raises UserError for flags that would be ignored."""
  alone = (SCALING, INPUT, SWEEP, QUICK, AGAINST, JSON)
  for flag, excluded in (
      (SCALING, alone[1:]), (INPUT, (*alone[2:], STEPS)), (SWEEP, (QUICK,)),
      (QUICK, (STEPS, SECONDS))):
    for other in excluded:
      if flag.value and flags.FLAGS[other.name].present:
        raise errors.UserError(
            f'--{flag.name} and --{other.name} exclude each other; leave one out')
  if flags.FLAGS[IMAGES_PER_SECOND.name].present and not INPUT.value:
    raise errors.UserError('--images_per_second works only with --input')


def measure(config, limits, number):
  """The cell: read from the file if --sweep finds it there, else measured."""
  path = pathlib.Path(JSON.value) if JSON.value else None
  against_torch = AGAINST.value == 'torch'
  known = matrix.read_cells(path) if path else []  # refuse a wrong file at once
  if SWEEP.value:
    kept = matrix.find_cell(known, config, against_torch=against_torch)
    if kept:
      print(f'{number} {matrix.title(config)}: kept from {path}', file=sys.stderr)
      return kept

  def say(text):
    print(f'{number} {matrix.title(config)}: {text}', file=sys.stderr)

  cell = matrix.measure(config, limits, against_torch=against_torch, say=say)
  if path:
    matrix.write_cell(path, cell)
  return cell


if __name__ == '__main__':
  command.run(main, default_config='configs/isic2017.py')
