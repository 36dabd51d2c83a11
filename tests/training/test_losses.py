"""Losses and gradients against closed forms, and what holds for any input."""

import decimal
import functools

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.training import losses

_SETTINGS = hypothesis.settings(deadline=None, max_examples=30, derandomize=True,
                                database=None)
_SEVEN = np.array([1.5, -0.5, 0.25, 3.0, -2.0, 0.0, 0.75])


@jax.jit
def _focal(logits, labels, gamma):
  """Losses [B], and their gradients [B, K]."""
  value, pullback = jax.vjp(
      lambda x: losses.focal_loss(x, labels, gamma=gamma), logits)
  return value, pullback(jnp.ones_like(value))[0]


def _focal_exactly(logits, label, gamma):
  """-(1 - p)^g log p and its slopes, with 500 digits.

  dL/dz_t = g p (1 - p)^g log p - (1 - p)^(g + 1), which the others share by their
  probabilities with the opposite sign.
  """
  with decimal.localcontext() as context:
    context.prec = 500
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


@pytest.mark.parametrize('gamma', [0, 0.5, 2])
def test_focal_loss_and_gradient_are_their_closed_forms(float64, gamma):
  for logits in ([0., 0.], [1.2, -0.7], [50., -50.], [-50., 50.], [300., -300.],
                 [-300., 300.], [700., 700.], [600., 601.], [1e-9, 0.],
                 [-200., 150., 149., -900.], _SEVEN, 100 * _SEVEN):
    for label in {0, 1, len(logits) - 1}:
      value, gradient = _focal(np.array([logits]), np.array([label]), float(gamma))
      loss, slopes = _focal_exactly(logits, label, gamma)
      np.testing.assert_allclose(value, [loss], rtol=1e-11, atol=1e-290)
      np.testing.assert_allclose(gradient, [slopes], rtol=1e-11, atol=1e-290)


def test_focal_loss_and_gradient_keep_their_digits_in_float32():
  for logits in ([18., 0.], [40., 0.], [0., 18.], [0., 80.], [3., 2.5], [25., 0., 24.]):
    for label in range(len(logits)):
      value, gradient = _focal(
          np.array([logits], np.float32), np.array([label]), np.float32(2))
      loss, slopes = _focal_exactly(logits, label, 2)
      np.testing.assert_allclose(value, [loss], rtol=3e-5, atol=1e-37)
      np.testing.assert_allclose(gradient, [slopes], rtol=3e-5, atol=1e-37)


_jitted_dice = jax.jit(jax.value_and_grad(losses.dice_loss))


def _dice(*arguments):
  """Dice loss, and its gradient with respect to the attention."""
  return jax.device_get(_jitted_dice(*arguments))


def _dice_exactly(a, complement, reference, has_roi):
  """1 - 2 P / S and its slopes 2 (P - r S) / S^2 a (1 - a) through the sigmoid."""
  weight = has_roi[:, None, None].astype(np.float64)
  overlap, total = (weight * a * reference).sum(), (weight * (a + reference)).sum()
  if total == 0:
    return 0., np.zeros_like(a)
  return (1 - 2 * overlap / total,
          weight * 2 * (overlap - reference * total) / total**2 * a * complement)


@jax.jit
def _dice_of_logits(z, reference, has_roi):
  return jax.value_and_grad(lambda x: losses.dice_loss(
      jax.nn.sigmoid(x), reference, has_roi))(z)


# Annotated maps of a batch of three: the last image is not annotated.
_ANNOTATED = np.array([True, True, False])
_EMPTY = np.zeros((3, 2, 2), np.float32)
_FULL = np.ones((3, 2, 2), np.float32)
_PIXEL = _EMPTY.copy()
_PIXEL[0, 1, 1] = 1 / 64  # of an 8 x 8 block


@pytest.mark.parametrize('reference', [_EMPTY, _FULL, _PIXEL],
                         ids=['empty', 'full', 'one pixel'])
def test_dice_loss_and_gradient_through_the_sigmoid(reference):
  for z in (-86, -60, -45, -20, 0, 20, 45, 86):
    logits = np.full((3, 2, 2), z, np.float32)
    logits[1, 0] -= 0.5
    value, gradient = _dice_of_logits(logits, reference, _ANNOTATED)
    exact = logits.astype(np.float64)
    expected, slopes = _dice_exactly(
        1 / (1 + np.exp(-exact)), 1 / (1 + np.exp(exact)), reference, _ANNOTATED)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    # 1 - a is rounded to multiples of 6e-8 where a is near 1.
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4,
                               atol=6e-8 if z > 0 else 1e-37)


def test_empty_maps_have_no_slope_however_small_the_attention():
  # 1 - 0 / S is 1 whatever S is; its slopes hold 0 / S^2.
  for z in np.linspace(-100, 100, 41, dtype=np.float32):
    value, gradient = _dice_of_logits(np.full((3, 2, 2), z), _EMPTY, _ANNOTATED)
    assert value == 1 or (value == 0 and z < -86)  # below the smallest number
    assert (gradient == 0).all()


