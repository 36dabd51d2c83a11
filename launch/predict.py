"""Predicts photographs with one trained run, or with the mean of several.

  python launch/predict.py --run=RUN --images=FOLDER --out=DIR
  python launch/predict.py --run=RUN1,RUN2 --images=a.jpg,b.jpg --out=DIR --tta

Photographs are prepared as the run's training images were; JPEG, PNG and BMP are read
whatever their names, also in subfolders. DIR gets predictions.csv, a picture of each
photograph with its heat maps and a page, index.html. Exit status 1 if a file could not
be predicted; the others are.
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.data import photographs as photographs_lib
from attnmel_jax.share import predict_photographs
from attnmel_jax.share import trained

RUN = flags.DEFINE_string(
    'run', None, 'folder of a finished run; the probabilities of several, separated by '
    'commas, are averaged', required=True)
IMAGES = flags.DEFINE_string(
    'images', None, 'photographs and folders of photographs, separated by commas',
    required=True)
OUT = flags.DEFINE_string(
    'out', None, 'folder for the results; replaces those of an earlier call',
    required=True)
TTA = flags.DEFINE_bool(
    'tta', None, 'average over the 8 flips and quarter turns; default as in the run')
CALIBRATED = flags.DEFINE_bool(
    'calibrated', False, "divide logits by the temperature in the run's summary, which "
    'softens probabilities where it is above 1 and sharpens them below')
OVERLAYS = flags.DEFINE_bool('overlays', True, 'draw pictures; --no-overlays is faster')

_NAMED = 20  # unreadable files in the terminal; the page has all of them


def main() -> None:
  """Writes table, pictures and page; prints one line of result."""
  runs_at, images = command.paths(RUN.value), command.paths(IMAGES.value)
  for flag, found in (('run', runs_at), ('images', images)):
    if not found:  # commas alone
      raise errors.UserError(f'--{flag} is empty; see --help')
  out = command.path(OUT.value)
  found, passed_over = photographs_lib.find(images, excluded=out)
  parallel.configure_compiler()
  parallel.check_devices()
  runs = trained.open_runs(runs_at, tta=TTA.value)
  result = predict_photographs.predict(
      runs, found, out, calibrated=CALIBRATED.value, overlays=OVERLAYS.value,
      passed_over=passed_over)
  names = runs[0].class_names

  def counts(classes: list[int]) -> str:
    return ', '.join(f'{name} {classes.count(k)}' for k, name in enumerate(names))

  print(f'{out / predict_photographs.PAGE}: {len(result.rows)} photographs, '
        f'predicted {counts([row.best for row in result.rows])}')
  if (threshold := result.threshold) is not None:
    called = counts([row.at_threshold(threshold) for row in result.rows])
    print(f"at the run's threshold, {names[1]} from {threshold:.3f} on: {called}")
  if passed_over:
    print(photographs_lib.listed(passed_over))
  for path, reason in result.unreadable[:_NAMED]:
    command.complain(f'{ascii(path) if not path.isprintable() else path}: {reason}')
  if result.unreadable:
    command.fail(f'{len(result.unreadable)} of {len(found)} files were not predicted; '
                 f'{out / predict_photographs.RECORD} lists them', 1)


if __name__ == '__main__':
  command.run(main)
