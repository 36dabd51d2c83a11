"""Tables and figures of the thesis and of your own data, as one page and as files.

  python launch/report.py --runs=runs --out=report
  python launch/report.py --runs=runs/isic2017 --out=report --reference=VGG-16-GAP
  python launch/report.py --runs=runs --out=report --no-images

report.html holds everything; report.md, the tables (.csv, .md, .tex) and the figures
lie beside it.
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags

from attnmel_jax import errors
from attnmel_jax.report import document
from attnmel_jax.report import run_reader
from attnmel_jax.report.tables import sections
from configs import common
from configs import folder
from configs import isic2016
from configs import isic2017
from configs import isic2018
from configs import isic2018_cv

RUNS = flags.DEFINE_string('runs', 'runs', 'folder of run folders, at any depth')
OUT = flags.DEFINE_string('out', 'report', 'folder for the page, tables and figures')
REFERENCE = flags.DEFINE_string(
    'reference', 'AttnMel-CNN', 'system that all others are compared with')
SPLIT = flags.DEFINE_enum(
    'split', 'auto', ['auto', 'test', 'validation'],
    'images of tables and figures; auto: test where a run has been tested, else '
    'validation')

DATA_DIR = flags.DEFINE_string(
    'data_dir', '', 'folder of prepared data with the photographs of the figures; '
    'default that of the runs')
IMAGES = flags.DEFINE_bool(
    'images', True, 'show photographs; --no-images leaves out all photographs, their '
    'maps and their names, for data that must not leave')

_EXPERIMENTS = {'isic2016': isic2016, 'isic2017': isic2017, 'isic2018': isic2018,
                'isic2018_cv': isic2018_cv, 'folder': folder}


def main() -> None:
  """Writes the report; prints the runs, the files and what was left out."""
  found = run_reader.find_runs(command.path(RUNS.value), names=IMAGES.value)
  out = command.path(OUT.value)
  data_dir = command.path(DATA_DIR.value) if DATA_DIR.value else None
  if data_dir is not None and not data_dir.is_dir():
    raise errors.UserError(f'--data_dir={data_dir} is not a folder; name that of '
                           'the prepared data, or leave it out')
  plan = sections.Plan(
      experiments={name: sections.Experiment(f'configs/{name}.py',
                                             module.get_config().to_dict())
                   for name, module in _EXPERIMENTS.items()},
      defaults=common.get_config().to_dict(), reference=REFERENCE.value,
      split=SPLIT.value, data_dir=data_dir, photographs=IMAGES.value)
  report = document.write(found, out, plan)
  print(report.overview)
  tables = ', '.join(name for name in report.files if name.endswith('.csv'))
  print(f'{out / "report.md"} holds this, the tables and the figures, '
        f'{out / "report.html"} all in one file; beside them: figures/, {tables}')
  for line in report.left_out:
    print(f'left out: {line}')


if __name__ == '__main__':
  command.run(main)
