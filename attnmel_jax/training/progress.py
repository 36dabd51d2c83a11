"""Progress of a training run: a bar on a terminal, plain lines elsewhere."""

import sys
import time

import tqdm

from attnmel_jax import progress


class Progress:
  """Reports steps, loss, images/s and time left on stderr."""

  def __init__(self, total: int, initial: int, *, quiet: bool):
    self._quiet, self._total, self._initial = quiet, total, initial
    self._start = time.perf_counter()
    self._printed = float('-inf')
    terminal = sys.stderr.isatty() and not quiet
    self._bar = tqdm.tqdm(total=total, initial=initial, unit='step',
                          dynamic_ncols=True) if terminal else None

  def report(self, step: int, metrics: dict[str, float], images_per_second: float
             ) -> None:
    """Shows the mean `metrics` of the last steps; a plain line at most every 5 s."""
    if self._quiet:
      return
    loss = ' '.join(f'{k} {v:.4f}' for k, v in metrics.items())
    if self._bar is not None:
      self._bar.set_postfix_str(f'{loss} {images_per_second:.0f} images/s')
      self._bar.update(step - self._bar.n)
      return
    now = time.perf_counter()
    if now - self._printed < 5 and step < self._total:
      return
    self._printed = now
    left = (now - self._start) / (step - self._initial) * (self._total - step)
    print(f'step {step}/{self._total} {loss} {images_per_second:.1f} images/s '
          f'{progress.duration(left)} left', file=sys.stderr, flush=True)

  def note(self, text: str) -> None:
    """Prints a line without breaking the bar."""
    if not self._quiet:
      tqdm.tqdm.write(text, file=sys.stderr)

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()
