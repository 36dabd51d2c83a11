"""Puts finished runs side by side.

  python launch/report.py --runs=runs/isic2017 --out=report
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax.report import comparison
from configs import common

RUNS = flags.DEFINE_string('runs', 'runs', 'folder with run folders below it')
OUT = flags.DEFINE_string('out', 'report', 'folder for report.md and the tables')


def main() -> None:
  """Writes the report and prints it."""
  runs, unfinished = comparison.find_runs(command.path(RUNS.value))
  out = command.path(OUT.value)
  text = comparison.write(runs, unfinished, common.get_config().to_dict(), out)
  print(text.partition('\n## Attention maps')[0])
  print(f'{out / "report.md"} holds this and the pictures of the attention maps')


if __name__ == '__main__':
  command.run(main)
