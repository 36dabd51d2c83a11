"""Processes of our own: commands, and those that measure.

  with processes.Process(Counter, start=3) as counter:
    counter.call('add', 2)

Peak memory is a property of a process, and so are JAX's devices, caches and
flags: what is measured apart has to run apart.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

from attnmel_jax import errors


class Process(contextlib.AbstractContextManager):
  """An object in a fresh process: `Process(cls, ...)` makes it there."""

  def __init__(self, cls: Callable[..., Any], *args: Any, **kwargs: Any):
    """Returns when the object is made; raises what making it raised."""
    context = multiprocessing.get_context('spawn')
    self._connection, other = context.Pipe()
    self._process = context.Process(target=_serve, args=(other,), daemon=True)
    self._process.start()
    other.close()
    self._ask((cls, args, kwargs))

  def call(self, method: str, *args: Any) -> Any:
    """What the object's method returns.

    Raises:
      UserError: it raised that, or the process ended before it returned.
    """
    return self._ask((method, args))

  def _ask(self, request):
    try:
      self._connection.send(request)
      result, error = self._connection.recv()
    except (EOFError, ConnectionError):
      self._process.join()
      raise errors.UserError(
          f'a measuring process ended with status {self._process.exitcode} (-9: out '
          'of memory); what it said stands above; choose a smaller batch_size or '
          'image_size') from None
    if error is not None:
      raise error
    return result

  def __exit__(self, *_):
    self._connection.close()
    self._process.join()


def _serve(connection) -> None:
  """The other end of a Process; any error but a UserError ends it."""
  with contextlib.suppress(EOFError, KeyboardInterrupt):
    cls, args, kwargs = connection.recv()
    try:
      served = cls(*args, **kwargs)
    except errors.UserError as error:
      connection.send((None, error))
      return
    connection.send((None, None))
    while True:
      method, args = connection.recv()
      try:
        connection.send((getattr(served, method)(*args), None))
      except errors.UserError as error:
        connection.send((None, error))


@contextlib.contextmanager
def running(arguments: Sequence[str]) -> Iterator[tuple[subprocess.Popen, list[int]]]:
  """A Python command, to which SIGINT and SIGTERM are passed on until the end of it.

  It has a process group of its own: a signal reaches the processes that it started,
  and a Ctrl-C of the terminal comes once, through us.

  Args:
    arguments: of the Python that runs this.

  Yields:
    The process, and the signals that were passed on so far.
  """
  started: list[subprocess.Popen] = []
  received: list[int] = []

  def pass_on(signum, _=None):
    received.append(signum)
    for process in started:
      send(process, signum)

  previous = {s: signal.signal(s, pass_on) for s in (signal.SIGINT, signal.SIGTERM)}
  try:
    started.append(subprocess.Popen([sys.executable, *arguments], process_group=0))
    if received:  # before there was a process to pass it on to
      send(started[0], received[0])
    yield started[0], received
  finally:
    for signum, old in previous.items():
      signal.signal(signum, old)


def send(process: subprocess.Popen, signum: int) -> None:
  """Signals the process group that `running` made."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signum)


def _affinity() -> set[int]:
  if hasattr(os, 'sched_getaffinity'):  # not on every system
    return os.sched_getaffinity(0)
  return set(range(os.cpu_count()))


class Others:
  """How busy all but the measured processes keep our cores, from its making on."""

  def __init__(self, own_seconds: Callable[[], float]):
    """`own_seconds` gives the CPU seconds of the measured processes so far."""
    self._own_seconds = own_seconds
    self._start = self._read()

  def _read(self):
    return _busy_seconds(), self._own_seconds(), time.perf_counter()

  def cores(self) -> float | None:
    """Cores that the others kept busy on average; None where Linux does not tell."""
    (busy, own, now), (busy_0, own_0, start) = self._read(), self._start
    if busy is None:
      return None
    return max(0., (busy - busy_0 - own + own_0) / (now - start))


def _busy_seconds() -> float | None:
  """Seconds that our cores were not idle since the machine started."""
  stat = pathlib.Path('/proc/stat')
  if not stat.exists():
    return None
  ours = {f'cpu{core}' for core in _affinity()}
  ticks = 0
  for line in stat.read_text().splitlines():
    name, *counts = line.split()
    if name in ours:
      # user nice system idle iowait irq softirq steal; guests are part of user.
      user, nice, system, _, _, irq, softirq, steal = map(int, counts[:8])
      ticks += user + nice + system + irq + softirq + steal
  return ticks / os.sysconf('SC_CLK_TCK')
