"""Sentences that say what a table's numbers are of."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from attnmel_jax.report import groups
from attnmel_jax.report.tables import estimates as estimates_lib
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib

_LISTED = 3  # lines on leakage


def scored(estimates: estimates_lib.Estimates) -> list[str]:
  """Which images, folds, seeds and draws: for every table of a group."""
  group, run = estimates.group, estimates.group.example
  names = run.predictions.class_names
  counts = np.bincount(run.predictions.labels, minlength=len(names))
  classes = ', '.join(
      f'{name} {count}' for name, count in zip(names, counts, strict=True))
  sentences = [
      f'Ours: {group.split} split, {len(run.folds)} images of '
      f'{len(np.unique(run.images.groups))} lesions ({classes}).',
      *_folds(group), _errors(estimates)]
  if group.split == 'validation':
    sentences.append('The validation images also chose checkpoint and threshold, which '
                     'flatters these scores.')
  return [*sentences, *near_duplicates([member.scores for member in group.members]),
          *synthetic(group.synthetic),
          *leakage([member.leakage for member in group.members])]


def near_duplicates(runs: Sequence[Mapping[str, Any]]) -> list[str]:
  """How many images of the scores look like some that were learnt from, or nothing."""
  numbers = {scores['n'] - scores['without_near_duplicates']['n']
             for scores in runs if 'without_near_duplicates' in scores}
  if not numbers:
    return []
  most = max(numbers)
  return [f'{most} of these images look{"s" * (most == 1)} like one that a run learnt '
          'from or was chosen by; the table of all runs and each summary.json hold the '
          'scores without such near-duplicates.']


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
      'from published ones, say that the software works, and nothing of patients.')
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


def _errors(estimates: estimates_lib.Estimates) -> str:
  units = estimates.group.units
  kinds = {estimates.error_source(name) for name in units}
  if len(kinds) == 1:
    numbers = sorted({len(own) for own in units.values()})
    seeds = ' or '.join(map(str, numbers))
    kind = f'{kinds.pop()} ({seeds} seed{"s" * (numbers[-1] > 1)} a system)'
  else:
    several = ', '.join(name for name in units
                        if 'seeds' in estimates.error_source(name))
    kind = f'test sampling and seeds for {several}, test sampling only for the others'
  draws = estimates.draws
  run = estimates.group.example
  # Of naive folds a lesion may be in several, and is drawn as a whole.
  within = len(np.unique(run.folds)) > 1 and estimates.group.settings['group_folds']
  fold = ' and fold' if within else ''
  return (f'Intervals: 95 %, percentile bootstrap, {draws.num_draws} draws of lesions '
          f'within their class{fold}; they hold {kind}.')


def settings(group: groups.Group, *, experiment: str, defaults: Mapping[str, Any],
             first: groups.Group) -> list[str]:
  """What the runs were made with, and why they have a table of their own."""
  changed = list(groups.differing(group.settings, defaults))
  sentences = [
      f'Settings that differ from {experiment}: {", ".join(changed) or "none"}.']
  if group is first:
    return sentences
  apart = list(groups.differing(group.settings, first.settings))
  if apart:
    reason = f'other settings ({", ".join(apart)})'
  elif group.split != first.split:
    reason = f'other images ({group.split} instead of {first.split})'
  elif groups.images_differ(group, first):
    reason = 'other images, or other folds of them'
  else:
    reason = 'other training or validation data (by their fingerprints)'
  return [*sentences, f'A table of its own because of {reason}: nothing here is '
          'compared with the runs of the first.']


def beside(published: published_lib.Published, split: str) -> list[str]:
  """What the published numbers are of, and what a difference from them is."""
  if not published.systems:
    return []
  sentences = [f'What is marked as published is the thesis\'s: of {published.images}.']
  if split != 'test' or published.number == '3.4':
    sentences.append('A difference from them is one between two sets of images.')
  return sentences
