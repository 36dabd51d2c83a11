"""Measures in a fresh process, and how busy all other processes are.

  with apart.Process(speed.Ours, config, cache, shared=False) as process:
    process.call('start')

Peak memory is a property of a process, and so are JAX's devices, caches and flags.
"""

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import process as process_pool
import contextlib
import multiprocessing
import os
import pathlib
import time
from typing import Any

from attnmel_jax import errors

_MADE: list[Any] = []  # in the other process: the object


def _make(cls: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> None:
  _MADE.append(cls(*args, **kwargs))


def _call(method: str, args: tuple) -> Any:
  return getattr(_MADE[0], method)(*args)


class Process(contextlib.AbstractContextManager):
  """An object in a fresh process: `Process(cls, ...)` makes it there."""

  def __init__(self, cls: Callable[..., Any], *args: Any, **kwargs: Any):
    """Returns when the object is made; raises what making it raised."""
    self._pool = futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context('spawn'))
    try:
      self._run(_make, cls, args, kwargs)
    except BaseException:
      self._pool.shutdown()
      raise

  def call(self, method: str, *args: Any) -> Any:
    """What the object's method returns, or raises.

    Raises:
      UserError: the process ended before the method returned.
    """
    return self._run(_call, method, args)

  def _run(self, function, *args):
    try:
      return self._pool.submit(function, *args).result()
    except process_pool.BrokenProcessPool:
      raise errors.UserError(
          'a measuring process was killed, probably for lack of memory; its own '
          'messages are above; choose a smaller batch_size or image_size') from None

  def __exit__(self, *_):
    self._pool.shutdown()


class Others:
  """How busy all other processes keep our cores, from the start of the object on."""

  def __init__(self, own_seconds: Callable[[], float]):
    """`own_seconds` gives the CPU seconds of the measured processes so far."""
    self._own_seconds = own_seconds
    self._start = self._read()

  def _read(self):
    return _busy_seconds(), self._own_seconds(), time.perf_counter()

  def cores(self) -> float | None:
    """Cores that the others kept busy on average; None where that is unknown."""
    (busy, own, now), (busy_0, own_0, start) = self._read(), self._start
    if busy is None:
      return None
    return max(0., (busy - busy_0 - own + own_0) / (now - start))


def _busy_seconds() -> float | None:
  """Seconds that our cores were not idle since the machine started; of Linux alone."""
  stat = pathlib.Path('/proc/stat')
  if not stat.exists():
    return None
  ours = {f'cpu{core}' for core in os.sched_getaffinity(0)}
  ticks = 0
  for line in stat.read_text().splitlines():
    name, *counts = line.split()
    if name in ours:
      # user nice system idle iowait irq softirq steal; guests are part of user.
      user, nice, system, _, _, irq, softirq, steal = map(int, counts[:8])
      ticks += user + nice + system + irq + softirq + steal
  return ticks / os.sysconf('SC_CLK_TCK')
