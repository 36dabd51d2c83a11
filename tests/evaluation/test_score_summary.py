import json

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import curves
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import score_summary

BINARY = ('other', 'melanoma')
SEVEN = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')


def _binary(rows=120, seed=0):
  rng = np.random.default_rng(seed)
  labels = (np.arange(rows) % 4 == 0).astype(np.int32)
  positive = 1 / (1 + np.exp(-rng.normal(1.5 * labels - 1, 1)))
  return labels, np.stack([1 - positive, positive], axis=1)


def _score(labels, probabilities, class_names=BINARY, **changes):
  arguments = {'class_names': class_names, 'groups': np.arange(len(labels)),
               'threshold': None, 'temperature': None, 'num_draws': 200,
               'seed': 0} | changes
  found = score_summary.classification_scores(labels, probabilities, **arguments)
  assert json.loads(json.dumps(found, allow_nan=False)) == found
  return found


def test_binary_estimates_are_those_of_scikit_learn():
  labels, probabilities = _binary()
  found = _score(labels, probabilities, threshold=0.4)
  positive = probabilities[:, 1]
  assert found['auc']['estimate'] == pytest.approx(
      sklearn.metrics.roc_auc_score(labels, positive), abs=1e-12)
  assert found['ap']['estimate'] == pytest.approx(
      sklearn.metrics.average_precision_score(labels, positive), abs=1e-12)
  assert found['sensitivity']['estimate'] == pytest.approx(
      sklearn.metrics.recall_score(labels, positive >= 0.4))
  assert found['specificity']['estimate'] == pytest.approx(
      sklearn.metrics.recall_score(labels, positive >= 0.4, pos_label=0))
  for name in ('auc', 'ap', 'sensitivity', 'specificity'):
    interval = found[name]
    assert 0 < interval['low'] < interval['estimate'] < interval['high'] < 1
  assert found['threshold'] == 0.4
  assert found['positive'] == 'melanoma'
  assert found['n'] == found['groups'] == 120
  assert found['class_counts'] == {'other': 90, 'melanoma': 30}
  assert (found['level'], found['num_draws'], found['seed']) == (0.95, 200, 0)


def test_a_row_at_the_threshold_is_positive():
  labels, probabilities = _binary()
  threshold = metrics.youden_threshold(labels, probabilities[:, 1])
  found = _score(labels, probabilities, threshold=threshold)
  expected = metrics.sensitivity_specificity(
      labels, probabilities[:, 1], threshold=threshold)
  assert found['sensitivity']['estimate'] == pytest.approx(expected.sensitivity)
  assert found['specificity']['estimate'] == pytest.approx(expected.specificity)


