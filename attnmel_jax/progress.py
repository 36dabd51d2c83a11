"""Progress of long work: a bar on a terminal, a few plain lines elsewhere.

  bar = Progress('train', 9700, unit='steps', often=True)
  bar.advance(100, 'loss 0.4123')
  bar.note('step 100: validation auc 0.81')
  bar.close()

  with silence():  # no progress, notices or warnings: what is wrong is raised
    train()
"""

import contextlib
import io
import sys
import time
from typing import TextIO

import tqdm

_LINES = 10          # at most, from 0 to 100 %
_SECONDS = 2         # at least, between plain lines; shorter work shows none
_OFTEN_SECONDS = 5   # the same for `often`


class _Silence(io.TextIOBase):
  """Stands in for stderr: progress and notices are dropped."""

  def __init__(self, silenced: TextIO):
    super().__init__()
    self.silenced = silenced

  def write(self, text: str) -> int:
    """Drops the text."""
    return len(text)


def stderr() -> TextIO:
  """stderr, even within `silence`."""
  return getattr(sys.stderr, 'silenced', sys.stderr)


def silence() -> contextlib.AbstractContextManager:
  """Drops what Python code writes to stderr; C++ libraries write past it."""
  return contextlib.redirect_stderr(_Silence(stderr()))


class Progress:
  """Counts up to `total` on stderr."""

  def __init__(self, label: str, total: int, *, unit: str, done: int = 0,
               often: bool = False, quiet: bool = False):
    """Starts the clock.

    Args:
      label: of the work.
      total: number of units, 0 if unknown.
      unit: in the plural; 'B' counts bytes.
      done: where the work starts.
      often: without a terminal, print a line every few seconds, the first and the last
        one always; otherwise one for each tenth of longer work.
      quiet: print nothing.
    """
    self._label, self._total, self._unit, self._done = label, total, unit, done
    self._often, self._quiet = often, quiet
    self._tenths = self._in_tenths()
    self._start = time.monotonic()
    self._printed = float('-inf') if often else self._start
    self._initial = done
    self._bar = None
    if sys.stderr.isatty() and not quiet:
      self._bar = tqdm.tqdm(
          desc=label, total=total or None, initial=done, unit=unit,
          unit_scale=unit == 'B', unit_divisor=1024, dynamic_ncols=True)

  def _in_tenths(self) -> int:
    return self._done * _LINES // self._total if self._total else 0

  def advance(self, count: int, text: str = '') -> None:
    """Adds `count` units that are done; `text` says more about them."""
    self._done += count
    if self._bar is not None:
      if text:
        self._bar.set_postfix_str(text)
      self._bar.update(count)
    elif not self._quiet and self._is_due():
      self._tenths, self._printed = self._in_tenths(), time.monotonic()
      left = ((self._printed - self._start) / (self._done - self._initial)
              * (self._total - self._done))
      print(f'{self._label}: {self._done} of {self._total} {self._unit}, '
            f'{text and text + ", "}{duration(left)} left', file=sys.stderr, flush=True)

  def _is_due(self) -> bool:
    """Whether to print a plain line."""
    waited = time.monotonic() - self._printed
    if self._often:
      return waited >= _OFTEN_SECONDS or self._done >= self._total
    return waited >= _SECONDS and self._in_tenths() > self._tenths

  def note(self, text: str) -> None:
    """Prints a line without breaking the bar."""
    if not self._quiet:
      tqdm.tqdm.write(text, file=sys.stderr)

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()


def duration(seconds: float) -> str:
  """Seconds as h:mm:ss."""
  minutes, rest = divmod(round(seconds), 60)
  return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}'
