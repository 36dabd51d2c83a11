import functools
import math

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.evaluation import significance

# Albumin, total protein, K-G score and benefit from surgery of the patients with
# ovarian cancer that have all three measured: DeLong, DeLong & Clarke-Pearson,
# Biometrics 44 (1988) 837-845.
OVARIAN = np.fromstring("""
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0
2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1
4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1
3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
3.6 6.6 5 1""", sep=' ').reshape(-1, 4)


def _pair(seed, rows=60, decimals=8, lift=0.0):
  """Labels and two systems that find the same images hard."""
  rng = np.random.default_rng(seed)
  labels = np.arange(rows) < 0.3 * rows
  common = rng.normal(labels, 1)
  a, b = np.round(common + rng.normal(0, 0.4, (2, rows)), decimals)
  return labels, a + lift * labels, b


def test_a_difference_by_hand():
  a = np.array([5.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  found = significance.paired_difference(a, np.full(11, 1.5), level=0.8)
  # Draws -0.5, 0.5, ..., 8.5: one of ten is not above 0.
  assert found.estimate == 3.5
  assert (found.low, found.high) == pytest.approx((0.4, 7.6))
  assert found.p_value == pytest.approx(2 * 2 / 11)
  turned = significance.paired_difference(np.full(11, 1.5), a, level=0.8)
  assert turned.p_value == found.p_value
  assert turned.low == pytest.approx(-found.high)
  assert significance.paired_difference(a, a, level=0.95) == (0, 0, 0, 1)
  # An undefined draw leaves no bounds.
  found = significance.paired_difference(
      np.array([1.0, 1, np.nan, 1]), np.zeros(4), level=0.95)
  assert found.estimate == 1
  assert np.isnan(found[1:]).all()
  with pytest.raises(ValueError, match='not paired'):
    significance.paired_difference(np.zeros(4), np.zeros(5), level=0.95)


def _delong(labels, a, b):
  return significance.delong(labels, a, b, groups=np.arange(len(labels)))


# The areas, differences, standard errors and p-values are those that SAS/STAT
# prints for these data: User's Guide, 'The LOGISTIC Procedure', example 'Comparing
# Receiver Operating Characteristic Curves' (60.8 in version 13.2).
@pytest.mark.parametrize('column, area, difference, error, p_value', [
    (0, 0.7366, 0.0108, 0.0953, 0.9102), (1, 0.6478, -0.0780, 0.1046, 0.4561)])
def test_the_published_example_of_delong(column, area, difference, error, p_value):
  labels, reference = OVARIAN[:, 3], 10 - OVARIAN[:, 2]
  assert (len(labels), labels.sum()) == (43, 31)
  found = _delong(labels, OVARIAN[:, column], reference)
  np.testing.assert_allclose(
      found, [area, 0.7258, difference, error, p_value], atol=5.1e-5)


def test_delong_at_its_limits():
  labels, a, b = _pair(1)
  same = _delong(labels, a, np.exp(a))
  assert (same.difference, same.standard_error, same.p_value) == (0, 0, 1)
  perfect = _delong(labels, labels + 0.0, ~labels + 0.0)
  assert (perfect.auc_a, perfect.auc_b, perfect.p_value) == (1, 0, 0)
  assert np.isnan(_delong(np.ones(4, int), a[:4], b[:4])).all()
  lonely = _delong(np.array([1, 0, 0]), a[:3], b[:3])
  assert not np.isnan(lonely.difference)
  assert np.isnan(lonely.p_value)


def _mcnemar(labels, a, b, threshold_a=0.5, threshold_b=0.5):
  return significance.mcnemar(
      labels, a, b, threshold_a=threshold_a, threshold_b=threshold_b,
      groups=np.arange(len(labels)))


# Airway hyper-responsiveness before and after stem cell transplantation: Table 1 of
# Fagerland, Lydersen & Laake, BMC Medical Research Methodology 13 (2013) 91. Two media
# for tubercle bacilli: Armitage & Berry, Statistical Methods in Medical Research
# (1994) 127.
@pytest.mark.parametrize('only_a, only_b, p_value', [
    (1, 7, 0.070), (12, 2, 0.0129)])
def test_published_examples_of_mcnemar(only_a, only_b, p_value):
  a = np.repeat([1.0, 0.0, 1.0, 0.0], [only_a, only_b, 12, 5])
  b = np.repeat([0.0, 1.0, 1.0, 0.0], [only_a, only_b, 12, 5])
  found = _mcnemar(np.ones(len(a), int), a, b)
  assert found.positives[:2] == (only_a, only_b)
  assert found.positives.p_value == pytest.approx(p_value, abs=5e-4)
  assert found.negatives == (0, 0, 1)


def test_mcnemar_uses_the_threshold_of_each_system():
  labels = np.array([1, 1, 0, 0])
  a, b = np.array([0.3, 0.2, 0.1, 0.3]), np.array([0.6, 0.7, 0.6, 0.1])
  found = _mcnemar(labels, a, b, threshold_a=0.3, threshold_b=0.65)
  # Positives: a is right on the first (at its threshold), b on the second.
  assert found.positives[:2] == (1, 1)
  assert found.negatives[:2] == (0, 1)


def test_what_the_tests_refuse():
  labels, scores = np.array([0, 1, 0, 1]), np.arange(4.0)
  groups = np.array(list('abca'))
  mcnemar = functools.partial(significance.mcnemar, threshold_a=0.5, threshold_b=0.5)
  for name, test in (('DeLong', significance.delong), ('McNemar', mcnemar)):
    with pytest.raises(errors.UserError,
                       match=f"{name}'s test.* 1 of 4 .*paired bootstrap over lesions"):
      test(labels, scores, scores, groups=groups)
    with pytest.raises(errors.UserError, match='binary.*3 classes.*paired bootstrap'):
      test(np.array([0, 1, 2, 0]), scores, scores, groups=np.arange(4))
    with pytest.raises(ValueError, match='do not fit'):
      test(labels, scores, scores, groups=np.arange(3))
  with pytest.raises(ValueError, match='thresholds are nan'):
    _mcnemar(np.array([0, 1]), np.zeros(2), np.zeros(2), threshold_a=math.nan)


def test_holm_by_hand():
  # 4 x .005, then the larger of that and 3 x .01, 2 x .03, 1 x .04.
  found = significance.holm([0.01, 0.04, 0.03, 0.005])
  np.testing.assert_allclose(found.adjusted, [0.03, 0.06, 0.06, 0.02])
  # One that could not be made is not counted.
  found = significance.holm([0.01, math.nan, 0.04])
  np.testing.assert_allclose(found.adjusted, [0.02, math.nan, 0.04])
  assert found.number == 2
  assert significance.holm([]).number == 0
  with pytest.raises(ValueError, match='not all in'):
    significance.holm([0.5, 1.5])
