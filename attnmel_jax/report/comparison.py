"""Finished runs side by side: one table as Markdown and CSV."""

from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import io
import os
import pathlib
from typing import Any

from attnmel_jax import errors
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import run_folder

_SCORES = {'ap': 'AP', 'auc': 'AUC', 'balanced_accuracy': 'balanced accuracy',
           'sensitivity': 'sensitivity', 'specificity': 'specificity',
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


def find_runs(root: pathlib.Path) -> tuple[list[FinishedRun], list[pathlib.Path]]:
  """Finished runs below `root`, in the order of their names, and unfinished ones.

  Raises:
    UserError: no run is finished.
  """
  folders = sorted(path.parent for path in root.rglob('config.json'))
  finished = [folder for folder in folders if (folder / 'summary.json').exists()]
  if not finished:
    raise errors.UserError(
        f'--runs={root} holds no finished run; launch/main.py makes them')
  runs = [FinishedRun(folder, run_folder.read_config(folder),
                      run_folder.read_json(folder / 'environment.json'),
                      run_folder.read_summary(folder))
          for folder in finished]
  return runs, [folder for folder in folders if folder not in finished]


def rows(runs: Sequence[FinishedRun], split: str) -> list[dict[str, Any]]:
  """One row a run that has scores of `split`: names, sizes, scores, intervals."""
  table = []
  for run in runs:
    scores = run.summary.get(split)
    if scores is None:
      continue
    row = {'run': run.folder.name, 'model': run.config['model'],
           'roi': run.config['roi'], 'seed': run.config['seed'], 'n': scores['n']}
    for name, title in _SCORES.items():
      score = scores.get(name)
      if isinstance(score, Mapping) and 'estimate' in score:
        row |= {title: score['estimate'], f'{title} low': score['low'],
                f'{title} high': score['high']}
    table.append(row)
  return table


def differing_fields(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
  """Fields that are not the same in all configs -> their values, in order."""
  names = sorted(set().union(*configs))
  values = {name: [config.get(name) for config in configs] for name in names}
  return {name: row for name, row in values.items()
          if any(value != row[0] for value in row) and name != 'data_dir'}


def write(runs: Sequence[FinishedRun], unfinished: Sequence[pathlib.Path],
          defaults: Mapping[str, Any], out: pathlib.Path) -> str:
  """Writes report.md and a CSV a split into `out`; returns the report's text."""
  lines = ['# Runs', '', 'Scores with 95 % bootstrap intervals over images or '
           'lesions; they hold test sampling only, not the choice of seed.', '']
  synthetic = [run.folder.name for run in runs if run.summary['synthetic']]
  if synthetic:
    lines += ['**Synthetic data**: the images of '
              f'{", ".join(synthetic)} were drawn by a program. These scores say that '
              'the software works, and nothing of patients.', '']
  for split in ('test', 'validation'):
    table = rows(runs, split)
    if table:
      _write(out / f'{split}.csv', _csv(table))
      lines += [f'## {split}', '', *_markdown(table), '']
  lines += ['## What was run', '', *_settings(runs, defaults), '']
  if unfinished:
    lines += ['Not finished, and left out: '
              + ', '.join(str(folder) for folder in unfinished), '']
  lines += ['## Attention maps', '', *_pictures(runs, out)]
  text = '\n'.join(lines).rstrip() + '\n'
  _write(out / 'report.md', text)
  return text


def _write(path: pathlib.Path, text: str) -> None:
  with prediction_files.replacing(path) as file:
    file.write(text.encode())


def _csv(table: Sequence[Mapping[str, Any]]) -> str:
  names = list(dict.fromkeys(name for row in table for name in row))
  text = io.StringIO()
  writer = csv.DictWriter(text, names, lineterminator='\n')
  writer.writeheader()
  writer.writerows(table)
  return text.getvalue()


def _markdown(table: Sequence[Mapping[str, Any]]) -> list[str]:
  titles = [t for t in _SCORES.values() if any(t in row for row in table)]
  head = ['run', 'n', *titles]
  body = [[row['run'], str(row['n']), *(_cell(row, title) for title in titles)]
          for row in table]
  return ['| ' + ' | '.join(cells) + ' |'
          for cells in (head, ['---'] * len(head), *body)]


def _cell(row: Mapping[str, Any], title: str) -> str:
  if row.get(title) is None:
    return '–'
  return f'{row[title]:.3f} [{row[title + " low"]:.3f}, {row[title + " high"]:.3f}]'


def _settings(runs: Sequence[FinishedRun], defaults: Mapping[str, Any]) -> list[str]:
  """Each run's differences from the defaults, its best step and its machine."""
  lines = []
  for run in runs:
    changed = {name: values[1] for name, values in
               differing_fields([defaults, run.config]).items()}
    lines.append(
        f'- {run.folder.name}: best after step {run.summary["best"]["step"]}; commit '
        f'{run.environment["commit"][:12]}; {", ".join(run.environment["devices"])}; '
        'differs from configs/common.py in '
        + ', '.join(f'{name}={value!r}' for name, value in changed.items()))
  return lines


def _pictures(runs: Sequence[FinishedRun], out: pathlib.Path) -> list[str]:
  lines = []
  for run in runs:
    for path in sorted((run.folder / 'attention').glob('*.png')):
      link = os.path.relpath(path, out)
      lines += [f'{run.folder.name}, {path.stem}:', '', f'![{path.stem}]({link})', '']
  return lines or ['No run has attention maps.']
