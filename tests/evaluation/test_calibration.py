import numpy as np
import pytest
import scipy.special
import sklearn.calibration
import sklearn.linear_model
import sklearn.metrics

from attnmel_jax.evaluation import calibration


def _overconfident(rows=4000, classes=3, temperature=2.5, seed=0):
  """Labels drawn from softmax(logits / temperature), and softmax(logits)."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 3, (rows, classes))
  truth = scipy.special.softmax(logits / temperature, axis=1)
  labels = (truth.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
  return np.minimum(labels, classes - 1), scipy.special.softmax(logits, axis=1)


def test_reliability_by_hand():
  hits = np.array([0, 0, 1, 1, 0, 1])
  confidence = np.array([0.0, 0.25, 0.5, 0.5001, 0.75, 1.0])
  curve = calibration.reliability(hits, confidence, num_bins=4)
  np.testing.assert_array_equal(curve.edges, [0, 0.25, 0.5, 0.75, 1])
  np.testing.assert_array_equal(curve.counts, [2, 1, 2, 1])
  np.testing.assert_allclose(curve.confidence, [0.125, 0.5, 0.62505, 1])
  np.testing.assert_allclose(curve.accuracy, [0, 1, 0.5, 1])
  expected = (2 * 0.125 + 1 * 0.5 + 2 * 0.12505 + 0) / 6
  assert calibration.expected_error(curve) == pytest.approx(expected)
  # Empty bins have no accuracy and no weight.
  curve = calibration.reliability([1, 0], [0.9, 0.95], num_bins=5)
  np.testing.assert_array_equal(curve.counts, [0, 0, 0, 0, 2])
  assert np.isnan(curve.accuracy[:4]).all()
  assert calibration.expected_error(curve) == pytest.approx(0.425)


def test_the_temperature_of_two_classes_is_a_logistic_slope():
  # softmax(logits / T) of two classes is a logistic regression on the difference
  # of logits without intercept, of slope 1 / T.
  labels, probabilities = _overconfident(300, classes=2, temperature=1.5)
  margin = np.log(probabilities[:, 1] / probabilities[:, 0])
  theirs = sklearn.linear_model.LogisticRegression(
      C=np.inf, fit_intercept=False, tol=1e-10).fit(margin[:, None], labels)
  assert 1 / calibration.fit_temperature(labels, probabilities) == pytest.approx(
      theirs.coef_[0, 0], rel=1e-4)


def test_the_temperature_that_made_the_labels_is_found():
  labels, probabilities = _overconfident()
  temperature = calibration.fit_temperature(labels, probabilities)
  # The slope's standard error is about 3 % with 4000 rows.
  assert temperature == pytest.approx(2.5, rel=0.1)
  softer = calibration.soften(probabilities, temperature)
  np.testing.assert_array_equal(softer.argmax(axis=1), probabilities.argmax(axis=1))


def test_log_loss_is_scikit_learns_and_finite_at_zero():
  labels, probabilities = _overconfident(50)
  assert calibration.log_loss(labels, probabilities) == pytest.approx(
      sklearn.metrics.log_loss(labels, probabilities, labels=range(3)))
  labels, probabilities = np.array([0, 1, 1]), np.eye(2)[[0, 1, 0]]
  assert np.isfinite(calibration.log_loss(labels, probabilities))
  assert calibration.fit_temperature(labels, probabilities) > 1


def test_the_temperature_has_bounds():
  probabilities = np.array([[0.6, 0.4], [0.4, 0.6]])
  # Validation without an error, and with errors alone.
  for labels, bound in ((np.array([0, 1]), 0.05), (np.array([1, 0]), 20)):
    assert calibration.fit_temperature(labels, probabilities) == (
        pytest.approx(bound, rel=1e-3))
  # Probabilities of 0 and 1 have the same loss at any temperature.
  assert calibration.fit_temperature(np.array([0, 1, 1]), np.eye(2)[[0, 1, 1]]) == 0.05


@pytest.mark.parametrize('call, message', [
    (lambda: calibration.reliability([1], [1.5], num_bins=5), 'confidence'),
    (lambda: calibration.reliability([1], [0.5], num_bins=0), 'num_bins=0'),
    (lambda: calibration.soften(np.full((1, 2), 0.5), 0.0), 'temperature=0'),
    (lambda: calibration.fit_temperature([0], [[np.nan, 0.5]]), 'NaN'),
    (lambda: calibration.log_loss([0], [[np.nan, 0.5]]), 'NaN'),
    (lambda: calibration.top_label([2], np.full((1, 2), 0.5)), 'outside')])
def test_what_makes_no_sense_raises(call, message):
  with pytest.raises(ValueError, match=message):
    call()
