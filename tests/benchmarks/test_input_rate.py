"""A simulated device waits exactly as long as its batches are late."""

import jax
import numpy as np

from benchmarks import input_rate
from benchmarks import matrix
from configs import common


def simulate(batch_seconds, step_seconds):
  """Waiting seconds where the batches take these times, on a clock by hand."""
  now = [100.]
  remaining = iter(batch_seconds)

  def pass_by(seconds):
    now[0] += seconds

  return input_rate.consume(
      lambda: pass_by(next(remaining)), steps=len(batch_seconds),
      step_seconds=step_seconds, clock=lambda: now[0], sleep=pass_by)


def test_waiting_by_hand():
  for batch_seconds, waited in [
      ([1, 1, 1, 1], 1),     # the first alone: the device has nothing before it
      ([1, 2, 2, 2], 1),     # as fast as the device
      ([1, 3, 3, 3], 4),     # 1 late each time
      ([1, 5, 0, 0, 3], 5)]:  # a batch ahead makes up for the last, not the second
    assert simulate(batch_seconds, 2.) == waited


def test_the_batches_of_a_run_are_consumed():
  config = matrix.without_data(common.get_config().to_dict()) | {
      'image_size': 32, 'resize_size': 36, 'batch_size': 8}
  measured = input_rate.measure(config, images_per_second=400., seconds=0.5)
  assert measured['steps'] == 25
  # No faster than the device, but for the step that may be under way at the end.
  assert 0 < measured['reached_images_per_second'] <= 400 * 25 / 24
  assert 0 <= measured['wait_share'] < 1
  text = '\n'.join(input_rate.lines(measured))
  assert '400 images/s (simulated), batches of 8 from memory, 36 px, 25 steps' in text


def test_batches_are_placed_on_the_devices():
  shares = {'image': np.arange(6, dtype=np.uint8).reshape(1, 2, 3)}
  placed, = input_rate.placed(shares)
  assert isinstance(placed['image'], jax.Array)
  np.testing.assert_array_equal(placed['image'], shares['image'][0])