def test_a_nan_stays_a_nan():
  broken = np.full((3, 2, 2), np.nan, np.float32)
  assert np.isnan(_dice_of_logits(broken, _FULL, _ANNOTATED)[0])
  assert np.isnan(_focal(np.full((1, 2), np.nan), np.array([0]), 2.)[0]).all()


_LOGITS = hnp.arrays(np.float32, (4, 3), elements=st.floats(-90, 90, width=32))
_CLASSES = hnp.arrays(np.int32, (4,), elements=st.integers(0, 2))
_GAMMA = st.sampled_from([0., 0.5, 1., 2., 5.])


@_SETTINGS
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


@_SETTINGS
@hypothesis.given(_MAPS, _MAPS, _FLAGS, _MAPS)
def test_the_dice_loss_of_any_batch(attention, reference, has_roi, other):
  value, gradient = _dice(attention, reference, has_roi)
  assert np.isfinite(gradient).all()
  assert -1e-6 <= value <= 1
  swapped, _ = _dice(reference, attention, has_roi)
  np.testing.assert_allclose(swapped, value, rtol=1e-5, atol=1e-6)
  # What an image without annotation holds does not matter.
  mixed = np.where(has_roi[:, None, None], attention, other)
  unchanged, slopes = _dice(mixed, reference, has_roi)
  assert unchanged == value
  assert (slopes[~has_roi] == 0).all()
  binary = np.round(attention)
  np.testing.assert_allclose(_dice(binary, binary, has_roi)[0], 0, atol=1e-6)
  opposite, _ = _dice(binary, 1 - binary, has_roi)
  assert opposite == (1 if has_roi.any() else 0)


def _batch(roi, has_roi, label=None):
  return {'roi': jnp.asarray(roi), 'has_roi': jnp.asarray(has_roi),
          'label': np.zeros(len(has_roi), int) if label is None else np.array(label)}


def _classification(attention, batch, weights, taps=('pool3', 'pool4')):
  """Eq. 2.7 for logits of 0."""
  return losses.evaluate(
      losses.classification(taps), jnp.zeros((len(batch['label']), 2)),
      {'attention': attention}, batch,
      {'focal_gamma': 2., 'dice_weights': jnp.array(weights)}, axis_name=None)


def test_the_classification_loss_by_hand():
  roi = np.zeros((2, 4, 4), np.float32)
  roi[0, :2] = 1     # the upper half
  roi[0, 0, 0] = 0   # but for a corner: its 2x2 block becomes 3/4
  attention = {'pool3': jnp.full((2, 2, 2), 0.5), 'pool4': jnp.full((2, 1, 1), 0.5)}
  loss, terms = _classification(
      attention, _batch(roi, [True, False], [0, 1]), [0.1, 3.])
  # References [3/4, 1; 0, 0] and [7/16].
  focal = 0.25 * np.log(2)
  pool3 = 1 - 2 * (0.5 * 1.75) / (2 + 1.75)
  pool4 = 1 - 2 * (0.5 * 7 / 16) / (0.5 + 7 / 16)
  expected = {'loss': focal + 0.1 * pool3 + 3 * pool4, 'focal_loss': focal,
              'dice_loss_pool3': pool3, 'dice_loss_pool4': pool4}
  assert terms.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(terms[name], value, rtol=1e-6, err_msg=name)
  assert loss == terms['loss']


def test_weights_go_with_taps_by_order_and_absent_gates_have_no_term():
  batch = _batch(np.ones((1, 2, 2)), [True])
  attention = {'pool4': jnp.full((1, 1, 1), 0.5)}
  loss, terms = _classification(attention, batch, [10., 1000.], ('pool4', 'pool3'))
  np.testing.assert_allclose(loss, terms['focal_loss'] + 10 / 3, rtol=1e-6)
  assert set(terms) == {'loss', 'focal_loss', 'dice_loss_pool4'}
  loss, terms = _classification({}, batch, [1.], ('pool3',))
  assert loss == terms['focal_loss']
  with pytest.raises(ValueError, match='zip'):
    _classification({}, batch, [1., 2.], ('pool3',))


def _segmentation(logits, batch, axis_name=None):
  return losses.evaluate(
      losses.SEGMENTATION, logits, {}, batch, {}, axis_name=axis_name)


_segmentation_gradient = jax.jit(jax.value_and_grad(_segmentation, has_aux=True))


def test_segmentation_loss_and_gradient_by_hand(float64):
  # p = 1/2, 1/4; 3/4, 1/2; the second image is not annotated.
  logits = np.array([[[0., -np.log(3)], [np.log(3), 0.]], [[1., 2.], [3., 4.]]])
  y = np.array([[[1., 0.], [1., 0.5]], [[1., 1.], [1., 1.]]])
  (loss, terms), gradient = _segmentation_gradient(logits, _batch(y, [True, False]))
  entropy = -(np.log(1 / 2) + np.log(3 / 4) + np.log(3 / 4) + np.log(1 / 2)) / 4
  p = 1 / (1 + np.exp(-logits))
  dice, slopes = _dice_exactly(p, 1 - p, y, np.array([True, False]))
  assert dice == pytest.approx(1 - 2 * (1 / 2 + 3 / 4 + 1 / 4) / (2 + 2.5))
  np.testing.assert_allclose(terms['cross_entropy'], entropy, rtol=1e-12)
  np.testing.assert_allclose(terms['dice_loss'], dice, rtol=1e-12)
  np.testing.assert_allclose(loss, entropy + dice, rtol=1e-12)
  assert terms['loss'] == loss
  np.testing.assert_allclose(gradient[0], (p - y)[0] / 4 + slopes[0], rtol=1e-12)
  assert (gradient[1] == 0).all()


