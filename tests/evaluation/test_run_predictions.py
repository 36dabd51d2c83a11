import dataclasses

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax import errors
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import run_predictions
from attnmel_jax.evaluation import score_summary

BINARY = ('other', 'melanoma')
SEVEN = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')


def _run(seed, class_names=BINARY, rows=120, quality=1.5):
  """Two images a lesion; every system has the same images."""
  rng = np.random.default_rng(seed)
  count = len(class_names)
  labels = np.repeat(np.arange(rows // 2) % count, 2).astype(np.int32)
  logits = rng.normal(size=(rows, count))
  logits[np.arange(rows), labels] += quality
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  ids = np.array([f'i{row:03d}' for row in range(rows)])
  jaccard = rng.beta(4, 4, rows)
  jaccard[::7] = np.nan
  threshold = 0.4 if count == 2 else np.nan
  return run_predictions.Run(
      prediction_files.PredictionTable(ids, labels, probabilities, class_names),
      prediction_files.ImageTable(
          ids, np.repeat(ids[::2], 2), {'jaccard_cam': jaccard}),
      np.zeros(rows, int), np.full(rows, threshold))


def _bootstrap(runs, metric, *, num_draws, seed):
  return run_predictions.score_in_draws(
      runs, metric, draws=run_predictions.Draws(num_draws=num_draws, seed=seed))


def _summary(run):
  table = run.predictions
  found = score_summary.classification(
      table.labels, table.probabilities, class_names=table.class_names,
      groups=run.images.groups,
      threshold=0.4 if len(table.class_names) == 2 else None, temperature=None,
      num_draws=200, seed=3)
  return found | score_summary.per_image_means(
      run.images.scores, ~np.isnan(run.images.scores['jaccard_cam']),
      labels=table.labels, groups=run.images.groups, num_draws=200, seed=3)


@pytest.mark.parametrize('class_names, number', [(BINARY, 8), (SEVEN, 17)])
def test_one_run_has_the_intervals_of_its_summary(class_names, number):
  run = _run(0, class_names)
  summary = _summary(run)
  names = run_predictions.metrics_of(run)
  assert len(names) == number
  for name in names:
    if name == 'balanced_accuracy' and len(class_names) == 2:
      continue  # of sensitivity and specificity; no part of a summary
    values = _bootstrap([run], name, num_draws=200, seed=3)
    found = bootstrap.percentile_interval(values, level=0.95)
    kind, _, last = name.partition('_')
    expected = summary[kind][last] if last in SEVEN else summary[name]
    assert (found.estimate, found.low, found.high) == pytest.approx(
        tuple(expected.values())), name


def test_seeds_are_averaged_and_resampled():
  runs = [_run(seed, quality=quality) for seed, quality in enumerate((0.3, 1.0, 3.0))]
  values = _bootstrap(runs, 'auc', num_draws=300, seed=0)
  single = [_bootstrap([run], 'auc', num_draws=300, seed=0) for run in runs]
  assert values[0] == pytest.approx(np.mean([v[0] for v in single]))
  # The seeds differ by far more than the images make uncertain.
  assert values[1:].std() > 1.5 * np.mean(single, axis=0)[1:].std()
  two = _bootstrap(runs[:2], 'auc', num_draws=300, seed=0)
  np.testing.assert_allclose(two, np.mean(single[:2], axis=0))


def test_other_images_are_not_compared():
  first, other = _run(0), _run(1)
  run_predictions.check_same_images({'A': [first], 'B': [other]})
  table, images = other.predictions, other.images
  changed = [
      dataclasses.replace(other, predictions=dataclasses.replace(table, **change))
      for change in ({'labels': 1 - table.labels}, {'ids': table.ids[::-1]},
                     {'class_names': ('other', 'x')})]
  changed += [
      dataclasses.replace(other, images=dataclasses.replace(images, groups=images.ids)),
      dataclasses.replace(other, folds=other.folds + 1)]
  for run in changed:
    with pytest.raises(errors.UserError, match='B was not scored .* of A'):
      run_predictions.check_same_images({'A': [first], 'B': [other, run]})


def test_a_score_that_a_run_lacks():
  with pytest.raises(errors.UserError, match="'jaccard_pool4'.*'auc'.*'jaccard_cam'"):
    _bootstrap([_run(0)], 'jaccard_pool4', num_draws=10, seed=0)
  run = dataclasses.replace(_run(0), thresholds=np.full(120, np.nan))
  assert not {'sensitivity', 'specificity', 'balanced_accuracy'} & set(
      run_predictions.metrics_of(run))
  run = _run(0)
  run.images.scores['jaccard_cam'][:] = np.nan  # no image has it
  assert np.isnan(_bootstrap([run], 'jaccard_cam', num_draws=10, seed=0)).all()


def _write(folder, run, ids):
  table = run.predictions
  prediction_files.write_predictions(
      folder / 'predictions' / 'test.csv', ids, table.labels, table.probabilities,
      table.class_names)
  prediction_files.write_image_scores(
      folder / 'predictions' / 'test_images.csv', table.ids, run.images.groups,
      run.images.scores)


def test_a_run_is_read_without_the_image_that_has_no_weight(tmp_path):
  run = _run(0)
  ids = np.array(['ISIC_0035068' if row == 5 else name
                  for row, name in enumerate(run.predictions.ids)])
  run = dataclasses.replace(
      run, predictions=dataclasses.replace(run.predictions, ids=ids))
  _write(tmp_path, run, ids)
  found = run_predictions.read(tmp_path, 'test', fold=2, threshold=0.3)
  assert found.folds.tolist() == [2] * 119
  assert found.thresholds.tolist() == [0.3] * 119
  kept = np.arange(120) != 5
  np.testing.assert_array_equal(found.predictions.ids, ids[kept])
  np.testing.assert_array_equal(
      found.predictions.probabilities, run.predictions.probabilities[kept])
  np.testing.assert_array_equal(found.images.groups, run.images.groups[kept])
  np.testing.assert_array_equal(
      found.images.scores['jaccard_cam'], run.images.scores['jaccard_cam'][kept])
  _write(tmp_path, run, ids[::-1])
  with pytest.raises(errors.UserError, match='other images or orders'):
    run_predictions.read(tmp_path, 'test', fold=0, threshold=None)


def _fold(run, fold, rows, *, threshold):
  """The rows of a run as the part that one network of a cross-validation tests."""
  table, images = run.predictions, run.images
  return run_predictions.Run(
      dataclasses.replace(table, ids=table.ids[rows], labels=table.labels[rows],
                          probabilities=table.probabilities[rows]),
      dataclasses.replace(
          images, ids=images.ids[rows], groups=images.groups[rows],
          scores={name: values[rows] for name, values in images.scores.items()}),
      np.full(len(rows), fold), np.full(len(rows), threshold))


def test_folds_are_pooled_for_shares_and_averaged_for_ranks():
  whole = _run(0)
  lesions = np.arange(120) // 2
  parts = [np.flatnonzero(lesions % 5 == k)[::-1] for k in (0, 3)]
  pooled = run_predictions.pool([
      _fold(whole, 3, parts[1], threshold=0.2),
      _fold(whole, 0, parts[0], threshold=0.7)])
  rows = np.flatnonzero(np.isin(lesions % 5, (0, 3)))
  table = pooled.predictions
  np.testing.assert_array_equal(table.ids, whole.predictions.ids[rows])
  np.testing.assert_array_equal(pooled.images.groups, whole.images.groups[rows])
  np.testing.assert_array_equal(pooled.folds, lesions[rows] % 5)
  np.testing.assert_array_equal(
      pooled.images.scores['jaccard_cam'], whole.images.scores['jaccard_cam'][rows])

  def estimate(metric):
    return _bootstrap([pooled], metric, num_draws=10, seed=0)[0]

  positive = table.probabilities[:, 1]
  expected = [
      sklearn.metrics.roc_auc_score(table.labels[pooled.folds == k],
                                    positive[pooled.folds == k]) for k in (0, 3)]
  assert expected[0] != pytest.approx(expected[1])
  assert estimate('auc') == pytest.approx(np.mean(expected))
  called = positive >= np.where(pooled.folds == 3, 0.2, 0.7)
  sensitivity, specificity = (
      (called == table.labels)[table.labels == k].mean() for k in (1, 0))
  assert estimate('sensitivity') == pytest.approx(sensitivity)
  assert estimate('specificity') == pytest.approx(specificity)
  assert estimate('balanced_accuracy') == pytest.approx((sensitivity + specificity) / 2)
  assert estimate('jaccard_cam') == pytest.approx(
      np.nanmean(whole.images.scores['jaccard_cam'][rows]))


def test_folds_that_cannot_be_pooled():
  whole = _run(0)
  first = _fold(whole, 0, np.arange(10), threshold=0.2)
  with pytest.raises(errors.UserError, match='i008 and 1 other images'):
    run_predictions.pool([first, _fold(whole, 1, np.arange(8, 20), threshold=0.2)])
  other = _fold(_run(0, ('x', 'y')), 1, np.arange(10, 20), threshold=0.2)
  with pytest.raises(errors.UserError, match='fold 1 has the classes x, y, fold 0'):
    run_predictions.pool([first, other])


def test_draws_are_made_once():
  draws = run_predictions.Draws(num_draws=5, seed=1)
  labels, groups = np.array([0, 1, 0, 1]), np.array(list('abcd'))
  first = draws.of(labels, groups)
  assert draws.of(labels.copy(), groups) is first
  np.testing.assert_array_equal(first, bootstrap.resample(
      labels, groups, num_draws=5, seed=1))
  assert draws.of(labels, np.array(list('abcc'))) is not first


def test_lesions_in_several_folds_are_resampled_like_others():
  run = _run(0, rows=40)
  # The first image of each lesion in fold 0, the second in a fold of its own.
  folds = np.where(np.arange(40) % 2, np.arange(40), 0)
  folds[20:] = np.arange(20, 40) // 2  # the other lesions are within one fold
  spread = dataclasses.replace(run, folds=folds)
  values = _bootstrap([spread], 'sensitivity', num_draws=200, seed=0)
  alone = dataclasses.replace(run, folds=np.zeros(40, int))
  np.testing.assert_array_equal(
      values, _bootstrap([alone], 'sensitivity', num_draws=200, seed=0))
  # Folds of whole lesions are strata.
  whole = dataclasses.replace(run, folds=np.arange(40) // 2)
  fixed = _bootstrap([whole], 'sensitivity', num_draws=20, seed=0)
  assert np.ptp(fixed) == 0
