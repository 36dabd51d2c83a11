"""Folders that commands write: new or empty, or our own and of the same kind.

Anything else is refused before a file in it is made, changed or removed.
"""

from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import pathlib
import shutil

from attnmel_jax import errors
from attnmel_jax import files

# What says nothing about whose a folder is: our lock, and what desktops leave.
_NOISE = frozenset(('.lock', '.DS_Store', 'Thumbs.db', 'desktop.ini'))

# Lists what a command has written into a folder, each with its sha256.
MANIFEST = 'written.json'


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


@contextlib.contextmanager
def exchanged(out: pathlib.Path, kind: str) -> Iterator[pathlib.Path]:
  """Yields a new folder that takes the place of `out` once the block has ended.

  Until then, and for good if the block raises or is killed, `out` is as it was. The
  new folder lies beside it, locked; what a kill left of one is removed.

  Args:
    out: new, empty, or what an earlier call wrote and nobody has changed.
    kind: of what is written.

  Raises:
    UserError: `out` is anything else, in use, or cannot be replaced.
  """
  name, remedy = f'--out={out}', 'name a new or empty folder with --out'
  out = out.resolve()
  staged, old = (out.with_name(f'.{out.name}.attnmel-{end}') for end in ('new', 'old'))
  _check_unchanged(out, name, kind, remedy)
  if out.is_mount() or pathlib.Path.cwd().is_relative_to(out):
    raise errors.UserError(f'{name} cannot be replaced, as it is the current folder or '
                           'a mounted one; name a folder within it')
  with files.locked(staged, name=name, remedy=remedy):
    try:
      if old.exists() and not out.exists():  # killed between the renames below
        old.rename(out)
      _check_unchanged(out, name, kind, remedy)
      shutil.rmtree(old, ignore_errors=True)
      for path in staged.iterdir():
        if path.is_dir():
          shutil.rmtree(path)
        elif path.name != '.lock':
          path.unlink()
      yield staged
      files.write_json(staged / MANIFEST, {'kind': kind, 'files': {
          str(path.relative_to(staged)): files.digest(path)
          for path in _files(staged)}})
      if out.exists():
        out.rename(old)
      staged.rename(out)
    except BaseException as error:
      # Not after the exchange, when another call may already write to the place.
      shutil.rmtree(staged, ignore_errors=True)
      if not isinstance(error, OSError):
        raise
      if error.errno not in errors.UNWRITABLE:
        raise
      raise errors.UserError(
          f'{name} cannot be written ({error.strerror}); {remedy}') from None
    finally:
      if old.exists() and not out.exists():
        old.rename(out)
      shutil.rmtree(old, ignore_errors=True)


def read_manifest(folder: pathlib.Path, kind: str) -> dict[str, str] | None:
  """The sha256 of what was written into a folder, by name; None if it is not ours."""
  try:
    content = files.read_json(folder / MANIFEST)
    files.check_types(content, {'kind': str, 'files': dict})
    files.check_types(content['files'], dict.fromkeys(content['files'], str))
  except (OSError, ValueError):
    return None
  return content['files'] if content['kind'] == kind else None


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  return [path for path in sorted(folder.rglob('*'))
          if path.name not in _NOISE | {MANIFEST} and not path.is_dir()]


def _check_unchanged(out: pathlib.Path, name: str, kind: str, remedy: str) -> None:
  """Raises UserError unless all that `out` holds is what the manifest lists."""
  written = read_manifest(out, kind)
  if written is None:
    check_empty(out, name, kind, remedy=remedy)
    return
  for path in _files(out):
    inner = str(path.relative_to(out))
    if written.get(inner) != (files.digest(path) if path.is_file() else ''):
      raise errors.UserError(f'{name} holds {inner}, which was put there or changed '
                             f'since; move it, or {remedy}')
