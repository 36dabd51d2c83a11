"""Losses against closed forms, hand calculations and finite differences."""

import decimal
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from attnmel_jax.training import losses

_focal = jax.jit(losses.focal_loss)
_dice = jax.jit(losses.dice_loss, static_argnames='axis_name')
_SEVEN = np.array([1.5, -0.5, 0.25, 3.0, -2.0, 0.0, 0.75])


def _focal_exactly(logits, label, gamma):
  """-(1 - p)^gamma log p with a thousand digits."""
  with decimal.localcontext() as context:
    context.prec = 1000
    terms = [decimal.Decimal(float(x)).exp() for x in logits]
    total, target = sum(terms), terms[label]
    complement = sum(t for k, t in enumerate(terms) if k != label) / total
    power = (decimal.Decimal(gamma) * complement.ln()).exp()
    return float(-power * (target / total).ln())


def _differences(function, x, epsilon=1e-6):
  """Central differences of a scalar function at x."""
  gradient = np.zeros_like(x)
  for i in np.ndindex(x.shape):
    up, down = x.copy(), x.copy()
    up[i] += epsilon
    down[i] -= epsilon
    gradient[i] = (function(up) - function(down)) / (2 * epsilon)
  return gradient


@pytest.mark.parametrize('gamma', [0, 0.5, 2])
@pytest.mark.parametrize('logits', [
    [0., 0.], [1.2, -0.7], [-3., 4.], [20., 0.], [50., -50.], [-50., 50.],
    [500., -500.], [-500., 500.], [600., 601.], _SEVEN, 100 * _SEVEN])
def test_focal_loss_is_its_closed_form(float64, logits, gamma):
  logits = np.asarray(logits)
  for label in {0, len(logits) - 1}:
    result = _focal(logits[None], np.array([label]), gamma=float(gamma))
    expected = _focal_exactly(logits, label, gamma)
    np.testing.assert_allclose(result, [expected], rtol=1e-12, atol=1e-300)


def test_focal_loss_keeps_its_digits_in_float32():
  logits = np.array([[18., 0.], [0., 18.]], np.float32)
  result = _focal(logits, np.array([0, 0]), gamma=0.)
  np.testing.assert_allclose(result, [np.log1p(np.exp(-18)), np.log1p(np.exp(18))],
                             rtol=1e-5)


def test_gamma_0_is_the_cross_entropy(float64):
  logits = np.random.default_rng(0).normal(size=(5, 7))
  labels = np.array([0, 6, 3, 3, 1])
  log_p = scipy.special.log_softmax(logits, axis=1)[np.arange(5), labels]
  np.testing.assert_allclose(_focal(logits, labels, gamma=0.), -log_p, rtol=1e-12)


@jax.jit
def _focal_gradient(logits, labels, gamma):
  def loss(x):
    value = losses.focal_loss(x, labels, gamma=gamma)
    return value.sum(), value

  return jax.grad(loss, has_aux=True)(logits)


