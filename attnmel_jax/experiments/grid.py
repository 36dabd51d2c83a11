"""Runs of several systems, seeds and folds: one description, many run folders.

  parts = grid_lib.read(pathlib.Path('configs/grids/table_3_2.py'))
  runs = grid_lib.runs(parts, root=pathlib.Path('runs'), settings=['image_size=96'])
  failed = grid_lib.run_all(runs, quiet=False, say=print)

A run is a launch/main.py in its own process: neither its memory nor its crash affects
another. It is done in <root>/<experiment>/<system>-fold<k>-seed<s>:
grids of one experiment share the runs that they have in common. A U-Net may be
followed by a launch/generate_masks.py, whose masks train later runs.
"""

import collections
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import runpy
import signal
from typing import Any

from absl import flags
from ml_collections import config_flags

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax.experiments import generate_masks
from attnmel_jax.experiments import processes
from attnmel_jax.experiments import run_folder

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_MAIN = _ROOT / 'launch' / 'main.py'
_GENERATE = _ROOT / 'launch' / 'generate_masks.py'
# What a wrong file raises while it is loaded, or a wrong override.
_MISTAKES = (OSError, SyntaxError, ImportError, NameError, AttributeError, KeyError,
             TypeError, ValueError, flags.Error)


@dataclasses.dataclass(frozen=True)
class Part:
  """What one dict that `get_grid()` of a grid file returns describes."""

  config: str           # experiment file; a relative path starts at the repository
  systems: Mapping[str, Mapping[str, Any]]  # name -> fields by which it differs
  seeds: tuple[int, ...]
  folds: tuple[int, ...]
  # `dataset` and `name` of the masks to draw with the U-Net that the part trains.
  generate_masks: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a grid, or the drawing of masks by the U-Net of a run."""

  index: int                  # place in the whole grid, from 0
  folder: pathlib.Path        # of the run, or of the U-Net's
  config: Mapping[str, Any]   # flat, all fields, of the same run
  arguments: tuple[str, ...]  # of the command; of a run, `config` follows from them
  masks: Mapping[str, str] | None = None  # `dataset` and `name` of what is drawn

  @property
  def title(self) -> str:
    """Its name in lists: the run folder, or the masks."""
    if self.masks is None:
      return str(self.folder)
    return f'masks {self.masks["name"]} of {self.masks["dataset"]} by {self.folder}'


class Stopped(Exception):
  """SIGINT or SIGTERM came and was passed on; the run that it stopped has ended."""

  def __init__(self, run: Run, signum: int):
    super().__init__(f'stopped in {run.title}')
    self.signum = signum


def read(path: pathlib.Path) -> tuple[Part, ...]:
  """The parts of the grid that a file describes, in the order in which they run.

  Raises:
    UserError: the file cannot be loaded, or a part lacks a field.
  """
  try:
    described = runpy.run_path(str(path))['get_grid']()
    return tuple(Part(**part) for part in (
        described if isinstance(described, tuple) else (described,)))
  except _MISTAKES as error:
    raise errors.UserError(
        f'--grid={path} cannot be loaded: {type(error).__name__}: {error}; its '
        'get_grid() has to return a dict of config, systems, seeds and folds, or a '
        'tuple of such') from None


def select(parts: Sequence[Part], *, systems: Sequence[str] | None,
           seeds: Sequence[str] | None, folds: Sequence[str] | None
           ) -> tuple[Part, ...]:
  """The parts with these systems, seeds and folds; None leaves their own.

  A part whose U-Net draws masks keeps its one seed and fold.

  Raises:
    UserError: a system is unknown, or a seed or fold is not a number.
  """
  known = dict.fromkeys(name for part in parts for name in part.systems)
  for name in systems or ():
    errors.check_choice('--systems', name, known)
  numbers = {}
  for name, texts in (('seeds', seeds), ('folds', folds)):
    if texts is not None:
      if not texts or not all(text.isdecimal() for text in texts):
        raise errors.UserError(
            f'--{name}={",".join(texts)} has to hold one or more whole numbers')
      numbers[name] = tuple(map(int, texts))
  selected = []
  for part in parts:
    names = part.systems if systems is None else [
        name for name in systems if name in part.systems]
    if names:
      selected.append(dataclasses.replace(
          part, systems={name: part.systems[name] for name in names},
          **({} if part.generate_masks else numbers)))
  return tuple(selected)


def runs(parts: Sequence[Part], *, root: pathlib.Path, settings: Sequence[str]
         ) -> list[Run]:
  """All runs of a grid, each seed's and fold's systems one after the other.

  Args:
    parts: as `read` or `select` gives them.
    root: folder of the run folders.
    settings: '<field>=<value>' for all runs.

  Raises:
    UserError: an experiment file does not exist, a field or a value is wrong, or two
      runs have one folder.
  """
  for part in parts:
    if not (_ROOT / part.config).is_file():
      raise errors.UserError(
          f'config={part.config!r} of the grid: {_ROOT / part.config} does not exist')
  _check_settings(parts, settings)
  result: list[Run] = []
  for part in parts:
    for seed in part.seeds:
      for fold in part.folds:
        for system in part.systems:
          result.append(_run(part, system, seed, fold, root, settings, len(result)))
          if part.generate_masks is not None:
            result.append(_drawing(result[-1], part.generate_masks))
  _check_folders(result)
  return result


def _check_folders(runs: Sequence[Run]) -> None:
  """Raises UserError if two runs would be done in one folder."""
  folders = collections.Counter(run.folder for run in runs if run.masks is None)
  for folder, times in folders.items():
    if times > 1:
      raise errors.UserError(
          f'{times} runs of the grid have the folder {folder}; give each seed and fold '
          'once, and systems of one experiment file different names')


def _run(part: Part, system: str, seed: int, fold: int, root: pathlib.Path,
         settings: Sequence[str], index: int) -> Run:
  file = _ROOT / part.config
  settled = [*(f'{name}={value}' for name, value in part.systems[system].items()),
             *settings, f'fold={fold}', f'seed={seed}']
  overrides = [f'--config.{text}' for text in settled]
  config = _parse(file, overrides, system)
  config_lib.check(config)
  folder = root / file.stem / f'{system}-fold{fold}-seed{seed}'
  return Run(index, folder, config,
             (f'--config={file}', *overrides, f'--workdir={folder}'))


def _drawing(run: Run, masks: Mapping[str, str]) -> Run:
  """The run that draws masks with the U-Net of `run`."""
  arguments = [f'--run={run.folder}', f'--dataset={masks["dataset"]}',
               f'--name={masks["name"]}']
  if run.config['data_dir']:
    arguments.append(f'--data_dir={run.config["data_dir"]}')
  return Run(run.index + 1, run.folder, run.config, tuple(arguments), masks)


def _check_settings(parts: Sequence[Part], settings: Sequence[str]) -> None:
  """Raises UserError for a setting of what is not the same in all runs."""
  own = {'seed', 'fold'}.union(*(fields for part in parts
                                 for fields in part.systems.values()))
  defaults = {part.config: _parse(_ROOT / part.config, [], part.config)
              for part in parts}
  for setting in settings:
    name, equals, _ = setting.partition('=')
    if not equals:
      raise errors.UserError(f'--set={setting} is not of the form <field>=<value>')
    if name in own:
      raise errors.UserError(
          f'--set={setting} is not for all runs: they differ in {name}; choose them '
          'with --systems, --seeds and --folds')
    values = {file: config[name] for file, config in defaults.items() if name in config}
    if name != 'data_dir' and len(set(values.values())) > 1:
      raise errors.UserError(
          f'--set={setting} is not for all runs: {name} is '
          + ', '.join(f'{value!r} in {file}' for file, value in values.items())
          + '; choose the systems of one of them with --systems')


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
  if run.masks is not None:
    return generate_masks.state(run.config, **run.masks)
  if not (run.folder / 'config.json').exists():
    return 'new'
  try:
    before = run_folder.read_config(run.folder)
  except errors.UserError:
    return 'foreign'
  if run_folder.binding(before) != run_folder.binding(run.config):
    return 'foreign'
  return 'finished' if (run.folder / 'summary.json').exists() else 'begun'


def check_ready(run: Run, runs: Sequence[Run]) -> None:
  """Raises UserError if a run needs another of the grid that is not finished.

  Masks need a trained U-Net; `roi='generated'` needs masks.
  """
  if run.masks is not None:
    needed = [other for other in runs
              if other.masks is None and other.folder == run.folder]
  elif run.config['roi'] == 'generated':
    needed = [other for other in runs if other.masks == {
        'dataset': run.config['dataset'], 'name': run.config['generated_masks']}]
  else:
    return
  for other in needed:
    if state(other) in ('new', 'begun'):
      raise errors.UserError(
          f'run {run.index}, {run.title}, needs run {other.index}, {other.title}, '
          f'which is not finished; run --index={other.index} first')


def run_all(chosen: Sequence[Run], *, quiet: bool, say: Callable[[str], None]
            ) -> dict[str, str]:
  """Runs what is not finished, one run after the other, and continues after a failure.

  A foreign folder is left to the command, which refuses it and says why.

  Args:
    chosen: runs of one grid.
    quiet: the runs show no progress.
    say: receives a line for what begins, is skipped or fails.

  Returns:
    Title of each run that failed -> how it ended.

  Raises:
    Stopped: SIGINT or SIGTERM came.
  """
  failed: dict[str, str] = {}
  for run in chosen:
    before = state(run)
    say(f'run {run.index}, {run.title}: {before}')
    if before == 'finished':
      continue
    script = _MAIN if run.masks is None else _GENERATE
    arguments = [str(script), *run.arguments, *['--quiet'] * quiet]
    with processes.running(arguments) as (process, received):
      status = process.wait()
    if received:
      raise Stopped(run, received[0])
    if status:
      failed[run.title] = _ending(status)
      say(f'run {run.index}, {run.title}: failed, {_ending(status)}')
  return failed


def _ending(status: int) -> str:
  if status >= 0:
    return f'status {status}'
  name = signal.Signals(-status).name
  return f'ended by {name}' + (' (out of memory?)' if name == 'SIGKILL' else '')
