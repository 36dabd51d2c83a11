"""ROC and precision-recall curves of each class of more than two against the others."""

from collections.abc import Callable
from collections.abc import Sequence
import pathlib

from matplotlib import lines as mpl_lines
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from attnmel_jax.evaluation import metrics
from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report.figures import curve_values
from attnmel_jax.report.figures import curves
from attnmel_jax.report.figures import plotting

# In inches.
_PANEL, _COLUMNS = 2.15, 4


def write(all_groups: Sequence[groups.Group], folder: pathlib.Path
          ) -> list[plotting.Entry]:
  """Writes two figures for each task of more than two classes."""
  entries = []
  for group in all_groups:
    if group.is_binary:
      continue
    title, name = group.title, group.stem
    average = curves.several([group])
    for called, stem, drawn, rows, columns, numbers in (
        ('ROC', f'figure_3_2_roc_{name}', roc(group),
         curves.roc_table([group]), curves.ROC_COLUMNS,
         'areas under the curves, averaged over seeds and folds; their intervals '
         'stand in the table of areas'),
        ('Precision-recall', f'figure_3_2_precision_recall_{name}',
         precision_recall(group), curves.precision_recall_table([group]),
         curves.PRECISION_RECALL_COLUMNS,
         'average precisions, averaged over seeds and folds; dotted: the share of the '
         'class, which is the precision of guessing')):
      plotting.save_chart(drawn, folder, stem)
      plotting.save_table((*curves.HEADER, *columns), rows, folder, stem)
      entries.append(plotting.Entry(
          f'{called} curves of each class: {title}',
          f'Each class against all others together. The numbers are {numbers}.'
          f'{average}',
          stem, chart=True))
  return entries


def roc(group: groups.Group) -> Figure:
  """ROC curves: a square for each class, and the legend in the place after them."""
  return _squares(group, 'false positive rate', 'true positive rate', _roc_of_class)


def precision_recall(group: groups.Group) -> Figure:
  """Precision-recall curves, arranged as `roc` arranges its own."""
  return _squares(group, 'recall', 'precision', _precision_recall_of_class)


def _squares(group: groups.Group, x_label: str, y_label: str,
             draw: Callable[..., None]) -> Figure:
  font = plotting.FONT
  columns = min(_COLUMNS, len(group.class_names) + 1)
  rows = -(-(len(group.class_names) + 1) // columns)
  left, gap, up, top, bottom = 0.6, 0.2, 0.42, 0.35, 0.5
  figure = plotting.blank(left + columns * (_PANEL + gap),
                          top + rows * (_PANEL + up) + bottom - up + 0.25)
  width, height = figure.get_size_inches()
  styles = plotting.styles(list(group.systems))
  for k in range(len(group.class_names) + 1):
    x = left + (k % columns) * (_PANEL + gap)
    y = bottom + (rows - 1 - k // columns) * (_PANEL + up)
    if k == len(group.class_names):
      handles = [mpl_lines.Line2D([], [], color=style.colour, linestyle=style.dashes,
                                  linewidth=1.6) for style in styles.values()]
      figure.legend(handles, list(styles), loc='center left', frameon=False,
                    bbox_to_anchor=(x / width, (y + _PANEL / 2) / height),
                    fontsize=font, handlelength=3.6)
      continue
    axis = plotting.place(figure, x, y, _PANEL, _PANEL)
    plotting.unit_square(axis, x_label, y_label)
    axis.set_title(f'{names.class_name(group.class_names[k])} ({group.counts[k]})',
                   fontsize=font, pad=3)
    draw(axis, group, k, styles)
    if k % columns:
      axis.set(ylabel='', yticklabels=[])
    if k + columns < len(group.class_names):
      axis.set(xlabel='', xticklabels=[])
  figure.text(left / width, 1 - 0.08 / height, group.heading, fontsize=font + 1,
              va='top', ha='left')
  return figure


def _roc_of_class(axis: Axes, group: groups.Group, k: int,
                  styles: dict[str, plotting.Style]) -> None:
  axis.plot([0, 1], [0, 1], **plotting.CHANCE)
  _draw(axis, group, k, styles, curve_values.roc_curves, curves.draw_roc, metrics.auc,
        'lower right')


def _precision_recall_of_class(axis: Axes, group: groups.Group, k: int,
                               styles: dict[str, plotting.Style]) -> None:
  axis.axhline(group.counts[k] / sum(group.counts), **plotting.CHANCE)
  _draw(axis, group, k, styles, curve_values.precision_recall_curves,
        curves.draw_precision_recall, metrics.average_precision, 'lower left')


def _draw(axis, group, k, styles, curves_of, draw, area, place) -> None:
  """All systems' curves of a class, and their mean areas in the legend."""
  handles, areas = [], []
  for label, style in styles.items():
    runs = group.systems[label]
    lines = curves.draw_curves(
        axis, curves_of(runs, k), draw, style, linewidth=1.3, zorder=3)
    if lines:
      handles += lines
      areas.append(np.nanmean([
          area(one.table.labels == k, one.table.probabilities[:, k]) for one in runs]))
  _numbers(axis, handles, areas, place)


def _numbers(axis: Axes, handles: Sequence[mpl_lines.Line2D], areas: Sequence[float],
             place: str) -> None:
  """The legend of a square, or why it is empty."""
  font = plotting.FONT
  if handles:
    axis.legend(handles, [f'{area:.3f}' for area in areas], loc=place,
                fontsize=font - 2, handlelength=2.4, labelspacing=0.1, borderpad=0.2,
                borderaxespad=0.2, framealpha=0.85, edgecolor='none')
  else:
    axis.text(0.5, 0.5, 'no image of this class', ha='center', fontsize=font)