def test_lesions_are_resampled_whole():
  labels, probabilities = _binary(40)
  labels, probabilities = np.repeat(labels, 4), np.repeat(probabilities, 4, axis=0)
  rows = _score(labels, probabilities)
  lesions = _score(labels, probabilities, groups=np.arange(160) // 4)
  assert lesions['groups'] == 40
  assert lesions['auc']['estimate'] == rows['auc']['estimate']
  def width(found):
    return found['auc']['high'] - found['auc']['low']
  assert width(lesions) > 1.5 * width(rows)


@pytest.mark.parametrize('threshold', [None, float('nan')])
def test_no_threshold_leaves_sensitivity_undefined(threshold):
  found = _score(*_binary(), threshold=threshold)
  assert found['threshold'] is None
  undefined = {'estimate': None, 'low': None, 'high': None}
  assert found['sensitivity'] == found['specificity'] == undefined
  assert found['auc']['estimate'] > 0.5


def test_one_class_is_undefined_not_an_error():
  labels, probabilities = _binary()
  negative = labels == 0
  found = _score(labels[negative], probabilities[negative], threshold=0.5)
  assert found['auc'] == found['ap'] == {'estimate': None, 'low': None, 'high': None}
  assert found['sensitivity']['estimate'] is None
  assert found['specificity']['estimate'] > 0.5
  assert found['class_counts']['melanoma'] == 0


def test_seven_classes():
  rng = np.random.default_rng(1)
  labels = np.arange(210) % 6                      # no VASC
  probabilities = rng.dirichlet(np.ones(7), size=210)
  probabilities[np.arange(210), labels] += 0.4
  probabilities /= 1.4
  found = _score(labels, probabilities, SEVEN)
  predicted = probabilities.argmax(axis=1)
  assert found['balanced_accuracy']['estimate'] == pytest.approx(
      sklearn.metrics.recall_score(labels, predicted, labels=range(6), average='macro'))
  recalls = metrics.recall_per_class(labels, predicted, num_classes=7)
  aucs = metrics.one_vs_rest_auc(labels, probabilities)
  for k, name in enumerate(SEVEN[:6]):
    assert found['recall'][name]['estimate'] == pytest.approx(recalls[k])
    assert found['auc'][name]['estimate'] == pytest.approx(aucs[k])
    assert found['auc'][name]['low'] < aucs[k] < found['auc'][name]['high']
  assert found['recall']['VASC']['estimate'] is None
  assert found['auc']['VASC']['low'] is None
  assert found['auc_mean']['estimate'] == pytest.approx(np.nanmean(aucs))
  assert found['auc_mean']['low'] < found['auc_mean']['high']
  np.testing.assert_array_equal(
      found['confusion_matrix'],
      sklearn.metrics.confusion_matrix(labels, predicted, labels=range(7)))


def test_a_single_class_of_seven_has_a_recall_and_no_auc():
  found = _score(np.zeros(5, int), np.full((5, 7), 1 / 7), SEVEN)
  assert found['balanced_accuracy']['estimate'] == 1
  assert found['auc_mean']['estimate'] is None


@pytest.mark.parametrize('probabilities, class_names, threshold, message', [
    (np.full((3, 2), 0.5), SEVEN[:3], None, 'do not fit'),
    (np.full((2, 2), 0.5), BINARY, None, 'do not fit'),
    (np.ones((3, 1)), ('one',), None, 'do not fit'),
    (np.full((3, 3), 1 / 3), SEVEN[:3], 0.5, 'no meaning'),
    (np.full((3, 2), np.nan), BINARY, 0.5, '3 of 3 scores'),
])
def test_what_does_not_fit_raises(probabilities, class_names, threshold, message):
  with pytest.raises(ValueError, match=message):
    _score(np.array([0, 1, 1]), probabilities, class_names, threshold=threshold)


def test_operating_points_of_a_summary():
  labels, probabilities = _binary()
  found = _score(labels, probabilities)
  expected = {
      'sensitivity_at_95_specificity': curves.sensitivity_at_specificity(
          labels, probabilities[:, 1], specificity=0.95),
      'specificity_at_95_sensitivity': curves.specificity_at_sensitivity(
          labels, probabilities[:, 1], sensitivity=0.95)}
  assert len(set(expected.values())) == 2
  for name, value in expected.items():
    assert found[name]['estimate'] == pytest.approx(value)
    assert found[name]['low'] < value < found[name]['high']


def test_calibration_is_that_of_the_positive_class():
  probabilities = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.9, 0.1]])
  found = _score(np.array([1, 0, 0, 0]), probabilities)['calibration']
  # Each in a bin of its own: .1, .8, .3 and .1 off.
  assert found['expected_error'] == pytest.approx(1.3 / 4)
  assert found['log_loss'] == pytest.approx(
      -np.log([0.9, 0.2, 0.7, 0.9]).mean())
  assert sum(found['counts']) == 4
  assert len(found['counts']) == len(found['accuracy']) == 15
  assert found['accuracy'][0] is None
  assert [v for v in found['accuracy'] if v is not None] == [0, 0, 0, 1]


def test_calibration_after_temperature_scaling():
  labels, probabilities = _binary()
  found = _score(labels, probabilities, temperature=2.0)['calibration']
  softer = np.sqrt(probabilities)
  softer /= softer.sum(axis=1, keepdims=True)
  expected = _score(labels, softer)['calibration']
  assert found['tempered']['temperature'] == 2
  assert found['tempered']['log_loss'] == pytest.approx(expected['log_loss'])
  assert found['tempered']['expected_error'] == pytest.approx(
      expected['expected_error'])
  assert found['expected_error'] != found['tempered']['expected_error']
  assert _score(labels, probabilities)['calibration']['tempered'] is None


def test_calibration_of_more_classes_is_that_of_the_likeliest():
  probabilities = np.array([[0.9, 0.05, 0.05], [0.3, 0.1, 0.6]])
  found = _score(np.array([0, 1]), probabilities, SEVEN[:3])['calibration']
  assert found['expected_error'] == pytest.approx((0.1 + 0.6) / 2)


def test_one_run_holds_test_sampling_only():
  assert _score(*_binary())['error_source'] == 'test sampling only'


