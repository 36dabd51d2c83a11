"""Writes a trained run as files that other programs read without this package.

  python launch/export.py --run=RUN --out=DIR

DIR gets model.stablehlo (any number of images -> probabilities and maps, on cpu, cuda
and tpu), weights.safetensors (torchvision's names), model.onnx (one image; needs
jax2onnx) and MODEL_CARD.md, which explains their use and its terms.
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax import parallel
from attnmel_jax.share import export
from attnmel_jax.share import trained

RUN = flags.DEFINE_string('run', None, 'folder of a finished run', required=True)
OUT = flags.DEFINE_string(
    'out', None, 'folder for the files; replaces those of an earlier call',
    required=True)


def main() -> None:
  """Writes the files and names them."""
  parallel.configure_compiler()
  parallel.check_devices()
  run, = trained.open_runs([command.path(RUN.value)], tta=None)
  paths, missing = export.write(run, command.path(OUT.value))
  for path in paths:
    print(f'{path}: {path.stat().st_size / 1e6:.1f} MB')
  if missing:
    print(f'no {export.ONNX}: {missing}')


if __name__ == '__main__':
  command.run(main)
