"""Predicted masks over padded batches, against a model that can be worked out."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax.evaluation import predict_masks
from tests.evaluation import test_predict

_MEAN, _DEVIATION = 0.7560, 0.0909  # red in ISIC 2018's normalisation
_RAMP = np.arange(16.0).reshape(4, 4) / 4


class _Pixels(nn.Module):
  """A pixel's logit is its red plus something that depends on its place."""

  @nn.compact
  def __call__(self, images, *, train):
    assert not train
    scale = self.param('scale', nn.initializers.ones, ())
    return scale * images[..., 0] + jnp.asarray(_RAMP, images.dtype), {}


@pytest.fixture(scope='module')
def step():
  return test_predict.make_step(_Pixels(), predict_masks.take_lesion)


def _predict(step, batches, scale=2., **changed):
  return predict_masks.predict(
      step, {'params': {'scale': jnp.float32(scale)}}, batches,
      **({'image_size': 4, 'threshold': 0.5, 'kept': 5} | changed))


def _probability(batches):
  image = np.concatenate([b['image'][b['valid']] for b in batches])
  logits = 2 * (image[:, 1:5, 1:5, 0] / 255 - _MEAN) / _DEVIATION + _RAMP
  return 1 / (1 + np.exp(-logits))


def test_every_valid_row_is_scored_in_order(step):
  size = 4 * jax.local_device_count()
  batches = list(test_predict._batches([size, 3], size))
  result = _predict(step, batches)
  expected = []
  for batch, masks in ((b, b['lesion'][:, 1:5, 1:5] > 127) for b in batches):
    for row in np.flatnonzero(batch['valid']):
      one = {name: array[row:row + 1] for name, array in batch.items()}
      drawn = _probability([one])[0] >= 0.5
      expected.append((drawn & masks[row]).sum() / (drawn | masks[row]).sum()
                      if batch['has_lesion'][row] else np.nan)
  np.testing.assert_allclose(result.jaccard, expected, rtol=1e-12)
  assert len(result.index) == size + 3 and 0 < np.isnan(expected).sum() < size + 3
  np.testing.assert_array_equal(result.index, np.arange(size + 3))


@pytest.mark.parametrize('kept', [0, 1, 6, 100])
def test_the_first_maps_are_kept_in_eight_bits(step, kept):
  size = 4 * jax.local_device_count()
  batches = list(test_predict._batches([size, 2], size))
  result = _predict(step, batches, kept=kept)
  known = _probability(batches)[:kept]
  assert result.probability.shape == (min(kept, size + 2), 4, 4)
  assert result.probability.dtype == np.uint8
  np.testing.assert_allclose(result.probability / 255, known, atol=0.51 / 255)


def test_eight_bits_keep_the_threshold():
  below = np.nextafter(np.float32(0.5), np.float32(0))
  np.testing.assert_array_equal(
      predict_masks.quantise(np.array([0, below, 0.5, 1], np.float32)),
      [0, 127, 128, 255])


class _Neighbours(nn.Module):
  """A pixel's logit is its red and that of its neighbours on the right and below."""

  @nn.compact
  def __call__(self, images, *, train):
    assert images.shape[1] % 4 == images.shape[2] % 4 == 0
    scale = self.param('scale', nn.initializers.ones, ())
    red = images[..., 0]
    return scale * (red + jnp.roll(red, -1, 1) + jnp.roll(red, -1, 2)), {}


# At side 7 nothing is added on the left, where a turned view would look.
@pytest.mark.parametrize('side, tta', [(7, False), (6, True)])
def test_the_whole_image_is_seen_up_to_its_border(side, tta):
  rng = np.random.default_rng(0)
  image = rng.integers(
      0, 256, (2 * jax.local_device_count(), side, side, 3), np.uint8)
  whole = predict_masks.make_whole_step(
      _Neighbours(), input=images.Input(side, 'isic2018', jnp.float32), multiple=4,
      tta=tta)
  result = whole({'params': {'scale': jnp.float32(1)}}, image)

  def known(red):  # mirrored at the border, where the network needs more
    right = np.concatenate([red[:, :, 1:], red[:, :, -2:-1]], axis=2)
    below = np.concatenate([red[:, 1:], red[:, -2:-1]], axis=1)
    return 1 / (1 + np.exp(-(red + right + below)))

  red = (image[..., 0] / 255 - _MEAN) / _DEVIATION
  turns = [(k, f) for k in range(4) for f in (False, True)] if tta else [(0, False)]
  expected = []
  for k, flip in turns:
    turned = np.rot90(red, k, axes=(1, 2))
    value = known(turned[:, :, ::-1] if flip else turned)
    expected.append(np.rot90(value[:, :, ::-1] if flip else value, -k, axes=(1, 2)))
  np.testing.assert_allclose(result, np.mean(expected, axis=0), rtol=1e-4, atol=1e-6)


def test_what_is_not_finite_is_refused(step):
  size = jax.local_device_count()
  with pytest.raises(errors.UserError, match='diverged'):
    _predict(step, test_predict._batches([size], size), scale=np.nan)


def _masks(*rows):
  return np.array(rows, np.uint8).reshape(len(rows), 2, 2)


def test_jaccard_by_hand():
  lesion = _masks([255, 255, 0, 0], [128, 127, 0, 0], [0, 0, 0, 0], [255, 0, 0, 0],
                  [255, 0, 0, 0])
  probabilities = np.array([
      [.9, .1, .5, 0], [.9, 0, 0, 0], [.4, .1, 0, 0], [0, 1, 1, 1],
      [1, 0, 0, 0]]).reshape(5, 2, 2)
  result = predict_masks.mask_jaccard(
      probabilities, lesion, np.array([True] * 4 + [False]), image_size=2,
      threshold=0.5)
  np.testing.assert_array_equal(result, [1 / 3, 1, 1, 0, np.nan])


def test_below_0_65_counts_0():
  indices = np.array([0, .3, .6499999, .65, .8, 1, np.nan])
  np.testing.assert_array_equal(
      predict_masks.thresholded(indices), [0, 0, 0, .65, .8, 1, np.nan])


def test_what_is_no_probability_or_does_not_fit_is_refused():
  for probabilities, message in (
      *((np.full((1, 2, 2), value), 'outside') for value in (-0.1, 1.1, np.nan)),
      (np.zeros((2, 2, 2)), 'belong together'),
      (np.zeros((1, 1, 1)), 'belong together')):
    with pytest.raises(ValueError, match=message):
      predict_masks.mask_jaccard(
          probabilities, _masks([0, 0, 0, 0]), np.array([True]), image_size=2,
          threshold=0.5)