@pytest.mark.parametrize('gamma', [0, 0.5, 2])
@pytest.mark.parametrize('num_classes', [2, 7])
def test_focal_gradient_is_the_finite_difference(float64, num_classes, gamma):
  logits = 3 * np.random.default_rng(1).normal(size=(4, num_classes))
  labels = np.array([0, 1, num_classes - 1, 0])
  gradient, _ = _focal_gradient(logits, labels, float(gamma))
  np.testing.assert_allclose(
      gradient,
      _differences(lambda x: _focal(x, labels, gamma=float(gamma)).sum(), logits),
      rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('gamma', [0, 0.5, 1, 2])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_focal_loss_and_gradient_are_finite_at_extremes(float64, dtype, gamma):
  logits = np.array([[x, y] for x in (-500, -50, 0, 50, 500)
                     for y in (-500, -50, 0, 50, 500)], dtype)
  labels = np.zeros(len(logits), np.int32)
  gradient, value = jax.device_get(
      _focal_gradient(logits, labels, np.asarray(gamma, dtype)))
  assert value.dtype == gradient.dtype == dtype
  assert np.isfinite(value).all()
  assert np.isfinite(gradient).all()
  assert (value >= 0).all()
  # Hopelessly wrong: the loss is -log p, so its slope is that of the margin.
  wrong = np.flatnonzero((logits[:, 0] <= -50) & (logits[:, 1] >= 50))
  np.testing.assert_allclose(gradient[wrong], [[-1, 1]] * len(wrong), atol=1e-12)


def test_dice_by_hand():
  attention = jnp.array([[[0.5, 0.25], [0., 1.]]])
  reference = jnp.array([[[1., 0.], [0., 1.]]])
  # 1 - 2 (0.5 + 1) / (1.75 + 2) = 0.2
  result = _dice(attention, reference, jnp.array([True]), axis_name=None)
  np.testing.assert_allclose(result, 0.2, rtol=1e-6)


def test_dice_takes_the_batch_as_one_tensor_without_smoothing():
  attention = jnp.array([[[1.]], [[0.25]]])
  reference = jnp.array([[[1.]], [[0.5]]])
  # 1 - 2 (1 + 1/8) / (2 + 3/4) = 2/11; the mean over the images is 1/3.
  result = _dice(
      attention, reference, jnp.array([True, True]), axis_name=None)
  np.testing.assert_allclose(result, 2 / 11, rtol=1e-6)
  tiny = _dice(1e-12 * attention, 1e-12 * reference, jnp.array([True, True]),
               axis_name=None)
  np.testing.assert_allclose(tiny, 1 - 2 * 1.125e-12 / 2.75, rtol=1e-6)


_dice_gradient = jax.jit(jax.value_and_grad(
    functools.partial(losses.dice_loss, axis_name=None)))


def test_an_image_without_annotation_is_in_neither_sum():
  attention, reference = np.random.default_rng(0).uniform(
      size=(2, 3, 4, 4)).astype(np.float32)
  has_roi = np.array([True, False, True])
  kept = _dice(attention[::2], reference[::2], has_roi[::2], axis_name=None)
  value, gradient = _dice_gradient(attention, reference, has_roi)
  np.testing.assert_allclose(value, kept, rtol=1e-6)
  assert (gradient[1] == 0).all()
  assert (gradient[0] != 0).all()


def test_an_empty_annotated_map_pushes_its_attention_down():
  attention = np.full((2, 2, 2), 0.5)
  reference = np.stack([np.ones((2, 2)), np.zeros((2, 2))])
  _, gradient = _dice_gradient(attention, reference, np.array([True, True]))
  assert (gradient[1] > 0).all()
  assert (gradient[0] < 0).all()


@pytest.mark.parametrize(('value', 'has_roi'), [(0.5, False), (0., True)])
def test_dice_over_nothing_is_0_with_gradient_0(value, has_roi):
  loss, gradient = _dice_gradient(
      np.full((2, 2, 2), value), np.full((2, 2, 2), 0.), np.full(2, has_roi))
  assert loss == 0
  assert (gradient == 0).all()


def test_dice_gradient_is_the_finite_difference(float64):
  rng = np.random.default_rng(0)
  attention, reference = rng.uniform(size=(2, 3, 2, 2))
  has_roi = np.array([True, False, True])
  _, gradient = _dice_gradient(attention, reference, has_roi)
  np.testing.assert_allclose(gradient, _differences(
      lambda a: _dice(a, reference, has_roi, axis_name=None), attention),
      rtol=1e-7, atol=1e-9)


def test_dice_over_devices_is_one_ratio_and_not_a_mean_of_ratios():
  # The second device has one annotated image, the first has two.
  attention, reference = np.random.default_rng(0).uniform(
      size=(2, 4, 3, 3)).astype(np.float32)
  has_roi = np.array([True, True, False, True])
  whole = _dice(attention, reference, has_roi, axis_name=None)
  shares = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]),
                        (attention, reference, has_roi))
  parts = jax.vmap(lambda *share: losses.dice_loss(*share, axis_name='devices'),
                   axis_name='devices')(*shares)
  np.testing.assert_allclose(parts, [whole, whole], rtol=1e-6)
  ratios = jax.vmap(lambda *share: losses.dice_loss(*share, axis_name=None))(*shares)
  assert abs(ratios.mean() - whole) > 1e-3


