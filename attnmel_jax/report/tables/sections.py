"""All tables of a report: those of each task, and that of the U-Nets.

A new table of a task is a function `(context) -> Table | None` in a module of its own,
and its line in `_TABLES` or `_OF_MAPS`.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any
from typing import NamedTuple

from attnmel_jax.report import groups
from attnmel_jax.report import run_reader
from attnmel_jax.report.tables import attention
from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import classification
from attnmel_jax.report.tables import comparison
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import segmentation
from attnmel_jax.report.tables import table as table_lib

_Maker = Callable[[captions.Context], table_lib.Table | None]

# Of a group of classifiers, in the order of the page.
_TABLES: tuple[_Maker, ...] = (
    classification.scores, classification.operating_points, classification.calibration,
    classification.areas, comparison.of_systems)
# Of a group with attention maps.
_OF_MAPS: tuple[_Maker, ...] = (attention.scores, attention.compared)


class Experiment(NamedTuple):
  """An experiment file and the config that it gives."""

  file: str
  config: Mapping[str, Any]


class Plan(NamedTuple):
  """What is asked of a report."""

  experiments: Mapping[str, Experiment]  # by data set, and isic2018_cv
  defaults: Mapping[str, Any]            # of every field; draws of the bootstrap
  reference: str                         # the system that others are compared with
  split: str                             # auto, test or validation
  data_dir: pathlib.Path | None          # with photographs; None: where runs had them
  photographs: bool                      # whether any may be shown


class Section(NamedTuple):
  """Everything of one table of the thesis, or of one task that it does not have."""

  title: str
  lines: list[str]                    # above the tables
  tables: list[table_lib.Table]
  files_alone: list[table_lib.Table]  # tables that the page does not show


def said_once(tables: Sequence[table_lib.Table]
              ) -> Iterator[tuple[table_lib.Table, tuple[str, ...]]]:
  """Each table with its context, which is empty where it is that of the one before."""
  before: tuple[str, ...] = ()
  for table in tables:
    context = table.head.context
    yield table, () if context == before else context
    before = context


def of_task(task: published_lib.Published, found: Sequence[groups.Group], plan: Plan
            ) -> Iterator[Section]:
  """The tables of a task; after Table 3.2 also 3.3, from the same runs.

  The attention maps of a task that the thesis does not have stand in its section.
  """
  own = maps = Section(task.label, [], [], [])
  if task.number == '3.2':
    maps = Section('Table 3.3', [], [], [])
  for group in found:
    context = _context(task, group, plan)
    made = _made(_TABLES, context)
    own.tables.extend(made.values())
    if plan.reference not in group.units:
      own.lines.append(
          f'{made[classification.scores].head.name} has no comparisons: '
          f'{plan.reference} (--reference) has no run among its systems, which are '
          f'{", ".join(group.units)}.')
    if task.has_maps:
      _add_maps(maps, context)
  if not found:
    _add_published(own, classification.scores(_context(task, None, plan)), 'No run')
  if not maps.tables and maps is not own:
    _add_published(maps, attention.scores(_context(task, None, plan)),
                   'No run with maps')
  yield own
  if maps is not own:
    yield maps


def of_unets(runs: Sequence[run_reader.FinishedRun], *, split: str) -> list[Section]:
  """The table of U-Nets, where there is one."""
  table = segmentation.table(runs, split=split)
  return [Section('U-Net', [], [table], [])] if table else []


def _made(functions: Sequence[_Maker], context: captions.Context
          ) -> dict[_Maker, table_lib.Table]:
  """The tables that a group has, by what made them."""
  tables = {function: function(context) for function in functions}
  return {function: table for function, table in tables.items() if table is not None}


def _context(task: published_lib.Published, group: groups.Group | None, plan: Plan
             ) -> captions.Context:
  if group is None:
    return captions.Context(task, None, plan.reference, ())
  key = task.dataset
  if key == 'isic2018' and group.settings['num_folds'] > 1:
    key = 'isic2018_cv'
  experiment = plan.experiments.get(
      key, Experiment('configs/common.py', plan.defaults))
  return captions.Context(task, group, plan.reference, captions.shared(
      group, experiment=experiment.file, defaults=experiment.config))


def _add_maps(section: Section, context: captions.Context) -> None:
  """The tables of one group's maps."""
  made = _made(_OF_MAPS, context)
  if not made:
    return
  section.tables.extend(made.values())
  if attention.compared not in made:
    section.lines.append(
        f'{made[attention.scores].head.name} has no comparisons: '
        f'{context.reference} (--reference) has no maps in it, or is the only system.')
  swept = attention.sweep(context)
  if swept is not None:
    section.lines.append(f'{swept.head.name} holds the mean Jaccard index at each '
                         'threshold.')
    section.files_alone.append(swept)


def _add_published(section: Section, table: table_lib.Table, what: str) -> None:
  """A file of the thesis's numbers, where no run of ours stands beside them."""
  section.lines.append(f'{what}: {table.head.name} holds the published numbers alone.')
  section.files_alone.append(table)
