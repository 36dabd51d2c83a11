"""Focal loss, Dice loss over the batch, their sum (Eq. 2.5 to 2.7); segmentation.

A `Loss` is what `step.train_step` minimises. It comes in two parts, because a Dice
loss is a ratio of sums over the whole batch: what devices or micro-batches find by
themselves, and what is made of it once it is known of all of them.

  loss = classification(taps=('pool3', 'pool4'))
  value, terms = evaluate(loss, logits, out, batch, hyper, axis_name=None)

Shapes and types that do not fit raise ValueError or TypeError, under `jit` too. Values
out of range raise ValueError where they are known; inside `jit` they are not: a label
that is no class then makes the loss of its example NaN, and maps are taken to be in
[0, 1]. Half precision is computed and summed in float32.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax import images


def focal_loss(logits: jax.Array, labels: jax.Array, *, gamma: jax.Array) -> jax.Array:
  """Focal loss of every example, -(1 - p_t)^gamma log p_t (Eq. 2.5).

  Lin et al., Focal loss for dense object detection, ICCV 2017; here on the
  softmax over all classes and without alpha.

  Args:
    logits: [B, K], K >= 2.
    labels: int [B] in [0, K).
    gamma: scalar >= 0; 0 gives the cross entropy.

  Returns:
    [B], non-negative; float32, or float64 for such logits.

  Raises:
    ValueError: the shapes do not fit, or a label is no class (inside `jit`: NaN for its
      example).
    TypeError: logits are not floating point, or labels not integers.

  >>> loss = losses.focal_loss(jnp.array([[0., 0.]]), jnp.array([1]), gamma=2.)
  >>> f'{loss[0]:.4f}'  # (1 - 1/2)^2 log 2
  '0.1733'
  """
  logits, labels = _check_logits(logits, labels)
  target = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  others = jax.nn.logsumexp(jnp.where(target, -jnp.inf, logits), axis=-1)
  # z is the log odds of the other classes: p_t = sigmoid(-z). In terms of
  # softplus neither log p_t nor 1 - p_t cancels where p_t is near 1, and no
  # power of 1 - p_t has an infinite slope at 0.
  z = others - jnp.sum(jnp.where(target, logits, 0), axis=-1)
  loss = jnp.exp(-gamma * jax.nn.softplus(-z)) * jax.nn.softplus(z)
  return jnp.where((labels >= 0) & (labels < logits.shape[-1]), loss, jnp.nan)


def dice_sums(attention: jax.Array, reference: jax.Array, has_roi: jax.Array
              ) -> tuple[jax.Array, jax.Array]:
  """The overlap sum a abar and the total sum (a + abar) that Eq. 2.6 divides.

  Args:
    attention: [B, h, w] in [0, 1], floating point.
    reference: [B, h, w] in [0, 1], soft targets, or bool.
    has_roi: bool [B]; images without annotation enter neither sum.

  Returns:
    Two scalars; float32, or float64 for such attention.

  Raises:
    ValueError: the shapes differ, or a value that is known is outside [0, 1].
    TypeError: a map holds integers (0 to 255, or 0 and 1?), or has_roi is not bool.
  """
  attention, reference, has_roi = _check_maps(attention, reference, has_roi)
  _check_range('attention', attention)
  weight = has_roi[:, None, None].astype(attention.dtype)
  return (jnp.sum(weight * attention * reference),
          jnp.sum(weight * (attention + reference)))


def dice_of_sums(overlap: jax.Array, total: jax.Array) -> jax.Array:
  """1 - 2 overlap / total (Eq. 2.6); 0 with gradient 0 where `total` is 0."""
  # The inner where keeps 0 / 0 out of the gradient; a NaN stays one.
  empty = total < jnp.finfo(total.dtype).tiny
  total = jnp.where(empty, 1, total)
  # Divide by a detached copy first: the gradient of a quotient has 1 / total^2, which
  # overflows where maps are empty and attention almost vanishes.
  size = jax.lax.stop_gradient(total)
  return jnp.where(empty, 0, 1 - 2 * (overlap / size) / (total / size))


def dice_loss(attention: jax.Array, reference: jax.Array, has_roi: jax.Array
              ) -> jax.Array:
  """1 - Dice of the whole batch taken as one tensor (Eq. 2.6).

  Args:
    attention: [B, h, w] in [0, 1].
    reference: [B, h, w] in [0, 1], soft targets.
    has_roi: bool [B]; images without annotation are left out.

  Returns:
    Scalar in [0, 1]; 0 with gradient 0 where no image is annotated or all annotated
    maps and attentions vanish.

  Raises:
    ValueError, TypeError: see `dice_sums`.

  >>> attention, reference = jnp.array([[[1., 1.]]]), jnp.array([[[1., 0.]]])
  >>> loss = losses.dice_loss(attention, reference, jnp.array([True]))
  >>> f'{loss:.4f}'  # 1 - 2 / 3
  '0.3333'
  """
  return dice_of_sums(*dice_sums(attention, reference, has_roi))


class Loss(NamedTuple):
  """A loss of the global batch.

  Attributes:
    parts: (logits, out, batch, hyper) -> a mean over these examples, and a tree of sums
      over them. `logits, out` are the model's; `batch` holds label int [B], roi
      [B, H, W] in [0, 1] and has_roi bool [B].
    total: (mean, sums over the global batch, hyper) -> the loss, and its terms by name.
      Sums may come scaled, all by the same factor.
  """

  parts: Callable[..., tuple[jax.Array, Any]]
  total: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


def evaluate(loss: Loss, logits: jax.Array, out: dict[str, Any],
             batch: dict[str, jax.Array], hyper: dict[str, jax.Array], *,
             axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The loss of this device, whose mean over devices is that of the global batch.

  Args:
    loss: what to evaluate.
    logits: see `Loss`, as are the next two; this device's share of the batch.
    out: of the model.
    batch: the targets.
    hyper: see `classification`.
    axis_name: device axis over which sums run before any ratio; None on one device.

  Returns:
    The loss, and its terms by name.

  >>> loss, terms = losses.evaluate(
  ...     losses.classification(('pool4',)), jnp.array([[0., 0.]]),
  ...     {'attention': {'pool4': jnp.array([[[1., 1.]]])}},
  ...     {'label': jnp.array([1]), 'roi': jnp.array([[[1., 0.]]]),
  ...      'has_roi': jnp.array([True])},
  ...     {'focal_gamma': 2., 'dice_weights': jnp.array([0.3])}, axis_name=None)
  >>> f'{loss:.4f}', sorted(terms)
  ('0.2733', ['dice_loss_pool4', 'focal_loss', 'loss'])
  """
  mean, sums = loss.parts(logits, out, batch, hyper)
  if axis_name is not None:
    sums = jax.lax.psum(sums, axis_name)
  return loss.total(mean, sums, hyper)


