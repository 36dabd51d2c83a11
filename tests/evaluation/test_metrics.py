import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import metrics

# Four positives and six negatives, ties at 0.4 (one of each) and 0.8 (two of one).
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.8, 0.4, 0.7, 0.4, 0.3, 0.2, 0.1, 0.05])


@st.composite
def predictions(draw):
  """bool labels of both classes and scores [N] on a grid of tenths, so with ties."""
  rows = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), max_size=25))
  labels, tenths = np.array([(True, draw(st.integers(0, 10))),
                             (False, draw(st.integers(0, 10))), *rows]).T
  return labels.astype(bool), tenths / 10


def test_areas_and_curves_by_hand():
  # 0.9, 0.8, 0.8 win 6 pairs each; 0.4 wins 4, ties 1 and loses 1.
  assert metrics.auc(LABELS, SCORES) == pytest.approx((18 + 4.5) / 24)
  # Steps: 1/4 at precision 1, 2/4 at 1, then 0.7 is false, and 0.4 brings one of
  # each: precision 4/6.
  assert metrics.average_precision(LABELS, SCORES) == pytest.approx(
      0.25 + 0.5 + 0.25 * 4 / 6)
  roc = metrics.roc_curve(LABELS, SCORES)
  np.testing.assert_allclose(roc.thresholds, [np.inf, *np.unique(SCORES)[::-1]])
  np.testing.assert_allclose(
      roc.true_positive_rate, np.array([0, 1, 3, 3, 4, 4, 4, 4, 4]) / 4)
  np.testing.assert_allclose(
      roc.false_positive_rate, np.array([0, 0, 0, 1, 2, 3, 4, 5, 6]) / 6)
  steps = metrics.precision_recall_curve(LABELS, SCORES)
  np.testing.assert_allclose(steps.thresholds, np.unique(SCORES)[::-1])
  np.testing.assert_allclose(steps.recall, np.array([1, 3, 3, 4, 4, 4, 4, 4]) / 4)
  np.testing.assert_allclose(
      steps.precision, [1, 1, 3 / 4, 4 / 6, 4 / 7, 4 / 8, 4 / 9, 4 / 10])


@hypothesis.given(predictions())
@hypothesis.settings(deadline=None, max_examples=40, derandomize=True, database=None)
def test_areas_are_of_pairs_and_no_threshold_beats_youdens(data):
  labels, scores = data
  pairs = np.sign(scores[labels][:, None] - scores[~labels][None])
  assert metrics.auc(labels, scores) == pytest.approx((1 + pairs.mean()) / 2)
  roc = metrics.roc_curve(labels, scores)
  assert np.trapezoid(roc.true_positive_rate, roc.false_positive_rate) == (
      pytest.approx((1 + pairs.mean()) / 2))
  steps = metrics.precision_recall_curve(labels, scores)
  area = np.sum(np.diff(steps.recall, prepend=0) * steps.precision)
  assert area == pytest.approx(metrics.average_precision(labels, scores))
  found = metrics.sensitivity_specificity(
      labels, scores, threshold=metrics.youden_threshold(labels, scores))
  assert sum(found) - 1 == pytest.approx(
      np.max(roc.true_positive_rate - roc.false_positive_rate), abs=1e-12)


def test_youdens_threshold_and_its_ties_by_hand():
  # At 0.8: 3/4 + 1 - 1; at 0.4: 1 + 4/6 - 1, less.
  assert metrics.youden_threshold(LABELS, SCORES) == 0.8
  # Both 0.6 (1/2 of two positives, no negative) and 0.2 (all, 1/2 of the
  # negatives) give 1/2: the lowest wins.
  assert metrics.youden_threshold([1, 0, 1, 0], [0.6, 0.4, 0.2, 0.1]) == 0.2
  # 1/2 + 5/6 - 1 and 2/2 + 2/6 - 1 are both 1/3, but not in floating point.
  scores = [0.8, 0.8, 0.6, 0.6, 0.6, 0.6, 0.1, 0.1]
  assert metrics.youden_threshold([1, 0, 1, 0, 0, 0, 0, 0], scores) == 0.6
  assert metrics.youden_threshold([1, 0, 1, 0], [0.5] * 4) == 0.5


