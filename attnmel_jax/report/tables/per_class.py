"""Table 3.4 and its like: recall of each of many classes, their mean, and areas."""

import numpy as np

from attnmel_jax.evaluation import folds as folds_lib
from attnmel_jax.report.tables import binary
from attnmel_jax.report.tables import estimates as estimates_lib
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib


def main(published: published_lib.Published,
         estimates: estimates_lib.Estimates | None, *, complete: bool,
         head: table_lib.Head) -> table_lib.Table:
  """Three rows a system: ours, published, difference.

  Args:
    published: table of the thesis, or a task of which nothing is published.
    estimates: of a group; None where there is no run.
    complete: with the rows of the thesis that have no run.
    head: of the table.
  """
  ours = estimates.group.units if estimates else {}
  rows = []
  for row in binary.rows_of(published, estimates, complete=complete):
    system = row.name
    columns = [binary.beside(estimates, row, metric)
               for metric in published.metrics]
    area = [table_lib.NO_RUN, table_lib.NOTHING, table_lib.NOTHING]
    if system in ours:
      area[0] = table_lib.interval(
          estimates.interval(system, 'auc_mean'), signed=False)
    seeds = str(len(ours[system])) if system in ours else '–'
    for i, kind in enumerate(('ours', 'published', 'difference')):
      if kind != 'ours' and not row.scores:
        continue
      rows.append([
          table_lib.Cell(system), table_lib.Cell(kind),
          *(column[i] for column in columns), area[i],
          table_lib.Cell(seeds) if kind == 'ours' else table_lib.NOTHING])
  columns = ('system', '', *published.class_names, 'AVG', 'AUC, mean of classes',
             'seeds')
  if not published.systems:  # all rows are ours
    columns = (columns[0], *columns[2:])
    rows = [[row[0], *row[2:]] for row in rows]
  return table_lib.Table(head, columns, rows)


def areas(estimates: estimates_lib.Estimates, *, head: table_lib.Head
          ) -> table_lib.Table:
  """One-versus-rest AUC of each class; with folds their spread in a row of its own."""
  names = estimates.group.example.predictions.class_names
  rows = []
  for system, units in estimates.group.units.items():
    metrics = [*(f'auc_{name}' for name in names), 'auc_mean']
    rows.append([table_lib.Cell(system), table_lib.Cell('AUC'), *(
        table_lib.interval(estimates.interval(system, metric), signed=False)
        for metric in metrics)])
    of_folds = estimates_lib.fold_areas(units)
    if len(of_folds) == 1:
      continue
    means = [folds_lib.average(row).mean for row in of_folds]
    rows.append([table_lib.Cell(system), table_lib.Cell('spread over folds'), *(
        _spread(folds_lib.average(column)) for column in (*of_folds.T, means))])
  return table_lib.Table(head, ('system', '', *names, 'mean'), rows)


def _spread(found: folds_lib.FoldAverage) -> table_lib.Cell:
  """Standard deviation, lowest and highest of the folds."""
  if np.isnan(found.spread_over_folds):
    return table_lib.NOTHING
  return table_lib.Cell(
      f'{found.spread_over_folds:.3f} ({found.lowest:.3f} to {found.highest:.3f})',
      (found.spread_over_folds, found.lowest, found.highest))