def classification(taps: Sequence[str]) -> Loss:
  """Eq. 2.7: mean focal loss + sum over the gates of lambda * Dice loss.

  `hyper` holds `focal_gamma` and `dice_weights`, lambda of each of `taps`; a tap
  without a gate has no term. Maps of reference are reduced to the size of the
  attention by block means.
  """
  return Loss(_classification_parts,
              functools.partial(_classification_total, taps=tuple(taps)))


def _classification_parts(logits, out, batch, hyper):
  focal = focal_loss(logits, batch['label'], gamma=hyper['focal_gamma']).mean()
  sums = {}
  for tap, attention in out['attention'].items():
    reference = images.block_mean(batch['roi'], attention.shape[1:])
    sums[tap] = dice_sums(attention, reference, batch['has_roi'])
  return focal, sums


def _classification_total(focal, sums, hyper, *, taps):
  loss, terms = focal, {'focal_loss': focal}
  for tap, weight in zip(taps, hyper['dice_weights'], strict=True):
    if tap in sums:
      dice = dice_of_sums(*sums[tap])
      loss = loss + weight * dice
      terms[f'dice_loss_{tap}'] = dice
  return loss, {'loss': loss, **terms}


def _segmentation_parts(logits, out, batch, hyper):
  del out, hyper
  logits, reference, has_roi = _check_maps(logits, batch['roi'], batch['has_roi'])
  weight = has_roi[:, None, None].astype(logits.dtype)
  # By softplus of both signs neither log p nor log (1 - p) cancels near 0.
  entropy = (reference * jax.nn.softplus(-logits)
             + (1 - reference) * jax.nn.softplus(logits))
  sums = {'entropy': jnp.sum(weight * entropy),
          'pixels': jnp.sum(weight * jnp.ones_like(logits)),
          'dice': dice_sums(jax.nn.sigmoid(logits), reference, has_roi)}
  return jnp.zeros((), logits.dtype), sums