def test_total_loss_by_hand():
  logits = jnp.zeros((2, 2))
  roi = np.zeros((2, 4, 4), np.float32)
  roi[0, :2] = 1     # the upper half
  roi[0, 0, 0] = 0   # but for a corner: its 2x2 block becomes 3/4
  attention = {'pool3': jnp.full((2, 2, 2), 0.5), 'pool4': jnp.full((2, 1, 1), 0.5)}
  loss, terms = losses.total_loss(
      logits, attention, jnp.array([0, 1]), jnp.asarray(roi),
      jnp.array([True, False]), taps=('pool3', 'pool4'), gamma=jnp.asarray(2.),
      dice_weights=jnp.array([0.1, 3.]), axis_name=None)
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
  arguments = dict(labels=jnp.array([0]), roi=jnp.ones((1, 2, 2)),
                   has_roi=jnp.array([True]), gamma=2., axis_name=None)
  attention = {'pool4': jnp.full((1, 1, 1), 0.5)}
  loss, terms = losses.total_loss(
      jnp.zeros((1, 2)), attention, taps=('pool4', 'pool3'),
      dice_weights=jnp.array([10., 1000.]), **arguments)
  np.testing.assert_allclose(loss, terms['focal_loss'] + 10 / 3, rtol=1e-6)
  assert set(terms) == {'loss', 'focal_loss', 'dice_loss_pool4'}
  loss, terms = losses.total_loss(
      jnp.zeros((1, 2)), {}, taps=('pool3',), dice_weights=jnp.array([1.]),
      **arguments)
  assert loss == terms['focal_loss']
  with pytest.raises(ValueError, match='zip'):
    losses.total_loss(jnp.zeros((1, 2)), {}, taps=('pool3',),
                      dice_weights=jnp.array([1., 2.]), **arguments)


_segmentation = jax.jit(losses.segmentation_loss, static_argnames='axis_name')


def test_segmentation_loss_by_hand():
  # p = 1/2, 1/4; 3/4, 1/2
  logits = jnp.array([[[0., -np.log(3)], [np.log(3), 0.]]])
  reference = jnp.array([[[1., 0.], [1., 0.5]]])
  loss, terms = _segmentation(logits, reference, jnp.array([True]), axis_name=None)
  entropy = -(np.log(1 / 2) + np.log(3 / 4) + np.log(3 / 4) + np.log(1 / 2)) / 4
  dice = 1 - 2 * (1 / 2 + 3 / 4 + 1 / 4) / (2 + 2.5)
  np.testing.assert_allclose(terms['cross_entropy'], entropy, rtol=1e-6)
  np.testing.assert_allclose(terms['dice_loss'], dice, rtol=1e-6)
  np.testing.assert_allclose(loss, entropy + dice, rtol=1e-6)
  assert terms['loss'] == loss


_segmentation_gradient = jax.jit(jax.value_and_grad(
    functools.partial(losses.segmentation_loss, axis_name=None), has_aux=True))


def test_segmentation_gradient_is_the_finite_difference(float64):
  rng = np.random.default_rng(0)
  logits, reference = 2 * rng.normal(size=(3, 2, 2)), rng.uniform(size=(3, 2, 2))
  has_roi = np.array([True, False, True])
  (value, _), gradient = _segmentation_gradient(logits, reference, has_roi)
  np.testing.assert_allclose(gradient, _differences(
      lambda z: _segmentation(z, reference, has_roi, axis_name=None)[0], logits),
      rtol=1e-6, atol=1e-9)
  assert (gradient[1] == 0).all()
  kept, _ = _segmentation(logits[::2], reference[::2], has_roi[::2], axis_name=None)
  np.testing.assert_allclose(value, kept, rtol=1e-12)


def test_segmentation_loss_over_nothing_is_0_with_gradient_0():
  (loss, terms), gradient = _segmentation_gradient(
      np.ones((2, 2, 2)), np.ones((2, 2, 2)), np.array([False, False]))
  assert loss == terms['cross_entropy'] == terms['dice_loss'] == 0
  assert (gradient == 0).all()


def test_segmentation_loss_is_finite_and_keeps_its_digits_at_extremes():
  logits = np.array([[[500., -500.], [18., -18.]]], np.float32)
  right, wrong = np.array([[[1., 0.], [1., 0.]]], np.float32), np.array(
      [[[0., 1.], [0., 1.]]], np.float32)
  small = np.log1p(np.exp(-18))
  for reference, expected in ((right, small / 2), (wrong, (500 + 18 + small) / 2)):
    (_, terms), gradient = _segmentation_gradient(
        logits, reference, np.array([True]))
    np.testing.assert_allclose(terms['cross_entropy'], expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_segmentation_loss_over_devices_is_that_of_the_global_batch():
  rng = np.random.default_rng(0)
  logits, reference = rng.normal(size=(4, 2, 2)), rng.uniform(size=(4, 2, 2))
  has_roi = np.array([True, True, True, False])  # unevenly spread
  want, _ = _segmentation(logits, reference, has_roi, axis_name=None)
  got, _ = jax.vmap(
      functools.partial(losses.segmentation_loss, axis_name='devices'),
      axis_name='devices')(*(jnp.asarray(x).reshape(2, 2, *x.shape[1:])
                             for x in (logits, reference, has_roi)))
  np.testing.assert_allclose(got, [want, want], rtol=1e-5)
