"""A command in a process group, which receives the signals that reach us."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import signal
import subprocess
import sys


@contextlib.contextmanager
def running(arguments: Sequence[str]) -> Iterator[tuple[subprocess.Popen, list[int]]]:
  """Runs a Python command and passes SIGINT and SIGTERM on to it.

  The command leads a new process group: a signal reaches the processes that it
  started, and a Ctrl-C of the terminal comes once, through us.

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
