"""Objects in other processes, and the load that others make."""

import os
import time

import pytest

from attnmel_jax import errors
from benchmarks import apart


class Counter:
  """What the tests put into another process."""

  def __init__(self, start):
    if start < 0:
      raise errors.UserError('start is negative')
    self._total = start

  def add(self, number):
    """The total so far and whose process this is."""
    self._total += number
    return self._total, os.getpid()

  def refuse(self):
    """A user's mistake."""
    raise errors.UserError('refused')

  def die(self):
    """As the kernel does it where memory is short."""
    os.kill(os.getpid(), 9)


def test_an_object_lives_in_another_process():
  with apart.Process(Counter, start=3) as counter:
    first, pid = counter.call('add', 2)
    assert (first, pid != os.getpid()) == (5, True)
    with pytest.raises(errors.UserError, match='refused'):
      counter.call('refuse')
    assert counter.call('add', 1) == (6, pid)  # it outlives a user's mistake
    with pytest.raises(errors.UserError, match='was killed'):
      counter.call('die')


def test_an_object_may_refuse_to_be_made():
  with pytest.raises(errors.UserError, match='negative'):
    apart.Process(Counter, start=-1)


def test_others_are_what_is_busy_but_not_measured(monkeypatch):
  busy, clock, own = iter([100., 103.]), iter([50., 52.]), iter([7., 8.])
  monkeypatch.setattr(apart, '_busy_seconds', lambda: next(busy))
  monkeypatch.setattr(time, 'perf_counter', lambda: next(clock))
  others = apart.Others(lambda: next(own))
  # 3 seconds busy in 2 seconds, of which 1 is ours.
  assert others.cores() == 1


def test_own_work_is_not_that_of_others():
  # What /proc/stat counts includes the work of this process.
  before, start = apart._busy_seconds(), time.process_time()
  if before is None:
    pytest.skip('this system has no /proc/stat')
  while time.process_time() - start < 0.3:
    pass
  assert apart._busy_seconds() - before > 0.2


def test_load_is_unknown_where_the_system_does_not_tell(monkeypatch):
  monkeypatch.setattr(apart, '_busy_seconds', lambda: None)
  assert apart.Others(time.process_time).cores() is None
