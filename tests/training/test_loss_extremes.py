"""Losses and gradients where they are hardest, against closed forms in float64.

And what holds for any input, tried on many.
"""

import decimal

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.training import losses

SETTINGS = hypothesis.settings(deadline=None, max_examples=30, derandomize=True,
                               database=None)


@jax.jit
def _focal(logits, labels, gamma):
  """Losses [B], and their gradients [B, K]."""
  value, pullback = jax.vjp(
      lambda x: losses.focal_loss(x, labels, gamma=gamma), logits)
  return value, pullback(jnp.ones_like(value))[0]


def _focal_exactly(logits, label, gamma):
  """-(1 - p)^g log p and its slopes, with a thousand digits.

  dL/dz_t = g p (1 - p)^g log p - (1 - p)^(g + 1), which the others share by their
  probabilities with the opposite sign.
  """
  with decimal.localcontext() as context:
    context.prec = 1000
    terms = [decimal.Decimal(float(x)).exp() for x in logits]
    total = sum(terms)
    p = terms[label] / total
    rest = sum(t for k, t in enumerate(terms) if k != label) / total
    gamma = decimal.Decimal(gamma)
    power = (gamma * rest.ln()).exp()
    slope = gamma * p * power * p.ln() - power * rest
    slopes = [-slope * t / total / rest for t in terms]
    slopes[label] = slope
    return float(-power * p.ln()), [float(s) for s in slopes]


@pytest.mark.parametrize('gamma', [0, 0.5, 1, 2])
@pytest.mark.parametrize('logits', [
    [0., 0.], [30., -30.], [-30., 30.], [300., -300.], [-300., 300.], [700., 700.],
    [1e-9, 0.], [40., 0., 41.], [-200., 150., 149., -900.]])
def test_focal_loss_and_gradient_in_float64(float64, logits, gamma):
  for label in range(len(logits)):
    value, gradient = _focal(np.array([logits]), np.array([label]), float(gamma))
    loss, slopes = _focal_exactly(logits, label, gamma)
    np.testing.assert_allclose(value, [loss], rtol=1e-11, atol=1e-290)
    np.testing.assert_allclose(gradient, [slopes], rtol=1e-11, atol=1e-290)


@pytest.mark.parametrize('logits', [[18., 0.], [40., 0.], [0., 18.], [0., 80.],
                                    [3., 2.5], [25., 0., 24.]])
def test_focal_loss_and_gradient_keep_their_digits_in_float32(logits):
  for label in range(len(logits)):
    value, gradient = _focal(
        np.array([logits], np.float32), np.array([label]), np.float32(2))
    loss, slopes = _focal_exactly(logits, label, 2)
    np.testing.assert_allclose(value, [loss], rtol=3e-5, atol=1e-37)
    np.testing.assert_allclose(gradient, [slopes], rtol=3e-5, atol=1e-37)


@jax.jit
def _dice(z, reference, has_roi):
  """Dice loss of sigmoid(z), and its gradient with respect to z."""
  return jax.value_and_grad(lambda x: losses.dice_loss(
      jax.nn.sigmoid(x), reference, has_roi, axis_name=None))(z)


def _dice_exactly(z, reference, has_roi):
  """1 - 2 P / S and 2 (P - r S) / S^2 a (1 - a), in float64."""
  z, reference = z.astype(np.float64), reference.astype(np.float64)
  weight = has_roi[:, None, None].astype(np.float64)
  a, complement = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
  overlap, total = (weight * a * reference).sum(), (weight * (a + reference)).sum()
  if total == 0:
    return 0., np.zeros_like(z)
  return (1 - 2 * overlap / total,
          weight * 2 * (overlap - reference * total) / total**2 * a * complement)


# Annotated maps of a batch of three: the last image is not annotated.
_ANNOTATED = np.array([True, True, False])
_EMPTY = np.zeros((3, 2, 2), np.float32)
_FULL = np.ones((3, 2, 2), np.float32)
_PIXEL = _EMPTY.copy()
_PIXEL[0, 1, 1] = 1 / 64  # of an 8 x 8 block


@pytest.mark.parametrize('reference', [_EMPTY, _FULL, _PIXEL],
                         ids=['empty', 'full', 'one pixel'])
@pytest.mark.parametrize('z', [-86, -60, -45, -20, 0, 20, 45, 86])
def test_dice_loss_and_gradient_through_the_sigmoid(reference, z):
  logits = np.full((3, 2, 2), z, np.float32)
  logits[1, 0] -= 0.5
  value, gradient = _dice(logits, reference, _ANNOTATED)
  expected, slopes = _dice_exactly(logits, reference, _ANNOTATED)
  np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
  # 1 - a is rounded to multiples of 6e-8 where a is near 1.
  np.testing.assert_allclose(gradient, slopes, rtol=1e-4,
                             atol=6e-8 if z > 0 else 1e-37)


def test_all_empty_maps_say_nothing_however_small_the_attention():
  # 1 - 0 / S is 1 whatever S is; its slopes hold 0 / S^2.
  for z in np.linspace(-100, 100, 41, dtype=np.float32):
    value, gradient = _dice(np.full((3, 2, 2), z), _EMPTY, _ANNOTATED)
    assert value == 1 or (value == 0 and z < -86)  # below the smallest number
    assert (gradient == 0).all()


