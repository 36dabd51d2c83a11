"""Confusion matrices: what each class was taken for."""

from collections.abc import Iterator
from collections.abc import Sequence
import pathlib
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report.figures import curve_values
from attnmel_jax.report.figures import plotting

# In inches.
_COLUMNS = 3
_CELL, _SMALLEST = 0.33, 1.4

_COLOUR_MAP = 'Blues'  # ordered in lightness
_DARK = 0.5            # text on a share above is white


def write(all_groups: Sequence[groups.Group], folder: pathlib.Path
          ) -> list[plotting.Entry]:
  """Writes a figure for each group."""
  entries = []
  for group in all_groups:
    stem = f'confusion_{group.stem}'
    plotting.save_chart(confusion(group), folder, stem)
    plotting.save_table(
        ('experiment', 'split', 'system', 'class', *group.class_names), _rows(group),
        folder, stem)
    decided = ('In brackets the number. The threshold is the one that validation '
               'images chose, 0.5 where there are none. ' if group.is_binary else '')
    entries.append(plotting.Entry(
        f'Confusion matrices: {group.title}',
        'Share of the images of a class (row) that were given each class (column); the '
        f'diagonal holds the recalls. {decided}Seeds and folds are counted together.',
        stem, chart=True))
  return entries


def confusion(group: groups.Group) -> Figure:
  """A matrix for each system, of shares of the true class."""
  font = plotting.FONT
  number = len(group.class_names)
  side = max(_SMALLEST, number * _CELL)
  longest = max(len(names.class_name(name)) for name in group.class_names)
  margin = 0.25 + longest * 0.6 * (font - 1) / 72
  columns = min(_COLUMNS, len(group.systems))
  rows = -(-len(group.systems) // columns)
  gap, top = 0.2, 0.35
  left, up = margin + 0.25, margin + 0.45
  title = len(group.heading) * 0.55 * (font + 1) / 72 + 0.2
  figure = plotting.blank(max(left + columns * (side + gap), title),
                          top + rows * (side + up))
  width, height = figure.get_size_inches()
  for i, (label, runs) in enumerate(group.systems.items()):
    axis = plotting.place(
        figure, left + (i % columns) * (side + gap),
        (rows - 1 - i // columns) * (side + up) + up - 0.25, side, side)
    _matrix(axis, curve_values.confusion(runs, number), group.class_names)
    axis.set_title(label, fontsize=font, pad=3)
    if i % columns:
      axis.set(ylabel='', yticklabels=[])
  figure.text(0.08 / width, 1 - 0.08 / height, group.heading, fontsize=font + 1,
              va='top', ha='left')
  return figure


def _matrix(axis: Axes, counts: np.ndarray, class_names: Sequence[str]) -> None:
  font = plotting.FONT
  totals = counts.sum(axis=1, keepdims=True)
  shares = counts / np.maximum(totals, 1)
  axis.imshow(colormaps[_COLOUR_MAP](shares))
  for row, column in np.ndindex(counts.shape):
    text = f'{shares[row, column]:.2f}'.removeprefix('0') if totals[row] else '–'
    if len(counts) == 2:  # there is room for it
      text += f'\n({counts[row, column]})'
    axis.text(column, row, text, ha='center', va='center', fontsize=font - 2,
              color='white' if shares[row, column] > _DARK else 'black')
  shown = [names.class_name(name) for name in class_names]
  axis.set_xticks(range(len(shown)), shown, rotation=90)
  axis.set_yticks(range(len(shown)), shown)
  axis.tick_params(length=0)
  axis.set_xlabel('predicted', fontsize=font)
  axis.set_ylabel('true', fontsize=font)


def _rows(group: groups.Group) -> Iterator[Sequence[Any]]:
  for label, runs in group.systems.items():
    counts = curve_values.confusion(runs, len(group.class_names))
    for name, row in zip(group.class_names, counts.tolist(), strict=True):
      yield (group.title, group.split, label, name, *row)
