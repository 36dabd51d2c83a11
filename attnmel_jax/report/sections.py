"""One table of the thesis: its groups of runs, and what stands beside each."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any
from typing import NamedTuple

from attnmel_jax.evaluation import scores
from attnmel_jax.report import attention_table
from attnmel_jax.report import binary_tables
from attnmel_jax.report import captions
from attnmel_jax.report import class_table
from attnmel_jax.report import comparison
from attnmel_jax.report import comparison_table
from attnmel_jax.report import estimates as estimates_lib
from attnmel_jax.report import gathering
from attnmel_jax.report import published as published_lib
from attnmel_jax.report import table as table_lib

_TITLE_3_3 = 'Jaccard index of attention maps and CAM with the lesion masks'

TASKS = (published_lib.TABLE_3_1, published_lib.TABLE_3_2, published_lib.TABLE_3_4)


class Experiment(NamedTuple):
  """An experiment file and the config that it gives."""

  file: str
  config: Mapping[str, Any]


class Plan(NamedTuple):
  """What is asked of a report."""

  experiments: Mapping[str, Experiment]  # isic2016, isic2017, isic2018, isic2018_cv
  defaults: Mapping[str, Any]            # of every field; draws of the bootstrap
  reference: str                         # the system that others are compared with
  split: str                             # auto, test or validation
  data_dir: pathlib.Path | None          # with photographs; None: where runs had them


class Section(NamedTuple):
  """Everything of one table of the thesis."""

  title: str
  lines: list[str]                   # what is to be said first
  tables: list[table_lib.Table]
  files_alone: list[table_lib.Table]  # tables that the page does not show


def belongs(run: comparison.FinishedRun, task: published_lib.Published) -> bool:
  """Whether a classifier does the task of a table."""
  names = tuple(run.summary.get('class_names', ()))
  binary = len(task.class_names) == 1
  same = len(names) == 2 and names[1:] == task.class_names if binary else (
      names == task.class_names)
  return same and (run.config['dataset'] == task.dataset
                   and run.config['model'] != 'unet')


def of_task(task: published_lib.Published, groups: Sequence[gathering.Group],
            plan: Plan) -> Iterator[Section]:
  """The table of a task, and after Table 3.2 also 3.3, from the same runs."""
  own = Section(f'Table {task.number}', [], [], [])
  attention = Section('Table 3.3', [], [], [])
  for index, group in enumerate(groups):
    estimates = estimates_lib.Estimates(
        group, num_draws=plan.defaults['bootstrap_draws'],
        seed=plan.defaults['bootstrap_seed'])
    heads = _Heads(task, groups, index, plan, estimates)
    own.tables.extend(_of_group(task, heads, estimates, plan))
    if plan.reference not in group.units:
      own.lines.append(
          f'{_name(task.number, index)} has no comparisons: {plan.reference} '
          '(--reference) has no run among its systems, which are '
          f'{", ".join(group.units)}.')
    if task.number == '3.2' and attention_table.maps(estimates):
      _add_attention(attention, heads, estimates, plan)
  if not groups:
    own.lines.append(
        f'No run: {_name(task.number, 0)} holds the published numbers alone.')
    own.files_alone.append(_main(task, None, True, table_lib.Head(
        _name(task.number, 0), f'Table {task.number}. {task.title}', (),
        tuple(captions.beside(task, 'test')))))
  yield own
  if task.number == '3.2':
    if not attention.tables:
      attention.lines.append(
          f'No run with maps: {_name("3.3", 0)} holds the published numbers alone.')
      attention.files_alone.append(attention_table.main(
          None, complete=True, head=table_lib.Head(
              _name('3.3', 0), f'Table 3.3. {_TITLE_3_3}', (),
              (*attention_table.NOTES, *captions.beside(task, 'test')))))
    yield attention


def _name(number: str, index: int) -> str:
  """Of a table's files; the first group has the plain name."""
  return f'table_{number.replace(".", "_")}' + (f'_group{index + 1}' if index else '')


def _main(task, estimates, complete, head) -> table_lib.Table:
  module = binary_tables if len(task.class_names) == 1 else class_table
  return module.main(task, estimates, complete=complete, head=head)


