"""Figures 3.1 to 3.5 of the thesis and what belongs to them, from run folders.

  panels, notes = selection.panels(runs, split='auto')
  entries = figures.write(runs, panels, notes, pathlib.Path('report'), None,
                          photographs=True)
  lines = plotting.to_markdown(entries)

Each figure is a PNG for the page and a PDF for print in `<out>/figures`, one of lines
or bars an SVG too; where a curve or a bar has numbers, they lie beside it as CSV.
"""

from collections.abc import Sequence
import pathlib

from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import attention_overlays
from attnmel_jax.report.figures import class_counts
from attnmel_jax.report.figures import confusion
from attnmel_jax.report.figures import curves
from attnmel_jax.report.figures import generated_masks
from attnmel_jax.report.figures import multiclass_curves
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.figures import selection
from attnmel_jax.report.figures import training_curves

# Of the figures, within that of the report.
FOLDER = 'figures'


def write(runs: Sequence[run_reader.FinishedRun],
          panels: Sequence[selection.Panel], notes: Sequence[str],
          out: pathlib.Path, data_dir: pathlib.Path | None, *, photographs: bool
          ) -> list[plotting.Entry]:
  """Writes the figures that runs and data allow.

  Args:
    runs: finished runs; several seeds and folds of a system belong together.
    panels: the same runs, as `selection.panels` sorts them.
    notes: on what the panels leave out.
    out: folder of the report; the figures lie in its FOLDER.
    data_dir: folder of prepared data to look in before those that the configs of
      the runs name; None for those alone.
    photographs: whether to draw the figures that show some.

  Returns:
    All figures, and words for each that cannot be drawn.
  """
  folder = out / FOLDER
  shown = ([*attention_overlays.write(panels, folder, data_dir),
            *generated_masks.write(runs, folder, data_dir)] if photographs else
           [plotting.Entry('Figures 3.3 to 3.5', 'Left out, as all photographs.')])
  return [*class_counts.write(runs, folder, data_dir),
          *curves.write(panels, folder),
          *multiclass_curves.write(panels, folder),
          *confusion.write(panels, folder),
          *(plotting.Entry('', f'{note}.') for note in notes),
          *training_curves.write(runs, panels, folder), *shown]
