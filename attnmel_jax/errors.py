"""The exceptions of this project, and checks that raise them."""

from collections.abc import Iterable
import errno
import pathlib
from typing import Any

# Errors of the system that mean a place cannot be written: full, a quota or a
# file's size reached, read-only, forbidden, broken.
UNWRITABLE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS,
                        errno.EACCES, errno.EPERM, errno.EIO))


class UserError(Exception):
  """A mistake in a command, a config, a file or a path.

  The message is a single line: the offending name, the allowed values and the
  remedy. Commands print it without a traceback and exit with status 2.
  """


class Unusable(ValueError):
  """A file whose content cannot be used."""


def expanded(text: str) -> pathlib.Path:
  """A path with ~ as the home folder; UserError where there is no such user."""
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError:
    raise UserError(f'{text} names the home folder of a user who does not exist; '
                    'write the path out') from None


def check_choice(name: str, value: Any, allowed: Iterable[Any]) -> None:
  """Raises UserError unless `value` is one of `allowed`."""
  allowed = tuple(allowed)
  if value not in allowed:
    names = ', '.join(repr(item) for item in allowed)
    raise UserError(f'{name}={value!r} is unknown; choose one of {names}')
