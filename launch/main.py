"""Trains and scores one system; started again it goes on where it stopped.

  python launch/main.py --config=configs/isic2017.py
  python launch/main.py --config=configs/isic2017.py --config.roi=lesion --dry_run
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags
from ml_collections import config_flags

from attnmel_jax import parallel
from attnmel_jax.experiments import run
from attnmel_jax.training import loop

CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'experiment file, such as configs/isic2017.py', lock_config=True)
WORKDIR = flags.DEFINE_string(
    'workdir', '', 'run folder; default '
    'runs/<config>/<model>-<roi>-fold<k>-seed<s> in the current folder')
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'print the config and the plan, and end')
QUIET = flags.DEFINE_bool('quiet', False, 'print the result alone')


def main() -> None:
  """Prints the plan, or runs it and prints one line of result."""
  config = command.require_config(CONFIG.value)
  parallel.configure_compiler()
  if DRY_RUN.value:
    plan = run.plan(config)  # before the first line, so that a mistake stands alone
    print(*(f'{name} = {value!r}' for name, value in sorted(config.items())), sep='\n')
    print(*plan, sep='\n')
    return
  folder = command.path(WORKDIR.value) if WORKDIR.value else default_workdir(config)
  if not QUIET.value:
    print(*run.plan(config), f'workdir: {folder}', sep='\n', file=sys.stderr)
  try:
    summary = run.run(config, folder, quiet=QUIET.value)
  except loop.Stopped as stop:
    command.fail(f'{stop}; the same command goes on from there', 128 + stop.signum)
  scored = [split for split in ('test', 'validation') if split in summary]
  if scored:
    print(run.result_line(summary, scored[0], folder))
  else:
    print(f'{folder}: trained; there is neither a validation nor a test set')


def default_workdir(config) -> pathlib.Path:
  """runs/<config>/<model>-<roi>-fold<k>-seed<s>."""
  name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS['config'])).stem
  return pathlib.Path('runs', name, '{model}-{roi}-fold{fold}-seed{seed}'.format(
      **config))


if __name__ == '__main__':
  command.run(main)
