"""Tiny official archives with every kind of annotation, and what is made of them."""

import io
import json
import pathlib
import shutil
import zipfile

import numpy as np
from PIL import Image
import pytest

from attnmel_jax.data import prepare
from attnmel_jax.data import storage

SIZE = (40, 30)  # width, height
GEOMETRY = {'crop_ratio': 0.8, 'resize_size': 24}  # 24 = int(0.8 * 30): no resizing
STEM = 'ISIC-2017_Training'
DATA, LABELS = f'{STEM}_Data.zip', f'{STEM}_Part3_GroundTruth.csv'
LESIONS, FEATURES = f'{STEM}_Part1_GroundTruth.zip', f'{STEM}_Part2_GroundTruth.zip'
ATTRIBUTES = f'{STEM}_AttributeMasks.zip'
BLOCK = np.zeros(SIZE[::-1], np.uint8)
BLOCK[10:20, 10:30] = 255
_WORDS = {'train': 'Training', 'validation': 'Validation', 'test': 'Test_v2'}
_FEATURES = ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks')


def encode(picture, form: str = 'PNG', **options) -> bytes:
  """uint8 array or Pillow image -> bytes of a picture."""
  buffer = io.BytesIO()
  if isinstance(picture, np.ndarray):
    picture = Image.fromarray(picture)
  picture.save(buffer, form, **options)
  return buffer.getvalue()


def cropped(array: np.ndarray) -> np.ndarray:
  """The central square of GEOMETRY."""
  return array[3:27, 8:32]


def split_archives(split: str, count: int) -> dict[str, dict[str, bytes] | bytes]:
  """Archive -> member -> content, of images ISIC_<split><number>.

  The classes take turns: melanoma, seborrheic keratosis, nevus. Image 0 has a
  lesion mask and superpixels; 1 is annotated and empty; 2 has no annotation; 3
  has masks of attributes; the others have a lesion mask.
  """
  stem = f'ISIC-2017_{_WORDS[split]}'
  data, lesions, features, attributes = {}, {}, {}, {}
  labels = ['image_id,melanoma,seborrheic_keratosis']
  rng = np.random.default_rng(len(split))
  rows, columns = np.indices(SIZE[::-1]) // 10  # 4 x 3 superpixels of 10 x 10
  index = rows * 4 + columns
  colours = np.stack([index & 255, index >> 8, index >> 16], -1).astype(np.uint8)
  for number in range(count):
    name = f'ISIC_{split}{number}'
    picture = rng.integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
    data[f'{name}.jpg'] = encode(picture, 'JPEG')
    data[f'{name}_superpixels.png'] = encode(colours)
    labels.append(f'{name},{float(number % 3 == 0)},{float(number % 3 == 1)}')
    if number != 2:
      lesions[f'{name}_segmentation.png'] = encode(BLOCK * (number != 1))
    if number < 2:
      values = {feature: [0] * 12 for feature in _FEATURES}
      if number == 0:
        values['negative_network'][5] = values['streaks'][5] = 1
        values['pigment_network'][6] = 1
      features[f'{name}_features.json'] = json.dumps(values).encode()
    if number == 3:
      attributes[f'{name}_attribute_globules.png'] = encode(BLOCK)
      attributes[f'{name}_attribute_streaks.png'] = encode(BLOCK * 0)
  return {f'{stem}_Data.zip': data, f'{stem}_Part1_GroundTruth.zip': lesions,
          f'{stem}_Part2_GroundTruth.zip': features,
          f'{stem}_AttributeMasks.zip': attributes,
          f'{stem}_Part3_GroundTruth.csv': ('\n'.join(labels) + '\n').encode()}


def write(folder: pathlib.Path, archives: dict, *, unpacked: tuple[str, ...] = ()
          ) -> pathlib.Path:
  """Writes archives as zips with a top folder, those of `unpacked` as folders."""
  folder.mkdir(parents=True, exist_ok=True)
  for archive, members in archives.items():
    top = archive.removesuffix('.zip')
    if isinstance(members, bytes):
      (folder / archive).write_bytes(members)
    elif archive in unpacked:
      (folder / top).mkdir()
      for name, content in members.items():
        (folder / top / name).write_bytes(content)
    else:
      with zipfile.ZipFile(folder / archive, 'w') as file:
        for name, content in members.items():
          file.writestr(f'{top}/{name}', content)
  return folder


def prepared(source, data_dir, **geometry) -> dict[str, int]:
  """Prepares archives of ISIC 2017, with GEOMETRY unless told otherwise."""
  return prepare.from_archives('isic2017', source=source, data_dir=data_dir,
                               **GEOMETRY | geometry)


def opened(data_dir, split='train', **geometry) -> storage.PreparedSplit:
  """Opens a split of `prepared`."""
  return storage.open_split('isic2017', split, data_dir=data_dir, **GEOMETRY | geometry)


@pytest.fixture
def archives() -> dict:
  """Archives of a training split of 6 images and a validation split of 4."""
  return {**split_archives('train', 6), **split_archives('validation', 4)}


@pytest.fixture
def source(tmp_path, archives) -> pathlib.Path:
  """Folder of the zips of `archives`."""
  return write(tmp_path / 'official', archives)


@pytest.fixture(scope='session')
def sound(built_once) -> pathlib.Path:
  """Prepared data of `archives`, made once and only read; `data_dir` is a copy."""
  return built_once('isic2017', lambda root: prepared(
      write(root / 'official', split_archives('train', 6)
            | split_archives('validation', 4)), root / 'data')) / 'data'


@pytest.fixture
def data_dir(tmp_path, sound) -> pathlib.Path:
  """A copy of `sound` that a test may damage."""
  return shutil.copytree(sound, tmp_path / 'data')
