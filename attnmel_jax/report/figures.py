"""Figures 3.1 to 3.5 of the thesis, from run folders and prepared data.

  lines = figures.write(runs, pathlib.Path('report'), None, split='auto')

Each figure is a PNG for the page and a PDF for print in `<out>/figures`; where a
curve or a bar has numbers, they lie beside it as CSV.
"""

from collections.abc import Sequence
import pathlib

from attnmel_jax.report import comparison
from attnmel_jax.report import figure_class_counts
from attnmel_jax.report import figure_curves
from attnmel_jax.report import figure_masks
from attnmel_jax.report import figure_multiclass
from attnmel_jax.report import figure_overlays
from attnmel_jax.report import figure_runs

# Of the figures, within that of the report.
FOLDER = 'figures'


def write(runs: Sequence[comparison.FinishedRun], out: pathlib.Path,
          data_dir: pathlib.Path | None, *, split: str) -> list[str]:
  """Writes the figures that runs and data allow.

  Args:
    runs: finished runs; several seeds and folds of a system belong together.
    out: folder of the report; the figures lie in its FOLDER.
    data_dir: folder of prepared data to look in before those that the configs of
      the runs name; None for those alone.
    split: whose images, see `figure_runs.panels`.

  Returns:
    Markdown for a page in `out`: pictures, captions and links, and a line for each
    figure that cannot be drawn.
  """
  folder = out / FOLDER
  panels, notes = figure_runs.panels(runs, split=split)
  return [*figure_class_counts.write(runs, folder, data_dir),
          *figure_curves.write(panels, folder),
          *figure_multiclass.write(panels, folder),
          *[line for note in notes for line in (f'{note}.', '')],
          *figure_overlays.write(panels, folder, data_dir),
          *figure_masks.write(runs, folder, data_dir)]
