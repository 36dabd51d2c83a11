"""The schedule of the thesis, worked out by hand."""

import pytest

from attnmel_jax import config as config_lib
from attnmel_jax.training import schedule as schedule_lib


def test_schedule_of_isic2017():
  # 97 batches a pass, 2 passes an epoch.
  schedule = schedule_lib.Schedule(
      steps_per_epoch=97 * 2, num_epochs=50, learning_rate=0.01, decay_every_epochs=10,
      decay_factor=0.1, checkpoint_every_steps=200, log_every_steps=10)
  assert schedule.total_steps == 9700
  for step, rate in ((0, 1e-2), (1939, 1e-2), (1940, 1e-3), (3879, 1e-3),
                     (3880, 1e-4), (9699, 1e-6)):
    assert schedule.learning_rate_at(step) == pytest.approx(rate, rel=1e-12)
  assert schedule.ends_epoch(194)
  assert not schedule.ends_epoch(195)
  due = [step for step in range(1, 601) if schedule.is_due(step)]
  assert due == [194, 200, 388, 400, 582, 600]
  assert [step for step in range(1, 31) if schedule.is_reported(step)] == [10, 20, 30]


def test_no_learning_rate_that_a_config_allows_overflows():
  rate, every, factor, epochs = (
      config_lib.FIELDS[name].bounds for name in (
          'learning_rate', 'decay_every_epochs', 'decay_factor', 'num_epochs'))
  for base in (factor.high, 0.5, 5e-324):
    schedule = schedule_lib.Schedule(
        steps_per_epoch=1, num_epochs=epochs.high, learning_rate=rate.high,
        decay_every_epochs=every.low, decay_factor=base, checkpoint_every_steps=1,
        log_every_steps=1)
    assert 0 <= schedule.learning_rate_at(schedule.total_steps) <= rate.high
