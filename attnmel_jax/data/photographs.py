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
from attnmel_jax import outputs
from attnmel_jax import threads
from attnmel_jax.data import decode

# Of pictures: a file that ends so is reported where it holds something else.
ENDINGS = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp',
           '.heic', '.heif', '.avif', '.gif', '.jp2', '.jxl', '.dcm', '.dng', '.arw',
           '.cr2', '.cr3', '.nef', '.orf', '.raf', '.rw2')
# Marks a folder of earlier results, whose pictures are no photographs.
KIND = 'predictions'  # of what launch/predict.py writes, in `outputs.MANIFEST`
# The archives of ISIC 2017 hold these maps beside the photographs.
_NO_PHOTOGRAPHS = '_superpixels'


@dataclasses.dataclass(frozen=True)
class Photograph:
  """A file and what tables and pictures call it."""

  name: str  # all different; the file name without its ending where that will do
  path: pathlib.Path
  problem: str = ''  # why it cannot be read, where that is known beforehand


@dataclasses.dataclass(frozen=True)
class Decoded:
  """A photograph's squares, or why there are none."""

  photograph: Photograph
  squares: dict[decode.Geometry, np.ndarray]  # uint8 [S, S, 3]; {} if unusable
  problem: str                                 # '' unless unusable


def find(paths: Iterable[pathlib.Path], *, excluded: pathlib.Path
         ) -> tuple[list[Photograph], list[str]]:
  """The named photographs, and those in the named folders and their subfolders.

  In folders, a photograph is recognised by its first bytes, or else by the ending of
  its name. Pictures in unsupported formats, folders that cannot be listed and paths
  that do not exist are among the photographs, so that `read` reports them. Links to
  folders are followed, and each folder is searched once.

  Args:
    paths: files and folders.
    excluded: a folder to skip: that of the results.

  Returns:
    The photographs, and what was passed over: files that are no pictures, hidden
    files, the superpixels of ISIC 2017 and folders of earlier results.

  Raises:
    UserError: no path exists, or there is no photograph.
  """
  paths = list(paths)
  found: dict[pathlib.Path, str] = {}  # each once, in order -> its problem
  passed_over: list[str] = []
  missing = [path for path in paths if not os.path.lexists(path)]
  if len(missing) == len(paths):
    raise errors.UserError(
        f'--images={missing[0]} does not exist; give folders or files, separated by '
        'commas')
  for path in paths:
    if path.is_dir():
      chosen = _walk(path, excluded.resolve(), passed_over)
    else:
      chosen = [(path, 'does not exist' if path in missing else '')]
    for file, problem in chosen:
      found.setdefault(pathlib.Path(os.path.abspath(file)), problem)
  if not found:
    raise errors.UserError(
        f'--images={",".join(map(str, paths))} holds no photograph in JPEG, PNG or BMP'
        f'{"; " + listed(passed_over) if passed_over else ""}')
  return [Photograph(name, path, found[path])
          for name, path in zip(names(list(found)), found, strict=True)], passed_over


def listed(passed_over: Sequence[str], most: int = 5) -> str:
  """'2 files passed over: a.txt, b.txt', with `most` names."""
  more = f' and {len(passed_over) - most} more' if len(passed_over) > most else ''
  return (f'{len(passed_over)} file{"" if len(passed_over) == 1 else "s"} passed over: '
          f'{", ".join(passed_over[:most])}{more}')


def _walk(folder: pathlib.Path, excluded: pathlib.Path, passed_over: list[str]
          ) -> Iterator[tuple[pathlib.Path, str]]:
  """Files to read, and what is wrong with them; notes the others in `passed_over`."""
  failed: list[OSError] = []
  start = folder.resolve()
  seen = {start}

  def enter(path: pathlib.Path) -> bool:
    target = path.resolve()
    if target == excluded or target in seen:
      return False
    seen.add(target)
    if path.name.startswith('.') or start.is_relative_to(target):
      note(path, '/')
      return False
    return True

  def note(path: pathlib.Path, mark: str = '') -> None:
    passed_over.append(printable(path.relative_to(folder)) + mark)

  for root, folders, present in os.walk(folder, onerror=failed.append,
                                        followlinks=True):
    here = pathlib.Path(root)
    if outputs.MANIFEST in present and holds_results(here):
      folders.clear()
      note(here, '/')
      continue
    folders[:] = [name for name in sorted(folders) if enter(here / name)]
    for name in sorted(present):
      if _is_picture(here / name):
        yield here / name, ''
      else:
        note(here / name)
  for error in failed:
    yield pathlib.Path(error.filename), f'cannot be read ({error.strerror})'


def _is_picture(path: pathlib.Path) -> bool:
  """Whether a file found in a folder is to be read, by its first bytes or its name."""
  if path.name.startswith('.') or path.stem.endswith(_NO_PHOTOGRAPHS):
    return False
  if path.suffix.lower() in ENDINGS:
    return True
  try:
    files.check(path)  # a pipe would be waited for
    with path.open('rb') as file:
      return bool(decode.format_of(file.read(decode.FIRST_BYTES)))
  except errors.Unusable:
    return False
  except OSError:
    return not path.is_symlink()  # a link to nothing is no file


def holds_results(folder: pathlib.Path) -> bool:
  """Whether launch/predict.py wrote into a folder."""
  return outputs.read_manifest(folder, KIND) is not None


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
  r"""The path as UTF-8 text, another one for every path.

  Bytes that are not UTF-8 are written as \xNN, and a backslash as two.
  """
  return os.fsencode(path).replace(b'\\', b'\\\\').decode(errors='backslashreplace')


def read(photograph: Photograph, geometries: Sequence[decode.Geometry]) -> Decoded:
  """Decodes one file, once for each of the different geometries."""
  if photograph.problem:
    return Decoded(photograph, {}, photograph.problem)
  try:
    image = decode.open_photograph(files.read_bytes(photograph.path))
    if decode.looks_like_mask(image):
      raise errors.Unusable('has two values, as masks do; it is no photograph')
    squares = {geometry: decode.photograph_square(image, geometry)
               for geometry in geometries}
  except OSError as error:
    return Decoded(photograph, {}, f'cannot be read ({error.strerror})')
  except errors.Unusable as error:
    return Decoded(photograph, {}, str(error))
  except MemoryError:
    return Decoded(photograph, {}, 'cannot be read (out of memory)')
  return Decoded(photograph, squares, '')


def read_all(photographs: Iterable[Photograph], geometries: Sequence[decode.Geometry]
             ) -> Iterator[Decoded]:
  """Decodes in order, a few files ahead on all cores."""
  return threads.in_order(functools.partial(read, geometries=geometries), photographs)
