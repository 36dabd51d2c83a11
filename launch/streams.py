"""Output of a command that cannot fail halfway: the work does not depend on it."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import sys
from typing import Any
from typing import TextIO


class _Output:
  """Stands in for a stream, of which it hands on one error of the system at most."""

  def __init__(self, stream: TextIO, failed: Callable[[OSError], None], control: str):
    self._stream, self._failed, self._control = stream, failed, control

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    """Writes text; what a name holds that does not print is escaped."""
    if not text.isprintable():
      text = ''.join(c if c.isprintable() or c in self._control else ascii(c)[1:-1]
                     for c in text)
    self._attempt(lambda: self._stream.write(text))
    return len(text)

  def flush(self) -> None:
    """Writes what is buffered."""
    self._attempt(self._stream.flush)

  def _attempt(self, act: Callable[[], Any]) -> None:
    try:
      act()
    except OSError as error:
      # What is buffered would fail again, at the latest when Python ends.
      nothing = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nothing, self._stream.fileno())
      os.close(nothing)
      self._failed(error)


@contextlib.contextmanager
def safe(failed: Callable[[OSError], None]) -> Iterator[None]:
  """Within it, printing raises nothing: neither encodings nor closed pipes matter.

  Args:
    failed: called with the first error of stdout, such as a full disk or a pipe whose
      reader has ended. Of stderr, which shows progress, an error is passed over.
  """
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')
  with (contextlib.redirect_stdout(_Output(sys.stdout, failed, '\n\t')),
        contextlib.redirect_stderr(_Output(  # where a bar goes back to redraw itself
            sys.stderr, lambda error: None, '\n\t\r'))):
    yield
