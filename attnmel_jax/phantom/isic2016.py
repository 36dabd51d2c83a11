"""The archives of ISIC 2016, Parts 1 and 3, for the phantom; see isic2017."""

from collections.abc import Iterable
import pathlib

import numpy as np

from attnmel_jax.data import catalogue
from attnmel_jax.phantom import drawing
from attnmel_jax.phantom import zipping

CLASSES = ('nevus', 'melanoma')  # benign, malignant
OFFICIAL_COUNTS = {'train': (727, 173), 'test': (304, 75)}
LEAST = 2
GROUPED: frozenset[str] = frozenset()

_DATASET = catalogue.DATASETS['isic2016']
# The challenge writes the labels of its two splits in different ways.
_LABELS = {'train': ('benign', 'malignant'), 'test': ('0.0', '1.0')}


def archive_names(split: str) -> tuple[str, ...]:
  """File names of a split: images, lesion masks, labels."""
  return tuple(_DATASET.file(role, split) for role in ('images', 'lesion', 'labels'))


def encode(image_id: str, case: drawing.Case) -> list[dict[str, bytes]]:
  """Draws a case: file name -> bytes for each of the two zips of a split."""
  picture = drawing.draw(case)
  mask = zipping.png(picture.lesion.astype(np.uint8) * 255)
  return [{f'{image_id}.jpg': zipping.jpeg(picture.image)},
          {f'{image_id}_Segmentation.png': mask}]


def write_split(folder: pathlib.Path, split: str,
                labelled: Iterable[zipping.Labelled]) -> None:
  """Writes the three files of a split; the table has no header."""
  *zips, table = archive_names(split)
  rows = [f'{image.id},{_LABELS[split][CLASSES.index(image.diagnosis)]}'
          for image in zipping.write_zips(folder, zips, labelled)]
  (folder / table).write_text('\n'.join(rows) + '\n')
