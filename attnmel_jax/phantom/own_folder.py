"""The phantom as a plain folder with a table, as `--dataset=folder` reads it."""

from collections.abc import Mapping
import csv
import io
import pathlib

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.phantom import artefacts
from attnmel_jax.phantom import drawing
from attnmel_jax.phantom import generate
from attnmel_jax.phantom import zipping

TABLE = 'labels.csv'


def write(out: pathlib.Path, *, year: int, counts: Mapping[str, int], size: int,
          seed: int, artefact_bias: artefacts.Bias) -> dict[str, dict[str, int]]:
  """Draws photos/<id>.jpg and masks/<id>.png, and lists them in labels.csv.

  The table comes last: where it is, all are there.

  Args:
    out: a new or empty folder.
    year: whose classes are drawn; see `generate.rows` for all others.
    counts: split -> number of images; 0 leaves a split out.
    size: shorter image side in pixels.
    seed: of all randomness, 0 or more.
    artefact_bias: of each split; see `artefacts.parse_bias`.

  Returns:
    split -> class -> number of images.

  Raises:
    UserError: an argument out of range, or `out` cannot be written or holds files.
  """
  generate.check(year=year, counts=counts, size=size, seed=seed,
                 artefact_bias=artefact_bias, workers=1)
  text = io.StringIO(newline='')
  table = csv.writer(text, lineterminator='\n')
  table.writerow(['image', 'label', 'mask', 'split'])
  try:
    if out.is_dir() and any(out.iterdir()):
      raise errors.UserError(f'--out={out} holds files; name a new or empty folder')
    for folder in ('photos', 'masks'):
      (out / folder).mkdir(parents=True)
    for split, total in counts.items():
      for row in generate.rows(
          year=year, split=split, total=total, size=size, seed=seed,
          artefact_bias=artefact_bias.get(split, {})):
        picture = drawing.draw(row.case)
        image, mask = f'photos/{row.image_id}.jpg', f'masks/{row.image_id}.png'
        (out / image).write_bytes(zipping.jpeg(picture.image))
        (out / mask).write_bytes(zipping.png(picture.lesion.astype(np.uint8) * 255))
        table.writerow([image, row.case.diagnosis, mask, split])
    with files.replacing(out / TABLE) as file:
      file.write(text.getvalue().encode())
  except OSError as error:
    raise errors.UserError(f'cannot write to {out}: {error.strerror or error}; choose '
                           'another --out') from error
  return {split: generate.class_counts(year, split, total)
          for split, total in counts.items() if total}
