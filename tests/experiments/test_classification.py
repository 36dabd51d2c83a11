"""Choice of checkpoint, threshold and pictured images."""

import dataclasses
import functools
import types

import numpy as np
import pytest

from attnmel_jax.evaluation import predict
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import classification


def _predictions(label, probabilities):
  count = len(label)
  return predict.Predictions(
      index=np.arange(count, dtype=np.int32), label=np.array(label, np.int32),
      probabilities=np.array(probabilities), attention={},
      lesion=np.zeros((count, 8, 8), np.uint8), has_lesion=np.zeros(count, bool))


# One of the four pairs is in the wrong order.
_FOUR = _predictions([0, 1, 0, 1], [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
# The mask of each of four images is their upper half.
_UPPER = np.zeros((4, 8, 8), np.uint8)
_UPPER[:, :4] = 255


def test_two_classes_are_chosen_by_auc():
  assert classification.selection_score(_FOUR) == ('auc', 0.75)
  decided = classification.decisions(_FOUR, 2)
  assert decided['threshold'] in (0.3, 0.8)
  assert decided['temperature'] > 0
  assert classification.decisions(None, 2) == {'threshold': 0.5, 'temperature': None}


def test_more_classes_are_chosen_by_mean_recall():
  predictions = _predictions(
      [0, 0, 1, 2], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1],
                     [0.8, 0.1, 0.1]])
  name, value = classification.selection_score(predictions)
  assert name == 'balanced_accuracy'
  assert value == pytest.approx((0.5 + 1 + 0) / 3)
  assert classification.decisions(predictions, 3)['threshold'] is None
  assert classification.decisions(None, 3) == {'threshold': None, 'temperature': None}


def test_pictured_images_alternate_between_the_classes():
  labels = np.array([0, 0, 0, 1, 0, 1])
  np.testing.assert_array_equal(classification.shown_rows(labels, 5), [0, 3, 1, 5, 2])
  np.testing.assert_array_equal(classification.shown_rows(labels, 0), [])
  assert len(classification.shown_rows(labels, 100)) == 6


_CONFIG = {'bootstrap_draws': 100, 'bootstrap_seed': 0, 'image_size': 8,
           'overlay_images': 0}


def _part(ids, photographs=None, class_names=('other', 'melanoma')):
  """Rows 1 to n of a split."""
  if photographs is None:
    photographs = np.zeros((len(ids) + 1, 8, 8, 3), np.uint8)
  prepared = types.SimpleNamespace(load=lambda row: {'image': photographs[row]})
  ids = np.array(list(ids))
  return types.SimpleNamespace(
      ids=ids, groups=ids, rows=np.arange(len(ids)) + 1, prepared=prepared,
      class_names=class_names)


def _score(predictions, part, without=()):
  return classification.score(
      predictions, part, classification.image_scores(predictions, part, 8),
      _CONFIG, threshold=0.5, temperature=None, without=without)


def _write(folder, split, predictions, part):
  classification.write(folder, split, predictions, part,
                       classification.image_scores(predictions, part, 8), _CONFIG)



def test_otsu_sees_what_the_network_sees():
  # A dark square in the crop, and a darker frame outside of it.
  photographs = np.full((5, 12, 12, 3), 10, np.uint8)
  photographs[:, 2:10, 2:10] = 200
  photographs[1, 4:8, 4:8] = 90
  photographs[3, 4:8, 4:6] = 90
  photographs[4, 4:8, 4:8] = 90
  lesion = np.zeros((4, 12, 12), np.uint8)
  lesion[:, 4:8, 4:6] = 255
  predictions = dataclasses.replace(
      _FOUR, attention={'pool4': np.ones((4, 2, 2))}, lesion=lesion,
      has_lesion=np.array([True, False, True, True]))
  result = _score(predictions, _part('abcd', photographs))
  # Half of what it marks, all, and half; the second image has no mask.
  assert result['jaccard_otsu']['estimate'] == pytest.approx(2 / 3)
  assert result['jaccard_all_ones']['estimate'] == 8 / 64


