"""The ISIC 2018 challenge's Task 3: its classes, file format and scored images.

The official tool, `isic-challenge-scoring`, gives the same numbers for the file
that `write_submission` writes as `scores.classification_scores` does for the rows
of `scored`.
"""

from collections.abc import Sequence
import csv
import io
import os

import numpy as np

from attnmel_jax import files
from attnmel_jax.data import catalogue

# In the order of the columns.
CLASSES = catalogue.DATASETS['isic2018'].class_names

# In the official test set, but without weight in the official score.
_UNSCORED = ('ISIC_0035068',)


def scored(ids: Sequence[str]) -> np.ndarray:
  """Which images count in a score: bool [N]; all but one test image of 2018."""
  return ~np.isin(np.asarray(ids, str), _UNSCORED)


def write_submission(
    path: str | os.PathLike, ids: Sequence[str], probabilities: np.ndarray) -> None:
  """Writes a CSV with a row per image: its id, then a probability per class.

  Args:
    path: of the file; it is replaced as a whole.
    ids: N ids without extension, all different.
    probabilities: [N, 7], in the order of CLASSES.
  """
  probabilities = np.asarray(probabilities, np.float64)
  if probabilities.shape != (len(ids), len(CLASSES)):
    raise ValueError(f'probabilities {probabilities.shape} do not fit {len(ids)} ids '
                     f'and classes {CLASSES}')
  with files.replacing(path) as file:
    text = io.TextIOWrapper(file, encoding='utf-8', newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['image', *CLASSES])
    for name, row in zip(ids, probabilities.tolist(), strict=True):
      writer.writerow([name, *map(repr, row)])
    text.detach()
