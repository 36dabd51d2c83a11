"""Choice of checkpoint, threshold and pictured images."""

import dataclasses
import types

import numpy as np
import pytest

from attnmel_jax.evaluation import predict
from attnmel_jax.experiments import scoring


def _predictions(label, probabilities):
  count = len(label)
  return predict.Predictions(
      index=np.arange(count, dtype=np.int32), label=np.array(label, np.int32),
      probabilities=np.array(probabilities), attention={},
      lesion=np.zeros((count, 8, 8), np.uint8), has_lesion=np.zeros(count, bool))


def test_two_classes_are_chosen_by_auc():
  # One of the four pairs is in the wrong order.
  predictions = _predictions(
      [0, 1, 0, 1], [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
  assert scoring.selection_score(predictions) == ('auc', 0.75)
  assert scoring.choose_threshold(predictions) in (0.3, 0.8)


def test_more_classes_are_chosen_by_mean_recall():
  predictions = _predictions(
      [0, 0, 1, 2], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1],
                     [0.8, 0.1, 0.1]])
  name, value = scoring.selection_score(predictions)
  assert name == 'balanced_accuracy'
  assert value == pytest.approx((0.5 + 1 + 0) / 3)
  assert scoring.choose_threshold(predictions) is None


def test_pictured_images_alternate_between_the_classes():
  labels = np.array([0, 0, 0, 1, 0, 1])
  np.testing.assert_array_equal(scoring.shown_rows(labels, 5), [0, 3, 1, 5, 2])
  np.testing.assert_array_equal(scoring.shown_rows(labels, 0), [])
  assert len(scoring.shown_rows(labels, 100)) == 6


def test_images_without_a_mask_are_left_out_of_the_jaccard_index():
  predictions = _predictions([0, 1, 0, 1], [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4],
                                            [0.2, 0.8]])
  predictions = dataclasses.replace(
      predictions, attention={'pool4': np.ones((4, 2, 2))},
      has_lesion=np.array([True, True, False, False]),
      lesion=np.array([255, 255, 0, 0], np.uint8)[:, None, None] * np.ones(
          (1, 8, 8), np.uint8))
  part = types.SimpleNamespace(groups=np.array(['a', 'b', 'c', 'd']))
  result = scoring.score(
      predictions, part, ('other', 'melanoma'),
      {'bootstrap_draws': 100, 'bootstrap_seed': 0, 'image_size': 8}, threshold=0.5)
  assert result['n_annotated'] == 2
  assert result['jaccard_pool4']['estimate'] == 1
  assert result['threshold'] == 0.5
  assert result['sensitivity']['estimate'] == 0.5
