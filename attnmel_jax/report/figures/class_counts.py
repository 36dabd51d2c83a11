"""Figure 3.1: how many training images each class has."""

from collections.abc import Sequence
import pathlib
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from attnmel_jax.report import names
from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.figures import prepared_data

_STEM = 'figure_3_1_classes'
# In inches.
_BARS, _BAR = 1.45, 0.26
_CHARACTER = 0.58 / 72  # width, of a font of one point
_COLUMNS = 3


class ClassCounts(NamedTuple):
  """Images of each class of a training set."""

  dataset: str
  synthetic: bool
  counts: tuple[tuple[str, int], ...]  # class and images, in the order of labels

  @property
  def title(self) -> str:
    """For example 'ISIC 2017, synthetic (480)'."""
    kind = ', synthetic' if self.synthetic else ''
    total = sum(count for _, count in self.counts)
    return f'{names.dataset_name(self.dataset)}{kind} ({total:,})'


def write(runs: Sequence[run_reader.FinishedRun], folder: pathlib.Path,
          data_dir: pathlib.Path | None) -> list[plotting.Entry]:
  """Writes the figure and its table."""
  title = 'Figure 3.1: images of each class'
  folders = prepared_data.data_dirs(runs, data_dir)
  found = training_sets(folders)
  prepared = {one.dataset for one in found}
  missing = sorted({run.config['dataset'] for run in runs} - prepared)
  note = (f'The training images of {", ".join(map(names.dataset_name, missing))} are '
          f'not prepared in {" or ".join(map(str, folders))}, or have no labels.'
          ) if missing else ''
  if not found:
    return [plotting.Entry(title, note or 'No data set is prepared.')]
  plotting.save_chart(figure(found), folder, _STEM)
  plotting.save_table(
      ('dataset', 'synthetic', 'class', 'images'),
      ((one.dataset, one.synthetic, name, count)
       for one in found for name, count in one.counts), folder, _STEM)
  caption = ('Training images before oversampling, in brackets behind a data set all '
             'of them; behind a bar the number and its share.')
  return [plotting.Entry(title, caption, _STEM, chart=True),
          *([plotting.Entry('', note)] if note else [])]


def training_sets(data_dirs: Sequence[pathlib.Path]) -> list[ClassCounts]:
  """The prepared training sets with labels; the same counts are listed once."""
  found = {}
  for data_dir in data_dirs:
    for split in prepared_data.split_folders(data_dir):
      if split.split != 'train' or split.masks:
        continue
      index = prepared_data.read_index(split)
      class_names = index.get('class_names')
      if not class_names:
        continue
      counts = np.bincount(index['labels'], minlength=len(class_names)).tolist()
      found[ClassCounts(split.dataset, bool(index.get('synthetic')),
                        tuple(zip(class_names, counts, strict=True)))] = None
  return sorted(found, key=lambda one: (one.synthetic, one.dataset))


def figure(sets: Sequence[ClassCounts]) -> Figure:
  """A panel a data set, side by side; bars from 0, so that lengths compare."""
  font = plotting.FONT
  columns = min(_COLUMNS, len(sets))
  rows = -(-len(sets) // columns)
  # A column is as wide as its longest class name asks for.
  lefts = [max(len(name) for one in sets[column::columns] for name, _ in one.counts)
           * (font - 1) * _CHARACTER + 0.15 for column in range(columns)]
  right = len('6,705 (67 %)') * (font - 1) * _CHARACTER
  most = max(len(one.counts) for one in sets)
  top, bottom = 0.3, 0.45
  height = top + most * _BAR + bottom
  result = plotting.blank(
      sum(lefts) + columns * (_BARS + right), rows * height)
  for i, one in enumerate(sets):
    column = i % columns
    x = sum(lefts[:column + 1]) + column * (_BARS + right)
    up = len(one.counts) * _BAR
    y = (rows - i // columns) * height - top - up
    _bars(plotting.place(result, x, y, _BARS, up), one)
  return result


def _bars(axis: Axes, one: ClassCounts) -> None:
  font = plotting.FONT
  counts = np.array([count for _, count in one.counts])
  axis.barh(np.arange(len(counts)), counts, height=0.7, color='#0072B2')
  axis.set_yticks(np.arange(len(counts)),
                  [names.class_name(name) for name, _ in one.counts])
  axis.set(ylim=(len(counts) - 0.5, -0.5), xlim=(0, counts.max() * 1.02))
  axis.locator_params(axis='x', nbins=3, integer=True)
  axis.xaxis.set_major_formatter('{x:,.0f}')
  axis.spines[['top', 'right']].set_visible(False)
  axis.set_xlabel('training images', fontsize=font)
  axis.set_title(one.title, fontsize=font, loc='left', pad=4)
  for place, count in enumerate(counts):
    axis.annotate(f'{count:,} ({100 * count / counts.sum():.0f} %)', (count, place),
                  xytext=(3, 0), textcoords='offset points', va='center',
                  fontsize=font - 1, annotation_clip=False)
