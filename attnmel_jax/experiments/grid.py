"""Runs of several systems, seeds and folds: one description, many run folders.

  grid = grid_lib.read(pathlib.Path('configs/grids/table_3_2.py'))
  runs = grid_lib.runs(grid, root=pathlib.Path('runs'), settings=['image_size=96'])
  failed = grid_lib.run_all(runs, quiet=False, say=print)

A run is a launch/main.py in a process of its own, so that neither its memory nor
its crash is another's. It is done in <root>/<experiment>/<system>-fold<k>-seed<s>:
grids of one experiment share the runs that they have in common.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import re
import runpy
import signal
from typing import Any

from absl import flags
from ml_collections import config_flags

from attnmel_jax import errors
from attnmel_jax.experiments import checks
from attnmel_jax.experiments import processes
from attnmel_jax.experiments import run_folder

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_MAIN = _ROOT / 'launch' / 'main.py'
# What a file that is not right raises while it is loaded, or a wrong override.
_MISTAKES = (OSError, SyntaxError, ImportError, NameError, AttributeError, KeyError,
             TypeError, ValueError, flags.Error)


@dataclasses.dataclass(frozen=True)
class Grid:
  """What `get_grid()` of a grid file describes."""

  config: str           # experiment file; a relative path starts at the repository
  systems: Mapping[str, Mapping[str, Any]]  # name -> fields by which it differs
  seeds: tuple[int, ...]
  folds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a grid."""

  index: int                  # place in the whole grid, from 0
  folder: pathlib.Path
  config: Mapping[str, Any]   # flat, all fields
  arguments: tuple[str, ...]  # of launch/main.py, from which `config` follows


class Stopped(Exception):
  """SIGINT or SIGTERM came and was passed on; the run that was going on has ended."""

  def __init__(self, run: Run, signum: int):
    super().__init__(f'stopped in {run.folder}')
    self.signum = signum


def read(path: pathlib.Path) -> Grid:
  """The grid that a file describes.

  Raises:
    UserError: the file cannot be loaded, or describes no grid.
  """
  try:
    grid = Grid(**runpy.run_path(str(path))['get_grid']())
  except _MISTAKES as error:
    raise errors.UserError(
        f'--grid={path} cannot be loaded: {type(error).__name__}: {error}; its '
        'get_grid() has to return a dict of config, systems, seeds and folds') from None
  if not isinstance(grid.config, str):
    raise errors.UserError(
        f'config={grid.config!r} of {path} has to name an experiment file')
  for name in ('seeds', 'folds'):
    _check_numbers(f'{name} of {path}', getattr(grid, name))
  if not isinstance(grid.systems, Mapping) or not grid.systems or not all(
      isinstance(fields, Mapping) for fields in grid.systems.values()):
    raise errors.UserError(
        f'systems of {path} has to map a name to a dict of fields, for one or more')
  for name in grid.systems:
    if not re.fullmatch(r'\w[\w.-]*', str(name)):
      raise errors.UserError(
          f'systems of {path}: {name!r} cannot name a folder; use letters, digits '
          'and . - _')
  return grid


def _check_numbers(name: str, values: Any) -> None:
  if (not isinstance(values, tuple) or not values or len(set(values)) < len(values)
      or not all(type(value) is int for value in values)):
    raise errors.UserError(
        f'{name}={values!r} has to hold one or more different whole numbers')


def select(grid: Grid, *, systems: Sequence[str] | None, seeds: Sequence[str] | None,
           folds: Sequence[str] | None) -> Grid:
  """The grid with these systems, seeds and folds; None leaves its own.

  Raises:
    UserError: there is no such system, or a seed or fold is no number.
  """
  changes: dict[str, Any] = {}
  if systems is not None:
    for name in systems:
      errors.check_choice('--systems', name, grid.systems)
    changes['systems'] = {name: grid.systems[name] for name in systems}
  for name, texts in (('seeds', seeds), ('folds', folds)):
    if texts is not None:
      values = tuple(int(text) if text.isdecimal() else text for text in texts)
      _check_numbers(f'--{name}', values)
      changes[name] = values
  return dataclasses.replace(grid, **changes)


