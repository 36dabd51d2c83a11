"""Folders that commands write: new or empty, or our own and of the same kind.

Anything else is refused before a file in it is made, changed or removed.
"""

from collections.abc import Collection
import pathlib

from attnmel_jax import errors
from attnmel_jax import files

# What says nothing about whose a folder is: our lock, and what desktops leave.
_NOISE = frozenset(('.lock', '.DS_Store', 'Thumbs.db', 'desktop.ini'))


def check_empty(folder: pathlib.Path, name: str, kind: str, *, remedy: str,
                but: Collection[str] = ()) -> None:
  """Raises UserError if a folder holds anything, except files called as in `but`.

  Args:
    folder: it need not exist.
    name: of the folder, in messages.
    kind: what is to be written, in messages.
    remedy: what to do, in messages.
    but: names of files, which may also be half-written.
  """
  if not folder.is_dir():
    return
  try:
    foreign = sorted(path.name for path in folder.iterdir()
                     if path.name not in _NOISE
                     and files.final_name(path.name) not in but)
  except OSError as error:
    raise errors.UserError(
        f'{name} cannot be read ({error.strerror}); {remedy}') from None
  if foreign:
    raise errors.UserError(
        f'{name} holds something other than {kind}, such as {foreign[0]}; {remedy}')