def test_activation_maps_are_scored_by_both_protocols():
  cells = np.zeros((4, 2, 2))
  cells[:, 0] = 1
  predictions = dataclasses.replace(
      _FOUR, attention={'cam': cells, predict.POSITIVE_CAM: 1 - cells},
      lesion=_UPPER, has_lesion=np.ones(4, bool))
  result = _score(predictions, _part('abcd'))
  assert result['jaccard_cam']['estimate'] == 1
  # Rows of the melanoma's map: 0, 0, 1/8, 3/8 | 5/8, 7/8, 1, 1 on the other half.
  assert result['jaccard_cam_released']['estimate'] == pytest.approx(
      (1 / 8 + 3 / 8) / (4 + 5 / 8 + 7 / 8 + 2))
  assert f'jaccard_{predict.POSITIVE_CAM}' not in result


def test_an_image_without_weight_in_the_challenge_is_not_scored():
  result = _score(_FOUR, _part(['a', 'ISIC_0035068', 'b', 'c']))
  assert result['n'] == 3
  assert result['sensitivity']['estimate'] == 1


def test_seven_classes_are_written_as_a_submission_too(tmp_path):
  predictions = _predictions([0, 6], np.eye(7)[[0, 5]])
  part = _part('ab', class_names=prediction_files.CHALLENGE_CLASSES)
  _write(tmp_path, 'test', predictions, part)
  lines = (tmp_path / 'predictions' / 'test_submission.csv').read_text().splitlines()
  assert lines[0] == 'image,MEL,NV,BCC,AKIEC,BKL,DF,VASC'
  assert lines[2] == 'b,0.0,0.0,0.0,0.0,0.0,1.0,0.0'
  table = prediction_files.read_predictions(tmp_path / 'predictions' / 'test.csv')
  assert table.labels.tolist() == [0, 6]
  _write(tmp_path / 'two', 'test', _FOUR, _part('abcd'))
  assert sorted(p.name for p in (tmp_path / 'two' / 'predictions').iterdir()) == [
      'test.csv', 'test_images.csv']


def test_the_scores_of_each_image_are_written(tmp_path):
  predictions = dataclasses.replace(
      _FOUR, attention={'pool4': np.ones((4, 2, 2))}, lesion=_UPPER,
      has_lesion=np.array([True, True, True, False]))
  part = _part('abcd')
  part.groups = np.array(['x', 'x', 'c', 'd'])
  _write(tmp_path, 'validation', predictions, part)
  table = prediction_files.read_image_scores(
      tmp_path / 'predictions' / 'val_images.csv')
  assert table.ids.tolist() == ['a', 'b', 'c', 'd']
  assert table.groups.tolist() == ['x', 'x', 'c', 'd']
  np.testing.assert_array_equal(
      table.scores['jaccard_pool4'], [0.5, 0.5, 0.5, np.nan])
  result = _score(predictions, part)
  for name, values in table.scores.items():
    assert result[name]['estimate'] == pytest.approx(np.nanmean(values)), name
  assert (result['groups'], result['n_annotated']) == (3, 3)
  assert result['threshold'] == result['sensitivity']['estimate'] == 0.5


def test_near_duplicates_are_scored_with_and_without(tmp_path):
  part = _part('abcd')
  report = functools.partial(
      classification.report, tmp_path, 'test', _FOUR, part, _CONFIG,
      threshold=0.5, temperature=None)
  whole = report(near_duplicates=())
  assert 'without_near_duplicates' not in whole
  again = report(near_duplicates=['b'])
  rest = again.pop('without_near_duplicates')
  assert again == whole
  assert (whole['n'], rest['n']) == (4, 3)
  assert whole['auc']['estimate'] == 0.75  # b, a melanoma, is below c
  assert rest['auc']['estimate'] == 1
