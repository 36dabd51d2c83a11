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

from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import prediction_files

# Ordered in lightness, so it reads in grey and with any colour blindness.
_COLOUR_MAP = 'magma'
_OPACITY = 0.6
# The photograph under a map is grey and lifted, so that a black lesion does not
# darken the colours; the colour bar lies over the usual grey of skin.
_DARKEST, _SKIN = 0.3, 0.75
_COLUMN_INCHES = 1.55
_GAP_INCHES = 0.04
_DPI = 200
_FONT = 7.5  # in points, 72 to the inch
_TITLE_CHARACTERS = 23  # as many fit a column


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
  """Writes a picture with one column an image and one row a map.

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
    path: ends in .png or .pdf.
    heading: a line above the whole; empty for none.
  """
  count, side = images.shape[:2]
  if images.dtype != np.uint8 or images.shape != (count, side, side, 3) or not count:
    raise ValueError(f'images {images.dtype} {images.shape} are not uint8 [N, S, S, 3]')
  if len(titles) != count or any(len(values) != count for values in maps.values()):
    raise ValueError(f'titles and maps are not all for {count} images')
  if (lesion is None) != (has_lesion is None) or (
      lesion is not None and lesion.shape != images.shape[:3]):
    raise ValueError('lesion masks do not fit the images')
  titles = [textwrap.fill(title, _TITLE_CHARACTERS) for title in titles]
  figure, axes, bar = _layout(count, len(maps), titles, heading)
  greys = luminance(images)
  overlays = {name: attention_maps.rescale(attention_maps.upsample(values, side))
              for name, values in maps.items()}
  for column in range(count):
    axes[0][column].imshow(images[column])
    for row, values in enumerate(overlays.values(), start=1):
      axes[row][column].imshow(blend(greys[column], values[column]))
    if lesion is not None and has_lesion is not None:
      _mark_lesion([row[column] for row in axes], lesion[column], has_lesion[column])
    axes[0][column].set_title(titles[column], fontsize=_FONT, pad=3)
  for row, name in zip(axes, ('photograph', *map(row_name, maps)), strict=True):
    row[0].set_ylabel(name, fontsize=_FONT + 1)
  if maps:
    _colour_bar(figure, bar)
  path = pathlib.Path(path)
  backend_agg.FigureCanvasAgg(figure)
  with prediction_files.replacing(path) as file:
    figure.savefig(file, format=path.suffix[1:], dpi=_DPI)


def _layout(
    columns: int, rows_of_maps: int, titles: Sequence[str], heading: str,
) -> tuple[Figure, list[list[Axes]], Axes | None]:
  """Figure, its axes by row and column, and the axes of the colour bar, if any."""
  rows = 1 + rows_of_maps
  line = _FONT * 1.3 / 72
  top = 0.1 + line * max(title.count('\n') + 1 for title in titles)
  top += 1.7 * line if heading else 0
  left, bottom = 0.3, 0.08
  right = 0.65 if rows_of_maps else 0.08
  pitch = _COLUMN_INCHES + _GAP_INCHES
  width = left + columns * pitch - _GAP_INCHES + right
  height = bottom + rows * pitch - _GAP_INCHES + top
  figure = Figure(figsize=(width, height), facecolor='white')

  def place(x, y, across, up):
    return figure.add_axes((x / width, y / height, across / width, up / height))

  axes = []
  for row in range(rows):
    y = bottom + (rows - 1 - row) * pitch
    axes.append([place(left + column * pitch, y, _COLUMN_INCHES, _COLUMN_INCHES)
                 for column in range(columns)])
  for axis in (axis for row in axes for axis in row):
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
  if heading:
    figure.text(left / width, 1 - 0.06 / height, heading, fontsize=_FONT + 2,
                va='top', ha='left')
  bar = None
  if rows_of_maps:
    bar = place(width - right + 0.1, bottom, 0.1,
                rows_of_maps * pitch - _GAP_INCHES)
  return figure, axes, bar


def luminance(images: np.ndarray) -> np.ndarray:
  """uint8 [..., 3] -> [...] in [_DARKEST, 1], weights of ITU-R BT.601."""
  grey = images @ np.array([0.299, 0.587, 0.114]) / 255
  return _DARKEST + (1 - _DARKEST) * grey


def blend(grey: np.ndarray, attention: np.ndarray) -> np.ndarray:
  """Grey [...] under the coloured map [...], both in [0, 1] -> RGB [..., 3]."""
  coloured = colormaps[_COLOUR_MAP](attention)[..., :3]
  return (1 - _OPACITY) * grey[..., None] + _OPACITY * coloured


def _mark_lesion(axes: Sequence[Axes], lesion: np.ndarray, annotated: bool) -> None:
  """Outlines the mask [S, S] in every row, or says in the first why it cannot."""
  inside = np.pad(lesion > 127, 1)
  if not annotated or not inside.any():
    axes[0].text(
        0.5, 0.03, 'no lesion marked' if annotated else 'not annotated',
        transform=axes[0].transAxes, ha='center', va='bottom', fontsize=_FONT - 1,
        color='white', path_effects=_halo(1.5))
    return
  # The margin of background closes the outline of a lesion that is cut off.
  places = np.arange(-1, len(lesion) + 1)
  for axis in axes:
    view = axis.axis()
    outline = axis.contour(places, places, inside, levels=[0.5], colors='white',
                           linewidths=0.9)
    outline.set_path_effects(_halo(1.9))
    axis.axis(view)


def _halo(width: float) -> list[patheffects.AbstractPathEffect]:
  """A dark rim that keeps white strokes visible on pale skin."""
  return [patheffects.withStroke(linewidth=width, foreground='black')]


def row_name(name: str) -> str:
  """'pool3' -> 'pool-3', as the thesis writes it; other names as they are."""
  return re.sub(r'^pool(\d)$', r'pool-\1', name)


def _colour_bar(figure: Figure, axis: Axes) -> None:
  shades = colors.ListedColormap(blend(np.full(256, _SKIN), np.linspace(0, 1, 256)))
  scale = cm.ScalarMappable(colors.Normalize(0, 1), shades)
  bar = figure.colorbar(scale, cax=axis, ticks=[0, 0.5, 1])
  bar.ax.tick_params(labelsize=_FONT - 0.5, length=2, pad=2)
  bar.set_label('attention, each map rescaled to [0, 1]', fontsize=_FONT)
  bar.outline.set_linewidth(0.5)
