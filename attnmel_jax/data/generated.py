"""Lesion probability maps of a U-Net beside a prepared split, joined by image id.

  maps = generated.open_maps(split, 'unet')
  maps.load(0)   # uint8 [256, 256], 255 for certain
  split = generated.attach(split, 'unet')
  split.load(0)['generated']

They lie in `<data_dir>/<dataset>/<split>-crop<ratio>-side<side>-<resampling>-generated-
<name>`: `identity.json`, written first, says of which U-Net and which prepared split
they are; `<id>.png` is the map of an image; `index.json`, written last, says that all
are there.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import splits
from attnmel_jax.data import storage
from attnmel_jax.data import writing

# A U-Net as JSON has it: `config`, `best_step`, `parameters` (sha256), `trained_on`
# (sorted ids of the images that trained it or chose its checkpoint).
Identity = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Maps:
  """All maps of a split, in the order of its ids."""

  path: pathlib.Path
  ids: tuple[str, ...]
  side: int
  fingerprint: str  # equal if and only if ids and pixels are
  unet: Identity

  def load(self, row: int) -> np.ndarray:
    """The map of a row, uint8 [S, S]; may be called from several threads.

    Raises:
      UserError: its file is missing or damaged.
    """
    try:
      return _read_map(self.path, self.ids[row], self.side)
    except (OSError, ValueError) as error:
      raise errors.UserError(
          f'{_map_file(self.path, self.ids[row])} is missing or damaged; delete '
          f'{self.path} and run launch/generate_masks.py again') from error


def folder(split: storage.PreparedSplit, name: str) -> pathlib.Path:
  """Where the maps `name` of a storage.PreparedSplit lie, or would."""
  own = split.path.parent  # above the folder of the version
  return own.with_name(f'{own.name}-generated-{name}')


def open_maps(split: storage.PreparedSplit, name: str) -> Maps:
  """The maps `name` of a storage.PreparedSplit.

  Raises:
    UserError: there are none, not yet all, or they were made for images that have
      been prepared anew since.
  """
  path = folder(split, name)
  command = ('python launch/generate_masks.py --run=UNET_RUN '
             f'--dataset={split.dataset} --name={name}, with a U-Net of the same '
             'crop_ratio and resize_size')
  if not (path / 'index.json').is_file():
    state = 'are incomplete' if path.exists() else 'do not exist'
    raise errors.UserError(
        f'the generated masks {path} {state}; make them with {command}')
  index = _read_json(path / 'index.json')
  try:
    maps = Maps(path, tuple(index['ids']), index['side'], index['fingerprint'],
                index['unet'])
    prepared = index['prepared']
    check_identity(index['unet'])
  except (KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
        f'{path / "index.json"} is damaged; delete {path} and run {command}') from error
  if prepared != split.fingerprint:
    raise errors.UserError(
        f'the generated masks {path} were made for other images than those prepared '
        f'now (fingerprint {prepared[:12]}, now {split.fingerprint[:12]}); delete that '
        f'folder and run {command}')
  if maps.ids != tuple(split.ids.tolist()) or maps.side != split.side:
    raise errors.UserError(
        f'{path / "index.json"} is damaged: its images do not match their '
        f'fingerprint; delete {path} and run {command}')
  return maps


def check_identity(unet: Any) -> None:
  """Raises ValueError unless this may be the identity of a U-Net."""
  files.check_types(unet, {'config': dict, 'trained_on': list[str]})


def attach(split: storage.PreparedSplit, name: str) -> storage.PreparedSplit:
  """The storage.PreparedSplit, with `open_maps` as its `generated`."""
  return dataclasses.replace(split, generated=open_maps(split, name))


def check_unseen(unet: Identity, ids: Sequence[str], tested: str) -> None:
  """Raises UserError if the U-Net was trained on any of the images.

  Args:
    unet: its identity.
    ids: of images that a run on its masks is to be tested on.
    tested: names them in the message.
  """
  shared = splits.shared_groups(unet['trained_on'], ids)
  if shared:
    raise errors.UserError(
        f'the U-Net was trained on {len(shared)} of {tested}, such as {shared[0]}: '
        'a run on its masks could not be tested on them; train a U-Net without them, '
        'or test on other images')


def state(split: storage.PreparedSplit, name: str, config: Mapping[str, Any]) -> str:
  """How far the U-Net that a run of `config` trained has drawn the maps.

  Returns:
    'new', 'begun', 'finished', or 'foreign' where the maps are of another U-Net or for
    other images.
  """
  path = folder(split, name)
  if not path.exists():
    return 'new'
  try:
    identity = _read_json(path / 'identity.json')
  except errors.UserError:
    return 'foreign'
  own = json.loads(json.dumps(config))
  unet = identity.get('unet')
  if identity.get('prepared') != split.fingerprint or not isinstance(unet, dict) or (
      unet.get('config') != own):
    return 'foreign'
  return 'finished' if (path / 'index.json').exists() else 'begun'


@contextlib.contextmanager
def open_writer(split: storage.PreparedSplit, name: str, unet: Identity
                ) -> Iterator['Writer']:
  """Holds the lock of the data set, and yields what writes the maps of the split.

  Raises:
    UserError: maps of another U-Net or for other images have the name, another
      command writes to the data set, or it cannot be written.
  """
  path = folder(split, name)
  with storage.locked(path.parent):
    identity = json.loads(json.dumps(
        {'prepared': split.fingerprint, 'side': split.side, 'unet': unet}))
    if path.exists():
      _check_identity(path, identity)
    path.mkdir(exist_ok=True)
    ids = frozenset(split.ids.tolist())
    files.sweep(path, lambda name: name.endswith('.json')
                or name.removesuffix('.png') in ids)
    if not (path / 'identity.json').exists():
      files.write_json(path / 'identity.json', identity)
    yield Writer(path, tuple(split.ids.tolist()), split.side, identity)


@dataclasses.dataclass(frozen=True)
class Writer:
  """Writes maps one by one; see `open_writer`."""

  path: pathlib.Path
  ids: tuple[str, ...]
  side: int
  identity: dict[str, Any]

  def is_whole(self) -> bool:
    """Whether all maps are there."""
    return (self.path / 'index.json').exists()

  def missing(self) -> np.ndarray:
    """Rows without a readable map, in order; a kill may have left some."""
    return np.array([row for row, name in enumerate(self.ids)
                     if not self._is_readable(name)], int)

  def _is_readable(self, name: str) -> bool:
    try:
      _read_map(self.path, name, self.side)
    except (OSError, ValueError):
      return False
    return True

  def write(self, row: int, values: np.ndarray) -> None:
    """Writes the map uint8 [S, S] of a row, whole or not at all."""
    if values.shape != (self.side, self.side) or values.dtype != np.uint8:
      raise ValueError(f'{values.dtype} {values.shape} is no map of side {self.side}')
    with files.replacing(_map_file(self.path, self.ids[row])) as file:
      file.write(writing.encode_png(values))

  def finish(self) -> str:
    """Writes index.json once all maps are there; returns their fingerprint."""
    digest = hashlib.sha256()
    for name in self.ids:
      digest.update(name.encode() + b'\0')
      digest.update(np.ascontiguousarray(_read_map(self.path, name, self.side)))
    fingerprint = digest.hexdigest()
    files.write_json(self.path / 'index.json', {
        **self.identity, 'fingerprint': fingerprint, 'ids': self.ids})
    return fingerprint


def _check_identity(path: pathlib.Path, identity: dict[str, Any]) -> None:
  """Raises UserError if the folder holds other maps than those to be written."""
  if not (path / 'identity.json').exists():
    if any(path.iterdir()):
      raise errors.UserError(
          f'{path} holds something other than generated masks; use another --name')
    return
  found = _read_json(path / 'identity.json')
  if found.get('unet') != identity['unet']:
    raise errors.UserError(f'{path} holds masks of another U-Net; use another --name, '
                           'or delete that folder')
  if found != identity:
    raise errors.UserError(f'{path} holds masks for other images than those prepared '
                           'now; use another --name, or delete that folder')


def _map_file(path: pathlib.Path, name: str) -> pathlib.Path:
  return path / f'{name}.png'


def _read_map(path: pathlib.Path, name: str, side: int) -> np.ndarray:
  """uint8 [S, S]; OSError or ValueError where the file is missing or damaged."""
  data = _map_file(path, name).read_bytes()
  try:
    values = np.asarray(Image.open(io.BytesIO(data), formats=['PNG']))
  except Exception as error:  # Pillow raises many kinds for a damaged file
    raise ValueError(f'map of {name}') from error
  if values.shape != (side, side) or values.dtype != np.uint8:
    raise ValueError(f'map of {name} is {values.dtype} {values.shape}')
  return values


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  try:
    return files.read_json(path)
  except (OSError, ValueError) as error:
    raise errors.UserError(f'{path} cannot be read: {error}; delete {path.parent} and '
                           'run launch/generate_masks.py again') from error
