"""Table 3.4 against scikit-learn on all out-of-fold rows."""

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.report.tables import per_class
from attnmel_jax.report.tables import published
from attnmel_jax.report.tables import table as table_lib
from tests.report import run_folders

HEAD = table_lib.Head('table', 'Title', (), ())
SEVEN = run_folders.SEVEN


def _runs(folder, folds, model='attnmel_cnn', **fields):
  return [run_folders.write(
      folder / f'{model}{fold}',
      run_folders.config('isic2018_cv', model=model, fold=fold, **fields), rows=350)
          for fold in folds]


def _main(estimates, complete=True):
  table = per_class.main(
      published.TABLE_3_4, estimates, complete=complete, head=HEAD)
  assert table.columns == ('system', '', *SEVEN, 'AVG', 'AUC, mean of classes', 'seeds')
  return {(row['system'], row['']): row for row in run_folders.texts(table)}


def _file(run):
  rows = np.genfromtxt(run.folder / 'predictions' / 'test.csv', delimiter=',',
                       dtype=str, skip_header=1)
  labels = np.array([SEVEN.index(name) for name in rows[:, 1]])
  return labels, rows[:, 2:].astype(float)


def test_recalls_of_all_folds_together_beside_the_published(tmp_path):
  runs = _runs(tmp_path, (0, 1, 2))
  rows = _main(run_folders.estimates(runs))
  assert len(rows) == 15
  labels, probabilities = map(np.concatenate, zip(*map(_file, runs), strict=True))
  recalls = sklearn.metrics.recall_score(
      labels, probabilities.argmax(axis=1), average=None)
  ours = rows['AttnMel-CNN', 'ours']
  for name, recall in zip(SEVEN, recalls, strict=True):
    assert ours[name].startswith(f'{recall:.3f} [')
    difference = recall - float(rows['AttnMel-CNN', 'published'][name])
    assert float(rows['AttnMel-CNN', 'difference'][name].replace('−', '-')) == (
        pytest.approx(difference, abs=0.0006))
  assert ours['AVG'].startswith(f'{recalls.mean():.3f} [')
  assert rows['AttnMel-CNN', 'published']['AVG'] == '0.841'
  assert rows['AttnMel-CNN', 'published']['VASC'] == '1.0'
  assert ours['seeds'] == '1'
  assert rows['AttnMel-CNN', 'published']['AUC, mean of classes'] == '–'
  assert rows['VGG-16', 'ours']['MEL'] == 'no run'
  assert rows['VGG-16', 'ours']['AUC, mean of classes'] == 'no run'
  assert rows['VGG-16', 'difference']['MEL'] == '–'


def test_areas_are_averaged_over_folds_with_their_spread(tmp_path):
  runs = _runs(tmp_path, (0, 4))
  estimates = run_folders.estimates(runs)
  table = per_class.areas(estimates, head=HEAD)
  mean, spread = run_folders.texts(table)
  areas = np.array([[sklearn.metrics.roc_auc_score(labels == k, scores[:, k])
                     for k in range(7)] for labels, scores in map(_file, runs)])
  for k, name in enumerate(SEVEN):
    assert mean[name].startswith(f'{areas[:, k].mean():.3f} [')
    low, high = sorted(areas[:, k])
    deviation = np.sqrt(((areas[:, k] - areas[:, k].mean())**2).sum())
    assert spread[name] == f'{deviation:.3f} ({low:.3f} to {high:.3f})'
  assert mean['mean'].startswith(f'{areas.mean():.3f} [')
  assert spread[''] == 'spread over folds'
  low, high = sorted(areas.mean(axis=1))
  assert spread['mean'].endswith(f'({low:.3f} to {high:.3f})')
  assert _main(estimates)['AttnMel-CNN', 'ours']['AUC, mean of classes'] == mean['mean']


def test_one_fold_has_no_spread(tmp_path):
  estimates = run_folders.estimates(_runs(tmp_path, (3,)))
  rows = run_folders.texts(per_class.areas(estimates, head=HEAD))
  assert [row[''] for row in rows] == ['AUC']


def test_only_systems_with_runs_where_the_thesis_is_not_repeated(tmp_path):
  runs = _runs(tmp_path, (0,)) + _runs(tmp_path, (0,), roi='dermo')
  rows = _main(run_folders.estimates(runs), complete=False)
  assert list(rows) == [('AttnMel-CNN', 'ours'), ('AttnMel-CNN', 'published'),
                        ('AttnMel-CNN', 'difference'), ('AttnMel-CNN-Dermo', 'ours')]
