"""Starts commands and kills them with SIGKILL; see kills.py."""

import collections
from collections.abc import Callable
import dataclasses
import pathlib
import signal
import subprocess
import time

import numpy as np

from tests.commands import command
from tests.commands import environment

POLL = 0.0005     # seconds
TIME_LIMIT = 600  # of a command


@dataclasses.dataclass
class Tally:
  """What was killed, when, and what came of it."""

  moments: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)  # what the kill left behind -> kills
  compared: int = 0  # folders that were killed, started again and finished
  differences: list[str] = dataclasses.field(default_factory=list)
  warnings: list[str] = dataclasses.field(default_factory=list)  # of the commands

  @property
  def kills(self) -> int:
    """Of processes that were alive."""
    return sum(self.moments.values())

  def line(self, name: str) -> str:
    """'train: 50 kills (...), 10 folders compared, 0 differences'."""
    moments = ', '.join(f'{n} {what}' for what, n in self.moments.most_common())
    return (f'{name}: {self.kills} kills ({moments}), {self.compared} compared, '
            f'{len(self.differences)} differences, {len(self.warnings)} warnings')


@dataclasses.dataclass
class Attempt:
  """One start of a command, killed or not."""

  killed: bool
  status: int
  log: str


class Commands:
  """Starts commands of a user whose home folder is `home`, and kills them."""

  def __init__(self, home: pathlib.Path, seed: int):
    self.home, self.rng = home, np.random.default_rng(seed)

  def start(self, folder: pathlib.Path, name: str, *arguments: str,
            kill: Callable[[subprocess.Popen], None] | None) -> Attempt:
    """Runs a command in `folder`; `kill` returns at the moment to kill it."""
    log = folder / f'{name}.log'
    with log.open('w') as file, subprocess.Popen(
        command(name, *arguments), cwd=folder, stdout=file, stderr=file,
        env=environment(self.home, JAX_COMPILATION_CACHE_DIR=str(self.home / 'xla')),
        process_group=0) as process:
      killed = False
      if kill is not None:
        kill(process)
        killed = process.poll() is None
        process.send_signal(signal.SIGKILL)
      status = process.wait(timeout=TIME_LIMIT)
    return Attempt(killed and status == -signal.SIGKILL, status, log.read_text())

  def alone(self, folder: pathlib.Path, name: str, *arguments: str) -> float:
    """Leaves a command alone; the seconds it took."""
    start = time.monotonic()
    attempt = self.start(folder, name, *arguments, kill=None)
    assert attempt.status == 0, attempt.log
    return time.monotonic() - start

  def after(self, seconds: float) -> Callable[[subprocess.Popen], None]:
    """A kill at a random moment of the first `seconds`, or at the end before."""
    deadline = time.monotonic() + self.rng.uniform(0, seconds)
    return lambda process: wait(process, lambda: time.monotonic() > deadline)


def wait(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
  while process.poll() is None and not happened():
    time.sleep(POLL)
