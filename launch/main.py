"""Trains and scores one system; resumes when started again.

  python launch/main.py --config=configs/isic2017.py
  python launch/main.py --config=configs/isic2017.py --config.roi=lesion --dry_run

On several hosts, one process each (docs/scaling.md):

  srun python launch/main.py --config=configs/isic2017.py --distributed
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
from attnmel_jax import parallel
from attnmel_jax.experiments import run
from attnmel_jax.training import loop

CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'experiment file, such as configs/isic2017.py', lock_config=True)
WORKDIR = flags.DEFINE_string(
    'workdir', '', 'run folder; default '
    'runs/<config>/<model>-<roi>-fold<k>-seed<s> in the current folder')
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'only print the config and the plan')
DISTRIBUTED = flags.DEFINE_bool(
    'distributed', False, 'this is one of several processes; SLURM, Open MPI or the '
    'TPU pod says which')
COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'host:port of process 0, for processes started by hand; '
    'goes with --num_processes and --process_id')
NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', None, 'with --coordinator: number of processes', lower_bound=1)
PROCESS_ID = flags.DEFINE_integer(
    'process_id', None, 'with --coordinator: number of this process, from 0',
    lower_bound=0)


def main() -> None:
  """Prints the plan, or runs it and prints one line of result."""
  config = command.require_config(CONFIG.value)
  parallel.configure_compiler()
  start_processes()
  if DRY_RUN.value:
    plan = run.plan(config)  # before the first line, so that an error is the only one
    if parallel.is_main_process():
      print(*(f'{name} = {value!r}' for name, value in sorted(config.items())),
            sep='\n')
      print(*plan, sep='\n')
    return
  folder = command.path(WORKDIR.value) if WORKDIR.value else default_workdir(config)
  quiet = command.QUIET.value or not parallel.is_main_process()
  # Computed even when quiet: this is a barrier, and skipping it on one host would
  # deadlock the others.
  plan = parallel.in_every_process(lambda: run.plan(config))
  if not quiet:
    print(*plan, f'workdir: {folder}', sep='\n', file=sys.stderr)
  try:
    summary = run.run(config, folder, quiet=quiet)
  except loop.Stopped as stop:
    command.fail(f'{stop}; the same command resumes', 128 + stop.signum)
  if not parallel.is_main_process():
    return
  scored = [split for split in ('test', 'validation') if split in summary]
  if scored:
    print(run.result_line(summary, scored[0], folder))
  else:
    print(f'{folder}: trained; no validation and no test set to score')


def start_processes() -> None:
  """Joins the other processes of the run, if the flags name any; finds devices."""
  explicit = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  given = [value is not None for value in explicit]
  if any(given) and (DISTRIBUTED.value or not all(given)):
    raise errors.UserError(
        'for several processes give either --distributed alone or all of '
        '--coordinator, --num_processes and --process_id')
  if all(given) and PROCESS_ID.value >= NUM_PROCESSES.value:
    raise errors.UserError(
        f'--process_id={PROCESS_ID.value} is out of range: --num_processes='
        f'{NUM_PROCESSES.value}, numbered from 0')
  if all(given):
    host, _, port = COORDINATOR.value.rpartition(':')
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
      raise errors.UserError(
          f'--coordinator={COORDINATOR.value} is not host:port, such as HOST0:1234')
  if DISTRIBUTED.value or all(given):
    parallel.start_processes(*explicit)
  parallel.check_devices()


def default_workdir(config) -> pathlib.Path:
  """runs/<config>/<model>-<roi>-fold<k>-seed<s>."""
  name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS['config'])).stem
  return pathlib.Path('runs', name, '{model}-{roi}-fold{fold}-seed{seed}'.format(
      **config))


if __name__ == '__main__':
  command.run(main)
