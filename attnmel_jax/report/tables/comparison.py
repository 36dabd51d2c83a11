"""All systems of a table against one of them, score by score."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnmel_jax import errors
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import run_predictions
from attnmel_jax.evaluation import score_summary
from attnmel_jax.evaluation import significance
from attnmel_jax.report import groups
from attnmel_jax.report import names as names_lib
from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib

COLUMNS = ('score', 'system', 'reference', 'difference', 'p', 'p (Holm)', 'comparisons',
           'other test', 'p of it', 'p of it (Holm)', 'tests')

# Short words in a cell, and what they mean.
_REASONS = {
    'several seeds': 'Other tests compare two fixed sets of predictions, one trained '
                     'network each: with several seeds there are none, and seeds are '
                     'never put in a row.',
    'several folds': 'The networks of several folds are not one fixed set of scores: '
                     'DeLong\'s and McNemar\'s tests take none.',
    'clustered images': 'Some lesions have several images, which DeLong\'s and '
                        'McNemar\'s tests would take for independent: they refuse.',
}


class OtherTest(NamedTuple):
  """DeLong's or McNemar's test of one comparison, or why there is none."""

  text: str
  p_value: float  # nan where there is none


NO_TEST = OtherTest('–', float('nan'))


def rows(score: str, against: Mapping[str, str],
         differences: Mapping[str, significance.Difference],
         tests: Mapping[str, OtherTest]) -> list[list[table_lib.Cell]]:
  """The rows of one score: a family, which Holm adjusts as one.

  Args:
    score: its title.
    against: row -> what it is compared with.
    differences: row -> paired difference.
    tests: row -> the other test.
  """
  own = significance.holm([d.p_value for d in differences.values()])
  other = significance.holm([tests[name].p_value for name in differences])
  result = []
  for i, (name, difference) in enumerate(differences.items()):
    test = tests[name]
    cells = [table_lib.NOTHING] * 3
    if not np.isnan(test.p_value):
      cells = [table_lib.p_value(test.p_value), table_lib.p_value(other.adjusted[i]),
               table_lib.Cell(str(other.number))]
    interval = bootstrap.Interval(
        difference.estimate, difference.low, difference.high, 0)
    result.append([
        table_lib.Cell(score), table_lib.Cell(name), table_lib.Cell(against[name]),
        table_lib.interval(interval, signed=True),
        table_lib.p_value(difference.p_value), table_lib.p_value(own.adjusted[i]),
        table_lib.Cell(str(own.number)), table_lib.Cell(test.text), *cells])
  return result


def of_systems(context: captions.Context) -> table_lib.Table | None:
  """Every system less the reference in each of the scores.

  None where the reference has no run in the group, or no other system has one.
  """
  group, reference = context.group, context.reference
  body = []
  for metric, title in _titles(context).items():
    names = [system for system in group.units if group.has(system, metric)]
    if reference not in names or len(names) < 2:
      continue
    differences = {
        system: significance.paired_difference(
            group.values(system, metric), group.values(reference, metric),
            level=score_summary.LEVEL)
        for system in names if system != reference}
    tests = {system: _test(group, metric, system, reference)
             for system in differences}
    body += rows(title, dict.fromkeys(differences, reference), differences, tests)
  notes = () if context.task.is_binary else (
      'DeLong\'s and McNemar\'s tests are of binary tasks alone.',)
  head = context.head('comparisons', f'All systems against {reference}', *notes)
  return table(head, body) if body else None


def _titles(context: captions.Context) -> dict[str, str]:
  """The scores that are compared, and their titles."""
  if context.task.is_binary:
    titles = {metric: published_lib.TITLES[metric] for metric in (
        'ap', 'auc', 'balanced_accuracy', 'sensitivity', 'specificity')}
  else:
    titles = {'balanced_accuracy': 'balanced accuracy',
              'auc_mean': 'AUC, mean of classes'}
    titles |= {f'recall_{name}': f'recall {name}' for name in context.task.class_names}
  if not context.task.has_maps:
    titles |= {f'jaccard_{tap}': f'Jaccard {names_lib.map_name(tap)}'
               for tap in groups.taps(context.group)}
  return titles


def table(head: table_lib.Head, body: Sequence[Sequence[table_lib.Cell]]
          ) -> table_lib.Table:
  """Rows of `rows` with notes on what their columns hold; no column without use."""
  head = head._replace(notes=(*head.notes, *_explain(body)))
  used = len(COLUMNS)
  if all(row[COLUMNS.index('other test')].text == NO_TEST.text for row in body):
    used = COLUMNS.index('other test')
  return table_lib.Table(head, COLUMNS[:used], [row[:used] for row in body])


def _explain(body: Sequence[Sequence[table_lib.Cell]]) -> list[str]:
  said = {row[COLUMNS.index('other test')].text for row in body}
  sentences = [
      'Difference: the system less the reference, 95 % interval of the paired '
      'bootstrap (the same draws for both), not adjusted; p belongs to it. Holm: '
      'adjusted for all comparisons of the table in that score, whose number is given.']
  if any(text.startswith('DeLong') for text in said):
    sentences.append('DeLong: test of two areas, standard error of the difference.')
  if any(text.startswith('McNemar') for text in said):
    sentences.append('McNemar: exact test at the threshold of each network, on the '
                     'positives for sensitivity, on the negatives for specificity; '
                     'images that only the system classifies correctly : only the '
                     'reference.')
  if len(sentences) > 1:
    sentences.append('Holm of these: adjusted for those that could be made in that '
                     'score, as many as stand under tests.')
  return sentences + [text for word, text in _REASONS.items() if word in said]


def _test(group: groups.Group, metric: str, system: str, reference: str
          ) -> OtherTest:
  """Of two fixed sets of predictions, where the score has such a test."""
  if metric not in ('auc', 'sensitivity', 'specificity'):
    return NO_TEST
  if max(len(group.units[name]) for name in (system, reference)) > 1:
    return OtherTest('several seeds', float('nan'))
  a, b = group.units[system][0].run, group.units[reference][0].run
  if len(np.unique(a.folds)) > 1:
    return OtherTest('several folds', float('nan'))
  try:
    return _of_fixed(metric, a, b)
  except errors.UserError:
    return OtherTest('clustered images', float('nan'))


def _of_fixed(metric: str, a: run_predictions.Run, b: run_predictions.Run) -> OtherTest:
  """DeLong's or McNemar's; UserError where a lesion has several images."""
  labels, groups = a.predictions.labels, a.images.groups
  pair = [run.predictions.probabilities[:, 1] for run in (a, b)]
  if metric == 'auc':
    found = significance.delong(labels, *pair, groups=groups)
    defined = not np.isnan(found.p_value)
    text = f'DeLong, s.e. {found.standard_error:.3f}' if defined else 'undefined'
    return OtherTest(text, found.p_value)
  by_class = significance.mcnemar(
      labels, *pair, threshold_a=float(a.thresholds[0]),
      threshold_b=float(b.thresholds[0]), groups=groups)
  own = by_class.positives if metric == 'sensitivity' else by_class.negatives
  return OtherTest(f'McNemar {own.only_a} : {own.only_b}', own.p_value)