def test_the_threshold_itself_is_positive():
  at = metrics.sensitivity_specificity(LABELS, SCORES, threshold=0.4)
  assert at == (1.0, 4 / 6)
  above = metrics.sensitivity_specificity(LABELS, SCORES, threshold=0.41)
  assert above == (3 / 4, 5 / 6)
  # float32 scores are cut by their own threshold.
  scores = SCORES.astype(np.float32)
  threshold = metrics.youden_threshold(LABELS, scores)
  assert metrics.sensitivity_specificity(
      LABELS, scores, threshold=threshold) == (0.75, 1.0)


@pytest.mark.parametrize('label', [0, 1])
def test_one_class_is_undefined(label):
  labels, scores = np.full(4, label), np.linspace(0, 1, 4)
  threshold = metrics.youden_threshold(labels, scores)
  assert np.isnan([metrics.auc(labels, scores), threshold,
                   metrics.average_precision(labels, scores)]).all()
  assert not len(metrics.roc_curve(labels, scores).thresholds)
  assert not len(metrics.precision_recall_curve(labels, scores).recall)
  assert np.isnan(metrics.sensitivity_specificity(
      labels, scores, threshold=threshold)).all()
  found = metrics.sensitivity_specificity(labels, scores, threshold=0.5)
  assert found[1 - label] == 0.5
  assert np.isnan(found[label])


def test_several_classes():
  labels, predicted = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 2, 0, 1, 0, 3])
  np.testing.assert_array_equal(
      metrics.confusion_matrix(labels, predicted, num_classes=4),
      [[2, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
  assert metrics.balanced_accuracy(labels, predicted) == pytest.approx(
      (2 / 3 + 1 / 2 + 1) / 3)
  probabilities = np.random.default_rng(3).dirichlet(np.ones(5), size=300)
  labels = np.arange(300) % 5
  assert np.mean(metrics.one_vs_rest_auc(labels, probabilities)) == pytest.approx(
      sklearn.metrics.roc_auc_score(labels, probabilities, multi_class='ovr'))
  # A class that is absent has no area.
  probabilities = np.array([[0.6, 0.4, 0.0], [0.7, 0.2, 0.1], [0.5, 0.2, 0.3]])
  np.testing.assert_array_equal(
      metrics.one_vs_rest_auc(np.array([0, 0, 2]), probabilities), [1, np.nan, 1])


@pytest.mark.parametrize('labels, scores, message', [
    ([0, 1, 1], [0.1, np.nan, np.inf], '2 of 3 scores'),
    ([], [], 'no rows'),
    ([0, 1], [0.1, 0.2, 0.3], 'not both'),
    ([[0, 1]], [[0.1, 0.2]], 'not both'),
    ([0, 2], [0.1, 0.2], 'not 0 and 1'),
    ([0, np.nan], [0.1, 0.2], 'not 0 and 1')])
def test_scores_that_make_no_sense_raise(labels, scores, message):
  for metric in (metrics.auc, metrics.average_precision, metrics.youden_threshold,
                 metrics.roc_curve, metrics.precision_recall_curve):
    with pytest.raises(ValueError, match=message):
      metric(labels, scores)


@pytest.mark.parametrize('labels, probabilities, message', [
    ([0, 3], np.full((2, 3), 1 / 3), 'outside'),
    ([0.0, 1.0], np.full((2, 3), 1 / 3), 'not integer'),
    ([0], np.full((2, 3), 1 / 3), 'do not fit 1'),
    ([0, 1], np.array([0.5, 0.5]), 'do not fit 2'),
    (np.array([], int), np.zeros((0, 3)), 'no rows'),
    ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], 'NaN'),
    ([0, 1], [[0.5, 0.5], [1.5, -0.5]], r'outside \[0, 1\]')])
def test_probabilities_that_make_no_sense_raise(labels, probabilities, message):
  with pytest.raises(ValueError, match=message):
    metrics.one_vs_rest_auc(labels, probabilities)


@pytest.mark.parametrize('labels, predicted, message', [
    ([0, 1], [0, 1, 1], 'not both'),
    (np.eye(2, dtype=int), [0, 1], 'not integer'),
    ([0, 1], [[0.2, 0.8], [0.3, 0.7]], 'not integer'),
    ([0.0, 1.0], [0, 1], 'not integer'),
    ([], [], 'not integer')])
def test_classes_that_make_no_sense_raise(labels, predicted, message):
  with pytest.raises(ValueError, match=message):
    metrics.balanced_accuracy(labels, predicted)