class _Heads:
  """Names and captions of the tables of one group."""

  def __init__(self, task, groups, index, plan, estimates):
    group = groups[index]
    self._index = index
    key = task.dataset
    if key == 'isic2018' and group.settings['num_folds'] > 1:
      key = 'isic2018_cv'
    experiment = plan.experiments[key]
    self._context = (*captions.scored(estimates), *captions.settings(
        group, experiment=experiment.file, defaults=experiment.config, first=groups[0]))
    self.is_first = not index

  def of(self, number: str, kind: str, title: str, *notes: str) -> table_lib.Head:
    """Of a table of the group; `kind` ends the name of its files."""
    group = f', group {self._index + 1}' if self._index else ''
    name = _name(number, self._index) + (f'_{kind}' if kind else '')
    return table_lib.Head(name, f'Table {number}{group}. {title}', self._context, notes)


def _of_group(task, heads: _Heads, estimates: estimates_lib.Estimates, plan: Plan
              ) -> list[table_lib.Table]:
  """The table itself, then what belongs beside it."""
  number, names = task.number, task.class_names
  tables = [_main(task, estimates, heads.is_first, heads.of(
      number, '', task.title, *captions.beside(task, estimates.group.split)))]
  if len(names) == 1:
    metrics = ('ap', 'auc', 'balanced_accuracy', 'sensitivity', 'specificity')
    titles = {metric: published_lib.TITLES[metric] for metric in metrics}
    tables += [
        binary_tables.operating_points(estimates, head=heads.of(
            number, 'operating_points', 'Operating points', 'At 95 %: the best point '
            'of the scored curve itself. At the threshold, which validation chose '
            '(Youden\'s); 0.5 where there is no validation set.')),
        binary_tables.calibration(estimates, head=heads.of(
            number, 'calibration', 'Calibration', 'ECE: expected calibration error in '
            f'{scores.NUM_BINS} bins; the temperature has the least log loss on '
            'validation. Means over seeds and folds, without intervals.'))]
  else:
    titles = {'balanced_accuracy': 'balanced accuracy',
              'auc_mean': 'AUC, mean of classes'}
    titles |= {f'recall_{name}': f'recall {name}' for name in names}
    tables.append(class_table.areas(estimates, head=heads.of(
        number, 'auc', 'Areas under ROC curves, each class against the rest',
        'The spread over folds is a standard deviation, with lowest and highest; folds '
        'share training images, so it is no standard error.')))
  if number != '3.2':  # there they are Table 3.3's
    titles |= {'jaccard_pool3': 'Jaccard pool-3', 'jaccard_pool4': 'Jaccard pool-4'}
  notes = () if len(names) == 1 else (
      'DeLong\'s and McNemar\'s tests are of binary tasks alone.',)
  if plan.reference in estimates.group.units:
    tables.append(comparison_table.of_systems(
        estimates, plan.reference, titles, head=heads.of(
            number, 'comparisons', f'All systems against {plan.reference}', *notes)))
  return [table for table in tables if table is not None]


def _add_attention(section: Section, heads: _Heads,
                   estimates: estimates_lib.Estimates, plan: Plan) -> None:
  """The tables of one group's maps."""
  main = attention_table.main(estimates, complete=heads.is_first, head=heads.of(
      '3.3', '', _TITLE_3_3,
      f'{attention_table.annotated(estimates)} images are annotated.',
      *attention_table.NOTES,
      *captions.beside(published_lib.TABLE_3_2, estimates.group.split)))
  section.tables.append(main)
  compared = attention_table.compare(estimates, plan.reference, head=heads.of(
      '3.3', 'comparisons', f'All maps against those of {plan.reference}',
      'A map is compared with the same map of the reference; where it has none, with '
      'its deepest.'))
  if compared is None:
    section.lines.append(f'{main.head.name} has no comparisons: {plan.reference} '
                         '(--reference) has no maps in it, or is the only system.')
  else:
    section.tables.append(compared)
  swept = attention_table.sweep(estimates, head=heads.of(
      '3.3', 'thresholds', 'Mean Jaccard index at each threshold'))
  if swept is not None:
    section.lines.append(f'{swept.head.name} holds the mean Jaccard index at each '
                         'threshold.')
    section.files_alone.append(swept)
