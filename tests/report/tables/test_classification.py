"""Tables 3.1, 3.2 and 3.4 against scikit-learn and the published cells."""

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import calibration
from attnmel_jax.report.tables import classification
from attnmel_jax.report.tables import published
from tests.report import run_folders

SEVEN = run_folders.SEVEN


def _write(folder, dataset='isic2017', *, threshold=0.45, summary=None, **fields):
  return run_folders.write(folder, run_folders.config(dataset, **fields),
                           threshold=threshold, summary=summary)


def _texts(runs, task=published.TABLE_3_2, **options):
  return run_folders.texts(classification.scores(
      run_folders.context(runs, task, **options)))


def _file(run, names=SEVEN):
  """Labels and probabilities of a run's predictions."""
  rows = np.genfromtxt(run.folder / 'predictions' / 'test.csv', delimiter=',',
                       dtype=str, skip_header=1)
  return np.array([names.index(name) for name in rows[:, 1]]), rows[:, 2:].astype(float)


def test_ours_beside_the_published(tmp_path):
  run = _write(tmp_path / 'm', model='mel_cnn')
  rows = {row['system']: row for row in _texts([run])}
  assert list(rows)[:2] == ['Winner 1 [29] (published)', 'Winner 2 [9] (published)']
  assert len(rows) == 12
  labels, probabilities = _file(run, ('other', 'melanoma'))
  scores = probabilities[:, 1]
  ours = rows['Mel-CNN']
  assert list(ours)[:7] == ['system', 'AP', 'AP published', 'AP difference', 'AUC',
                            'AUC published', 'AUC difference']
  for title, published_score, score in (
      ('AUC', 0.854, sklearn.metrics.roc_auc_score(labels, scores)),
      ('AP', 0.653, sklearn.metrics.average_precision_score(labels, scores))):
    assert ours[title].startswith(f'{score:.3f} [')
    assert ours[f'{title} published'] == str(published_score)
    assert run_folders.floats(ours[f'{title} difference']) == [
        pytest.approx(score - published_score, abs=0.0006)]
  assert ours['seeds'] == '1'
  assert rows['AttnMel-CNN']['AUC'] == rows['AttnMel-CNN']['AP'] == 'no run'
  assert rows['AttnMel-CNN']['AUC difference'] == '–'
  assert rows['AttnMel-CNN-Lesion']['Lesion (published)'] == '✓'
  assert rows['AttnMel-CNN-Lesion']['Dermo (published)'] == '✗'
  winner = rows['Winner 1 [29] (published)']
  assert (winner['AP published'], winner['AUC published'], winner['AUC']) == (
      '–', '0.868', '–')


def test_drawn_images_have_no_difference_from_published_scores(tmp_path):
  run = run_folders.write(tmp_path / 'm', run_folders.config(
      'isic2017', model='mel_cnn'), synthetic=True)
  ours = {row['system']: row for row in _texts([run])}['Mel-CNN']
  assert ours['AUC published'] == '0.854' and ours['AUC difference'] == '–'
  assert ours['AUC'] not in ('no run', '–')


def test_systems_that_the_thesis_does_not_have_come_last(tmp_path):
  runs = [_write(tmp_path / 'l', 'isic2016', roi='lesion'),
          _write(tmp_path / 'a', 'isic2016')]
  rows = _texts(runs, published.TABLE_3_1)
  assert [row['system'] for row in rows[-2:]] == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']
  assert (rows[-1]['AUC published'], rows[-1]['AUC difference'],
          rows[-1]['Lesion (published)']) == ('–', '–', '–')
  # A second group does not repeat the thesis.
  few = _texts(runs, published.TABLE_3_1, number=2)
  assert [row['system'] for row in few] == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']
  # Without runs the published numbers stay.
  alone = _texts([], published.TABLE_3_1)
  assert len(alone) == 7 and {row['AUC'] for row in alone[3:]} == {'no run'}
  assert alone[3]['AP published'] == '0.602'


def test_operating_points(tmp_path):
  runs = [_write(tmp_path / str(seed), seed=seed, threshold=threshold)
          for seed, threshold in ((0, 0.3), (1, 0.6))]
  context = run_folders.context(runs)
  (row,) = run_folders.texts(classification.operating_points(context))
  assert row['threshold'] == '0.300 to 0.600'
  shares = []
  for one in context.group.members:
    table, called = one.table, one.table.probabilities[:, 1] >= one.threshold
    false, true, _ = sklearn.metrics.roc_curve(
        table.labels, table.probabilities[:, 1], drop_intermediate=False)
    shares.append([
        called[table.labels == 1].mean(), (~called)[table.labels == 0].mean(),
        sklearn.metrics.balanced_accuracy_score(table.labels, called),
        true[false <= 0.05 + 1e-9].max(), 1 - false[true >= 0.95 - 1e-9].min()])
  columns = ('sensitivity', 'specificity', 'balanced accuracy',
             'sensitivity at 95 % specificity', 'specificity at 95 % sensitivity')
  for column, expected in zip(columns, np.mean(shares, axis=0), strict=True):
    assert row[column].startswith(f'{expected:.3f} ['), column


