"""Runs the systems, seeds and folds of a grid; resumes when started again.

  python launch/grid.py --grid=configs/grids/table_3_2.py --dry_run
  python launch/grid.py --grid=configs/grids/table_3_2.py --workdir=runs
  python launch/grid.py --grid=configs/grids/table_3_2.py --seeds=0 \\
      --set=image_size=96 --set=resize_size=112 --workdir=small

The tasks of a SLURM array can share a grid, if they share the folder of --workdir:

  srun python launch/grid.py --grid=configs/grids/table_3_2.py \\
      --index=$SLURM_ARRAY_TASK_ID

A run that depends on another, such as one that trains on generated masks, names it;
submit that one first and the others with --dependency=afterok.
"""

import collections
import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax import errors
from attnmel_jax.experiments import grid as grid_lib

GRID = flags.DEFINE_string(
    'grid', None, 'grid file, such as configs/grids/table_3_2.py', required=True)
WORKDIR = flags.DEFINE_string(
    'workdir', 'runs', 'root of the run folders '
    '<experiment>/<system>-fold<k>-seed<s>')
INDEX = flags.DEFINE_integer(
    'index', None, 'run only the run of this number in --dry_run', lower_bound=0)
SYSTEMS = flags.DEFINE_list('systems', None, "run only these of the grid's systems")
SEEDS = flags.DEFINE_list('seeds', None, "seeds to run instead of the grid's")
FOLDS = flags.DEFINE_list('folds', None, "folds to run instead of the grid's")
SET = flags.DEFINE_multi_string(
    'set', [], '<field>=<value>, set in the config of every run; may be repeated')
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'only list the runs and their states')


def main() -> None:
  """Lists the runs, or runs those that are not finished; results go to stdout."""
  file = command.find_file('grid', GRID.value, folder='configs/grids')
  grid = grid_lib.select(grid_lib.read(file), systems=SYSTEMS.value,
                         seeds=SEEDS.value, folds=FOLDS.value)
  runs = grid_lib.runs(grid, root=command.path(WORKDIR.value), settings=SET.value)
  if INDEX.value is not None:
    if INDEX.value >= len(runs):
      raise errors.UserError(
          f'--index={INDEX.value} is out of range: the grid has runs 0 to '
          f'{len(runs) - 1}')
    chosen = [runs[INDEX.value]]
    if not DRY_RUN.value:
      grid_lib.check_ready(chosen[0], runs)
    runs = chosen
  if DRY_RUN.value:
    states = [grid_lib.state(run) for run in runs]
    for run, state in zip(runs, states, strict=True):
      print(f'{run.index:>3}  {state:<8}  {run.title}')
    counts = collections.Counter(states)
    print(f'{len(runs)} runs:', ', '.join(f'{n} {s}' for s, n in counts.items()))
    return
  try:
    failed = grid_lib.run_all(runs, quiet=command.QUIET.value, say=say)
  except grid_lib.Stopped as stop:
    command.fail(f'{stop}; the same command resumes', 128 + stop.signum)
  if failed:
    endings = ', '.join(f'{title} ({how})' for title, how in failed.items())
    command.fail(f'{len(failed)} of {len(runs)} runs failed: {endings}; their errors '
                 'are above, and the same command tries them again', 1)


def say(text: str) -> None:
  """Progress, unless --quiet."""
  if not command.QUIET.value:
    print(text, file=sys.stderr, flush=True)


if __name__ == '__main__':
  command.run(main)
