"""ROC curves of each class against the others, and confusion matrices."""

from collections.abc import Sequence
import pathlib

from matplotlib import colormaps
from matplotlib import lines as mpl_lines
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from attnmel_jax.evaluation import metrics
from attnmel_jax.report import figure_curves
from attnmel_jax.report import figure_numbers
from attnmel_jax.report import figure_runs
from attnmel_jax.report import figure_style
from attnmel_jax.report import names

# In inches.
_PANEL, _COLUMNS = 2.15, 4
_MATRIX_COLUMNS = 3
_CELL, _SMALLEST_MATRIX = 0.33, 1.4

_COLOUR_MAP = 'Blues'  # ordered in lightness
_DARK = 0.5            # text on a share above is white


def write(panels: Sequence[figure_runs.Panel], folder: pathlib.Path) -> list[str]:
  """Writes both figures for each task of more than two classes; their Markdown."""
  lines = []
  for panel in panels:
    if len(panel.class_names) == 2:
      continue
    title, name = panel.experiment.title, panel.experiment.file_name
    stem = f'figure_3_2_roc_{name}'
    figure_style.save(roc(panel), folder, stem)
    figure_style.save_table(
        figure_curves.roc_table([panel]),
        (*figure_curves.HEADER, *figure_curves.ROC_COLUMNS), folder, stem)
    lines += figure_style.section(
        f'ROC curves of each class: {title}',
        'Each class against all others together. The numbers are areas under the '
        f'curves, averaged over seeds and folds.{figure_curves.several([panel])}',
        stem, table=stem)
    stem = f'confusion_{name}'
    figure_style.save(confusion(panel), folder, stem)
    figure_style.save_table(
        _confusion_rows(panel),
        ('experiment', 'split', 'system', 'class', *panel.class_names), folder, stem)
    lines += figure_style.section(
        f'Confusion matrices: {title}',
        'Share of the images of a class (row) that were given each class (column); '
        'the diagonal holds the recalls. Seeds and folds are counted together.',
        stem, table=stem)
  return lines


