"""What the tables of a group are made from, and what is said of their numbers."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.report import groups
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib

_LISTED = 3  # lines on leakage


class Context(NamedTuple):
  """What a table is made from: a task, and a group of its runs.

  Where no run does the task there is no group, and its tables hold the published
  numbers alone.
  """

  task: published_lib.Published
  group: groups.Group | None
  reference: str             # the system that others are compared with
  shared: tuple[str, ...]    # sentences that hold for all tables of the group

  @property
  def is_first(self) -> bool:
    """Whether its tables repeat rows of the thesis that have no run."""
    return self.group is None or self.group.number == 1

  def head(self, kind: str, title: str, *notes: str,
           series: tuple[str, str] | None = None) -> table_lib.Head:
    """Of a table of the group.

    Args:
      kind: ends the name of its files; '' for the task's own table.
      title: what it holds.
      *notes: on this table alone.
      series: begin of the name of its files and of its title, where they are not
        those of the task.
    """
    stem, label = series or (self.task.stem, self.task.label)
    name = stem
    if self.group:
      label += self.group.suffix
      name += f'_group{self.group.number}' if self.group.number > 1 else ''
    return table_lib.Head(name + (f'_{kind}' if kind else ''), f'{label}. {title}',
                          self.shared, notes)

  @property
  def on_published(self) -> list[str]:
    """What the published numbers are of, and what a difference from them is."""
    if not self.task.systems:
      return []
    sentences = [
        f'Published numbers are those of the thesis, on {self.task.images}.']
    split = self.group.split if self.group else 'test'
    if split != 'test' or self.task.number == '3.4':
      sentences.append('Differences from them compare two sets of images.')
    return sentences


def shared(group: groups.Group, *, experiment: str, defaults: Mapping[str, Any]
           ) -> tuple[str, ...]:
  """What holds for every table of a group.

  Args:
    group: of runs.
    experiment: path of the experiment file whose config is closest.
    defaults: that config.
  """
  run, names = group.example, group.class_names
  classes = ', '.join(
      f'{name} {count}' for name, count in zip(names, group.counts, strict=True))
  sentences = [
      f'Ours: {group.split} split, {len(run.folds)} images of '
      f'{len(np.unique(run.images.groups))} lesions ({classes}).',
      *_folds(group), _errors(group)]
  if group.split == 'validation':
    sentences.append('The validation images also chose checkpoint and threshold, which '
                     'flatters these scores.')
  sentences += [*near_duplicates([member.scores.values for member in group.members]),
                *synthetic(group.synthetic),
                *leakage([member.scores.leakage for member in group.members])]
  changed = groups.differing(group.settings, defaults) or 'none'
  sentences.append(f'Settings that differ from {experiment}: {changed}.')
  if group.apart:
    sentences.append(f'A table of its own because of {group.apart}: nothing here is '
                     'compared with the runs of the first.')
  return tuple(sentences)


def near_duplicates(runs: Sequence[Mapping[str, Any]]) -> list[str]:
  """How many of the scored images look like some that a run was trained on."""
  numbers = {scores['n'] - scores['without_near_duplicates']['n']
             for scores in runs if 'without_near_duplicates' in scores}
  if not numbers:
    return []
  most = max(numbers)
  return [f'{most} of these images look{"s" * (most == 1)} like one that a run was '
          'trained on or chosen by; the table of all runs and each summary.json hold '
          'the scores without such near-duplicates.']


def leakage(runs: Sequence[Sequence[str]]) -> list[table_lib.Stamp]:
  """What flatters the scores of some of the runs, or nothing."""
  leaky = [lines for lines in runs if lines]
  if not leaky:
    return []
  every = list(dict.fromkeys(line for lines in leaky for line in lines))
  more = f'; and {len(every) - _LISTED} more' if len(every) > _LISTED else ''
  return [table_lib.Stamp(
      f'Leakage, which flatters scores, in {len(leaky)} of {len(runs)} runs: '
      f'{"; ".join(every[:_LISTED])}{more}.')]


def synthetic(is_synthetic: bool) -> list[str]:
  """The warning, or nothing."""
  return [table_lib.Bold(
      'Synthetic data: a program drew these images; the scores, and their differences '
      'from published ones, show that the software works; they say nothing about '
      'patients.')
          ] * is_synthetic


def _folds(group: groups.Group) -> list[str]:
  number = group.settings['num_folds']
  if number == 1:
    return []
  folds = np.unique(group.example.folds)
  present = ', '.join(map(str, folds))
  kind = ('all images of a lesion in one fold' if group.settings['group_folds']
          else 'folds of single images: a lesion may be trained on and tested')
  sentences = [f'Cross-validation, {kind}: fold{"s" * (len(folds) > 1)} {present} ('
               f'{len(folds)} of {number}); '
               'recalls and other shares of images are those of all folds together, '
               'areas under curves are averaged over the folds.']
  if len(folds) < number:
    sentences.append(table_lib.Bold(
        f'Not a whole cross-validation: {len(folds)} of {number} folds.'))
  return sentences


def _errors(group: groups.Group) -> str:
  """What the intervals hold."""
  sources = {name: bootstrap.error_source(len(own))
             for name, own in group.units.items()}
  if len(set(sources.values())) == 1:
    numbers = sorted({len(own) for own in group.units.values()})
    seeds = ' or '.join(map(str, numbers))
    kind = (f'{next(iter(sources.values()))} ({seeds} seed{"s" * (numbers[-1] > 1)} a '
            'system)')
  else:
    several = ', '.join(name for name, source in sources.items() if 'seeds' in source)
    kind = f'test sampling and seeds for {several}, test sampling only for the others'
  # Of naive folds a lesion may be in several, and is drawn as a whole.
  within = len(np.unique(group.example.folds)) > 1 and group.settings['group_folds']
  fold = ' and fold' if within else ''
  return (f'Intervals: 95 %, percentile bootstrap, {group.draws.num_draws} draws of '
          f'lesions within their class{fold}; they cover {kind}.')
