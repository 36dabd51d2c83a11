"""The one exception whose message is meant for the person at the keyboard."""

from collections.abc import Iterable
from typing import Any


class UserError(Exception):
  """A mistake in a command, a config, a file or a path.

  The message is a single line: the offending name, the allowed values and the
  remedy. Commands print it without a traceback and exit with status 2.
  """


def check_choice(name: str, value: Any, allowed: Iterable[Any]) -> None:
  """Raises UserError unless `value` is one of `allowed`."""
  allowed = tuple(allowed)
  if value not in allowed:
    names = ', '.join(repr(item) for item in allowed)
    raise UserError(f'{name}={value!r} is unknown; choose one of {names}')
