"""Attention maps drawn over the photographs, in the manner of Figure 3.3."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib
import re
import textwrap

from matplotlib import cm
from matplotlib import colormaps
from matplotlib import colors
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends import backend_agg
from matplotlib.figure import Figure
import numpy as np

from attnmel_jax import files
from attnmel_jax.evaluation import attention_maps

# Ordered in lightness, so it reads in grey and with any colour blindness.
_COLOUR_MAP = 'magma'
_OPACITY = 0.6
# The photograph under a map is grey and lifted, so that a black lesion does not
# darken the colours; the colour bar lies over the usual grey of skin.
_DARKEST, _SKIN = 0.3, 0.75
COLUMN_INCHES = 1.55
_GAP_INCHES = 0.04
DPI = 200
FONT = 7.5  # in points, 72 to the inch; of the pictures in a run folder
_CHARACTER = 0.647  # width of the widest usual text, in font sizes a character


def attention_figure(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    lesion: np.ndarray | None,
    has_lesion: np.ndarray | None,
    titles: Sequence[str],
    path: str | os.PathLike,
    *,
    heading: str,
) -> None:
  """Writes the picture that `attention_grid` draws; `path` ends in .png or .pdf."""
  _save(attention_grid(
      images, maps, lesion, has_lesion, titles, heading=heading, font=FONT), path)


def probability_figure(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    titles: Sequence[str],
    path: str | os.PathLike,
    *,
    heading: str,
) -> None:
  """`attention_figure` of maps name -> [N, S, S] in [0, 1] that are no attention.

  They are probabilities of 'lesion' and drawn as they are.
  """
  _save(_grid(images, maps, lesion, has_lesion, titles, heading=heading, font=FONT,
              scale='probability of lesion'), path)


def _save(figure: Figure, path: str | os.PathLike) -> None:
  path = pathlib.Path(path)
  with files.replacing(path) as file:
    figure.savefig(file, format=path.suffix[1:], dpi=DPI)


def attention_grid(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    lesion: np.ndarray | None,
    has_lesion: np.ndarray | None,
    titles: Sequence[str],
    *,
    heading: str,
    font: float,
) -> Figure:
  """Draws a picture with one column an image and one row a map.

  The first row shows the photographs with the outline of the annotated lesion,
  the others each map, upsampled and rescaled to [0, 1] as it is before it is
  thresholded for the Jaccard index, over the photograph in grey.

  Args:
    images: uint8 [N, S, S, 3], as the network saw them (after the crop).
    maps: name -> [N, h, w], in the order of the rows.
    lesion: uint8 [N, S, S], 128 and above lesion; None if there are no masks.
    has_lesion: bool [N], whether the image is annotated; None with no masks.
    titles: N short texts, such as 'ISIC_0012345 melanoma p=0.83'; a space is
      where a line may break.
    heading: a line above the whole; empty for none.
    font: size of the titles in points.
  """
  side = images.shape[1]
  return _grid(
      images, {name: attention_maps.rescale(attention_maps.upsample(values, side))
               for name, values in maps.items()},
      lesion, has_lesion, titles, heading=heading, font=font,
      scale='attention, each map rescaled to [0, 1]')


def _grid(images, overlays, lesion, has_lesion, titles, *, heading, font, scale
          ) -> Figure:
  """`overlays` name -> [N, S, S] in [0, 1]; `scale` is the label of their colours."""
  count, side = images.shape[:2]
  if images.dtype != np.uint8 or images.shape != (count, side, side, 3) or not count:
    raise ValueError(f'images {images.dtype} {images.shape} are not uint8 [N, S, S, 3]')
  if len(titles) != count or any(
      len(values) != count for values in overlays.values()):
    raise ValueError(f'titles and maps are not all for {count} images')
  if (lesion is None) != (has_lesion is None) or (
      lesion is not None and lesion.shape != images.shape[:3]):
    raise ValueError('lesion masks do not fit the images')
  figure, axes, bar = image_grid(
      ['photograph', *map(row_name, overlays)], titles, heading=heading, font=font,
      rows_of_bar=len(overlays))
  greys = luminance(images)
  for column in range(count):
    axes[0][column].imshow(images[column])
    for row, values in enumerate(overlays.values(), start=1):
      axes[row][column].imshow(blend(greys[column], values[column]))
    if lesion is not None and has_lesion is not None:
      mark_lesion([row[column] for row in axes], lesion[column],
                  annotated=has_lesion[column], font=font)
  if bar is not None:
    shades = blend(np.full(256, _SKIN), np.linspace(0, 1, 256))
    colour_bar(figure, bar, shades, scale, font=font)
  return figure


def image_grid(
    rows: Sequence[str], titles: Sequence[str], *, heading: str, font: float,
    rows_of_bar: int,
) -> tuple[Figure, list[list[Axes]], Axes | None]:
  """An empty grid of square pictures.

  Args:
    rows: what stands at the left of each row.
    titles: what stands above each column; lines are broken to its width.
    heading: a line above the whole; empty for none.
    font: size of the titles in points.
    rows_of_bar: how many rows, from the bottom, a colour bar stands beside.

  Returns:
    Figure, its axes by row and column, and the axes of the colour bar, if any.
  """
  titles = [_fill(title, font) for title in titles]
  rows = [_fill(name, font + 1) for name in rows]
  line = font * 1.3 / 72
  top = 0.1 + line * max(title.count('\n') + 1 for title in titles)
  top += 1.7 * line if heading else 0
  row_lines = max(name.count('\n') + 1 for name in rows)
  left, bottom = 0.147 + row_lines * (font + 1) * 1.3 / 72, 0.08
  # Beside a single row the label of the bar may take three lines, beside two rows two.
  right = 0.25 + 0.4 * font / FONT + line * max(3 - rows_of_bar, 0)
  right = right if rows_of_bar else 0.08
  pitch = COLUMN_INCHES + _GAP_INCHES
  width = left + len(titles) * pitch - _GAP_INCHES + right
  height = bottom + len(rows) * pitch - _GAP_INCHES + top
  figure = Figure(figsize=(width, height), facecolor='white')
  backend_agg.FigureCanvasAgg(figure)

  def place(x, y, across, up):
    return figure.add_axes((x / width, y / height, across / width, up / height))

  axes = []
  for row, name in enumerate(rows):
    y = bottom + (len(rows) - 1 - row) * pitch
    axes.append([place(left + column * pitch, y, COLUMN_INCHES, COLUMN_INCHES)
                 for column in range(len(titles))])
    axes[row][0].set_ylabel(name, fontsize=font + 1)
  for axis in (axis for row in axes for axis in row):
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
  for axis, title in zip(axes[0], titles, strict=True):
    axis.set_title(title, fontsize=font, pad=3)
  if heading:
    figure.text(left / width, 1 - 0.06 / height, heading, fontsize=font + 2,
                va='top', ha='left')
  bar = None
  if rows_of_bar:
    bar = place(width - right + 0.1, bottom, 0.1, rows_of_bar * pitch - _GAP_INCHES)
  return figure, axes, bar


def _fill(text: str, font: float, inches: float = COLUMN_INCHES) -> str:
  """Lines no longer than that; a line break that is there stays."""
  characters = round(inches * 72 / (_CHARACTER * font))
  return '\n'.join(textwrap.fill(line, characters) for line in text.split('\n'))


def luminance(images: np.ndarray) -> np.ndarray:
  """uint8 [..., 3] -> [...] in [_DARKEST, 1], weights of ITU-R BT.601."""
  grey = images @ np.array([0.299, 0.587, 0.114]) / 255
  return _DARKEST + (1 - _DARKEST) * grey


def blend(grey: np.ndarray, attention: np.ndarray) -> np.ndarray:
  """Grey [...] under the coloured map [...], both in [0, 1] -> RGB [..., 3]."""
  coloured = colormaps[_COLOUR_MAP](attention)[..., :3]
  return (1 - _OPACITY) * grey[..., None] + _OPACITY * coloured


def mark_lesion(axes: Sequence[Axes], lesion: np.ndarray, *, annotated: bool,
                font: float) -> None:
  """Outlines the mask [S, S] in every row, or says in the first why it cannot."""
  inside = np.pad(lesion > 127, 1)
  if not annotated or not inside.any():
    axes[0].text(
        0.5, 0.03, 'no lesion marked' if annotated else 'not annotated',
        transform=axes[0].transAxes, ha='center', va='bottom', fontsize=font - 1,
        color='white', path_effects=halo(1.5))
    return
  # The margin of background closes the outline of a lesion that is cut off.
  places = np.arange(-1, len(lesion) + 1)
  for axis in axes:
    view = axis.axis()
    outline = axis.contour(places, places, inside, levels=[0.5], colors='white',
                           linewidths=0.9)
    outline.set_path_effects(halo(1.9))
    axis.axis(view)


def halo(width: float) -> list[patheffects.AbstractPathEffect]:
  """A dark rim that keeps white strokes visible on pale skin."""
  return [patheffects.withStroke(linewidth=width, foreground='black')]


def row_name(name: str) -> str:
  """A line 'pool3' -> 'pool-3', as the thesis writes it; others as they are."""
  return re.sub(r'^pool(\d)$', r'pool-\1', name, flags=re.MULTILINE)


def colour_bar(figure: Figure, axis: Axes, shades: np.ndarray, label: str, *,
               font: float) -> None:
  """Draws the scale from 0 to 1 of colours [256, 3] into an axis, with its label."""
  scale = cm.ScalarMappable(colors.Normalize(0, 1), colors.ListedColormap(shades))
  bar = figure.colorbar(scale, cax=axis, ticks=[0, 0.5, 1])
  bar.ax.tick_params(labelsize=font - 0.5, length=2, pad=2)
  length = axis.get_position().height * figure.get_size_inches()[1]
  bar.set_label(_fill(label, font, length), fontsize=font)
  bar.outline.set_linewidth(0.5)