def test_segmentation_loss_over_nothing_is_0_with_gradient_0():
  (loss, terms), gradient = _segmentation_gradient(
      np.ones((2, 2, 2)), _batch(np.ones((2, 2, 2)), [False, False]))
  assert loss == terms['cross_entropy'] == terms['dice_loss'] == 0
  assert (gradient == 0).all()


def test_segmentation_loss_is_finite_and_keeps_its_digits_at_extremes():
  logits = np.array([[[500., -500.], [18., -18.]]], np.float32)
  right = np.array([[[1., 0.], [1., 0.]]], np.float32)
  small = np.log1p(np.exp(-18))
  for reference, expected in ((right, small / 2), (1 - right, (500 + 18 + small) / 2)):
    (_, terms), gradient = _segmentation_gradient(logits, _batch(reference, [True]))
    np.testing.assert_allclose(terms['cross_entropy'], expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_sums_over_devices_come_before_their_ratios(float64):
  # The second device has one annotated image, the first has two.
  rng = np.random.default_rng(0)
  logits, roi = rng.normal(size=(4, 2, 2)), rng.uniform(size=(4, 2, 2))
  batch = _batch(roi, [True, True, False, True])
  of_one = jax.jit(_segmentation)
  want, _ = of_one(jnp.asarray(logits), batch)
  got, _ = jax.jit(jax.vmap(functools.partial(_segmentation, axis_name='devices'),
                            axis_name='devices'))(*jax.tree.map(
                        lambda x: jnp.asarray(x).reshape(2, 2, *x.shape[1:]),
                        (logits, batch)))
  np.testing.assert_allclose(got, [want, want], rtol=1e-12)
  ratios = [of_one(jnp.asarray(logits[half]), jax.tree.map(
      lambda x, half=half: x[half], batch))[0] for half in (slice(2), slice(2, 4))]
  assert abs(np.mean(ratios) - want) > 1e-3


@pytest.mark.parametrize('compiled', [False, True], ids=['eager', 'jit'])
def test_shapes_and_types_that_do_not_fit_raise(compiled):
  wrap = jax.jit if compiled else lambda f: f
  focal = wrap(functools.partial(losses.focal_loss, gamma=2.))
  for logits, labels, error in (
      (np.zeros((2, 3)), np.array([[0], [2]]), ValueError),
      (np.zeros((3, 3)), np.eye(3, dtype=int), ValueError),
      (np.zeros((2, 1)), np.array([0, 0]), ValueError),
      (np.zeros((2, 3)), np.array([0., 2.]), TypeError),
      (np.zeros((2, 3), int), np.array([0, 2]), TypeError)):
    with pytest.raises(error):
      focal(logits, labels)
  for attention, reference, has_roi, error in (
      (_FULL, _FULL[:, None], _ANNOTATED, ValueError),
      (_FULL, _FULL[..., None], _ANNOTATED, ValueError),
      (_FULL[..., None], _FULL[..., None], _ANNOTATED, ValueError),
      (_FULL, _FULL[:1], _ANNOTATED, ValueError),
      (_FULL, (_FULL * 255).astype(np.uint8), _ANNOTATED, TypeError),
      (_FULL, _FULL, _ANNOTATED[:, None], ValueError),
      (_FULL, _FULL, _ANNOTATED.astype(np.float32), TypeError)):
    with pytest.raises(error):
      wrap(losses.dice_loss)(attention, reference, has_roi)
    with pytest.raises(error):
      wrap(_segmentation)(attention, {'roi': reference, 'has_roi': has_roi})


def test_values_out_of_range_raise_where_they_are_known():
  for label in (-1, 3, 255):
    with pytest.raises(ValueError, match=f'labels: .*{label}.* is outside'):
      losses.focal_loss(np.zeros((2, 3)), np.array([1, label]), gamma=2.)
    value, _ = _focal(np.zeros((2, 3), np.float32), np.array([1, label]), 2.)
    assert np.isnan(value).tolist() == [False, True]
  for attention, reference in ((_FULL, _FULL * 255), (_FULL - 2, _FULL)):
    with pytest.raises(ValueError, match='outside'):
      losses.dice_loss(attention, reference, _ANNOTATED)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision_is_summed_in_float32(dtype):
  maps, known = jnp.ones((8, 224, 224), dtype), jnp.ones(8, bool)
  assert losses.dice_loss(maps, maps > 0, known) == 0
  _, terms = _segmentation(maps * 30, _batch(maps, known))
  assert terms['loss'] < 1e-6