def runs(grid: Grid, *, root: pathlib.Path, settings: Sequence[str]) -> list[Run]:
  """All runs of a grid, each seed's and fold's systems one after the other.

  Args:
    grid: as `read` or `select` gives it.
    root: folder of the run folders.
    settings: '<field>=<value>' for all runs.

  Raises:
    UserError: the experiment file, a field or a value is not right.
  """
  file = _ROOT / grid.config
  if not file.is_file():
    raise errors.UserError(f'config={grid.config!r} of the grid: there is no {file}')
  own = {'seed', 'fold'}.union(*grid.systems.values())
  for setting in settings:
    name, equals, _ = setting.partition('=')
    if not equals:
      raise errors.UserError(f'--set={setting} is not of the form <field>=<value>')
    if name in own:
      raise errors.UserError(
          f'--set={setting} is not for all runs: they differ in {name}; choose them '
          'with --systems, --seeds and --folds')
  result = []
  for seed in grid.seeds:
    for fold in grid.folds:
      for system, fields in grid.systems.items():
        settled = [*(f'{name}={value}' for name, value in fields.items()), *settings,
                   f'fold={fold}', f'seed={seed}']
        overrides = [f'--config.{text}' for text in settled]
        config = _parse(file, overrides, system)
        checks.check(config)
        folder = root / file.stem / f'{system}-fold{fold}-seed{seed}'
        result.append(Run(len(result), folder, config,
                          (f'--config={file}', *overrides,
                           f'--workdir={folder}')))
  return result


def _parse(file: pathlib.Path, overrides: Sequence[str], system: str
           ) -> dict[str, Any]:
  """The config that launch/main.py will read out of the file and --config.<...>."""
  argv = ['grid', *overrides]
  values = flags.FlagValues()
  try:
    config_flags.DEFINE_config_dict(
        'config', runpy.run_path(str(file))['get_config'](), flag_values=values,
        sys_argv=argv, lock_config=True)
    values(argv)
    return values['config'].value.to_dict()
  except _MISTAKES as error:
    inner: Any = error
    while isinstance(inner, Exception) and inner.args:
      inner = inner.args[0]
    kind = 'no such field: ' if isinstance(error, AttributeError | KeyError) else ''
    raise errors.UserError(
        f'the config of {system} cannot be made: {kind}{inner}; configs/common.py '
        'lists the fields') from None


def state(run: Run) -> str:
  """'new', 'begun' or 'finished'; 'foreign' where the folder is another config's.

  A folder whose config cannot be read is foreign too.
  """
  if not (run.folder / 'config.json').exists():
    return 'new'
  try:
    before = run_folder.read_config(run.folder)
  except errors.UserError:
    return 'foreign'
  if run_folder.binding(before) != run_folder.binding(run.config):
    return 'foreign'
  return 'finished' if (run.folder / 'summary.json').exists() else 'begun'


def run_all(chosen: Sequence[Run], *, quiet: bool, say: Callable[[str], None]
            ) -> dict[str, str]:
  """Runs what is not finished, one run after the other, and goes on after a failure.

  A foreign folder is left to launch/main.py, which refuses it and says why.

  Args:
    chosen: runs of one grid.
    quiet: the runs show no progress.
    say: told what begins, is skipped or has failed.

  Returns:
    Folder of each run that failed -> how it ended.

  Raises:
    Stopped: SIGINT or SIGTERM came.
  """
  failed: dict[str, str] = {}
  for run in chosen:
    before = state(run)
    say(f'run {run.index}, {run.folder}: {before}')
    if before == 'finished':
      continue
    arguments = [str(_MAIN), *run.arguments, *['--quiet'] * quiet]
    with processes.running(arguments) as (process, received):
      status = process.wait()
    if received:
      raise Stopped(run, received[0])
    if status:
      failed[str(run.folder)] = _ending(status)
      say(f'run {run.index}, {run.folder}: failed, {_ending(status)}')
  return failed


def _ending(status: int) -> str:
  if status >= 0:
    return f'status {status}'
  name = signal.Signals(-status).name
  return f'ended by {name}' + (' (out of memory?)' if name == 'SIGKILL' else '')
