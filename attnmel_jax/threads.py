"""The cores of this machine, and work on all of them in order."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import concurrent.futures
import os


def cores() -> int:
  """Number of cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def in_order(function: Callable, items: Iterable) -> Iterator:
  """`map(function, items)` on all cores, with few results in memory."""
  workers = cores()
  pending: collections.deque[concurrent.futures.Future] = collections.deque()
  pool = concurrent.futures.ThreadPoolExecutor(workers)
  try:
    for item in items:
      pending.append(pool.submit(function, item))
      if len(pending) > 2 * workers:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)
