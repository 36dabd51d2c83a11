"""Files: written whole or not at all, locked, read without trust.

  with files.replacing(path) as file:
    file.write(b'...')
  files.write_json(path, {'auc': 0.9})
  files.read_json(path)  # {'auc': 0.9}
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import csv
import errno
import functools
import hashlib
import io
import json
import math
import os
import pathlib
import re
import sys
from typing import Any
from typing import BinaryIO

from attnmel_jax import errors

try:
  import fcntl
except ImportError:  # Windows, where arrays can be worked on all the same
  fcntl = None

# Bytes: twice the pixels that are allowed, as a BMP. More is a mistake, or a bomb.
LARGEST = 1 << 29
# Of `flock`: the file system has no locks (Lustre without -o flock, some of FUSE).
_NO_LOCKS = frozenset((errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK))
_TEMPORARY = re.compile(r'\.(.+)\.\d+\.tmp', re.DOTALL)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Opens a binary file that takes the place of `path` once it is complete.

  Until then, and for good if the block raises, `path` stays as it was.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  path.parent.mkdir(parents=True, exist_ok=True)
  try:
    with open(temporary, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    if error.filename is None:  # of a write: the message would name no file
      error.filename = str(path)
    raise
  finally:
    temporary.unlink(missing_ok=True)


def final_name(name: str) -> str:
  """What `replacing` would have called the file, if it is a temporary one of it."""
  found = _TEMPORARY.fullmatch(name)
  return found[1] if found else name


def sweep(folder: pathlib.Path, ours: Callable[[str], bool]) -> None:
  """Removes what a killed `replacing` left of the files whose names are `ours`."""
  for path in folder.glob('.*.tmp'):
    name = final_name(path.name)
    if name != path.name and ours(name):
      path.unlink()


def cache_dir() -> pathlib.Path | None:
  """attnmel_jax below $XDG_CACHE_HOME or ~/.cache; None without a home folder."""
  try:
    base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  except RuntimeError:
    return None
  return pathlib.Path(base) / 'attnmel_jax'


def publish(staged: pathlib.Path, final: pathlib.Path) -> None:
  """Moves a whole folder to its place, instead of what is there."""
  if final.exists():
    # Aside first: deleting takes longer than renaming, and may be interrupted.
    final.rename(staged.with_name('replaced-' + staged.name))
  final.parent.mkdir(parents=True, exist_ok=True)
  staged.rename(final)


@contextlib.contextmanager
def locked(folder: pathlib.Path, *, name: str, remedy: str, wait: bool = False
           ) -> Iterator[None]:
  """Makes the folder and holds its lock, which even a SIGKILL releases.

  Where the file system has no locks it continues without one, and says so.

  Args:
    folder: one process at a time writes to it.
    name: of the folder, in messages.
    remedy: what to do where the folder cannot be had, in messages.
    wait: for another process to release the lock.

  Raises:
    UserError: another process holds the lock and we do not wait, or the folder cannot
      be written or locked.
  """
  if fcntl is None:
    raise errors.UserError(f'{name} cannot be locked on Windows; use WSL')
  try:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / '.lock').open('w')
  except OSError as error:
    raise errors.UserError(
        f'{name} cannot be written ({error.strerror}); {remedy}') from None
  with lock:
    held = _lock(lock.fileno(), wait, name, remedy)
    if not held or not _is_at(lock.fileno(), folder):
      raise errors.UserError(
          f'{name} is in use by another process; wait for it, or {remedy}')
    yield


def _lock(descriptor: int, wait: bool, name: str, remedy: str) -> bool:
  """False where another process holds the lock; True as well without locks."""
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise errors.UserError(
          f'{name} cannot be locked ({error.strerror}); {remedy}') from None
    _say_once(f'notice: {name} is on a file system without locks ({error.strerror}); '
              'start no second command there before this one ends')
  return True


def _is_at(descriptor: int, folder: pathlib.Path) -> bool:
  """Whether the folder is still the one that was locked: `publish` may replace it."""
  try:
    return os.path.samestat(os.fstat(descriptor), os.stat(folder / '.lock'))
  except FileNotFoundError:
    return False


@functools.cache
def _say_once(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
  """Writes a dictionary as indented JSON; ValueError if it holds NaN (use None)."""
  text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
  with replacing(path) as file:
    file.write(f'{text}\n'.encode())


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in a file.

  Raises:
    OSError: it cannot be read.
    ValueError: it holds no JSON, another kind than an object, one nested too deep, a
      number beyond float64, or text that is none.
  """
  if path.exists() and not path.is_file():  # a pipe would be waited for
    raise ValueError('it is no plain file')
  return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> dict[str, Any]:
  """The JSON object in a text; raises ValueError as `read_json` does."""
  try:
    content = json.loads(text, parse_float=_finite(float), parse_int=_finite(int),
                         parse_constant=_finite(float))
    # An escape may stand for half a character, which no file can hold.
    json.dumps(content, ensure_ascii=False).encode()
  except RecursionError:
    raise ValueError('it is nested too deep') from None
  except UnicodeEncodeError:
    raise ValueError('it holds half a character (a lone surrogate)') from None
  if not isinstance(content, dict):
    raise ValueError(f'it holds a {type(content).__name__}, no object')
  return content