def test_calibration_is_that_of_the_summaries(tmp_path):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 2, 200)
  found = []
  for seed in range(2):
    probabilities = rng.dirichlet([1, 1], 200)
    error = calibration.expected_error(calibration.reliability(
        labels == 1, probabilities[:, 1], num_bins=15))
    found.append({'expected_error': error, 'log_loss': 0.25 + seed, 'tempered':
                  {'temperature': 1.0 + seed, 'expected_error': 0.125,
                   'log_loss': 0.5 * seed}})
  runs = [_write(tmp_path / str(seed), seed=seed, summary={'calibration': found[seed]})
          for seed in range(2)]
  (row,) = run_folders.texts(classification.calibration(run_folders.context(runs)))
  mean = (found[0]['expected_error'] + found[1]['expected_error']) / 2
  assert list(row.values()) == [
      'AttnMel-CNN', f'{mean:.3f}', '0.750', '1.500', '0.125', '0.250']
  plain = run_folders.context([_write(tmp_path / 'without')])
  assert classification.calibration(plain) is None


def _folds(folder, folds, model='attnmel_cnn', seeds=(0,)):
  return [run_folders.write(
      folder / f'{model}{fold}{seed}',
      run_folders.config('isic2018_cv', model=model, fold=fold, seed=seed), rows=350)
          for fold in folds for seed in seeds]


def test_recalls_of_all_folds_together_beside_the_published(tmp_path):
  runs = _folds(tmp_path, (0, 1, 2))
  table = classification.scores(run_folders.context(
      runs, published.TABLE_3_4, num_draws=5))
  assert table.columns == ('system', '', *SEVEN, 'AVG', 'AUC, mean of classes', 'seeds')
  rows = {(row['system'], row['']): row for row in run_folders.texts(table)}
  assert len(rows) == 15
  labels, probabilities = map(np.concatenate, zip(*map(_file, runs), strict=True))
  recalls = sklearn.metrics.recall_score(
      labels, probabilities.argmax(axis=1), average=None)
  ours = rows['AttnMel-CNN', 'ours']
  for name, recall in zip(SEVEN, recalls, strict=True):
    assert ours[name].startswith(f'{recall:.3f} [')
    difference = recall - float(rows['AttnMel-CNN', 'published'][name])
    assert run_folders.floats(rows['AttnMel-CNN', 'difference'][name]) == [
        pytest.approx(difference, abs=0.0006)]
  assert ours['AVG'].startswith(f'{recalls.mean():.3f} [')
  assert ours['seeds'] == '1'
  theirs, absent = rows['AttnMel-CNN', 'published'], rows['VGG-16', 'ours']
  assert (theirs['AVG'], theirs['AUC, mean of classes']) == ('0.841', '–')
  assert absent['MEL'] == absent['AUC, mean of classes'] == 'no run'


def test_areas_are_averaged_over_folds_and_seeds_with_their_spread(tmp_path):
  runs = _folds(tmp_path, (0, 4), seeds=(0, 1))
  context = run_folders.context(runs, published.TABLE_3_4, num_draws=5)
  mean, spread = run_folders.texts(classification.areas(context))
  areas = np.array([[sklearn.metrics.roc_auc_score(labels == k, scores[:, k])
                     for k in range(7)] for labels, scores in map(_file, runs)])
  areas = areas.reshape(2, 2, 7).mean(axis=1)  # of each fold over the seeds
  for k, name in enumerate(SEVEN):
    assert mean[name].startswith(f'{areas[:, k].mean():.3f} [')
    low, high = sorted(areas[:, k])
    deviation = np.sqrt(((areas[:, k] - areas[:, k].mean())**2).sum())
    assert spread[name] == f'{deviation:.3f} ({low:.3f} to {high:.3f})'
  assert mean['mean'].startswith(f'{areas.mean():.3f} [')
  low, high = sorted(areas.mean(axis=1))
  assert spread['mean'].endswith(f'({low:.3f} to {high:.3f})')
  one = run_folders.context(runs[:1], published.TABLE_3_4, num_draws=5)
  assert [row[''] for row in run_folders.texts(classification.areas(one))] == ['AUC']
