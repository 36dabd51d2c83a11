"""Work on several threads."""

import itertools
import threading

import pytest

from attnmel_jax import threads


def test_results_come_in_order_with_few_ahead():
  started = 0

  def items():
    nonlocal started
    while True:  # endless: only a stream can work
      yield started
      started += 1

  stream = threads.in_order(lambda k: k * k, items())
  assert list(itertools.islice(stream, 100)) == [k * k for k in range(100)]
  assert started < 100 + 3 * threads.cores()
  stream.close()


def test_work_runs_on_several_threads(monkeypatch):
  monkeypatch.setattr(threads, 'cores', lambda: 2)
  both = threading.Barrier(2, timeout=20)
  assert len(list(threads.in_order(lambda _: both.wait(), range(2)))) == 2


def test_an_error_of_a_worker_comes_through():
  with pytest.raises(ZeroDivisionError):
    list(threads.in_order(lambda k: 1 // k, [1, 0, 1]))
