"""The archives of ISIC 2017, as the challenge published them, for the phantom.

Names, folders, values and formats are the official ones; which pictures go in
is not decided here.
"""

from collections.abc import Iterable
import json
import pathlib

import numpy as np
from scipy import ndimage

from attnmel_jax.data import catalogue
from attnmel_jax.phantom import drawing
from attnmel_jax.phantom import zipping

_DATASET = catalogue.DATASETS['isic2017']
CLASSES = _DATASET.class_names
# Images per class and split of the challenge.
OFFICIAL_COUNTS = {'train': (374, 254, 1372), 'validation': (30, 42, 78),
                   'test': (117, 90, 393)}
LEAST = 2               # images of a class, where there are enough in all
GROUPED: frozenset[str] = frozenset()  # splits with several images of a lesion
FEATURES = ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks')

_SUPERPIXELS = 480    # about as many regions an image
_UNANNOTATED = 0.05   # share of images without features, as in the challenge


def archive_names(split: str) -> tuple[str, ...]:
  """File names of a split: images, lesion masks, features, labels."""
  return tuple(_DATASET.file(role, split)
               for role in ('images', 'lesion', 'features', 'labels'))


def encode(image_id: str, case: drawing.Case) -> list[dict[str, bytes]]:
  """Draws a case: file name -> bytes for each of the three zips of a split."""
  picture = drawing.draw(case)
  regions = superpixels(picture.image)
  code = np.stack([regions & 255, regions >> 8 & 255, regions >> 16], axis=-1)
  data = {f'{image_id}.jpg': zipping.jpeg(picture.image),
          f'{image_id}_superpixels.png': zipping.png(code.astype(np.uint8))}
  lesion = picture.lesion.astype(np.uint8) * 255
  mask = {f'{image_id}_segmentation.png': zipping.png(lesion)}
  features = {}
  # A stream of its own: whether an image is annotated says nothing about it.
  if np.random.default_rng((*case.seed, 2017)).random() >= _UNANNOTATED:
    present = {name: _regions_with(regions, picture.attributes[name])
               for name in FEATURES}
    features[f'{image_id}_features.json'] = json.dumps(present).encode()
  return [data, mask, features]


def write_split(folder: pathlib.Path, split: str,
                labelled: Iterable[zipping.Labelled]) -> None:
  """Writes the four files of a split."""
  *zips, table = archive_names(split)
  rows = ['image_id,melanoma,seborrheic_keratosis']
  rows += [f'{image.id},{float(image.diagnosis == CLASSES[0])},'
           f'{float(image.diagnosis == CLASSES[1])}'
           for image in zipping.write_zips(folder, zips, labelled)]
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
