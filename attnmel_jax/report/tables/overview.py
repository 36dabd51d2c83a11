"""Every run by itself, whatever it is: its scores with the intervals of its summary."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from attnmel_jax.report import names
from attnmel_jax.report import run_reader
from attnmel_jax.report.tables import table as table_lib

_SCORES = {'ap': 'AP', 'auc': 'AUC', 'auc_mean': 'AUC, mean of classes',
           'balanced_accuracy': 'balanced accuracy', 'sensitivity': 'sensitivity',
           'specificity': 'specificity', 'jaccard': 'Jaccard',
           'thresholded_jaccard': 'thresholded Jaccard'}
_OTHER_MAPS = {'jaccard_cam': 'Jaccard CAM', 'jaccard_all_ones': 'Jaccard all ones',
               'jaccard_disc': 'Jaccard disc', 'jaccard_otsu': 'Jaccard Otsu'}
_UNDEFINED = table_lib.Cell('–', ('', '', ''))


class Overview(NamedTuple):
  """The runs of one split, a row each."""

  shown: table_lib.Table  # for people: sizes and scores
  whole: table_lib.Table  # for programs: configs too


def overview(runs: Sequence[run_reader.FinishedRun], split: str) -> Overview | None:
  """The runs that have scores of `split`; None where there is none."""
  parts = []
  for name, run in zip(run_reader.run_names(runs), runs, strict=True):
    if split in run.summary:
      scores = run.summary[split]
      parts.append((name, run, scores))
      if 'without_near_duplicates' in scores:
        parts.append((f'{name} without near-duplicates', run,
                      scores['without_near_duplicates']))
  if not parts:
    return None
  titles = _titles([scores for _, _, scores in parts])
  rows = [_row(*part, titles) for part in parts]
  whole = list(dict.fromkeys(column for row in rows for column in row))
  annotated = any(row['n annotated'] != table_lib.NOTHING for row in rows)
  shown = ['run', 'n', *(['n annotated'] if annotated else []),
           *(title for title in titles.values() if title in whole)]
  return Overview(_table(split, shown, rows), _table(split, whole, rows))


def _titles(parts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
  """The scores and their titles, with those of all taps that a run has."""
  taps = {name.removeprefix('jaccard_') for scores in parts for name in scores}
  return _SCORES | {f'jaccard_{tap}': f'Jaccard {names.map_name(tap)}'
                    for tap in sorted(filter(names.is_tap, taps))} | _OTHER_MAPS


def _row(name: str, run: run_reader.FinishedRun, scores: Mapping[str, Any],
         titles: Mapping[str, str]) -> dict[str, table_lib.Cell]:
  """Cells by the title of their column."""
  row = {'run': name, **{field: run.config[field] for field in (
      'dataset', 'model', 'roi', 'seed')}, 'n': scores['n']}
  cells = {title: table_lib.Cell(str(value)) for title, value in row.items()}
  annotated = scores.get('n_annotated')
  cells['n annotated'] = (table_lib.NOTHING if annotated is None
                          else table_lib.Cell(str(annotated)))
  for metric, title in titles.items():
    score = scores.get(metric, {})
    if 'estimate' in score:  # with many classes `auc` holds one for each
      undefined = score['estimate'] is None
      cells[title] = _UNDEFINED if undefined else table_lib.score(score)
  if run.leakage:
    cells['leakage'] = table_lib.Cell('; '.join(run.leakage))
  return cells


def _table(split: str, columns: Sequence[str],
           rows: Sequence[Mapping[str, table_lib.Cell]]) -> table_lib.Table:
  return table_lib.Table(
      table_lib.Head(split, split, (), ()), tuple(columns),
      [[row.get(column, table_lib.NOTHING) for column in columns] for row in rows])
