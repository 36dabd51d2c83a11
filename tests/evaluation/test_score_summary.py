import json

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import score_summary

BINARY = ('other', 'melanoma')
SEVEN = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
UNDEFINED = {'estimate': None, 'low': None, 'high': None}


def _binary(rows=120, seed=0):
  rng = np.random.default_rng(seed)
  labels = (np.arange(rows) % 4 == 0).astype(np.int32)
  positive = 1 / (1 + np.exp(-rng.normal(1.5 * labels - 1, 1)))
  return labels, np.stack([1 - positive, positive], axis=1)


def _score(labels, probabilities, class_names=BINARY, **changes):
  arguments = {'class_names': class_names, 'groups': np.arange(len(labels)),
               'threshold': None, 'temperature': None, 'num_draws': 200,
               'seed': 0} | changes
  found = score_summary.classification(labels, probabilities, **arguments)
  assert json.loads(json.dumps(found, allow_nan=False)) == found
  return found


def test_binary_estimates_are_those_of_scikit_learn():
  labels, probabilities = _binary()
  positive = probabilities[:, 1]
  # A row at the threshold is positive.
  threshold = metrics.youden_threshold(labels, positive)
  found = _score(labels, probabilities, threshold=threshold)
  for name, expected in (
      ('auc', sklearn.metrics.roc_auc_score(labels, positive)),
      ('ap', sklearn.metrics.average_precision_score(labels, positive)),
      ('sensitivity', sklearn.metrics.recall_score(labels, positive >= threshold)),
      ('specificity', sklearn.metrics.recall_score(
          labels, positive >= threshold, pos_label=0))):
    interval = found[name]
    assert interval['estimate'] == pytest.approx(expected, abs=1e-12), name
    assert 0 < interval['low'] < interval['estimate'] < interval['high'] < 1
  assert found['threshold'] == threshold
  assert found['positive'] == 'melanoma'
  assert found['n'] == found['groups'] == 120
  assert found['class_counts'] == {'other': 90, 'melanoma': 30}
  assert (found['level'], found['num_draws'], found['seed']) == (0.95, 200, 0)
  assert found['error_source'] == 'test sampling only'


def test_what_is_undefined_is_none():
  labels, probabilities = _binary()
  for threshold in (None, float('nan')):
    found = _score(labels, probabilities, threshold=threshold)
    assert found['threshold'] is None
    assert found['sensitivity'] == found['specificity'] == UNDEFINED
    assert found['auc']['estimate'] > 0.5
  negative = labels == 0
  found = _score(labels[negative], probabilities[negative], threshold=0.5)
  assert found['auc'] == found['ap'] == UNDEFINED
  assert found['sensitivity']['estimate'] is None
  assert found['specificity']['estimate'] > 0.5
  assert found['class_counts']['melanoma'] == 0
  for label in (0, 1):  # a single image
    found = _score(np.array([label]), np.array([[0.25, 0.75]]))
    assert found['auc'] == found['ap'] == UNDEFINED
    assert found['calibration']['log_loss'] == pytest.approx(
        -np.log([0.25, 0.75][label]))
  found = _score(np.zeros(5, int), np.full((5, 7), 1 / 7), SEVEN)
  assert found['balanced_accuracy']['estimate'] == 1
  assert found['auc_mean']['estimate'] is None


def test_seven_classes():
  rng = np.random.default_rng(1)
  labels = np.arange(210) % 6                      # no VASC
  probabilities = rng.dirichlet(np.ones(7), size=210)
  probabilities[np.arange(210), labels] += 0.4
  probabilities /= 1.4
  found = _score(labels, probabilities, SEVEN)
  predicted = probabilities.argmax(axis=1)
  recalls = sklearn.metrics.recall_score(
      labels, predicted, labels=range(6), average=None)
  aucs = [sklearn.metrics.roc_auc_score(labels == k, probabilities[:, k])
          for k in range(6)]
  for k, name in enumerate(SEVEN[:6]):
    assert found['recall'][name]['estimate'] == pytest.approx(recalls[k])
    assert found['auc'][name]['estimate'] == pytest.approx(aucs[k])
    assert found['auc'][name]['low'] < aucs[k] < found['auc'][name]['high']
  assert found['recall']['VASC'] == found['auc']['VASC'] == UNDEFINED
  assert found['balanced_accuracy']['estimate'] == pytest.approx(np.mean(recalls))
  assert found['auc_mean']['estimate'] == pytest.approx(np.mean(aucs))
  assert found['auc_mean']['low'] < found['auc_mean']['high']
  np.testing.assert_array_equal(
      found['confusion_matrix'],
      sklearn.metrics.confusion_matrix(labels, predicted, labels=range(7)))


def test_calibration_before_and_after_temperature_scaling():
  probabilities = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.9, 0.1]])
  found = _score(np.array([1, 0, 0, 0]), probabilities)['calibration']
  # Of the positive class, each in a bin of its own: .1, .8, .3 and .1 off.
  assert found['expected_error'] == pytest.approx(1.3 / 4)
  assert found['log_loss'] == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.9]).mean())
  assert sum(found['counts']) == 4
  assert len(found['counts']) == len(found['accuracy']) == 15
  assert found['accuracy'][0] is None
  assert [v for v in found['accuracy'] if v is not None] == [0, 0, 0, 1]
  assert found['tempered'] is None
  labels, probabilities = _binary()
  found = _score(labels, probabilities, temperature=2.0)['calibration']
  softer = np.sqrt(probabilities)
  expected = _score(labels, softer / softer.sum(axis=1, keepdims=True))['calibration']
  assert found['tempered']['temperature'] == 2
  for name in ('log_loss', 'expected_error'):
    assert found['tempered'][name] == pytest.approx(expected[name])
    assert found['tempered'][name] != pytest.approx(found[name])
  # With more classes it is that of the likeliest.
  probabilities = np.array([[0.9, 0.05, 0.05], [0.3, 0.1, 0.6]])
  found = _score(np.array([0, 1]), probabilities, SEVEN[:3])['calibration']
  assert found['expected_error'] == pytest.approx((0.1 + 0.6) / 2)


def _means(per_image, has_lesion, **changes):
  rows = len(has_lesion)
  arguments = {'labels': np.arange(rows) % 2, 'groups': np.arange(rows),
               'num_draws': 400, 'seed': 0} | changes
  found = score_summary.per_image_means(per_image, has_lesion, **arguments)
  assert json.loads(json.dumps(found, allow_nan=False)) == found
  return found


def test_means_over_the_annotated_images():
  has_lesion = np.arange(20) != 2
  mass = np.tile([0.25, 0.75], 10)
  mass[2:4] = np.nan                     # not annotated; annotated, yet undefined
  found = _means({'jaccard': np.ones(20), 'mass': mass}, has_lesion)
  assert found['n_annotated'] == 19
  assert found['jaccard'] == {'estimate': 1, 'low': 1, 'high': 1}
  assert found['mass']['estimate'] == pytest.approx(0.5)
  found = _means({'jaccard': np.ones(20)}, np.zeros(20, bool))
  assert found == {'n_annotated': 0, 'jaccard': UNDEFINED}
