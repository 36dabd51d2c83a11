"""What holds for the scores of any predictions, tried on many with ties."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import calibration
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import score_summary as scores_lib

SETTINGS = hypothesis.settings(deadline=None, max_examples=60, derandomize=True,
                               database=None)


@st.composite
def predictions(draw):
  """bool labels of both classes and scores [N] on a grid of tenths, so with ties."""
  rows = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), max_size=25))
  labels, tenths = np.array([(True, draw(st.integers(0, 10))),
                             (False, draw(st.integers(0, 10))), *rows]).T
  return labels.astype(bool), tenths / 10


@SETTINGS
@hypothesis.given(predictions())
def test_auc_is_the_share_of_pairs_in_order(data):
  labels, scores = data
  pairs = np.sign(scores[labels][:, None] - scores[~labels][None])
  assert metrics.auc(labels, scores) == pytest.approx((1 + pairs.mean()) / 2)
  assert metrics.auc(~labels, scores) == pytest.approx(
      1 - metrics.auc(labels, scores))


@SETTINGS
@hypothesis.given(predictions())
def test_average_precision_is_the_sum_of_its_steps(data):
  labels, scores = data
  expected, recall = 0, 0
  for threshold in np.unique(scores)[::-1]:
    called = scores >= threshold
    now = labels[called].sum() / labels.sum()
    expected += (now - recall) * labels[called].mean()
    recall = now
  assert metrics.average_precision(labels, scores) == pytest.approx(expected)


@SETTINGS
@hypothesis.given(predictions(), st.randoms(use_true_random=False))
def test_order_of_rows_and_scale_of_scores_do_not_matter(data, random):
  labels, scores = data
  order = list(range(len(labels)))
  random.shuffle(order)
  for metric in (metrics.auc, metrics.average_precision):
    value = metric(labels, scores)
    assert 0 <= value <= 1
    assert metric(labels[order], scores[order]) == pytest.approx(value)
    assert metric(labels, np.exp(3 * scores) - 7) == pytest.approx(value)
  threshold = metrics.youden_threshold(labels, scores)
  assert metrics.youden_threshold(labels[order], scores[order]) == threshold


@SETTINGS
@hypothesis.given(predictions())
def test_no_threshold_beats_youdens(data):
  labels, scores = data
  best = sum(metrics.sensitivity_specificity(
      labels, scores, threshold=metrics.youden_threshold(labels, scores)))
  for threshold in (*scores, 2.):
    found = metrics.sensitivity_specificity(labels, scores, threshold=threshold)
    assert sum(found) <= best + 1e-12
    assert 0 <= min(found) <= max(found) <= 1


@SETTINGS
@hypothesis.given(st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_confusion_matrix_holds_every_row_once(rows):
  labels, predicted = np.array(rows).T
  matrix = metrics.confusion_matrix(labels, predicted, num_classes=4)
  np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=4))
  np.testing.assert_array_equal(
      matrix.sum(axis=0), np.bincount(predicted, minlength=4))
  recalls = [np.mean(predicted[labels == k] == k) for k in np.unique(labels)]
  assert metrics.balanced_accuracy(labels, predicted, num_classes=4) == pytest.approx(
      np.mean(recalls))


@SETTINGS
@hypothesis.given(predictions(), st.floats(0.1, 10))
def test_calibration_of_any_predictions(data, temperature):
  labels, scores = data
  probabilities = np.stack([1 - scores, scores], axis=1)
  curve = calibration.reliability(labels, scores, num_bins=7)
  assert curve.counts.sum() == len(labels)
  assert 0 <= calibration.expected_error(curve) <= 1
  assert calibration.log_loss(labels.astype(int), probabilities) >= 0
  softened = calibration.soften(probabilities, temperature)
  np.testing.assert_allclose(softened.sum(axis=1), 1)
  assert (np.argsort(softened[:, 1], kind='stable')
          == np.argsort(scores, kind='stable')).all()


@SETTINGS
@hypothesis.given(predictions(), st.integers(0, 5))
def test_a_draw_keeps_the_size_of_every_class(data, seed):
  labels, scores = data
  draws = bootstrap.bootstrap_draws(
      labels, np.arange(len(labels)), num_draws=5, seed=seed)
  np.testing.assert_array_equal(draws[:, labels].sum(axis=1), labels.sum())
  np.testing.assert_array_equal(draws.sum(axis=1), len(labels))
  # A draw's score is the metric of the rows that it took.
  found = bootstrap.draws_auc(draws, labels=labels, scores=scores)
  for draw, value in zip(draws, found, strict=True):
    assert value == pytest.approx(
        metrics.auc(np.repeat(labels, draw), np.repeat(scores, draw)))


def _scored(labels, probabilities, names=('a', 'b')):
  return scores_lib.classification_scores(
      np.array(labels), np.array(probabilities), class_names=names,
      groups=np.arange(len(labels)), threshold=None, temperature=None, num_draws=100,
      seed=0)


@pytest.mark.parametrize('label', [0, 1])
def test_one_image_has_a_summary_without_a_ranking(label):
  found = _scored([label], [[0.25, 0.75]])
  assert found['n'] == 1
  assert found['auc'] == found['ap'] == {'estimate': None, 'low': None, 'high': None}
  assert found['calibration']['log_loss'] == pytest.approx(
      -np.log([0.25, 0.75][label]))


def test_one_image_of_three_classes():
  found = _scored([2], [[0.2, 0.3, 0.5]], names=('a', 'b', 'c'))
  assert found['balanced_accuracy']['estimate'] == 1
  assert found['recall']['a']['estimate'] is None
  assert found['auc_mean']['estimate'] is None


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('names', ['ab', 'abc'])
def test_nan_is_refused_wherever_it_comes_in(names, value):
  probabilities = np.full((4, len(names)), 1 / len(names))
  probabilities[2, 0] = value
  labels = np.array([0, 1, 0, 1])
  with pytest.raises(ValueError, match='NaN'):
    _scored(labels, probabilities, names=tuple(names))
  for call in (
      lambda: calibration.log_loss(labels, probabilities),
      lambda: calibration.soften(probabilities, 2.),
      lambda: calibration.fit_temperature(labels, probabilities),
      lambda: metrics.one_vs_rest_auc(labels, probabilities)):
    with pytest.raises(ValueError, match='NaN'):
      call()
