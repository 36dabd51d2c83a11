"""Reads run folders: which runs are finished, how they were made and scored.

  found = run_reader.find_runs(pathlib.Path('runs'))
  scores = run_reader.find_scores(found.runs[0], 'auto')
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any
from typing import NamedTuple

from attnmel_jax import errors
from attnmel_jax.experiments import run_folder


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """What a report needs to know of a run."""

  folder: pathlib.Path
  config: Mapping[str, Any]
  environment: Mapping[str, Any]
  summary: Mapping[str, Any]

  @property
  def leakage(self) -> tuple[str, ...]:
    """Lines on what flatters the scores."""
    return tuple(self.summary['leakage']['found'])


class Found(NamedTuple):
  """The run folders below a folder, in the order of their names."""

  runs: list[FinishedRun]
  unfinished: list[pathlib.Path]
  damaged: list[str]  # a line each: which file, and what is wrong with it


class Scores(NamedTuple):
  """A run's scores of one split: its own, or those of a later evaluation."""

  split: str
  folder: pathlib.Path       # that holds predictions/
  values: Mapping[str, Any]  # by name, as summary.json has them
  leakage: tuple[str, ...]   # lines on what flatters them


class Description(NamedTuple):
  """How a run was made, and from what."""

  name: str
  best_step: int | None
  commit: str
  devices: str
  changed: dict[str, Any]          # fields that are not the defaults
  fingerprints: Mapping[str, str]  # of its data, by split


def find_runs(root: pathlib.Path) -> Found:
  """All run folders below `root`.

  Raises:
    UserError: there is no such folder, or no run in it is finished and whole.
  """
  if not root.is_dir():
    raise errors.UserError(f'--runs={root} is not a folder; name one that holds run '
                           'folders, such as --runs=runs')
  found = Found([], [], [])
  for folder in sorted(path.parent for path in root.rglob('config.json')):
    if not (folder / 'summary.json').exists():
      found.unfinished.append(folder)
      continue
    try:
      found.runs.append(_read(folder))
    except errors.UserError as error:
      found.damaged.append(str(error))
  if not found.runs:
    first = f' ({found.damaged[0]})' if found.damaged else ''
    raise errors.UserError(
        f'--runs={root} holds no finished run{first}; launch/main.py makes them')
  return found


def _read(folder: pathlib.Path) -> FinishedRun:
  config = run_folder.read_config(folder)
  return FinishedRun(folder, config, run_folder.read_environment(folder),
                     run_folder.read_summary(folder))


def find_scores(run: FinishedRun, split: str) -> Scores:
  """The scores of a run, or of what launch/evaluate.py wrote when data came later.

  Args:
    run: any run.
    split: validation, test, or auto: test where the run has been tested.

  Raises:
    UserError: there are none.
  """
  if split == 'validation' and run.config['num_folds'] > 1:
    raise errors.UserError(
        f'{run.folder} is a fold of a cross-validation, and the folds\' validation '
        'images overlap: leave out --split=validation')
  for name in ('test', 'validation') if split == 'auto' else (split,):
    if name in run.summary:
      return Scores(name, run.folder, run.summary[name], run.leakage)
    later = run.folder / 'evaluations' / f'{run.config["dataset"]}-{name}'
    if (later / 'summary.json').exists():
      summary = run_folder.read_evaluation(later)
      if name not in summary:
        raise errors.UserError(
            f'{later}/summary.json holds no {name} scores; delete {later} and score '
            'the run again with launch/evaluate.py')
      return Scores(name, later, summary[name], tuple(dict.fromkeys(
          [*run.leakage, *summary['leakage']['found']])))
  raise errors.UserError(
      f'{run.folder} has no {"test or validation" if split == "auto" else split} '
      'scores; launch/evaluate.py makes them where the data are prepared')


def run_names(runs: Sequence[FinishedRun]) -> list[str]:
  """The folders' names, with that of the parent where two are the same."""
  names = [run.folder.name for run in runs]
  return [name if names.count(name) == 1 else f'{run.folder.parent.name}/{name}'
          for name, run in zip(names, runs, strict=True)]


def changed(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of a config that differ from those of another, by name.

  Of a path, which is one of a single machine, only the file's name.
  """
  return {name: _without_path(value) for name, value in sorted(config.items())
          if value != base.get(name)}


def _without_path(value: Any) -> Any:
  if isinstance(value, str) and '/' in value:
    return pathlib.PurePath(value).name
  return value


def describe(runs: Sequence[FinishedRun], defaults: Mapping[str, Any]
             ) -> list[Description]:
  """How each run was made, and from what; `defaults` has every field of a config."""
  return [Description(
      name, run.summary['best'].get('step'), run.environment['commit'],
      ', '.join(run.environment['devices']) or 'unknown machine',
      {field: value for field, value in changed(run.config, defaults).items()
       if field != 'data_dir'},
      {**run.environment['fingerprints'], **run.summary['fingerprints']})
          for name, run in zip(run_names(runs), runs, strict=True)]
