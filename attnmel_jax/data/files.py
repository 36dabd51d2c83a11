"""Files that a stranger may have left: plain ones, of a size that can be meant."""

import pathlib

from attnmel_jax.data import decode

# Bytes: twice the pixels that are allowed, as a BMP. More is a mistake, or a bomb.
LARGEST = 1 << 29


def read(path: pathlib.Path) -> bytes:
  """Content of a file.

  Raises:
    OSError: it cannot be read.
    decode.Unusable: it is no plain file, which might never end, or too large.
  """
  check(path)
  return path.read_bytes()


def check(path: pathlib.Path) -> None:
  """Raises what `read` does, without reading."""
  size = path.stat().st_size
  if not path.is_file():  # a pipe would be waited for
    raise decode.Unusable('is a folder' if path.is_dir() else 'is no plain file')
  check_size(size)


def is_name(text: str) -> bool:
  """Whether a file of this name lies in the folder that it is looked for in."""
  try:
    text.encode()
  except UnicodeEncodeError:
    return False
  return text not in ('', '.', '..') and not {'/', '\0'} & set(text)


def check_size(size: int) -> None:
  """Raises decode.Unusable if a file of so many bytes cannot be meant."""
  if size > LARGEST:
    raise decode.Unusable(f'has {size} bytes, more than {LARGEST}')
