"""Writes the lesion masks that a trained U-Net draws on all images of a data set.

  python launch/generate_masks.py \\
      --run=runs/isic2018_task1/unet-lesion-fold0-seed0 --dataset=isic2018
  python launch/main.py --config=configs/isic2018_cv.py --config.roi=generated

The masks are probabilities and lie beside the prepared images. After Ctrl-C the
same command resumes.
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax import parallel
from attnmel_jax.data import catalogue
from attnmel_jax.experiments import generate_masks
from attnmel_jax.experiments import run_folder

RUN = flags.DEFINE_string(
    'run', None, "folder of a U-Net's finished run", required=True)
DATASET = flags.DEFINE_enum(
    'dataset', None, catalogue.NAMES, 'prepared data set to draw masks for',
    required=True)
DATA_DIR = flags.DEFINE_string(
    'data_dir', '', "folder of prepared data; default the run's")
NAME = flags.DEFINE_string(
    'name', 'unet', 'name of the masks, for config.generated_masks; the masks of '
    'several U-Nets may lie side by side')


def main() -> None:
  """Writes the masks; prints a line for each split."""
  parallel.configure_compiler()
  parallel.check_devices()
  run = command.path(RUN.value)
  data_dir = DATA_DIR.value or run_folder.read_config(run)['data_dir']
  generate_masks.generate(
      run, dataset=DATASET.value, data_dir=data_dir, name=NAME.value,
      quiet=command.QUIET.value, say=lambda text: print(text, flush=True))


if __name__ == '__main__':
  command.run(main)
