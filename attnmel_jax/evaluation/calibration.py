"""Whether a probability of 0.8 means right in 8 of 10 cases (Guo et al. 2017).

  temperature = calibration.fit_temperature(validation_labels, validation_probs)
  probabilities = calibration.soften(probabilities, temperature)
  hits, confidence = calibration.top_label(labels, probabilities)
  calibration.expected_error(calibration.reliability(hits, confidence, num_bins=15))
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.special

from attnmel_jax.evaluation import metrics

# A temperature outside has no meaning: the fit runs there where validation is
# classified without error (towards 0) or probabilities say nothing (infinity).
COLDEST, HOTTEST = 0.05, 20.0

# Of probabilities that float32 rounded to 0, before the logarithm.
_SMALLEST = np.finfo(np.float32).tiny


class Reliability(NamedTuple):
  """Rows by confidence, in bins of equal width."""

  edges: np.ndarray       # [M + 1], from 0 to 1
  counts: np.ndarray      # int64 [M]
  confidence: np.ndarray  # [M], mean within the bin; nan where it is empty
  accuracy: np.ndarray    # [M], share of hits within the bin; nan where it is empty


def top_label(labels: np.ndarray, probabilities: np.ndarray
              ) -> tuple[np.ndarray, np.ndarray]:
  """Whether the likeliest class is the true one, and its probability.

  Args:
    labels: int [N] in [0, K).
    probabilities: [N, K].

  Returns:
    Hits bool [N] and confidence float64 [N].
  """
  labels, probabilities = metrics.check_probabilities(labels, probabilities)
  return probabilities.argmax(axis=1) == labels, probabilities.max(axis=1)


def reliability(hits: np.ndarray, confidence: np.ndarray, *, num_bins: int
                ) -> Reliability:
  """The reliability curve: accuracy against confidence.

  Args:
    hits: [N] of 0 and 1, or bool: whether the predicted event occurred. In a binary
      task that is 'melanoma', with more classes see `top_label`.
    confidence: [N] in [0, 1], the predicted probability of the event.
    num_bins: M bins (k/M, (k+1)/M]; 0 belongs to the first.
  """
  hits, confidence = metrics.check_binary(hits, confidence)
  if num_bins < 1 or confidence.min() < 0 or confidence.max() > 1:
    raise ValueError(f'confidence is from {confidence.min()} to {confidence.max()}, '
                     f'num_bins={num_bins}')
  edges = np.arange(num_bins + 1) / num_bins
  bins = np.maximum(np.searchsorted(edges, confidence, side='left') - 1, 0)
  counts = np.bincount(bins, minlength=num_bins)
  means = [np.divide(np.bincount(bins, weights=values, minlength=num_bins), counts,
                     where=counts > 0, out=np.full(num_bins, np.nan))
           for values in (confidence, hits)]
  return Reliability(edges, counts, *means)


def expected_error(curve: Reliability) -> float:
  """Expected calibration error: |accuracy - confidence| averaged over the rows.

  It depends on the number of bins and is biased upwards on few rows: compare it
  between systems on the same rows only.

  >>> calibration.expected_error(
  ...     calibration.reliability([1, 0], [.75, .75], num_bins=10))
  0.25
  """
  filled = curve.counts > 0
  gaps = np.abs(curve.accuracy[filled] - curve.confidence[filled])
  return float(np.average(gaps, weights=curve.counts[filled]))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
  """Mean negative log-likelihood of the true class, natural logarithm.

  >>> round(calibration.log_loss(np.array([0]), np.array([[.5, .5]])), 4)
  0.6931
  """
  labels, probabilities = metrics.check_probabilities(labels, probabilities)
  return _log_loss(labels, probabilities)


def soften(probabilities: np.ndarray, temperature: float) -> np.ndarray:
  """softmax(logits / temperature), from probabilities [N, K]; above 1 it softens.

  It keeps the order of the classes within a row and, with two classes, the order of
  the rows: neither accuracy nor AUC changes.

  >>> calibration.soften(np.array([[.8, .2]]), 2.0).round(4).tolist()
  [[0.6667, 0.3333]]
  """
  if not temperature > 0:
    raise ValueError(f'temperature={temperature} is not positive')
  return scipy.special.softmax(_logarithm(probabilities) / temperature, axis=1)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
  """The temperature with the least log loss, on a validation set.

  Args:
    labels: int [N] in [0, K).
    probabilities: [N, K], untouched softmax outputs.

  Returns:
    In [COLDEST, HOTTEST]. COLDEST where no row is misclassified: the loss then falls,
    or stays as it is, down to 0.
  """
  labels, probabilities = metrics.check_probabilities(labels, probabilities)
  if (probabilities[np.arange(len(labels)), labels] == probabilities.max(axis=1)).all():
    return COLDEST  # a search would stop anywhere on a loss that is flat

  def loss(log_temperature):
    return _log_loss(labels, soften(probabilities, np.exp(log_temperature)))

  # Convex in 1 / temperature, so there is one minimum whatever the scale.
  found = scipy.optimize.minimize_scalar(
      loss, bounds=np.log([COLDEST, HOTTEST]), method='bounded',
      options={'xatol': 1e-6})
  return float(np.exp(found.x))


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
  return float(-_logarithm(probabilities)[np.arange(len(labels)), labels].mean())


def _logarithm(probabilities: np.ndarray) -> np.ndarray:
  return np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST))
