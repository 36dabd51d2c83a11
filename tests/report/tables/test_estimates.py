"""Scores of a group against scikit-learn on the rows that the folders hold."""

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import systems
from attnmel_jax.report.tables import estimates as estimates_lib
from tests.report import run_folders


def test_seeds_are_averaged_and_draws_shared(tmp_path):
  runs = [run_folders.write(tmp_path / str(seed), run_folders.config(
      'isic2017', seed=seed)) for seed in range(3)]
  runs.append(run_folders.write(
      tmp_path / 'm', run_folders.config('isic2017', model='mel_cnn')))
  found = run_folders.estimates(runs)
  labels = found.group.example.predictions.labels
  expected = [sklearn.metrics.roc_auc_score(
      labels, unit.run.predictions.probabilities[:, 1])
              for unit in found.group.units['AttnMel-CNN']]
  assert len(set(expected)) == 3
  interval = found.interval('AttnMel-CNN', 'auc')
  assert interval.estimate == pytest.approx(np.mean(expected))
  assert interval.low < interval.estimate < interval.high
  assert found.values('AttnMel-CNN', 'auc') is found.values('AttnMel-CNN', 'auc')
  assert found.error_source('AttnMel-CNN') == 'test sampling and seeds'
  assert found.error_source('Mel-CNN') == 'test sampling only'
  assert found.has('AttnMel-CNN', 'jaccard_pool3')
  assert not found.has('Mel-CNN', 'jaccard_pool3')
  assert not found.has('VGG-16', 'auc')
  # The draws are those of the rows in the order of their ids.
  probabilities = found.group.units['Mel-CNN'][0].run.predictions.probabilities[:, 1]
  draws = bootstrap.bootstrap_draws(
      labels, found.group.example.images.groups, num_draws=50, seed=0)
  rows = [np.repeat(np.arange(40), draw) for draw in draws]
  np.testing.assert_allclose(found.values('Mel-CNN', 'auc')[1:], [
      sklearn.metrics.roc_auc_score(labels[taken], probabilities[taken])
      for taken in rows])


def test_areas_of_the_folds(tmp_path):
  runs = [run_folders.write(
      tmp_path / f'{seed}{fold}',
      run_folders.config('isic2018_cv', seed=seed, fold=fold), rows=210)
          for fold in (0, 2) for seed in (0, 1)]
  found = run_folders.estimates(runs, num_draws=3)
  areas = estimates_lib.fold_areas(found.group.units['AttnMel-CNN'])
  assert areas.shape == (2, 7)
  for row, fold in enumerate((0, 2)):
    for k in (0, 6):
      own = []
      for unit in found.group.units['AttnMel-CNN']:
        table = unit.run.predictions
        rows = unit.run.folds == fold
        own.append(sklearn.metrics.roc_auc_score(
            table.labels[rows] == k, table.probabilities[rows, k]))
      assert areas[row, k] == pytest.approx(np.mean(own))
  assert found.interval('AttnMel-CNN', 'auc_MEL').estimate == pytest.approx(
      areas[:, 0].mean())
  assert found.interval('AttnMel-CNN', 'auc_mean').estimate == pytest.approx(
      areas.mean())
  np.testing.assert_allclose(found.values('AttnMel-CNN', 'auc_mean'), systems.bootstrap(
      [unit.run for unit in found.group.units['AttnMel-CNN']], 'auc_mean',
      draws=found.draws))
