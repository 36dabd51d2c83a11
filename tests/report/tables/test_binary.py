"""Tables 3.1 and 3.2 against scikit-learn and the published cells."""

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import calibration
from attnmel_jax.report.tables import binary
from attnmel_jax.report.tables import published
from attnmel_jax.report.tables import table as table_lib
from tests.report import run_folders

HEAD = table_lib.Head('table', 'Title', (), ())


def _write(folder, dataset='isic2017', **fields):
  options = {name: fields.pop(name) for name in ('threshold', 'calibration')
             if name in fields}
  return run_folders.write(folder, run_folders.config(dataset, **fields), **options)


def _main(estimates, task=published.TABLE_3_2, complete=True):
  return binary.main(task, estimates, complete=complete, head=HEAD)


def test_ours_beside_the_published(tmp_path):
  run = _write(tmp_path / 'm', model='mel_cnn')
  table = _main(run_folders.estimates([run]))
  assert table.columns[:7] == (
      'system', 'AP', 'AP published', 'AP difference', 'AUC', 'AUC published',
      'AUC difference')
  assert table.columns[7:] == (
      'Lesion (published)', 'Dermo (published)', 'Interp (published)',
      'Ensemble (published)', 'External (published)', 'seeds')
  rows = {row['system']: row for row in run_folders.texts(table)}
  assert list(rows)[:2] == ['Winner 1 [29] (published)', 'Winner 2 [9] (published)']
  assert len(rows) == 12
  file = np.genfromtxt(run.folder / 'predictions' / 'test.csv', delimiter=',',
                       dtype=str, skip_header=1)
  labels, scores = file[:, 1] == 'melanoma', file[:, 3].astype(float)
  ours = rows['Mel-CNN']
  area = sklearn.metrics.roc_auc_score(labels, scores)
  assert ours['AUC'].startswith(f'{area:.3f} [')
  assert ours['AUC published'] == '0.854'
  assert float(ours['AUC difference'].replace('−', '-')) == pytest.approx(
      area - 0.854, abs=0.0006)
  precision = sklearn.metrics.average_precision_score(labels, scores)
  assert ours['AP'].startswith(f'{precision:.3f} [')
  assert ours['seeds'] == '1'
  assert rows['AttnMel-CNN']['AUC'] == rows['AttnMel-CNN']['AP'] == 'no run'
  assert rows['AttnMel-CNN']['AUC difference'] == '–'
  assert rows['AttnMel-CNN-Lesion']['Lesion (published)'] == '✓'
  assert rows['AttnMel-CNN-Lesion']['Dermo (published)'] == '✗'
  winner = rows['Winner 1 [29] (published)']
  assert (winner['AP published'], winner['AUC published'], winner['AUC']) == (
      '–', '0.868', '–')


def test_systems_that_the_thesis_does_not_have_come_last(tmp_path):
  runs = [_write(tmp_path / 'l', 'isic2016', roi='lesion'),
          _write(tmp_path / 'a', 'isic2016')]
  estimates = run_folders.estimates(runs)
  rows = run_folders.texts(_main(estimates, published.TABLE_3_1))
  assert [row['system'] for row in rows[-2:]] == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']
  assert (rows[-1]['AUC published'], rows[-1]['AUC difference'],
          rows[-1]['Lesion (published)']) == ('–', '–', '–')
  few = run_folders.texts(_main(estimates, published.TABLE_3_1, complete=False))
  assert [row['system'] for row in few] == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']


def test_without_runs_the_published_numbers_stay():
  rows = run_folders.texts(_main(None, published.TABLE_3_1))
  assert len(rows) == 7
  assert {row['AUC'] for row in rows[3:]} == {'no run'}
  assert rows[3]['AP published'] == '0.602'


def test_operating_points(tmp_path):
  runs = [_write(tmp_path / str(seed), seed=seed, threshold=threshold)
          for seed, threshold in ((0, 0.3), (1, 0.6))]
  estimates = run_folders.estimates(runs)
  (row,) = run_folders.texts(binary.operating_points(estimates, head=HEAD))
  assert row['threshold'] == '0.300 to 0.600'
  shares = []
  for unit, threshold in zip(estimates.group.units['AttnMel-CNN'], (0.3, 0.6),
                             strict=True):
    table = unit.run.predictions
    called = table.probabilities[:, 1] >= threshold
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
  runs = [_write(tmp_path / str(seed), seed=seed, calibration=found[seed])
          for seed in range(2)]
  (row,) = run_folders.texts(
      binary.calibration(run_folders.estimates(runs), head=HEAD))
  mean = (found[0]['expected_error'] + found[1]['expected_error']) / 2
  assert list(row.values()) == [
      'AttnMel-CNN', f'{mean:.3f}', '0.750', '1.500', '0.125', '0.250']
  plain = run_folders.estimates([_write(tmp_path / 'without')])
  assert binary.calibration(plain, head=HEAD) is None
