"""metrics.jsonl: what a run measured, step by step, repaired where it resumes."""

import json
import os
import pathlib
import sys
from typing import Any

from attnmel_jax import files
from attnmel_jax import parallel
from attnmel_jax.training import tensorboard


class MetricsFile:
  """metrics.jsonl: one line a step and one an epoch, and never a time."""

  def __init__(self, path: pathlib.Path, step: int,
               events: tensorboard.Events | None):
    """Opens `path` for appending, without what lies beyond the restored `step`.

    In a process that does not write, the lines go nowhere. `events` get them too.
    """
    self._events = events
    if parallel.is_main_process():
      _truncate(path, step)
    self._file = (path if parallel.is_main_process() else pathlib.Path(os.devnull)
                  ).open('a')

  def write(self, step: int, values: dict[str, Any]) -> None:
    """Appends one line."""
    self._file.write(json.dumps({'step': step, **values}) + '\n')
    self._file.flush()
    if self._events is not None:
      self._events.scalars(step, values)

  def flush_events(self) -> None:
    """Brings the events to disk: before each save, as no state may lack its events."""
    if self._events is not None:
      self._events.flush()

  def sync(self) -> None:
    """Returns once the lines are on the disk: before a checkpoint that follows them."""
    if parallel.is_main_process():
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _truncate(path: pathlib.Path, step: int) -> None:
  """Drops damaged lines and those beyond `step`, all at once; warns of lost ones."""
  lines = (path.read_text(errors='replace').splitlines(keepends=True)
           if path.exists() else [])
  steps = [_step_of(line) for line in lines]
  # A kill may have cut the last line short, one beyond `step`.
  damaged = sum(at is None and line.endswith('\n')
                for line, at in zip(lines, steps, strict=True))
  missing = set(range(1, step + 1)).difference(steps)
  if damaged or missing:
    print(f'warning: {path}: {damaged} lines are damaged, {len(missing)} of the first '
          f'{step} steps have none; the run continues without them', file=sys.stderr,
          flush=True)
  with files.replacing(path) as file:
    file.write(''.join(line for line, at in zip(lines, steps, strict=True)
                       if at is not None and at <= step).encode())


def _step_of(line: str) -> int | None:
  """The step of a line; None if a kill cut it short or it is damaged."""
  try:
    return int(json.loads(line)['step']) if line.endswith('\n') else None
  except (ValueError, KeyError, TypeError, OverflowError):
    return None
