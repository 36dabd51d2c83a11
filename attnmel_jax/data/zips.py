"""Reads files of a zip that may be damaged, or made to do harm.

Nothing is written to disk, so no name inside a zip can lead anywhere.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import stat
import struct
import zipfile

from attnmel_jax import errors
from attnmel_jax import files


def opened(path: pathlib.Path) -> zipfile.ZipFile:
  """Opens a zip; BadZipFile or OSError if it is none."""
  with _as_bad_zip():
    return zipfile.ZipFile(path)


def read(archive: zipfile.ZipFile, entry: str) -> bytes:
  """Content of a file of the zip, never more of it than its entry says.

  Raises:
    errors.Unusable: a link, or larger than any photograph, or packed by a method
      that cannot be unpacked piece by piece.
    BadZipFile, zlib.error, EOFError: damaged.
    RuntimeError: encrypted.
  """
  info = archive.getinfo(entry)
  files.check_size(info.file_size)
  if stat.S_ISLNK(info.external_attr >> 16):
    raise errors.Unusable('is a link; put the file itself into the archive')
  if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    raise errors.Unusable('is packed by another method than deflate; pack it again')
  with _as_bad_zip(), archive.open(info) as file:
    return file.read(info.file_size + 1)  # to the end, where the CRC is compared


@contextlib.contextmanager
def _as_bad_zip() -> Iterator[None]:
  """What zipfile raises besides for a damaged directory, as BadZipFile."""
  try:
    yield
  except (ValueError, OverflowError, struct.error) as error:
    raise zipfile.BadZipFile(str(error)) from error