def _finite(kind: type) -> Callable[[str], float]:
  """Reads a number of JSON; ValueError where float64 cannot hold it, or it is none."""
  def read(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
      raise ValueError(f'it holds {text[:20]}, which is no finite number')
    return kind(text)

  return read


def digest(path: pathlib.Path) -> str:
  """sha256 of a file, in hexadecimal digits.

  Raises:
    OSError: it cannot be read.
    errors.Unusable: it is no plain file, which might never end.
  """
  if not path.is_file() and path.exists():
    raise errors.Unusable('is no plain file')
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def check_types(content: Any, types: dict[str, type | tuple[type, ...]]
                ) -> None:
  """Raises ValueError for the first field that is missing or of another type.

  A bool is no number here. A list of one type is written `list[str]`.
  """
  if not isinstance(content, dict):
    raise ValueError(f'{content!r} is no object')
  for name, expected in types.items():
    if name not in content:
      raise ValueError(f'{name} is missing')
    if not _is(content[name], expected):
      raise ValueError(f'{name} is of another type')


def _is(value: Any, expected: Any) -> bool:
  if isinstance(expected, tuple):
    return any(_is(value, one) for one in expected)
  item = getattr(expected, '__args__', None)
  if item is not None:
    return isinstance(value, list) and all(_is(v, item) for v in value)
  return isinstance(value, expected) and (
      not isinstance(value, bool) or expected is bool)


def read_bytes(path: pathlib.Path) -> bytes:
  """Content of a file.

  Raises:
    OSError: it cannot be read.
    errors.Unusable: it is no plain file, which might never end, or too large.
  """
  check(path)
  return path.read_bytes()


def check(path: pathlib.Path) -> None:
  """Raises what `read_bytes` does, without reading."""
  size = path.stat().st_size
  if not path.is_file():  # a pipe would be waited for
    raise errors.Unusable('is a folder' if path.is_dir() else 'is no plain file')
  check_size(size)


def is_name(text: str) -> bool:
  """Whether a file of this name lies in the folder that it is looked for in."""
  try:
    text.encode()
  except UnicodeEncodeError:
    return False
  return text not in ('', '.', '..') and not {'/', '\0'} & set(text)


def check_size(size: int) -> None:
  """Raises errors.Unusable if a file of so many bytes cannot be meant."""
  if size > LARGEST:
    raise errors.Unusable(f'has {size} bytes, more than {LARGEST}')


# What a spreadsheet takes for a formula, unless it is a number or an interval.
_FORMULA = re.compile(r"(?![-+\d.,\s%()\[\]]*\Z)[=+\-@\t\r'].*", re.DOTALL)


def csv_text(rows: Iterable[Sequence[str | float]]) -> str:
  """Rows as CSV; floats come back as they were, and so do texts by `csv_rows`.

  A text that a spreadsheet would run as a formula begins with an apostrophe.
  """
  text = io.StringIO(newline='')
  for row in rows:
    line = io.StringIO(newline='')
    # With this end of line the writer quotes a cell that holds a lone CR.
    csv.writer(line, lineterminator='\r\n').writerow(
        f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
        for cell in row)
    text.write(line.getvalue().removesuffix('\r\n') + '\n')
  return text.getvalue()


def csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
  """Number of the last line and cells of each row that `csv_text` wrote.

  Raises:
    ValueError: the text is no CSV; it names the line.
  """
  reader = csv.reader(io.StringIO(text, newline=''))
  try:
    for cells in reader:
      yield reader.line_num, [
          cell[1:] if cell[:1] == "'" and _FORMULA.match(cell[1:]) else cell
          for cell in cells]
  except csv.Error as error:
    raise ValueError(f'line {reader.line_num}: {error}') from error


def escaped(text: str) -> str:
  """Text in one line without any character that Markdown takes for a command."""
  # An underscore within a word is no emphasis; a link needs `](`.
  return re.sub(r'[\\`*|<]|(?<!\w)_|_(?!\w)|\](?=\()',
                lambda found: '\\' + found[0], ' '.join(text.split()))
