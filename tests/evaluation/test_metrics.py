import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import metrics

# Four positives and six negatives, ties at 0.4 (one of each) and 0.8 (two of one).
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.8, 0.4, 0.7, 0.4, 0.3, 0.2, 0.1, 0.05])


def test_auc_counts_pairs_and_half_of_ties():
  # 0.9, 0.8, 0.8 win 6 pairs each; 0.4 wins 4, ties 1 and loses 1.
  assert metrics.auc(LABELS, SCORES) == pytest.approx((18 + 4.5) / 24)
  assert metrics.auc(LABELS, -SCORES) == pytest.approx(1 - 22.5 / 24)


def test_average_precision_by_hand():
  # Steps: 1/4 at precision 1, 2/4 at 1, then 0.7 is false, and 0.4 brings one of
  # each: precision 4/6.
  expected = 0.25 + 0.5 + 0.25 * 4 / 6
  assert metrics.average_precision(LABELS, SCORES) == pytest.approx(expected)


def test_youden_threshold_by_hand():
  # At 0.8: 3/4 + 1 - 1; at 0.4: 1 + 4/6 - 1, less.
  assert metrics.youden_threshold(LABELS, SCORES) == 0.8


def test_youden_threshold_of_a_tie_is_the_lowest():
  # Both 0.6 (1/2 of two positives, no negative) and 0.2 (all, 1/2 of the
  # negatives) give 1/2.
  labels, scores = [1, 0, 1, 0], [0.6, 0.4, 0.2, 0.1]
  assert metrics.youden_threshold(labels, scores) == 0.2
  # 1/2 + 5/6 - 1 and 2/2 + 2/6 - 1 are both 1/3, but not in floating point.
  labels = [1, 0, 1, 0, 0, 0, 0, 0]
  scores = [0.8, 0.8, 0.6, 0.6, 0.6, 0.6, 0.1, 0.1]
  assert metrics.youden_threshold(labels, scores) == 0.6
  # Nothing is told apart: everything is positive.
  assert metrics.youden_threshold([1, 0, 1, 0], [0.5] * 4) == 0.5


@pytest.mark.parametrize('seed', range(5))
def test_youden_threshold_is_the_best_of_scikit_learns_roc_curve(seed):
  rng = np.random.default_rng(seed)
  labels = rng.random(200) < 0.3
  scores = np.round(rng.normal(labels, 1.0), 1)
  threshold = metrics.youden_threshold(labels, scores)
  found = metrics.sensitivity_specificity(labels, scores, threshold=threshold)
  false, true, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
  assert sum(found) - 1 == pytest.approx(np.max(true - false), abs=1e-12)
  assert threshold in scores


def test_sensitivity_and_specificity_include_the_threshold():
  at = metrics.sensitivity_specificity(LABELS, SCORES, threshold=0.4)
  assert at == (1.0, 4 / 6)
  above = metrics.sensitivity_specificity(LABELS, SCORES, threshold=0.41)
  assert above.sensitivity == 3 / 4
  assert above.specificity == 5 / 6


def test_float32_scores_are_cut_by_their_own_threshold():
  scores = SCORES.astype(np.float32)
  threshold = metrics.youden_threshold(LABELS, scores)
  found = metrics.sensitivity_specificity(LABELS, scores, threshold=threshold)
  assert found == (0.75, 1.0)


@pytest.mark.parametrize('label', [0, 1])
def test_one_class_is_undefined(label):
  labels = np.full(4, label)
  scores = np.linspace(0, 1, 4)
  assert np.isnan(metrics.auc(labels, scores))
  assert np.isnan(metrics.average_precision(labels, scores))
  threshold = metrics.youden_threshold(labels, scores)
  assert np.isnan(threshold)
  assert np.isnan(metrics.sensitivity_specificity(
      labels, scores, threshold=threshold)).all()
  found = metrics.sensitivity_specificity(labels, scores, threshold=0.5)
  assert found[1 - label] == 0.5
  assert np.isnan(found[label])


@pytest.mark.parametrize('labels, scores, message', [
    ([0, 1, 1], [0.1, np.nan, np.inf], '2 of 3 scores'),
    ([], [], 'no rows'),
    ([0, 1], [0.1, 0.2, 0.3], 'not both'),
    ([[0, 1]], [[0.1, 0.2]], 'not both'),
    ([0, 2], [0.1, 0.2], 'not 0 and 1'),
    ([0, np.nan], [0.1, 0.2], 'not 0 and 1'),
])
@pytest.mark.parametrize('metric', [
    metrics.auc, metrics.average_precision, metrics.youden_threshold])
def test_what_cannot_be_meant_raises(metric, labels, scores, message):
  with pytest.raises(ValueError, match=message):
    metric(labels, scores)


def test_confusion_matrix_and_recalls_by_hand():
  labels = np.array([0, 0, 0, 1, 1, 3])
  predicted = np.array([0, 2, 0, 1, 0, 3])
  matrix = metrics.confusion_matrix(labels, predicted, num_classes=4)
  np.testing.assert_array_equal(
      matrix, [[2, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
  recalls = metrics.recall_per_class(labels, predicted, num_classes=4)
  np.testing.assert_array_equal(recalls, [2 / 3, 1 / 2, np.nan, 1.0])
  balanced = metrics.balanced_accuracy(labels, predicted, num_classes=4)
  assert balanced == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_multiclass_metrics_match_scikit_learn():
  rng = np.random.default_rng(3)
  labels = rng.integers(5, size=300)
  probabilities = rng.dirichlet(np.ones(5), size=300)
  predicted = np.where(rng.random(300) < 0.5, labels, rng.integers(5, size=300))
  np.testing.assert_array_equal(
      metrics.confusion_matrix(labels, predicted, num_classes=5),
      sklearn.metrics.confusion_matrix(labels, predicted))
  assert metrics.balanced_accuracy(labels, predicted, num_classes=5) == pytest.approx(
      sklearn.metrics.balanced_accuracy_score(labels, predicted))
  assert np.mean(metrics.one_vs_rest_auc(labels, probabilities)) == pytest.approx(
      sklearn.metrics.roc_auc_score(labels, probabilities, multi_class='ovr'))


def test_one_vs_rest_auc_of_an_absent_class_is_undefined():
  probabilities = np.array([[0.6, 0.4, 0.0], [0.7, 0.2, 0.1], [0.5, 0.2, 0.3]])
  np.testing.assert_array_equal(
      metrics.one_vs_rest_auc(np.array([0, 0, 2]), probabilities), [1, np.nan, 1])


@pytest.mark.parametrize('labels, predicted, message', [
    ([0, 3], [0, 1], 'outside'),
    ([0, 1], [0, -1], 'outside'),
    ([0, 1], [0], '2 labels but 1'),
    ([0.0, 1.0], [0, 1], 'not integer'),
    (np.array([], int), np.array([], int), 'no rows'),
])
def test_labels_that_are_no_classes_raise(labels, predicted, message):
  with pytest.raises(ValueError, match=message):
    metrics.confusion_matrix(labels, predicted, num_classes=3)
