"""Comparisons against calculations by hand and SciPy."""

import numpy as np
import pytest
import scipy.stats

from attnmel_jax.evaluation import significance
from attnmel_jax.report.tables import comparison
from attnmel_jax.report.tables import published
from attnmel_jax.report.tables import table as table_lib
from tests.report import run_folders

HEAD = table_lib.Head('table', 'Title', (), ())


def _runs(folder, *, seeds=(0,), folds=(0,), **options):
  return [
      run_folders.write(
          folder / f'{model}{seed}{fold}',
          run_folders.config('isic2017', model=model, seed=seed, fold=fold,
                             num_folds=len(folds)),
          rows=80, skill=skill, threshold=threshold, **options)
      for model, skill, threshold in (('attnmel_cnn', 0.5, 0.55), ('mel_cnn', 0.8, 0.4),
                                      ('vgg16', 0.9, 0.6))
      for seed in seeds for fold in folds]


def _table(runs, reference='AttnMel-CNN'):
  return comparison.of_systems(
      run_folders.context(runs, num_draws=199, reference=reference))


def _delong_variance(labels, a, b):
  """Of the difference, from placements written out pair by pair."""
  def kernel(scores):
    return np.array([[float(x > y) + 0.5 * (x == y) for y in scores[labels == 0]]
                     for x in scores[labels == 1]])

  difference = kernel(a) - kernel(b)
  return (difference.mean(axis=1).var(ddof=1) / len(difference)
          + difference.mean(axis=0).var(ddof=1) / difference.shape[1])


def test_every_number_of_a_family(tmp_path):
  runs = _runs(tmp_path)
  table = _table(runs)
  rows = {(row['score'], row['system']): row for row in run_folders.texts(table)}
  assert {score for score, _ in rows} == {
      'AP', 'AUC', 'balanced accuracy', 'sensitivity', 'specificity'}
  assert len(rows) == 10
  group = run_folders.group(runs, num_draws=199)
  tables = {name: own[0].table for name, own in group.systems.items()}
  labels = tables['Mel-CNN'].labels
  scores = {name: table.probabilities[:, 1] for name, table in tables.items()}
  p_values, delong = {}, {}
  for name in ('VGG-16', 'Mel-CNN'):
    drawn = group.values(name, 'auc') - group.values('AttnMel-CNN', 'auc')
    low, high = np.quantile(drawn[1:], [0.025, 0.975])
    assert rows['AUC', name]['difference'] == (
        f'{drawn[0]:+.3f} [{low:+.3f}, {high:+.3f}]'.replace('-', '−'))
    tail = min((drawn[1:] <= 0).sum(), (drawn[1:] >= 0).sum())
    p_values[name] = min(1, 2 * (tail + 1) / 200)
    error = _delong_variance(labels, scores[name], scores['AttnMel-CNN']) ** 0.5
    delong[name] = 2 * scipy.stats.norm.sf(abs(drawn[0]) / error)
    row = rows['AUC', name]
    assert row['other test'] == f'DeLong, s.e. {error:.3f}'
    assert (row['comparisons'], row['tests'], row['reference']) == (
        '2', '2', 'AttnMel-CNN')
  for column, adjusted, values in (('p', 'p (Holm)', p_values),
                                   ('p of it', 'p of it (Holm)', delong)):
    first, last = sorted(values, key=values.get)
    holm = {first: min(1, 2 * values[first])}
    holm[last] = max(holm[first], values[last])
    for name in values:
      assert rows['AUC', name][column] == table_lib.p_value(values[name]).text
      assert rows['AUC', name][adjusted] == table_lib.p_value(min(1, holm[name])).text
  thresholds = {'AttnMel-CNN': 0.55, 'VGG-16': 0.6}
  right = {name: (scores[name] >= t) == labels for name, t in thresholds.items()}
  for score, k in (('sensitivity', 1), ('specificity', 0)):
    own = (right['VGG-16'] & ~right['AttnMel-CNN'])[labels == k].sum()
    theirs = (~right['VGG-16'] & right['AttnMel-CNN'])[labels == k].sum()
    row = rows[score, 'VGG-16']
    assert row['other test'] == f'McNemar {own} : {theirs}'
    expected = min(1, 2 * scipy.stats.binom.cdf(min(own, theirs), own + theirs, 0.5))
    assert row['p of it'] == table_lib.p_value(expected).text
  said = ' '.join(table.head.notes)
  assert 'DeLong: ' in said and 'McNemar: ' in said


@pytest.mark.parametrize('options, reason, note', [
    ({'seeds': (0, 1)}, 'several seeds', 'never put in a row'),
    ({'folds': (0, 1)}, 'several folds', 'not one fixed set'),
    ({'per_lesion': 2}, 'clustered images', 'they refuse')])
def test_why_there_is_no_other_test(tmp_path, options, reason, note):
  table = _table(_runs(tmp_path, **options))
  rows = run_folders.texts(table)
  assert {row['other test'] for row in rows} == {'–', reason}
  assert {row['p of it'] for row in rows} == {'–'}
  assert note in ' '.join(table.head.notes)


def test_holm_names_the_number_of_other_tests_that_could_be_made(tmp_path):
  more = _runs(tmp_path / 'more', seeds=(1, 2))
  runs = _runs(tmp_path) + [run for run in more if run.config['model'] == 'vgg16']
  rows = {row['system']: row for row in run_folders.texts(_table(runs))
          if row['score'] == 'AUC'}
  assert {name: (row['comparisons'], row['tests']) for name, row in rows.items()} == {
      'Mel-CNN': ('2', '1'), 'VGG-16': ('2', '–')}
  assert rows['VGG-16']['other test'] == 'several seeds'
  assert rows['Mel-CNN']['p of it (Holm)'] == rows['Mel-CNN']['p of it']


def test_a_system_alone_has_nothing_to_be_compared_with(tmp_path):
  assert _table(_runs(tmp_path)[:1]) is None


def test_columns_without_use_are_left_out():
  difference = significance.Difference(0.5, 0.25, 0.75, float('nan'))
  body = comparison.rows('s', {'a': 'b'}, {'a': difference},
                         {'a': comparison.NO_TEST})
  (row,) = run_folders.texts(comparison.table(HEAD, body))
  assert row == {'score': 's', 'system': 'a', 'reference': 'b', 'comparisons': '0',
                 'difference': '+0.500 [+0.250, +0.750]', 'p': 'undefined',
                 'p (Holm)': 'undefined'}


def test_maps_of_any_tap_are_compared_where_no_table_of_maps_is(tmp_path):
  runs = [run_folders.write(tmp_path / roi, run_folders.config('isic2016', roi=roi),
                            scored=('pool1', 'pool4')) for roi in ('none', 'lesion')]
  rows = run_folders.texts(comparison.of_systems(
      run_folders.context(runs, published.TABLE_3_1)))
  assert [row['score'] for row in rows[-2:]] == ['Jaccard pool-1', 'Jaccard pool-4']
