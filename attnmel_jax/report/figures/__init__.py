"""Figures 3.1 to 3.5 of the thesis and what belongs to them, from run folders.

  entries = figures.write(runs, all_groups, pathlib.Path('report'), None,
                          photographs=True)
  lines = plotting.to_markdown(entries)

Each figure is a PNG for the page and a PDF for print in `<out>/figures`; one of lines
or bars is an SVG too, and its numbers lie beside it as CSV.
"""

from collections.abc import Sequence
import pathlib

from attnmel_jax.report import groups
from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import attention_overlays
from attnmel_jax.report.figures import class_counts
from attnmel_jax.report.figures import confusion
from attnmel_jax.report.figures import curves
from attnmel_jax.report.figures import generated_masks
from attnmel_jax.report.figures import multiclass_curves
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.figures import training_curves

# Of the figures, within that of the report.
FOLDER = 'figures'


def write(runs: Sequence[run_reader.FinishedRun], all_groups: Sequence[groups.Group],
          out: pathlib.Path, data_dir: pathlib.Path | None, *, photographs: bool
          ) -> list[plotting.Entry]:
  """Writes the figures that runs and data allow.

  Args:
    runs: finished runs.
    all_groups: of the classifiers among them.
    out: folder of the report; the figures lie in its FOLDER.
    data_dir: folder of prepared data to look in before those that the configs of
      the runs name; None for those alone.
    photographs: whether to draw the figures that show some.

  Returns:
    All figures, and words for each that cannot be drawn.
  """
  folder = out / FOLDER
  shown = ([*attention_overlays.write(all_groups, folder, data_dir),
            *generated_masks.write(runs, folder, data_dir)] if photographs else
           [plotting.Entry('Figures 3.3 to 3.5', 'Left out, as all photographs.')])
  return [*class_counts.write(runs, folder, data_dir),
          *curves.write(all_groups, folder),
          *multiclass_curves.write(all_groups, folder),
          *confusion.write(all_groups, folder),
          *(plotting.Entry('', f'{group.title} has curves of its own because of '
                           f'{group.apart}.') for group in all_groups if group.apart),
          *training_curves.write(runs, all_groups, folder), *shown]
