"""Reads run folders: which runs are finished, how they were made and scored.

  found = run_reader.find_runs(pathlib.Path('runs'))
  scores = run_reader.find_scores(found.runs[0], 'auto')
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
import os
import pathlib
import re
import traceback
from typing import Any
from typing import NamedTuple

import numpy as np

from attnmel_jax import errors
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import run_predictions
from attnmel_jax.experiments import classification
from attnmel_jax.experiments import methods
from attnmel_jax.experiments import run_folder


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """What a report needs to know of a run."""

  folder: pathlib.Path
  config: Mapping[str, Any]
  environment: Mapping[str, Any]
  summary: Mapping[str, Any]
  names: bool = True  # whether lines on leakage may name images

  @property
  def leakage(self) -> tuple[str, ...]:
    """Lines on what flatters the scores."""
    return self.leakage_of(self.summary)

  def leakage_of(self, summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The same of a later evaluation of the run."""
    lines = summary['leakage']['found']
    return tuple(lines if self.names else map(_without_names, lines))


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
  fingerprint: str           # of the images; '' where it is not known


class Description(NamedTuple):
  """How a run was made, and from what."""

  name: str
  best_step: int | None
  commit: str
  devices: str
  changed: dict[str, Any]          # fields that are not the defaults
  fingerprints: Mapping[str, str]  # of its data, by split


def find_runs(root: pathlib.Path, *, names: bool = True) -> Found:
  """All run folders below `root`, also behind links; each is read once.

  Args:
    root: where to look.
    names: whether what is found may name images.

  Raises:
    UserError: there is no such folder, or no run in it is finished and whole.
  """
  if not root.is_dir():
    raise errors.UserError(f'--runs={root} is not a folder; name one that holds run '
                           'folders, such as --runs=runs')
  found = Found([], [], [])
  for folder in sorted(_run_folders(root)):
    if not (folder / 'summary.json').exists():
      found.unfinished.append(folder)
      continue
    try:
      found.runs.append(dataclasses.replace(_read(folder), names=names))
    except errors.UserError as error:
      found.damaged.append(str(error))
    except Exception as error:  # of a file that nobody foresaw: the others are read
      found.damaged.append(f'{folder}: {unforeseen(error, text=names)}')
  if not found.runs:
    first = f' ({found.damaged[0]})' if found.damaged else ''
    raise errors.UserError(
        f'--runs={root} holds no finished run{first}; launch/main.py makes them')
  return found


def _without_names(line: str) -> str:
  """What two parts share (`near_duplicates.Common.line`), without its examples."""
  parts, shares, rest = line.partition(' share ')
  counts = re.findall(r'\d+ (?:images|lesions|near-duplicate pairs)(?=: )', rest)
  return f'{parts}{shares}{"; ".join(counts)}' if counts else line


def unforeseen(error: Exception, *, text: bool) -> str:
  """One line on an error that no check foresaw: kind, origin, its `text` if wanted."""
  frame = traceback.extract_tb(error.__traceback__)[-1]
  said = ': ' + ' '.join(str(error).split())[:200] if text else ''
  return (f'{type(error).__name__}{said} (in {pathlib.Path(frame.filename).name}, '
          f'line {frame.lineno})')


def _run_folders(root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Folders with a config.json; of several ways to one, links are the last."""
  seen, links = set(), [root]
  while links:
    for folder, inner, names in os.walk(links.pop(0)):
      real = os.path.realpath(folder)
      if real in seen:
        inner.clear()
        continue
      seen.add(real)
      if 'config.json' in names:
        yield pathlib.Path(folder)
      links += [path for path in (os.path.join(folder, name) for name in sorted(inner))
                if os.path.islink(path)]


def _read(folder: pathlib.Path) -> FinishedRun:
  run = FinishedRun(folder, run_folder.read_config(folder),
                    run_folder.read_environment(folder),
                    run_folder.read_summary(folder))
  for split in ('test', 'validation'):
    if split in run.summary:
      _check_results(folder, run, split, run.summary[split])
  return run


def _check_results(folder: pathlib.Path, run: FinishedRun, split: str,
                   scores: Mapping[str, Any]) -> None:
  """Raises UserError where the predictions in a folder are not those of its scores."""
  name = classification.FILE_NAMES[split]
  run_folder.check_digests(folder, scores, name)
  if methods.of(run.config).LEARNS_MASKS or not (
      folder / 'predictions' / f'{name}.csv').exists():
    return
  found = run_predictions.read(folder, name, fold=0, threshold=None).predictions
  if len(found.class_names) == 2:
    metric, value = 'auc', metrics.auc(found.labels, found.probabilities[:, 1])
  else:
    metric, value = 'balanced_accuracy', metrics.balanced_accuracy(
        found.labels, found.probabilities.argmax(axis=1))
  counts = np.bincount(found.labels, minlength=len(found.class_names)).tolist()
  counted = dict(zip(found.class_names, counts, strict=True))
  if list(found.class_names) != run.summary['class_names'] or (
      len(found.ids) != scores['n'] or scores.get('class_counts', counted) != counted):
    raise errors.UserError(
        f'{folder}: predictions/{name}.csv holds {_counted(counted)}, summary.json '
        f'scores of {scores["n"]} images of {", ".join(run.summary["class_names"])}; '
        'delete summary.json and run the command that wrote it again')
  recorded = scores.get(metric, {}).get('estimate')
  if recorded is not None and not math.isclose(recorded, value, abs_tol=1e-6):
    raise errors.UserError(
        f'{folder}: predictions/{name}.csv gives {metric} {value:.4f}, summary.json '
        f'holds {recorded:.4f}; delete summary.json and run the command that wrote it '
        'again')


def _counted(counts: Mapping[str, int]) -> str:
  return ', '.join(f'{count} {name}' for name, count in counts.items())


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
      return Scores(name, run.folder, run.summary[name], run.leakage,
                    run.summary['fingerprints'].get(name, ''))
    later = run.folder / 'evaluations' / f'{run.config["dataset"]}-{name}'
    if (later / 'summary.json').exists():
      summary = run_folder.read_evaluation(later)
      if name not in summary:
        raise errors.UserError(
            f'{later}/summary.json holds no {name} scores; delete {later} and score '
            'the run again with launch/evaluate.py')
      _check_results(later, run, name, summary[name])
      return Scores(name, later, summary[name], tuple(dict.fromkeys(
          [*run.leakage, *run.leakage_of(summary)])),
                    summary.get('fingerprint', ''))
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