@jax.jit
def _total(logits, z, labels, roi, has_roi):
  def loss(logits, z):
    attention = {'pool3': jax.nn.sigmoid(z)}
    return losses.total_loss(
        logits, attention, labels, roi, has_roi, taps=('pool3',), gamma=2.,
        dice_weights=jnp.array([0.5]), axis_name=None)

  (value, terms), gradients = jax.value_and_grad(
      loss, argnums=(0, 1), has_aux=True)(logits, z)
  return value, terms, gradients


@pytest.mark.parametrize('label', [0, 1])
@pytest.mark.parametrize('size', [0., 30., 500.])
def test_a_batch_without_annotation_and_of_one_class(float64, label, size):
  """No term of Dice, no slope to the gates; the focal loss by its closed form."""
  logits = np.array([[size, -size], [-size, size], [0., size]])
  labels = np.full(3, label)
  z = np.full((3, 2, 2), size)
  value, terms, (slopes, of_gates) = _total(
      logits, z, labels, np.ones((3, 4, 4)), np.zeros(3, bool))
  exact = [_focal_exactly(row, label, 2) for row in logits]
  np.testing.assert_allclose(value, np.mean([loss for loss, _ in exact]), rtol=1e-11)
  np.testing.assert_allclose(slopes, np.array([s for _, s in exact]) / 3, rtol=1e-11,
                             atol=1e-290)
  assert terms['dice_loss_pool3'] == 0
  assert (of_gates == 0).all()


def test_a_nan_stays_a_nan():
  broken = np.full((3, 2, 2), np.nan, np.float32)
  assert np.isnan(_dice(broken, _FULL, _ANNOTATED)[0])
  assert np.isnan(_focal(np.full((1, 2), np.nan), np.array([0]), 2.)[0]).all()


_LOGITS = hnp.arrays(np.float32, (4, 3), elements=st.floats(-90, 90, width=32))
_CLASSES = hnp.arrays(np.int32, (4,), elements=st.integers(0, 2))
_GAMMA = st.sampled_from([0., 0.5, 1., 2., 5.])


@SETTINGS
@hypothesis.given(_LOGITS, _CLASSES, _GAMMA, st.permutations(range(3)),
                  st.floats(-50, 50, width=32))
def test_the_focal_loss_of_any_batch(logits, labels, gamma, order, shift):
  value, gradient = _focal(logits, labels, gamma)
  cross_entropy, _ = _focal(logits, labels, 0.)
  assert np.isfinite(value).all() and np.isfinite(gradient).all()
  assert (value >= 0).all()
  assert (value <= cross_entropy * (1 + 1e-5)).all()
  # Only differences of logits matter, and so the slopes sum to 0.
  np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-5 * (1 + gamma))
  np.testing.assert_allclose(
      _focal(logits + shift, labels, gamma)[0], value, rtol=2e-3, atol=1e-5)
  # The names of the classes do not matter.
  order = np.array(order)
  again, _ = _focal(logits[:, order], np.argsort(order)[labels], gamma)
  np.testing.assert_allclose(again, value, rtol=1e-4, atol=1e-30)


_MAPS = hnp.arrays(np.float32, (3, 2, 2), elements=st.one_of(
    st.sampled_from([0., 1.]), st.floats(0, 1, width=32)))
_FLAGS = hnp.arrays(bool, (3,))
_jitted_dice = jax.jit(lambda a, r, has: jax.value_and_grad(
    lambda x: losses.dice_loss(x, r, has, axis_name=None))(a))


def _plain_dice(*arguments):
  return jax.device_get(_jitted_dice(*arguments))


@SETTINGS
@hypothesis.given(_MAPS, _MAPS, _FLAGS, _MAPS, st.permutations(range(3)))
def test_the_dice_loss_of_any_batch(attention, reference, has_roi, other, order):
  value, gradient = _plain_dice(attention, reference, has_roi)
  assert np.isfinite(gradient).all()
  assert -1e-6 <= value <= 1
  swapped, _ = _plain_dice(reference, attention, has_roi)
  np.testing.assert_allclose(swapped, value, rtol=1e-5, atol=1e-6)
  order = np.array(order)
  again, moved = _plain_dice(attention[order], reference[order], has_roi[order])
  np.testing.assert_allclose(again, value, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(moved, gradient[order], rtol=1e-4,
                             atol=1e-5 * np.abs(gradient).max())
  # What an image without annotation holds is all the same.
  mixed = np.where(has_roi[:, None, None], attention, other)
  unchanged, slopes = _plain_dice(mixed, reference, has_roi)
  assert unchanged == value
  assert (slopes[~has_roi] == 0).all()


@SETTINGS
@hypothesis.given(_MAPS, _FLAGS)
def test_a_map_of_zeros_and_ones_agrees_with_itself(maps, has_roi):
  binary = np.round(maps)
  value, _ = _plain_dice(binary, binary, has_roi)
  np.testing.assert_allclose(value, 0, atol=1e-6)
  opposite, _ = _plain_dice(binary, 1 - binary, has_roi)
  assert opposite == (1 if has_roi.any() else 0)
