"""Tables 3.1 and 3.2, and what belongs beside them: thresholds and calibration."""

from collections.abc import Mapping
from collections.abc import Sequence
import statistics as averages
from typing import Any

import numpy as np

from attnmel_jax.report.tables import estimates as estimates_lib
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib

_AT_95 = ('sensitivity_at_95_specificity', 'specificity_at_95_sensitivity')
_AT_THRESHOLD = ('sensitivity', 'specificity', 'balanced_accuracy')


def main(published: published_lib.Published,
         estimates: estimates_lib.Estimates | None, *, complete: bool,
         head: table_lib.Head) -> table_lib.Table:
  """AP and AUC: ours, published, difference; the ticks as published.

  Args:
    published: table of the thesis, or a task of which nothing is published.
    estimates: of a group; None where there is no run.
    complete: with the rows of the thesis that have no run.
    head: of the table.
  """
  columns = ['system']
  for metric in published.metrics:
    title = published_lib.TITLES[metric]
    columns += [title, f'{title} published', f'{title} difference'][
        :_width(published)]
  columns += [f'{tick} (published)' for tick in published.ticks] + ['seeds']
  rows = []
  for row in published.competitors if complete else ():
    cells = [table_lib.Cell(f'{row.name} (published)')]
    for metric in published.metrics:
      cells += [table_lib.NOTHING, printed(row, metric), table_lib.NOTHING]
    rows.append([*cells, *_ticks(row, published), table_lib.NOTHING])
  ours = estimates.group.units if estimates else {}
  for row in rows_of(published, estimates, complete=complete):
    system = row.name
    cells = [table_lib.Cell(system)]
    for metric in published.metrics:
      cells += beside(estimates, row, metric)[:_width(published)]
    seeds = str(len(ours[system])) if system in ours else '–'
    rows.append([*cells, *_ticks(row, published), table_lib.Cell(seeds)])
  return table_lib.Table(head, tuple(columns), rows)


def _width(published: published_lib.Published) -> int:
  """Columns of a score: ours, and where anything is published two more."""
  return 3 if published.systems else 1


def rows_of(published: published_lib.Published,
            estimates: estimates_lib.Estimates | None, *, complete: bool
            ) -> list[published_lib.Row]:
  """The thesis's systems in its order, then those that it does not have.

  Without `complete` only those with a run.
  """
  ours = estimates.group.units if estimates else {}
  known = {row.name: row for row in published.systems}
  return [*(row for name, row in known.items() if complete or name in ours),
          *(published_lib.Row(name, {}, {}) for name in ours if name not in known)]


def printed(row: published_lib.Row, metric: str) -> table_lib.Cell:
  """A published score, with the digits it was printed with."""
  return table_lib.Cell(row.scores[metric]) if metric in row.scores else (
      table_lib.NOTHING)


def beside(estimates: estimates_lib.Estimates | None, row: published_lib.Row,
           metric: str) -> list[table_lib.Cell]:
  """Three cells: ours, published, ours less published."""
  published = printed(row, metric)
  if estimates is None or not estimates.has(row.name, metric):
    return [table_lib.NO_RUN, published, table_lib.NOTHING]
  found = estimates.interval(row.name, metric)
  difference = table_lib.NOTHING
  if metric in row.scores:
    difference = table_lib.number(
        found.estimate - float(row.scores[metric]), signed=True)
  return [table_lib.interval(found, signed=False), published, difference]


def operating_points(estimates: estimates_lib.Estimates, *, head: table_lib.Head
                     ) -> table_lib.Table:
  """Sensitivity and specificity: one with the other held, and at the threshold."""
  metrics = (*_AT_95, *_AT_THRESHOLD)
  rows = []
  for system, units in estimates.group.units.items():
    cells = [table_lib.interval(estimates.interval(system, metric), signed=False)
             if estimates.has(system, metric) else table_lib.NOTHING
             for metric in metrics]
    thresholds = np.unique(np.concatenate([unit.run.thresholds for unit in units]))
    rows.append([table_lib.Cell(system), *cells[:2], _range(thresholds), *cells[2:]])
  titles = [published_lib.TITLES[metric] for metric in metrics]
  return table_lib.Table(
      head, ('system', *titles[:2], 'threshold', *titles[2:]), rows)


def calibration(estimates: estimates_lib.Estimates, *, head: table_lib.Head
                ) -> table_lib.Table | None:
  """Expected calibration error and log loss, before and after the temperature.

  None where no summary holds them.
  """
  rows = []
  for system, units in estimates.group.units.items():
    found = [member.scores['calibration'] for unit in units for member in unit.members
             if member.scores.get('calibration')]
    if found:
      tempered = [own['tempered'] for own in found if own.get('tempered')]
      rows.append([
          table_lib.Cell(system),
          *(_mean(found, name) for name in ('expected_error', 'log_loss')),
          *(_mean(tempered, name)
            for name in ('temperature', 'expected_error', 'log_loss'))])
  columns = ('system', 'ECE', 'log loss', 'temperature', 'ECE after temperature',
             'log loss after temperature')
  return table_lib.Table(head, columns, rows) if rows else None


def _mean(found: Sequence[Mapping[str, Any]], name: str) -> table_lib.Cell:
  if not found:
    return table_lib.NOTHING
  return table_lib.number(averages.fmean(own[name] for own in found), signed=False)


def _range(thresholds: np.ndarray) -> table_lib.Cell:
  """One threshold, or the lowest and highest of several networks."""
  low, high = thresholds.min(), thresholds.max()
  if np.isnan(low):
    return table_lib.NOTHING
  text = f'{low:.3f}' if low == high else f'{low:.3f} to {high:.3f}'
  return table_lib.Cell(text)


def _ticks(row: published_lib.Row, published: published_lib.Published
           ) -> list[table_lib.Cell]:
  marks = {True: table_lib.YES, False: table_lib.NO, None: table_lib.NOTHING}
  return [marks[row.ticks.get(tick)] for tick in published.ticks]
