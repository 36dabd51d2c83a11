"""How the figures look, where their axes lie, and how they are written."""

from collections.abc import Iterable
from collections.abc import Sequence
import pathlib
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends import backend_agg
from matplotlib.figure import Figure

from attnmel_jax import files

FONT = 9.0  # in points; figures are up to PAGE_INCHES wide
PAGE_INCHES = 8.6
_DPI = 200
_TICKS = (0, 0.25, 0.5, 0.75, 1)
_TICK_LABELS = ('0', '', '0.5', '', '1')
CHANCE = {'color': '0.6', 'linewidth': 0.8, 'linestyle': (0, (1, 2)), 'zorder': 1}


class Style(NamedTuple):
  """Of a system's lines; dashes tell systems apart where colours do not."""

  colour: str
  dashes: tuple
  marker: str


# The colours of Okabe & Ito (2008) but for yellow, which is too pale for a line.
_STYLES = {
    'VGG-16': Style('#777777', (0, (1, 1.2)), 'v'),
    'VGG-16-GAP': Style('#000000', (0, (5, 1.5)), '^'),
    'Mel-CNN': Style('#E69F00', (0, (4, 1.2, 1, 1.2)), 's'),
    'AttnMel-CNN': Style('#0072B2', (0, ()), 'o'),
    'AttnMel-CNN-Lesion': Style('#D55E00', (0, (8, 1.2)), 'D'),
    'AttnMel-CNN-Dermo': Style('#009E73', (0, (2.5, 1)), 'P'),
    'AttnMel-CNN-Bkg': Style('#CC79A7', (0, (4, 1, 1, 1, 1, 1)), 'X'),
    'AttnMel-CNN-Lesion*': Style('#56B4E9', (0, (7, 1, 2, 1)), '*'),
}


def styles(labels: Sequence[str]) -> dict[str, Style]:
  """The style of each label: a system of the thesis always has the same one.

  Others take those that no label needs, and after eight begin anew.
  """
  free = [style for name, style in _STYLES.items() if name not in labels]
  free = free or list(_STYLES.values())
  others = [label for label in labels if label not in _STYLES]
  return {label: _STYLES[label] if label in _STYLES
          else free[others.index(label) % len(free)] for label in labels}


def blank(width: float, height: float) -> Figure:
  """An empty white figure of that size in inches."""
  figure = Figure(figsize=(width, height), facecolor='white')
  backend_agg.FigureCanvasAgg(figure)
  return figure


def place(figure: Figure, left: float, bottom: float, width: float, height: float
          ) -> Axes:
  """Axes at that place of the figure, in inches, in the house's fonts."""
  across, up = figure.get_size_inches()
  axis = figure.add_axes((left / across, bottom / up, width / across, height / up))
  axis.tick_params(labelsize=FONT - 1, length=3, width=0.6)
  axis.spines[:].set_linewidth(0.6)
  return axis


def unit_square(axis: Axes, x_label: str, y_label: str) -> None:
  """Both axes from 0 to 1, with a margin in which lines at 0 and 1 are seen."""
  axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=_TICKS, yticks=_TICKS)
  axis.set(xticklabels=_TICK_LABELS, yticklabels=_TICK_LABELS)
  axis.set_xlabel(x_label, fontsize=FONT)
  axis.set_ylabel(y_label, fontsize=FONT)


def line_height(font: float) -> float:
  """Of a line of text, in inches."""
  return font * 1.27 / 72


def save(figure: Figure, folder: pathlib.Path, stem: str) -> None:
  """Writes <stem>.png and <stem>.pdf, each whole or not at all."""
  for kind, metadata in (('png', None), ('pdf', {'CreationDate': None})):
    with files.replacing(folder / f'{stem}.{kind}') as file:
      figure.savefig(file, format=kind, dpi=_DPI, metadata=metadata)


def save_chart(figure: Figure, folder: pathlib.Path, stem: str) -> None:
  """`save`, and <stem>.svg with its text as text: of lines and bars, no photographs."""
  save(figure, folder, stem)
  # Without a salt the names within would be other ones in each file.
  with (rc_context({'svg.fonttype': 'none', 'svg.hashsalt': stem}),
        files.replacing(folder / f'{stem}.svg') as file):
    figure.savefig(file, format='svg', metadata={'Date': None})


def save_table(columns: Sequence[str], rows: Iterable[Sequence], folder: pathlib.Path,
               stem: str) -> None:
  """Writes <stem>.csv, the numbers behind a figure."""
  with files.replacing(folder / f'{stem}.csv') as file:
    file.write(files.csv_text([columns, *rows]).encode())


class Entry(NamedTuple):
  """A figure of the report, or words where there is none."""

  title: str         # empty: a note on what stands before it
  text: str          # the caption
  stem: str = ''     # of its files; empty where nothing is drawn
  chart: bool = False  # lines and bars alone: an SVG and a CSV of numbers lie beside

  @property
  def files(self) -> list[str]:
    """Names of its files."""
    kinds = ('pdf', 'png', *(('csv', 'svg') if self.chart else ())) if self.stem else ()
    return [f'{self.stem}.{kind}' for kind in kinds]


def to_markdown(entries: Iterable[Entry]) -> list[str]:
  """Lines for a page beside the folder `figures`: pictures, captions, links."""
  lines = []
  for entry in entries:
    if entry.title:
      lines += [f'### {files.escaped(entry.title)}', '']
    text = files.escaped(entry.text)
    if entry.stem:
      lines += [f'![{files.escaped(entry.title)}](figures/{entry.stem}.png)', '']
      text += f' [PDF](figures/{entry.stem}.pdf)'
      if entry.chart:
        text += (f', [SVG](figures/{entry.stem}.svg), '
                 f'[numbers](figures/{entry.stem}.csv)')
    lines += [text, '']
  return lines