def roc(panel: figure_runs.Panel) -> Figure:
  """A square for each class, and the legend in the place after them."""
  font = figure_style.FONT
  columns = min(_COLUMNS, len(panel.class_names) + 1)
  rows = -(-(len(panel.class_names) + 1) // columns)
  left, gap, up, top, bottom = 0.6, 0.2, 0.42, 0.35, 0.5
  figure = figure_style.blank(left + columns * (_PANEL + gap),
                              top + rows * (_PANEL + up) + bottom - up + 0.25)
  width, height = figure.get_size_inches()
  styles = figure_style.styles(list(panel.systems))
  for k in range(len(panel.class_names) + 1):
    x = left + (k % columns) * (_PANEL + gap)
    y = bottom + (rows - 1 - k // columns) * (_PANEL + up)
    if k == len(panel.class_names):
      handles = [mpl_lines.Line2D([], [], color=style.colour, linestyle=style.dashes,
                                  linewidth=1.6) for style in styles.values()]
      figure.legend(handles, list(styles), loc='center left', frameon=False,
                    bbox_to_anchor=(x / width, (y + _PANEL / 2) / height),
                    fontsize=font, handlelength=3.6)
      continue
    axis = figure_style.place(figure, x, y, _PANEL, _PANEL)
    _roc_of_class(axis, panel, k, styles)
    if k % columns:
      axis.set(ylabel='', yticklabels=[])
    if k + columns < len(panel.class_names):
      axis.set(xlabel='', xticklabels=[])
  figure.text(left / width, 1 - 0.08 / height, panel.title, fontsize=font + 1,
              va='top', ha='left')
  return figure


def _roc_of_class(axis: Axes, panel: figure_runs.Panel, k: int,
                  styles: dict[str, figure_style.Style]) -> None:
  font = figure_style.FONT
  figure_style.unit_square(axis, 'false positive rate', 'true positive rate')
  of_class = sum(label == k for label in panel.images.values())
  axis.set_title(f'{names.class_name(panel.class_names[k])} ({of_class})',
                 fontsize=font, pad=3)
  axis.plot([0, 1], [0, 1], **figure_style.CHANCE)
  handles, areas = [], []
  for label, style in styles.items():
    runs = panel.systems[label]
    found = figure_numbers.roc_curves(runs, k)
    if len(found) > 1:
      for curve in found:
        axis.plot(curve.false_positive_rate, curve.true_positive_rate,
                  color=style.colour, **figure_curves.THIN)
    if found:
      handles += axis.plot(*figure_numbers.average_roc(found), color=style.colour,
                           linestyle=style.dashes, linewidth=1.3, zorder=3)
      areas.append(np.nanmean([metrics.auc(
          one.table.labels == k, one.table.probabilities[:, k]) for one in runs]))
  if handles:
    axis.legend(handles, [f'{area:.3f}' for area in areas], loc='lower right',
                fontsize=font - 2, handlelength=2.4, labelspacing=0.1, borderpad=0.2,
                borderaxespad=0.2, framealpha=0.85, edgecolor='none')
  else:
    axis.text(0.5, 0.5, 'no image of this class', ha='center', fontsize=font)


def confusion(panel: figure_runs.Panel) -> Figure:
  """A matrix for each system, of shares of the true class."""
  font = figure_style.FONT
  number = len(panel.class_names)
  side = max(_SMALLEST_MATRIX, number * _CELL)
  longest = max(len(names.class_name(name)) for name in panel.class_names)
  margin = 0.25 + longest * 0.6 * (font - 1) / 72
  columns = min(_MATRIX_COLUMNS, len(panel.systems))
  rows = -(-len(panel.systems) // columns)
  gap, top = 0.2, 0.35
  left, up = margin + 0.25, margin + 0.45
  title = len(panel.title) * 0.55 * (font + 1) / 72 + 0.2
  figure = figure_style.blank(max(left + columns * (side + gap), title),
                              top + rows * (side + up))
  width, height = figure.get_size_inches()
  for i, (label, runs) in enumerate(panel.systems.items()):
    axis = figure_style.place(
        figure, left + (i % columns) * (side + gap),
        (rows - 1 - i // columns) * (side + up) + up - 0.25, side, side)
    _matrix(axis, figure_numbers.confusion(runs, number), panel.class_names)
    axis.set_title(label, fontsize=font, pad=3)
    if i % columns:
      axis.set(ylabel='', yticklabels=[])
  figure.text(0.08 / width, 1 - 0.08 / height, panel.title, fontsize=font + 1,
              va='top', ha='left')
  return figure


def _matrix(axis: Axes, counts: np.ndarray, class_names: Sequence[str]) -> None:
  font = figure_style.FONT
  totals = counts.sum(axis=1, keepdims=True)
  shares = counts / np.maximum(totals, 1)
  axis.imshow(colormaps[_COLOUR_MAP](shares))
  for row, column in np.ndindex(counts.shape):
    text = f'{shares[row, column]:.2f}'.removeprefix('0') if totals[row] else '–'
    axis.text(column, row, text, ha='center', va='center', fontsize=font - 2,
              color='white' if shares[row, column] > _DARK else 'black')
  shown = [names.class_name(name) for name in class_names]
  axis.set_xticks(range(len(shown)), shown, rotation=90)
  axis.set_yticks(range(len(shown)), shown)
  axis.tick_params(length=0)
  axis.set_xlabel('predicted', fontsize=font)
  axis.set_ylabel('true', fontsize=font)


def _confusion_rows(panel: figure_runs.Panel):
  for label, runs in panel.systems.items():
    counts = figure_numbers.confusion(runs, len(panel.class_names))
    for name, row in zip(panel.class_names, counts.tolist(), strict=True):
      yield (panel.experiment.title, panel.split, label, name, *row)
