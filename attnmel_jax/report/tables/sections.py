"""One table of the thesis, or its like: groups of runs, and what stands beside each."""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any
from typing import NamedTuple

from attnmel_jax.evaluation import score_summary
from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report import run_reader
from attnmel_jax.report.tables import attention
from attnmel_jax.report.tables import binary
from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import comparison
from attnmel_jax.report.tables import estimates as estimates_lib
from attnmel_jax.report.tables import per_class
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib

_TITLE_3_3 = 'Jaccard index of attention maps and CAM with the lesion masks'

TASKS = (published_lib.TABLE_3_1, published_lib.TABLE_3_2, published_lib.TABLE_3_4)


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
  """Everything of one table of the thesis, or of one task of one's own."""

  title: str
  lines: list[str]                   # what is to be said first
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


def belongs(run: run_reader.FinishedRun, task: published_lib.Published) -> bool:
  """Whether a classifier does the task of a table."""
  classes = tuple(run.summary.get('class_names', ()))
  binary = len(task.class_names) == 1
  same = len(classes) == 2 and classes[1:] == task.class_names if binary else (
      classes == task.class_names)
  return same and (run.config['dataset'] == task.dataset
                   and run.config['model'] != 'unet')


def tasks(runs: Sequence[run_reader.FinishedRun]
          ) -> list[tuple[published_lib.Published, list[run_reader.FinishedRun]]]:
  """Every task of the thesis, then those of the other classifiers, with their runs."""
  found = [(task, [run for run in runs if belongs(run, task)]) for task in TASKS]
  placed = [run.folder for _, own in found for run in own]
  others: dict[tuple[str, tuple[str, ...]], list[run_reader.FinishedRun]] = {}
  for run in runs:
    if run.config['model'] != 'unet' and run.folder not in placed:
      others.setdefault(
          (run.config['dataset'], tuple(run.summary['class_names'])), []).append(run)
  numbers = collections.Counter()
  for (dataset, classes), own in sorted(others.items()):
    numbers[dataset] += 1
    number = dataset + (f'_task{numbers[dataset]}' if numbers[dataset] > 1 else '')
    found.append((published_lib.unpublished(
        number, names.task_title(dataset, classes), dataset, classes), own))
  return found


def of_task(task: published_lib.Published, groups: Sequence[groups.Group],
            plan: Plan) -> Iterator[Section]:
  """The table of a task, and after Table 3.2 also 3.3, from the same runs.

  The attention maps of a task of one's own have a table in its section.
  """
  own = attention = Section(task.label, [], [], [])
  if task.number == '3.2':
    attention = Section('Table 3.3', [], [], [])
  for index, group in enumerate(groups):
    estimates = estimates_lib.Estimates(
        group, num_draws=plan.defaults['bootstrap_draws'],
        seed=plan.defaults['bootstrap_seed'])
    heads = _Heads(task, groups, index, plan, estimates)
    own.tables.extend(_of_group(task, heads, estimates, plan))
    if plan.reference not in group.units:
      own.lines.append(
          f'{_name(task.stem, index)} has no comparisons: {plan.reference} '
          '(--reference) has no run among its systems, which are '
          f'{", ".join(group.units)}.')
    if _has_attention_table(task) and attention.maps(estimates):
      _add_attention(attention, task, heads, estimates, plan)
  if not groups:
    own.lines.append(f'No run: {task.stem} holds the published numbers alone.')
    own.files_alone.append(_main(task, None, True, table_lib.Head(
        task.stem, f'{task.label}. {task.title}', (),
        tuple(captions.beside(task, 'test')))))
  yield own
  if task.number == '3.2':
    if not attention.tables:
      attention.lines.append(
          f'No run with maps: {_TABLE_3_3.stem} holds the published numbers alone.')
      attention.files_alone.append(attention.main(
          None, published=published_lib.JACCARD, complete=True, head=table_lib.Head(
              _TABLE_3_3.stem, f'{_TABLE_3_3.label}. {_TITLE_3_3}', (),
              (*attention.NOTES, *captions.beside(task, 'test')))))
    yield attention


class _Series(NamedTuple):
  """What the files and the titles of tables begin with."""

  stem: str
  label: str


_TABLE_3_3 = _Series('table_3_3', 'Table 3.3')


def _has_attention_table(task: published_lib.Published) -> bool:
  """Whether the maps have a table: 3.3, or one of a task of one's own."""
  return task.number == '3.2' or not task.systems


def _name(stem: str, index: int) -> str:
  """Of a table's files; the first group has the plain name."""
  return stem + (f'_group{index + 1}' if index else '')