def _segmentation_total(mean, sums, hyper):
  del mean, hyper
  cross_entropy = sums['entropy'] / jnp.maximum(sums['pixels'], 1)
  dice = dice_of_sums(*sums['dice'])
  loss = cross_entropy + dice
  return loss, {'loss': loss, 'cross_entropy': cross_entropy, 'dice_loss': dice}


# Binary cross entropy of the pixels + Dice loss, for the U-Net, whose logits are
# [B, H, W]. Images without annotation enter neither; both are 0 with gradient 0 where
# none is annotated. The thesis does not name its loss: the sum of both, equally
# weighted, is that of Isensee et al. (nnU-Net, Nature Methods 2021), and the Dice term
# that of Drozdzal et al. (arXiv:1608.04117) but for a constant.
SEGMENTATION = Loss(_segmentation_parts, _segmentation_total)


def _check_logits(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Logits [B, K] in float32 or float64, and labels int [B]."""
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape[:1]:
    raise ValueError(
        f'logits {logits.shape} and labels {labels.shape} are not [B, K] and [B], '
        'K >= 2: labels are numbers of classes, and two classes have two logits')
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    raise TypeError(f'labels are {labels.dtype}, not integers in [0, K)')
  _check_known('labels', labels, 0, logits.shape[1] - 1)
  return _at_least_float32('logits', logits), labels


def _check_maps(predicted: jax.Array, reference: jax.Array, has_roi: jax.Array
                ) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Maps [B, h, w] in float32 or float64, and flags bool [B]."""
  predicted, reference, has_roi = map(jnp.asarray, (predicted, reference, has_roi))
  if predicted.ndim != 3 or reference.shape != predicted.shape:
    raise ValueError(f'maps {predicted.shape} and their reference {reference.shape} '
                     'are not both [B, h, w], without an axis of channels')
  if has_roi.shape != predicted.shape[:1]:
    raise ValueError(f'has_roi {has_roi.shape} is not [{len(predicted)}], one flag an '
                     'image')
  if has_roi.dtype != bool:
    raise TypeError(f'has_roi is {has_roi.dtype}, not bool')
  if reference.dtype == bool:
    reference = reference.astype(jnp.float32)
  reference = _at_least_float32('the reference', reference)
  _check_range('the reference', reference)
  return _at_least_float32('maps', predicted), reference, has_roi


def _at_least_float32(name: str, values: jax.Array) -> jax.Array:
  if not jnp.issubdtype(values.dtype, jnp.floating):
    raise TypeError(f'{name}: {values.dtype} is not floating point: divide maps of 0 '
                    'to 255 by 255, and convert others with .astype(float)')
  return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _check_range(name: str, maps: jax.Array) -> None:
  """Maps in [0, 1], but for what means of blocks are rounded by; NaN stays NaN."""
  _check_known(name, maps, -1e-3, 1 + 1e-3)


def _check_known(name: str, values: jax.Array, lowest: float, highest: float) -> None:
  """Raises where values that no `jit` hides are outside [lowest, highest]."""
  if isinstance(values, jax.core.Tracer) or not values.size:
    return
  values = np.asarray(values)
  if (values < lowest).any() or (values > highest).any():
    raise ValueError(f'{name}: {values.min()} to {values.max()} is outside '
                     f'[{round(lowest)}, {round(highest)}]')
