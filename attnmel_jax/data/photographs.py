"""Photographs that belong to no data set: found, named and decoded as they come."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import threads
from attnmel_jax.data import decode

ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp')
# Photographs in other formats, which are found only to be reported as unusable.
_OTHER_ENDINGS = ('.tif', '.tiff', '.webp', '.heic', '.heif', '.gif', '.dcm')
# Marks a folder of earlier results, whose pictures are no photographs.
RECORD = 'predictions.json'
# The archives of ISIC 2017 hold these maps beside the photographs.
_NO_PHOTOGRAPHS = '_superpixels'


@dataclasses.dataclass(frozen=True)
class Photograph:
  """A file and what tables and pictures call it."""

  name: str  # all different; the file name without its ending where that will do
  path: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Decoded:
  """A photograph's squares, or why there are none."""

  photograph: Photograph
  squares: dict[decode.Geometry, np.ndarray]  # uint8 [S, S, 3]; {} if unusable
  problem: str                                 # '' unless unusable


def find(paths: Iterable[pathlib.Path], *, excluded: pathlib.Path) -> list[Photograph]:
  """The named photographs, and those in the named folders and their subfolders.

  In folders, skips files without a picture's ending, hidden files, the superpixels
  of ISIC 2017 and folders of earlier results. Finds pictures in unsupported formats,
  so that `read` reports them.

  Args:
    paths: files and folders.
    excluded: a folder to skip: that of the results.

  Raises:
    UserError: a path does not exist, or there is no photograph.
  """
  paths = list(paths)
  found: dict[pathlib.Path, None] = {}  # each once, in order
  for path in paths:
    if path.is_dir():
      chosen = _walk(path, excluded.resolve())
    elif path.is_file():
      chosen = [path]
    else:
      raise errors.UserError(
          f'--images={path} does not exist; give folders or files, separated by commas')
    found |= dict.fromkeys(pathlib.Path(os.path.abspath(file)) for file in chosen)
  if not found:
    raise errors.UserError(
        f'--images={",".join(map(str, paths))} holds no photograph, which would end '
        f'in one of {", ".join(ENDINGS)}')
  return [Photograph(name, path)
          for name, path in zip(names(list(found)), found, strict=True)]


def _walk(folder: pathlib.Path, excluded: pathlib.Path) -> Iterator[pathlib.Path]:
  def fail(error):
    raise error

  for root, folders, present in os.walk(folder, onerror=fail):
    if RECORD in present and holds_results(pathlib.Path(root)):
      folders.clear()
      continue
    folders[:] = sorted(name for name in folders if not name.startswith('.')
                        and pathlib.Path(root, name).resolve() != excluded)
    for name in sorted(present):
      stem, ending = os.path.splitext(name)
      if (ending.lower() in ENDINGS + _OTHER_ENDINGS and not name.startswith('.')
          and not stem.endswith(_NO_PHOTOGRAPHS)):
        yield pathlib.Path(root, name)


def holds_results(folder: pathlib.Path) -> bool:
  """Whether launch/predict.py wrote into a folder."""
  try:
    return 'finished' in files.read_json(folder / RECORD)
  except (OSError, ValueError):
    return False


def names(paths: Sequence[pathlib.Path]) -> list[str]:
  """A name for each of several different absolute paths, all names different.

  The file name without its ending. Files that share it are named with their
  folders below the one that holds all files; if that is not enough, all are, and
  keep their endings.
  """
  root = os.path.commonpath([path.parent for path in paths])
  within = [path.relative_to(root) for path in paths]
  stems = [path.stem for path in within]
  count = Counter(stem.casefold() for stem in stems)
  with_folder = [
      stem if count[stem.casefold()] == 1 else path.with_suffix('').as_posix()
      for stem, path in zip(stems, within, strict=True)]
  for candidate in (stems, with_folder):
    # Regardless of case, for file systems that do not tell them apart.
    if len({name.casefold() for name in candidate}) == len(paths):
      return [printable(name) for name in candidate]
  return [printable(path.as_posix()) for path in within]


def printable(path: str | os.PathLike) -> str:
  """The path as UTF-8 text: bytes that are none are written as \\xNN."""
  return os.fsencode(path).decode(errors='backslashreplace')


def read(photograph: Photograph, geometries: Sequence[decode.Geometry]) -> Decoded:
  """Decodes one file, once for each of the different geometries."""
  try:
    data = files.read_bytes(photograph.path)
    squares = {geometry: decode.read_image(data, geometry)[0]
               for geometry in geometries}
  except OSError as error:
    return Decoded(photograph, {}, f'cannot be read ({error.strerror})')
  except errors.Unusable as error:
    return Decoded(photograph, {}, str(error))
  return Decoded(photograph, squares, '')


def read_all(photographs: Iterable[Photograph], geometries: Sequence[decode.Geometry]
             ) -> Iterator[Decoded]:
  """Decodes in order, a few files ahead on all cores."""
  return threads.in_order(functools.partial(read, geometries=geometries), photographs)
