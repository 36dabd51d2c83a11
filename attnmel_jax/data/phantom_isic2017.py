"""The archives of ISIC 2017, as the challenge published them, for the phantom.

Names, folders, values and formats are the official ones; which pictures go in
is not decided here.
"""

from collections.abc import Iterable
import io
import json
import pathlib
import zipfile

import numpy as np
from PIL import Image
from scipy import ndimage

from attnmel_jax.data import archives
from attnmel_jax.data import phantom_drawing as drawing

CLASSES = ('melanoma', 'seborrheic_keratosis', 'nevus')
# Images per class and split of the challenge.
OFFICIAL_COUNTS = {'train': (374, 254, 1372), 'validation': (30, 42, 78),
                   'test': (117, 90, 393)}
FEATURES = ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks')

_STEMS = {'train': 'ISIC-2017_Training', 'validation': 'ISIC-2017_Validation',
          'test': 'ISIC-2017_Test_v2'}
_SUPERPIXELS = 480    # about as many regions an image
_UNANNOTATED = 0.05   # share of images without features, as in the challenge
_JPEG_QUALITY = 92
# Zip entries carry this time, so that equal contents make equal bytes.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def archive_names(split: str) -> tuple[str, str, str, str]:
  """File names of a split: images, lesion masks, features, labels."""
  stem = _STEMS[split]
  return (f'{stem}_Data.zip', f'{stem}_Part1_GroundTruth.zip',
          f'{stem}_Part2_GroundTruth.zip', f'{stem}_Part3_GroundTruth.csv')


def encode(image_id: str, case: drawing.Case) -> list[dict[str, bytes]]:
  """Draws a case: file name -> bytes for each of the three zips of a split."""
  picture = drawing.draw(case)
  jpeg = io.BytesIO()
  Image.fromarray(picture.image).save(jpeg, 'JPEG', quality=_JPEG_QUALITY,
                                      comment=archives.SYNTHETIC_COMMENT)
  regions = superpixels(picture.image)
  code = np.stack([regions & 255, regions >> 8 & 255, regions >> 16], axis=-1)
  data = {f'{image_id}.jpg': jpeg.getvalue(),
          f'{image_id}_superpixels.png': _png(code.astype(np.uint8))}
  mask = {f'{image_id}_segmentation.png': _png(picture.lesion.astype(np.uint8) * 255)}
  features = {}
  # A stream of its own: whether an image is annotated says nothing about it.
  if np.random.default_rng((*case.seed, 2017)).random() >= _UNANNOTATED:
    present = {name: _regions_with(regions, picture.attributes[name])
               for name in FEATURES}
    features[f'{image_id}_features.json'] = json.dumps(present).encode()
  return [data, mask, features]


def write_split(folder: pathlib.Path, split: str,
                labelled: Iterable[tuple[str, str, list[dict[str, bytes]]]]) -> None:
  """Writes the four files of a split from (id, diagnosis, encoded case)."""
  *zips, table = archive_names(split)
  handles = [zipfile.ZipFile(folder / name, 'w') for name in zips]
  rows = ['image_id,melanoma,seborrheic_keratosis']
  try:
    for image_id, diagnosis, encoded in labelled:
      rows.append(f'{image_id},{float(diagnosis == CLASSES[0])},'
                  f'{float(diagnosis == CLASSES[1])}')
      for name, handle, files in zip(zips, handles, encoded, strict=True):
        for file, content in files.items():
          # Stored, not deflated: JPEG and PNG are compressed already.
          entry = zipfile.ZipInfo(f'{name.removesuffix(".zip")}/{file}', _TIMESTAMP)
          entry.create_system = 3  # Unix, wherever it is written
          entry.external_attr = 0o644 << 16  # else unpacked files are unreadable
          handle.writestr(entry, content)
  finally:
    for handle in handles:
      handle.close()
  (folder / table).write_text('\n'.join(rows) + '\n')


def superpixels(image: np.ndarray) -> np.ndarray:
  """Compact regions of similar colour: uint8 [H, W, 3] -> int32 [H, W], 0 ... n-1.

  One assignment step of SLIC (Achanta et al., 2012) on a regular grid: a pixel
  joins the best of the 3 x 3 seeds around it by distance in space and colour.
  """
  height, width = image.shape[:2]
  step = float(np.sqrt(height * width / _SUPERPIXELS))
  rows, columns = max(1, round(height / step)), max(1, round(width / step))
  smooth = ndimage.uniform_filter(image.astype(np.float32), (3, 3, 1))
  seed_y = ((np.arange(rows) + 0.5) * height / rows).astype(np.float32)
  seed_x = ((np.arange(columns) + 0.5) * width / columns).astype(np.float32)
  colours = smooth[seed_y.astype(int)][:, seed_x.astype(int)]
  y, x = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
  home_y, home_x = (y * rows / height).astype(int), (x * columns / width).astype(int)
  best = np.full((height, width), np.inf, np.float32)
  regions = np.zeros((height, width), np.int32)
  for down in (-1, 0, 1):
    for right in (-1, 0, 1):
      row = np.clip(home_y + down, 0, rows - 1)
      column = np.clip(home_x + right, 0, columns - 1)
      space = ((y - seed_y[row]) ** 2 + (x - seed_x[column]) ** 2) / step ** 2
      # A difference of 25 grey levels weighs as much as a step aside.
      gap = smooth - colours[row, column]
      colour = np.einsum('ijk,ijk->ij', gap, gap) / (3 * 25 ** 2)
      distance = space + colour
      closer = distance < best
      best = np.where(closer, distance, best)
      regions = np.where(closer, row * columns + column, regions)
  return np.unique(regions, return_inverse=True)[1].reshape(height, width).astype(
      np.int32)


def _regions_with(regions: np.ndarray, attribute: np.ndarray) -> list[int]:
  """1 for each superpixel that holds a pixel of the attribute, else 0."""
  counts = np.bincount(regions[attribute], minlength=int(regions.max()) + 1)
  return (counts > 0).astype(int).tolist()


def _png(array: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, 'PNG')
  return buffer.getvalue()