def _main(task, estimates, complete, head) -> table_lib.Table:
  module = binary if len(task.class_names) == 1 else per_class
  return module.main(task, estimates, complete=complete, head=head)


class _Heads:
  """Names and captions of the tables of one group."""

  def __init__(self, task, groups, index, plan, estimates):
    group = groups[index]
    self._index = index
    key = task.dataset
    if key == 'isic2018' and group.settings['num_folds'] > 1:
      key = 'isic2018_cv'
    experiment = plan.experiments.get(
        key, Experiment('configs/common.py', plan.defaults))
    self._context = (*captions.scored(estimates), *captions.settings(
        group, experiment=experiment.file, defaults=experiment.config, first=groups[0]))
    self.is_first = not index

  def of(self, series: _Series, kind: str, title: str, *notes: str) -> table_lib.Head:
    """Of a table of the group; `kind` ends the name of its files."""
    group = f', group {self._index + 1}' if self._index else ''
    name = _name(series.stem, self._index) + (f'_{kind}' if kind else '')
    return table_lib.Head(name, f'{series.label}{group}. {title}', self._context, notes)


def _of_group(task, heads: _Heads, estimates: estimates_lib.Estimates, plan: Plan
              ) -> list[table_lib.Table]:
  """The table itself, then what belongs beside it."""
  series, classes = _Series(task.stem, task.label), task.class_names
  title = task.title if task.systems else 'Scores'
  tables = [_main(task, estimates, heads.is_first, heads.of(
      series, '', title, *captions.beside(task, estimates.group.split)))]
  if len(classes) == 1:
    metrics = ('ap', 'auc', 'balanced_accuracy', 'sensitivity', 'specificity')
    titles = {metric: published_lib.TITLES[metric] for metric in metrics}
    tables += [
        binary.operating_points(estimates, head=heads.of(
            series, 'operating_points', 'Operating points', 'At 95 %: the best point '
            'of the scored curve itself. At the threshold, which validation chose '
            '(Youden\'s); 0.5 where there is no validation set.')),
        binary.calibration(estimates, head=heads.of(
            series, 'calibration', 'Calibration', 'ECE: expected calibration error in '
            f'{score_summary.NUM_BINS} bins; the temperature has the least log loss on '
            'validation. Means over seeds and folds, without intervals.'))]
  else:
    titles = {'balanced_accuracy': 'balanced accuracy',
              'auc_mean': 'AUC, mean of classes'}
    titles |= {f'recall_{name}': f'recall {name}' for name in classes}
    tables.append(per_class.areas(estimates, head=heads.of(
        series, 'auc', 'Areas under ROC curves, each class against the rest',
        'The spread over folds is a standard deviation, with lowest and highest; folds '
        'share training images, so it is no standard error.')))
  if not _has_attention_table(task):
    titles |= {'jaccard_pool3': 'Jaccard pool-3', 'jaccard_pool4': 'Jaccard pool-4'}
  notes = () if len(classes) == 1 else (
      'DeLong\'s and McNemar\'s tests are of binary tasks alone.',)
  if plan.reference in estimates.group.units:
    tables.append(comparison.of_systems(
        estimates, plan.reference, titles, head=heads.of(
            series, 'comparisons', f'All systems against {plan.reference}', *notes)))
  return [table for table in tables if table is not None]


def _add_attention(section: Section, task: published_lib.Published, heads: _Heads,
                   estimates: estimates_lib.Estimates, plan: Plan) -> None:
  """The tables of one group's maps."""
  series, published = _TABLE_3_3, published_lib.JACCARD
  if not task.systems:
    series, published = _Series(f'{task.stem}_attention', task.label), {}
  main = attention.main(
      estimates, published=published, complete=heads.is_first, head=heads.of(
          series, '', _TITLE_3_3,
          f'{attention.annotated(estimates)} images are annotated.',
          *attention.NOTES, *captions.beside(task, estimates.group.split)))
  section.tables.append(main)
  compared = attention.compare(estimates, plan.reference, head=heads.of(
      series, 'comparisons', f'All maps against those of {plan.reference}',
      'A map is compared with the same map of the reference; where it has none, with '
      'its deepest.'))
  if compared is None:
    section.lines.append(f'{main.head.name} has no comparisons: {plan.reference} '
                         '(--reference) has no maps in it, or is the only system.')
  else:
    section.tables.append(compared)
  swept = attention.sweep(estimates, head=heads.of(
      series, 'thresholds', 'Mean Jaccard index at each threshold'))
  if swept is not None:
    section.lines.append(f'{swept.head.name} holds the mean Jaccard index at each '
                         'threshold.')
    section.files_alone.append(swept)
