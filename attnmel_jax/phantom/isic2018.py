"""The archives of ISIC 2018 for the phantom; see isic2017.

Train, validation and test are those of Task 3, where several training images may
show one lesion; 'segmentation' is the training set of Tasks 1 and 2.
"""

from collections.abc import Iterable
import pathlib
import zipfile

import numpy as np

from attnmel_jax.data import catalogue
from attnmel_jax.phantom import drawing
from attnmel_jax.phantom import zipping

_TASK1 = catalogue.DATASETS['isic2018_task1']
_TASK3 = catalogue.DATASETS['isic2018']
# In the order of the official columns.
CLASSES = ('melanoma', 'nevus', 'basal_cell_carcinoma', 'actinic_keratosis',
           'seborrheic_keratosis', 'dermatofibroma', 'vascular_lesion')
# The same proportions in validation and test.
_COUNTS = (1113, 6705, 514, 327, 1099, 115, 142)
OFFICIAL_COUNTS = {'train': _COUNTS, 'validation': _COUNTS, 'test': _COUNTS,
                   'segmentation': (519, 2075, 0, 0, 0, 0, 0)}
LEAST = 8  # five folds and their validation sets take six lesions of each class
GROUPED = frozenset({'train'})


def archive_names(split: str) -> tuple[str, ...]:
  """File names of a split: images, masks where there are any, tables."""
  if split == 'segmentation':
    return tuple(_TASK1.file(role, 'train')
                 for role in ('images', 'lesion', 'attributes'))
  return tuple(_TASK3.file(role, split)
               for role in ('images', 'labels', 'groups', 'lesion')
               if role in _TASK3.roles(split))


def encode(image_id: str, case: drawing.Case) -> list[dict[str, bytes]]:
  """Draws a case: file name -> bytes for zips of images, lesions, attributes."""
  picture = drawing.draw(case)
  attributes = {f'{image_id}_attribute_{name}.png': _mask(drawn)
                for name, drawn in picture.attributes.items()}
  return [{f'{image_id}.jpg': zipping.jpeg(picture.image)},
          {f'{image_id}_segmentation.png': _mask(picture.lesion)}, attributes]


def _mask(inside: np.ndarray) -> bytes:
  return zipping.png(inside.astype(np.uint8) * 255)


def write_split(folder: pathlib.Path, split: str,
                labelled: Iterable[zipping.Labelled]) -> None:
  """Writes the files of a split."""
  names = archive_names(split)
  if split == 'segmentation':
    for _ in zipping.write_zips(folder, names, labelled):
      pass
    return
  images, table, *others = names
  rows = [','.join(('image', *_TASK3.class_names))]
  lesions = ['image,lesion_id,diagnosis_confirm_type']
  # Images and, for training, masks: the last of the names.
  for image in zipping.write_zips(folder, [images, *others[1:]], labelled):
    values = (float(name == image.diagnosis) for name in CLASSES)
    rows.append(','.join((image.id, *map(str, values))))
    lesions.append(f'{image.id},{image.lesion},histo')
  with zipfile.ZipFile(folder / table, 'w') as archive:
    zipping.add(archive, table, {table.replace('.zip', '.csv'):
                               ('\n'.join(rows) + '\n').encode()})
  if others:
    (folder / others[0]).write_text('\n'.join(lesions) + '\n')
