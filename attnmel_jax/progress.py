"""Progress of long work: a bar on a terminal, a few plain lines elsewhere."""

import sys
import time

import tqdm

_LINES = 10   # at most, from 0 to 100 %
_SECONDS = 2  # at least, between plain lines; shorter work shows none


class Progress:
  """Counts up to `total`, 0 if unknown; unit 'B' counts bytes."""

  def __init__(self, label: str, total: int, *, unit: str, done: int = 0):
    self._label, self._total, self._unit, self._done = label, total, unit, done
    self._tenths = self._in_tenths()
    self._start = self._printed = time.monotonic()
    self._initial = done
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(
          desc=label, total=total or None, initial=done, unit=unit,
          unit_scale=unit == 'B', unit_divisor=1024, dynamic_ncols=True)

  def _in_tenths(self) -> int:
    return self._done * _LINES // self._total if self._total else 0

  def advance(self, count: int) -> None:
    """Adds `count` units that are done."""
    self._done += count
    if self._bar is not None:
      self._bar.update(count)
    elif (self._in_tenths() > self._tenths
          and time.monotonic() - self._printed >= _SECONDS):
      self._tenths, self._printed = self._in_tenths(), time.monotonic()
      left = ((self._printed - self._start) / (self._done - self._initial)
              * (self._total - self._done))
      print(f'{self._label}: {self._done} of {self._total} {self._unit}, '
            f'{duration(left)} left', file=sys.stderr, flush=True)

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()


def duration(seconds: float) -> str:
  """Seconds as h:mm:ss."""
  minutes, rest = divmod(round(seconds), 60)
  return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}'
