"""Finished runs side by side, whatever they are: scores, settings, pictures."""

from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import io
import os
import pathlib
from typing import Any
from typing import NamedTuple
import urllib.parse

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.experiments import run_folder

_SCORES = {'ap': 'AP', 'auc': 'AUC', 'auc_mean': 'AUC, mean of classes',
           'balanced_accuracy': 'balanced accuracy',
           'sensitivity': 'sensitivity', 'specificity': 'specificity',
           'jaccard': 'Jaccard', 'thresholded_jaccard': 'thresholded Jaccard',
           'jaccard_pool3': 'Jaccard pool-3', 'jaccard_pool4': 'Jaccard pool-4',
           'jaccard_cam': 'Jaccard CAM', 'jaccard_all_ones': 'Jaccard all ones',
           'jaccard_disc': 'Jaccard disc', 'jaccard_otsu': 'Jaccard Otsu'}


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """What a table needs to know of a run."""

  folder: pathlib.Path
  config: Mapping[str, Any]
  environment: Mapping[str, Any]
  summary: Mapping[str, Any]


class Found(NamedTuple):
  """The run folders below a folder, in the order of their names."""

  runs: list[FinishedRun]
  unfinished: list[pathlib.Path]
  damaged: list[str]  # a line each: which file, and what is wrong with it


def find_runs(root: pathlib.Path) -> Found:
  """All run folders below `root`.

  Raises:
    UserError: there is no such folder, or no run in it is finished and whole.
  """
  if not root.is_dir():
    raise errors.UserError(f'--runs={root} is no folder; name one with run folders in '
                           'it, such as --runs=runs')
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


def run_names(runs: Sequence[FinishedRun]) -> list[str]:
  """The name of each run's folder, with its parent's where several have that name."""
  names = [run.folder.name for run in runs]
  return [name if names.count(name) == 1 else f'{run.folder.parent.name}/{name}'
          for name, run in zip(names, runs, strict=True)]


def leakage_of(summary: Mapping[str, Any]) -> tuple[str, ...]:
  """What flatters the scores of a run or an evaluation."""
  return tuple(summary['leakage']['found'])


def rows(runs: Sequence[FinishedRun], split: str) -> list[dict[str, Any]]:
  """One row a run that has scores of `split`: names, sizes, scores, intervals."""
  table = []
  for name, run in zip(run_names(runs), runs, strict=True):
    scores = run.summary.get(split)
    if scores is None:
      continue
    table.append(_row(run, name, scores))
    if 'without_near_duplicates' in scores:
      table.append(_row(run, f'{name} without near-duplicates',
                        scores['without_near_duplicates']))
  return table


def _row(run: FinishedRun, label: str, scores: Mapping[str, Any]) -> dict[str, Any]:
  row = {'run': label, 'dataset': run.config['dataset'], 'model': run.config['model'],
         'roi': run.config['roi'], 'seed': run.config['seed'], 'n': scores.get('n'),
         'n annotated': scores.get('n_annotated')}
  for name, title in _SCORES.items():
    score = scores.get(name)
    if isinstance(score, Mapping) and 'estimate' in score:
      row |= {title: score['estimate'], f'{title} low': score['low'],
              f'{title} high': score['high']}
  leaks = leakage_of(run.summary)
  return row | ({'leakage': '; '.join(leaks)} if leaks else {})


def differing_fields(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
  """Fields that are not the same in all configs -> their values, in order."""
  names = sorted(set().union(*configs))
  values = {name: [config.get(name) for config in configs] for name in names}
  return {name: row for name, row in values.items()
          if any(value != row[0] for value in row) and name != 'data_dir'}


def without_path(value: Any) -> Any:
  """A field's value; of a path, which is one of a single machine, the file's name."""
  if isinstance(value, str) and '/' in value:
    return pathlib.PurePath(value).name
  return value


def to_csv(table: Sequence[Mapping[str, Any]]) -> str:
  """Rows as `rows` makes them; a cell is empty where a run has no such score."""
  names = list(dict.fromkeys(name for row in table for name in row))
  text = io.StringIO()
  writer = csv.DictWriter(text, names, lineterminator='\n')
  writer.writeheader()
  writer.writerows(table)
  return text.getvalue()


def to_cells(table: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
  """Head and rows for people: a column for each score that some run has."""
  titles = [t for t in _SCORES.values() if any(t in row for row in table)]
  annotated = any(row['n annotated'] is not None for row in table)
  head = ['run', 'n', *(['n annotated'] if annotated else [])]
  return [*head, *titles], [
      [row['run'], *('–' if row[name] is None else str(row[name]) for name in head[1:]),
       *(_cell(row, title) for title in titles)] for row in table]


def to_markdown(table: Sequence[Mapping[str, Any]]) -> list[str]:
  """The lines of a table, as `to_cells` has it."""
  head, body = to_cells(table)
  return ['| ' + ' | '.join(map(files.escaped, cells)) + ' |'
          for cells in (head, ['---'] * len(head), *body)]


def _cell(row: Mapping[str, Any], title: str) -> str:
  if row.get(title) is None:
    return '–'
  return f'{row[title]:.3f} [{row[title + " low"]:.3f}, {row[title + " high"]:.3f}]'


class Description(NamedTuple):
  """What a run was made with and of."""

  name: str
  best_step: int
  commit: str
  devices: str
  changed: dict[str, Any]        # fields that are not the defaults
  fingerprints: Mapping[str, str]  # of its data, by split


def describe(runs: Sequence[FinishedRun], defaults: Mapping[str, Any]
             ) -> list[Description]:
  """What each run was made with."""
  return [_describe(name, run, defaults)
          for name, run in zip(run_names(runs), runs, strict=True)]


def _describe(name: str, run: FinishedRun, defaults: Mapping[str, Any]) -> Description:
  return Description(
      name, run.summary['best']['step'],
      run.environment['commit'],
      ', '.join(run.environment['devices']) or 'unknown machine',
      {field: without_path(values[1]) for field, values in
       differing_fields([defaults, run.config]).items()},
      {**run.environment['fingerprints'], **run.summary['fingerprints']})


def settings(runs: Sequence[FinishedRun], defaults: Mapping[str, Any]) -> list[str]:
  """Each run's differences from the defaults, its best step and its machine."""
  lines = []
  for one in describe(runs, defaults):
    line = (
        f'{one.name}: best after step {one.best_step}; commit {one.commit[:12]}; '
        f'{one.devices}; differs from configs/common.py in '
        + (', '.join(f'{name}={value!r}' for name, value in one.changed.items())
           or 'nothing'))
    lines.append(f'- {files.escaped(line)}')
  return lines


def pictures(runs: Sequence[FinishedRun], out: pathlib.Path) -> list[str]:
  """Links from a page in `out` to the runs' pictures of attention maps."""
  lines = []
  for run in runs:
    for path in sorted((run.folder / 'attention').glob('*.png')):
      link = os.path.relpath(path, out)
      name = files.escaped(path.stem)
      lines += [f'{files.escaped(run.folder.name)}, {name}:', '',
                f'![{name}]({urllib.parse.quote(link)})', '']
  return lines or ['No run has attention maps.']
