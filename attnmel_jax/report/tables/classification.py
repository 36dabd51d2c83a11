"""Tables 3.1, 3.2 and 3.4 and what belongs beside them, and their like."""

from collections.abc import Mapping
from collections.abc import Sequence
import statistics as averages
from typing import Any

import numpy as np

from attnmel_jax.evaluation import metrics as metrics_lib
from attnmel_jax.evaluation import score_summary
from attnmel_jax.report import groups
from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib

_AT_95 = ('sensitivity_at_95_specificity', 'specificity_at_95_sensitivity')
_AT_THRESHOLD = ('sensitivity', 'specificity', 'balanced_accuracy')
_MARKS = {True: table_lib.YES, False: table_lib.NO, None: table_lib.NOTHING}


def scores(context: captions.Context) -> table_lib.Table:
  """The table of a task: AP and AUC, or the recall of each of many classes."""
  task = context.task
  title = task.title if task.systems else 'Scores'
  head = context.head('', title, *context.on_published)
  make = _binary if task.is_binary else _per_class
  return table_lib.Table(head, *make(context))


def _binary(context: captions.Context
            ) -> tuple[tuple[str, ...], list[list[table_lib.Cell]]]:
  """AP and AUC: ours, published, difference; the ticks as published."""
  task = context.task
  # Where nothing is published, ours alone.
  width = 3 if task.systems else 1
  columns = ['system']
  for metric in task.metrics:
    title = published_lib.TITLES[metric]
    columns += [title, f'{title} published', f'{title} difference'][:width]
  columns += [f'{tick} (published)' for tick in task.ticks] + ['seeds']
  rows = []
  for row in task.competitors if context.is_first else ():
    cells = [table_lib.Cell(f'{row.name} (published)')]
    for metric in task.metrics:
      cells += [table_lib.NOTHING, _printed(row, metric), table_lib.NOTHING]
    rows.append([*cells, *_ticks(row, task), table_lib.NOTHING])
  for row in _systems(context):
    cells = [table_lib.Cell(row.name)]
    for metric in task.metrics:
      cells += _beside(context.group, row, metric)[:width]
    rows.append([*cells, *_ticks(row, task), _seeds(context.group, row.name)])
  return tuple(columns), rows


def _per_class(context: captions.Context
               ) -> tuple[tuple[str, ...], list[list[table_lib.Cell]]]:
  """Three rows a system: ours, published, difference."""
  task, group = context.task, context.group
  rows = []
  for row in _systems(context):
    columns = [_beside(group, row, metric) for metric in task.metrics]
    area = _beside(group, row, 'auc_mean')
    for i, kind in enumerate(('ours', 'published', 'difference')):
      if kind != 'ours' and not row.scores:
        continue
      rows.append([
          table_lib.Cell(row.name), table_lib.Cell(kind),
          *(column[i] for column in columns), area[i],
          _seeds(group, row.name) if kind == 'ours' else table_lib.NOTHING])
  columns = ('system', '', *task.class_names, 'AVG', 'AUC, mean of classes', 'seeds')
  if not task.systems:  # all rows are ours
    columns = (columns[0], *columns[2:])
    rows = [[row[0], *row[2:]] for row in rows]
  return columns, rows


def _systems(context: captions.Context) -> list[published_lib.Row]:
  """The thesis's systems in its order, then those that it does not have.

  Only those with a run where the rows of the thesis are not repeated.
  """
  ours = context.group.units if context.group else {}
  known = {row.name: row for row in context.task.systems}
  return [*(row for name, row in known.items() if context.is_first or name in ours),
          *(published_lib.Row(name, {}, {}) for name in ours if name not in known)]


def _printed(row: published_lib.Row, metric: str) -> table_lib.Cell:
  """A published score, with the digits it was printed with."""
  return table_lib.Cell(row.scores[metric]) if metric in row.scores else (
      table_lib.NOTHING)


def _beside(group: groups.Group | None, row: published_lib.Row, metric: str
            ) -> list[table_lib.Cell]:
  """Three cells: ours, published, ours less published unless a program drew ours."""
  published = _printed(row, metric)
  if group is None or not group.has(row.name, metric):
    return [table_lib.NO_RUN, published, table_lib.NOTHING]
  found = group.interval(row.name, metric)
  difference = table_lib.NOTHING
  if metric in row.scores and not group.synthetic:
    difference = table_lib.number(
        found.estimate - float(row.scores[metric]), signed=True)
  return [table_lib.interval(found, signed=False), published, difference]


def _seeds(group: groups.Group | None, system: str) -> table_lib.Cell:
  ours = group.units if group else {}
  return table_lib.Cell(str(len(ours[system])) if system in ours else '–')


def _ticks(row: published_lib.Row, task: published_lib.Published
           ) -> list[table_lib.Cell]:
  return [_MARKS[row.ticks.get(tick)] for tick in task.ticks]


