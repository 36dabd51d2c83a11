"""Maps of a frozen backbone beside the prepared split that they were made of.

  with stored_maps.open_writer(split, identity, layout) as writer:
    writer.write(view, compute)
  maps = stored_maps.open_maps(split, identity, layout, (0,), memory_gib=4.0)
  maps.read(rows, views)  # {'pool3': float16 [B, 28, 28, 40], ...}

They lie in `<data_dir>/<dataset>/<split>-crop<ratio>-side<side>-<resampling>-maps-
<digest>`, where the digest is that of their identity: weights, images, and how the
backbone is shown them. All runs of one identity read the same files. `view<k>` holds
the maps under symmetry k, a row of float16 an image; it has that name once it is whole.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
from typing import Any

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import storage

# Raise this when what is stored changes.
VERSION = 1
DTYPE = np.dtype('<f2')

# First row that is wanted -> rows [b, layout.values] of float16, batch by batch.
Compute = Callable[[int], Iterator[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the maps of an image lie in a row: one after another."""

  shapes: Mapping[str, tuple[int, ...]]  # (h, w, C) by name

  @property
  def values(self) -> int:
    """Numbers in a row."""
    return sum(map(math.prod, self.shapes.values()))

  def join(self, maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """{name: [B, h, w, C]} -> rows [B, values]."""
    return np.concatenate(
        [maps[name].reshape(len(maps[name]), -1) for name in self.shapes], axis=1)

  def split(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The inverse of `join`."""
    maps, start = {}, 0
    for name, shape in self.shapes.items():
      end = start + math.prod(shape)
      maps[name] = rows[:, start:end].reshape(len(rows), *shape)
      start = end
    return maps


@dataclasses.dataclass(frozen=True, eq=False)
class Maps:
  """Maps of all images of a split, under some views."""

  layout: Layout
  views: Mapping[int, np.ndarray]  # float16 [N, values]
  in_memory: bool

  @property
  def nbytes(self) -> int:
    """Bytes in memory."""
    return sum(rows.nbytes for rows in self.views.values()) if self.in_memory else 0

  def read(self, rows: np.ndarray, views: np.ndarray) -> dict[str, np.ndarray]:
    """Maps of the images `rows` [B], each under its own of the `views` [B]."""
    chosen = np.empty((len(rows), self.layout.values), DTYPE)
    for position, (row, view) in enumerate(
        zip(rows.tolist(), views.tolist(), strict=True)):
      chosen[position] = self.views[view][row]
    return self.layout.split(chosen)


def folder(split: storage.PreparedSplit, identity: Mapping[str, Any]) -> pathlib.Path:
  """Where the maps of that identity lie, or would."""
  text = json.dumps({'version': VERSION, **identity}, sort_keys=True)
  own = split.path.parent  # above the folder of the version
  digest = hashlib.sha256(text.encode()).hexdigest()
  return own.with_name(f'{own.name}-maps-{digest[:16]}')


def missing(split: storage.PreparedSplit, identity: Mapping[str, Any],
            views: Sequence[int]) -> tuple[int, ...]:
  """The views that are not there yet, or not whole."""
  return tuple(view for view in views
               if not _view_file(folder(split, identity), view).is_file())


def open_maps(split: storage.PreparedSplit, identity: Mapping[str, Any],
              layout: Layout, views: Sequence[int], *, memory_gib: float) -> Maps:
  """Reads the views into memory where they fit, else maps their files.

  Raises:
    UserError: a file has another size than that of its rows.
  """
  shape = (len(split), layout.values)
  needed = len(views) * math.prod(shape) * DTYPE.itemsize
  in_memory = needed <= memory_gib * 2**30
  opened = {}
  for view in views:
    path = _view_file(folder(split, identity), view)
    if path.stat().st_size != math.prod(shape) * DTYPE.itemsize:
      raise errors.UserError(f'{path} is damaged; delete {path.parent}, and the same '
                             'command computes the maps again')
    opened[view] = (np.fromfile(path, DTYPE).reshape(shape) if in_memory
                    else np.memmap(path, DTYPE, 'r', shape=shape))
  return Maps(layout, opened, in_memory)


@contextlib.contextmanager
def open_writer(split: storage.PreparedSplit, identity: Mapping[str, Any],
                layout: Layout) -> Iterator['Writer']:
  """Waits for the lock of the folder, and yields what writes views into it.

  Raises:
    UserError: the folder cannot be written.
  """
  path = folder(split, identity)
  with files.locked(path, name=str(path), wait=True,
                    remedy='the maps of a frozen backbone are kept beside the prepared '
                    'data: make that folder writable, or name another data_dir'):
    if not (path / 'identity.json').exists():  # for people
      files.write_json(path / 'identity.json', identity)
    yield Writer(path, len(split), layout)


@dataclasses.dataclass(frozen=True)
class Writer:
  """Writes views one by one; see `open_writer`."""

  path: pathlib.Path
  number: int  # of images
  layout: Layout

  def write(self, view: int, compute: Compute, *, batch: int) -> None:
    """Writes the view, unless another process has; resumes after a kill.

    Args:
      view: number of the symmetry.
      compute: gives its rows.
      batch: rows in a batch of `compute`; a call resumes where one starts.

    Raises:
      UserError: it cannot be written.
    """
    whole = _view_file(self.path, view)
    if whole.exists():
      return
    partial = whole.with_name(f'{whole.name}.partial')
    row = self.layout.values * DTYPE.itemsize
    try:
      with partial.open('ab') as file:
        done = file.tell() // (row * batch) * batch
        file.truncate(done * row)  # a kill may have come within a batch
        for rows in compute(done):
          file.write(np.ascontiguousarray(rows, DTYPE).data)
          file.flush()
        os.fsync(file.fileno())
        written = file.tell()
      if written != self.number * row:  # on a file system without locks
        partial.unlink()
        raise errors.UserError(f'{partial} was written by two processes at once; start '
                               'one again when the other has ended')
      os.replace(partial, whole)
    except OSError as error:
      raise errors.UserError(
          f'{partial} cannot be written ({error.strerror}): the view takes '
          f'{self.number * row / 2**30:.2f} GiB; free some space or name another '
          'data_dir') from error


def _view_file(path: pathlib.Path, view: int) -> pathlib.Path:
  return path / f'view{view}'