def _attention(rows=20):
  lesion = np.zeros((rows, 16, 16), np.uint8)
  lesion[:, 4:10, 4:12] = 255          # in the crop of 8: 6 of 8 rows
  lesion[::2, 4:6, 4:12] = 0           # or 4 of 8
  perfect = (lesion[:, 4:12, 4:12] > 127).astype(np.float32)
  return {'pool3': perfect, 'pool4': 1 - perfect}, lesion


def _attend(maps, lesion, has_lesion, **changes):
  rows = len(has_lesion)
  arguments = {'labels': np.arange(rows) % 2, 'groups': np.arange(rows),
               'num_draws': 400, 'seed': 0} | changes
  per_image = score_summary.attention_per_image(maps, lesion, has_lesion, image_size=8)
  found = score_summary.attention_scores(per_image, has_lesion, **arguments)
  assert json.loads(json.dumps(found, allow_nan=False)) == found
  return found


def test_mean_jaccard_over_annotated_images():
  maps, lesion = _attention()
  has_lesion = ~np.isin(np.arange(20), [2, 7])
  lesion[~has_lesion] = 0
  found = _attend(maps, lesion, has_lesion)
  assert found['n_annotated'] == 18
  assert found['jaccard_pool3'] == {'estimate': 1, 'low': 1, 'high': 1}
  assert found['jaccard_pool4']['estimate'] == 0
  # 9 images at 4/8 and 9 at 6/8; both kinds are strata, so there is no spread.
  assert found['jaccard_all_ones'] == {
      name: pytest.approx(0.625) for name in ('estimate', 'low', 'high')}


def test_attention_interval_is_that_of_the_images():
  maps, lesion = _attention(40)
  maps['pool4'] = np.where(
      (np.arange(40) // 2 % 2 == 0)[:, None, None], maps['pool3'], maps['pool4'])
  rows = np.arange(40)

  def width(**changes):
    found = _attend(maps, lesion, rows >= 8, **changes)['jaccard_pool4']
    assert found['estimate'] == 0.5
    return found['high'] - found['low']

  # 0 or 1 with equal chance over 32 images: standard error 0.088. A lesion of
  # two images that score alike counts as one: 0.125.
  labels = rows // 4 % 2
  assert width(labels=labels) == pytest.approx(2 * 1.96 * 0.088, rel=0.12)
  assert width(labels=labels, groups=rows // 2) == pytest.approx(
      2 * 1.96 * 0.125, rel=0.12)


def test_mass_and_pointing():
  maps, lesion = _attention()
  lesion[0] = 0                           # annotated, with nothing in the crop
  found = _attend(maps, lesion, np.ones(20, bool))
  assert found['mass_pool3']['estimate'] == found['pointing_pool3']['estimate'] == 1
  assert found['mass_pool4']['estimate'] == found['pointing_pool4']['estimate'] == 0
  # 9 images of 4/8 and 10 of 6/8.
  expected = pytest.approx((9 * 0.5 + 10 * 0.75) / 19)
  assert found['mass_all_ones']['estimate'] == expected


def test_the_sweep_holds_the_threshold_of_the_thesis():
  rng = np.random.default_rng(0)
  maps, (_, lesion) = {'pool4': rng.random((20, 4, 4))}, _attention()
  has_lesion = np.arange(20) != 3
  sweep = score_summary.threshold_sweep(maps, lesion, has_lesion, image_size=8)
  assert len(sweep['thresholds']) == len(sweep['jaccard_pool4']) == 19
  at_half = sweep['jaccard_pool4'][sweep['thresholds'].index(attention_maps.THRESHOLD)]
  assert at_half == pytest.approx(
      _attend(maps, lesion, has_lesion)['jaccard_pool4']['estimate'])
  sweep = score_summary.threshold_sweep(maps, lesion, np.zeros(20, bool), image_size=8)
  assert sweep['jaccard_pool4'] == [None] * 19


def test_without_annotation_or_maps():
  maps, lesion = _attention()
  found = _attend(maps, lesion, np.zeros(20, bool))
  undefined = {'estimate': None, 'low': None, 'high': None}
  names = [f'{kind}_{name}' for name in ('pool3', 'pool4', 'all_ones')
           for kind in ('jaccard', 'mass', 'pointing')]
  assert found == {'n_annotated': 0} | dict.fromkeys(names, undefined)
  found = _attend({}, lesion, np.ones(20, bool))
  assert list(found) == ['n_annotated', *names[-3:]]
