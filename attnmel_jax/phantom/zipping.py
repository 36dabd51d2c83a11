"""What the archives of all years share, for the phantom: pictures and zips."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import io
import pathlib
from typing import NamedTuple
import zipfile

import numpy as np
from PIL import Image

from attnmel_jax.data import archives

_JPEG_QUALITY = 92
# Zip entries carry this time, so that equal contents make equal bytes.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


class Labelled(NamedTuple):
  """An image of a split, encoded."""

  id: str
  diagnosis: str
  lesion: str  # its id, where several images may show one lesion; else ''
  files: list[dict[str, bytes]]  # for each zip: file name -> bytes


def jpeg(image: np.ndarray) -> bytes:
  """uint8 [H, W, 3] -> a JPEG that says that it was drawn."""
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'JPEG', quality=_JPEG_QUALITY,
                              comment=archives.SYNTHETIC_COMMENT)
  return buffer.getvalue()


def png(array: np.ndarray) -> bytes:
  """uint8 [H, W] or [H, W, 3] -> PNG."""
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, 'PNG')
  return buffer.getvalue()


def write_zips(folder: pathlib.Path, names: Iterable[str], labelled: Iterable[Labelled]
               ) -> Iterator[Labelled]:
  """Writes as many of each image's files as there are zips; yields the images."""
  with contextlib.ExitStack() as stack:
    zips = {name: stack.enter_context(zipfile.ZipFile(folder / name, 'w'))
            for name in names}
    for image in labelled:
      for (name, archive), content in zip(zips.items(), image.files, strict=False):
        add(archive, name, content)
      yield image


def add(archive: zipfile.ZipFile, name: str, files: dict[str, bytes]) -> None:
  """Adds files below the top folder that the zip is named after."""
  for file, content in files.items():
    # Stored, not deflated: JPEG and PNG are compressed already.
    entry = zipfile.ZipInfo(f'{name.removesuffix(".zip")}/{file}', _TIMESTAMP)
    entry.create_system = 3  # Unix, wherever it is written
    entry.external_attr = 0o644 << 16  # else unpacked files are unreadable
    archive.writestr(entry, content)
