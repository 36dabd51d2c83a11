"""Scores a finished run on data that arrived later, or on another data set.

  python launch/evaluate.py --run=runs/isic2017/attnmel_cnn-lesion-fold0-seed0
      --dataset=isic2017 --split=test
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax import parallel
from attnmel_jax.experiments import evaluate
from attnmel_jax.experiments import run as run_lib
from attnmel_jax.experiments import run_folder

RUN = flags.DEFINE_string('run', None, 'folder of a finished run', required=True)
DATASET = flags.DEFINE_string('dataset', '', "prepared data set; default the run's")
DATA_DIR = flags.DEFINE_string(
    'data_dir', '', "folder of prepared data; default the run's")
SPLIT = flags.DEFINE_enum(
    'split', 'test', ['train', 'validation', 'test'], 'which split to score')
OUT = flags.DEFINE_string(
    'out', '', 'output folder; default <run>/evaluations/<dataset>-<split>')
ALLOW_LEAKAGE = flags.DEFINE_bool(
    'allow_leakage', False, 'score images that the run was trained on, or copies of '
    'them; every table will say so')


def main() -> None:
  """Writes predictions, maps and scores; prints one line of result."""
  parallel.configure_compiler()
  parallel.check_devices()
  run = command.path(RUN.value)
  config = run_folder.read_config(run)
  dataset = DATASET.value or config['dataset']
  out = (command.path(OUT.value) if OUT.value
         else run / 'evaluations' / f'{dataset}-{SPLIT.value}')
  summary = evaluate.evaluate(
      run, dataset=dataset, data_dir=DATA_DIR.value or config['data_dir'],
      split=SPLIT.value, out=out, allow_leakage=ALLOW_LEAKAGE.value)
  print(run_lib.result_line(summary, SPLIT.value, out))


if __name__ == '__main__':
  command.run(main)
