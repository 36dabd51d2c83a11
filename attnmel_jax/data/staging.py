"""A folder is whole or not there: work in a staging folder, rename at the end."""

from collections.abc import Iterator
import contextlib
import fcntl
import pathlib
import shutil
import tempfile

from attnmel_jax import errors

_PREFIX = '.incomplete-'
_LOCK = '.lock'


@contextlib.contextmanager
def locked(root: pathlib.Path) -> Iterator[None]:
  """Makes the folder and holds its lock: one process at a time writes below `root`.

  Raises:
    UserError: `root` cannot be written, or another process works in it.
  """
  try:
    root.mkdir(parents=True, exist_ok=True)
    lock = (root / _LOCK).open('w')
  except OSError as error:
    raise _unwritable(root, error) from error
  with lock:
    try:
      # Held until the file is closed, be it by SIGKILL.
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise errors.UserError(
          f'another command writes to {root}; wait until it ends') from error
    yield


@contextlib.contextmanager
def folder(root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields an empty folder below `root`; it is gone when the block ends.

  One process at a time, see `locked`: what a killed one left is removed at the start.
  """
  with locked(root):
    for left_over in root.glob(f'{_PREFIX}*'):
      shutil.rmtree(left_over, ignore_errors=True)
    try:
      staging = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    except OSError as error:
      raise _unwritable(root, error) from error
    try:
      yield staging
    finally:
      shutil.rmtree(staging, ignore_errors=True)


def _unwritable(root: pathlib.Path, error: OSError) -> errors.UserError:
  return errors.UserError(f'{root} cannot be written ({error.strerror}); choose '
                          'another folder with --data_dir or $ATTNMEL_DATA')


def publish(staged: pathlib.Path, final: pathlib.Path) -> None:
  """Moves a whole folder to its place, instead of what is there."""
  if final.exists():
    # Aside first: deleting takes longer than renaming, and may be interrupted.
    final.rename(staged.with_name('replaced-' + staged.name))
  final.parent.mkdir(parents=True, exist_ok=True)
  staged.rename(final)