def operating_points(context: captions.Context) -> table_lib.Table | None:
  """Sensitivity and specificity: one with the other held, and at the threshold."""
  if not context.task.is_binary:
    return None
  group, metrics = context.group, (*_AT_95, *_AT_THRESHOLD)
  rows = []
  for system, units in group.units.items():
    cells = [table_lib.interval(group.interval(system, metric), signed=False)
             if group.has(system, metric) else table_lib.NOTHING for metric in metrics]
    thresholds = np.unique(np.concatenate([unit.run.thresholds for unit in units]))
    rows.append([table_lib.Cell(system), *cells[:2], _range(thresholds), *cells[2:]])
  titles = [published_lib.TITLES[metric] for metric in metrics]
  head = context.head(
      'operating_points', 'Operating points', 'At 95 %: the best point of the scored '
      'curve itself. At the threshold, which validation chose (Youden\'s); 0.5 where '
      'there is no validation set.')
  return table_lib.Table(
      head, ('system', *titles[:2], 'threshold', *titles[2:]), rows)


def _range(thresholds: np.ndarray) -> table_lib.Cell:
  """One threshold, or the lowest and highest of several networks."""
  low, high = thresholds.min(), thresholds.max()
  if np.isnan(low):
    return table_lib.NOTHING
  text = f'{low:.3f}' if low == high else f'{low:.3f} to {high:.3f}'
  return table_lib.Cell(text)


def calibration(context: captions.Context) -> table_lib.Table | None:
  """Expected calibration error and log loss, before and after the temperature.

  None where no summary holds them.
  """
  if not context.task.is_binary:
    return None
  rows = []
  for system, members in context.group.systems.items():
    found = [member.scores.values['calibration'] for member in members
             if member.scores.values.get('calibration')]
    if found:
      tempered = [own['tempered'] for own in found if own.get('tempered')]
      rows.append([
          table_lib.Cell(system),
          *(_mean(found, name) for name in ('expected_error', 'log_loss')),
          *(_mean(tempered, name)
            for name in ('temperature', 'expected_error', 'log_loss'))])
  if not rows:
    return None
  head = context.head(
      'calibration', 'Calibration', 'ECE: expected calibration error in '
      f'{score_summary.NUM_BINS} bins; the temperature has the least log loss on '
      'validation. Means over seeds and folds, without intervals.')
  return table_lib.Table(
      head, ('system', 'ECE', 'log loss', 'temperature', 'ECE after temperature',
             'log loss after temperature'), rows)


def _mean(found: Sequence[Mapping[str, Any]], name: str) -> table_lib.Cell:
  if not found:
    return table_lib.NOTHING
  return table_lib.number(averages.fmean(own[name] for own in found), signed=False)


def areas(context: captions.Context) -> table_lib.Table | None:
  """One-versus-rest AUC of each class; with folds their spread in a row of its own."""
  if context.task.is_binary:
    return None
  group, names = context.group, context.group.class_names
  rows = []
  for system, units in group.units.items():
    metrics = [*(f'auc_{name}' for name in names), 'auc_mean']
    rows.append([table_lib.Cell(system), table_lib.Cell('AUC'), *(
        table_lib.interval(group.interval(system, metric), signed=False)
        for metric in metrics)])
    of_folds = _fold_areas(units)
    if len(of_folds) == 1:
      continue
    means = np.array([row[~np.isnan(row)].mean() for row in of_folds
                      if not np.isnan(row).all()])
    rows.append([table_lib.Cell(system), table_lib.Cell('spread over folds'),
                 *map(_spread, (*of_folds.T, means))])
  head = context.head(
      'auc', 'Areas under ROC curves, each class against the rest',
      'The spread over folds is a standard deviation, with lowest and highest; folds '
      'share training images, so it is no standard error.')
  return table_lib.Table(head, ('system', '', *names, 'mean'), rows)


def _fold_areas(units: Sequence[groups.Unit]) -> np.ndarray:
  """Areas under the ROC curve of each fold and class, averaged over the seeds.

  Args:
    units: of one system, on the same images.

  Returns:
    float64 [F, K]; nan where the fold lacks the class or holds no other.
  """
  found = []
  for unit in units:
    table, folds = unit.run.predictions, unit.run.folds
    found.append([
        metrics_lib.one_vs_rest_auc(table.labels[rows], table.probabilities[rows])
        for rows in (folds == fold for fold in np.unique(folds))])
  return np.mean(found, axis=0)


def _spread(of_folds: np.ndarray) -> table_lib.Cell:
  """Standard deviation, lowest and highest of the folds that have an area.

  It describes the folds and is no standard error: their training sets overlap.
  """
  known = of_folds[~np.isnan(of_folds)]
  if len(known) < 2:
    return table_lib.NOTHING
  spread, low, high = map(float, (known.std(ddof=1), known.min(), known.max()))
  return table_lib.Cell(f'{spread:.3f} ({low:.3f} to {high:.3f})', (spread, low, high))
