"""Figures 3.1 to 3.5 of the thesis and what belongs to them, from run folders.

  panels, notes = figure_runs.panels(runs, split='auto')
  entries = figures.write(runs, panels, notes, pathlib.Path('report'), None,
                          photographs=True)
  lines = figure_style.to_markdown(entries)

Each figure is a PNG for the page and a PDF for print in `<out>/figures`, one of lines
or bars an SVG too; where a curve or a bar has numbers, they lie beside it as CSV.
"""

from collections.abc import Sequence
import pathlib

from attnmel_jax.report import comparison
from attnmel_jax.report import figure_class_counts
from attnmel_jax.report import figure_confusion
from attnmel_jax.report import figure_curves
from attnmel_jax.report import figure_masks
from attnmel_jax.report import figure_multiclass
from attnmel_jax.report import figure_overlays
from attnmel_jax.report import figure_runs
from attnmel_jax.report import figure_style
from attnmel_jax.report import figure_training

# Of the figures, within that of the report.
FOLDER = 'figures'


def write(runs: Sequence[comparison.FinishedRun],
          panels: Sequence[figure_runs.Panel], notes: Sequence[str],
          out: pathlib.Path, data_dir: pathlib.Path | None, *, photographs: bool
          ) -> list[figure_style.Entry]:
  """Writes the figures that runs and data allow.

  Args:
    runs: finished runs; several seeds and folds of a system belong together.
    panels: the same runs, as `figure_runs.panels` sorts them.
    notes: on what the panels leave out.
    out: folder of the report; the figures lie in its FOLDER.
    data_dir: folder of prepared data to look in before those that the configs of
      the runs name; None for those alone.
    photographs: whether to draw the figures that show some.

  Returns:
    All figures, and words for each that cannot be drawn.
  """
  folder = out / FOLDER
  shown = ([*figure_overlays.write(panels, folder, data_dir),
            *figure_masks.write(runs, folder, data_dir)] if photographs else
           [figure_style.Entry('Figures 3.3 to 3.5', 'Left out, as all photographs.')])
  return [*figure_class_counts.write(runs, folder, data_dir),
          *figure_curves.write(panels, folder),
          *figure_multiclass.write(panels, folder),
          *figure_confusion.write(panels, folder),
          *(figure_style.Entry('', f'{note}.') for note in notes),
          *figure_training.write(runs, panels, folder), *shown]
