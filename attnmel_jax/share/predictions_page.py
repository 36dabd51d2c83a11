"""The page of predicted photographs, one HTML file, and the pictures on it.

A picture shows a photograph and its heat maps side by side. For the screen and for
thousands of images: Pillow draws one in a few milliseconds, where the figures of
`overlays` take a third of a second.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
from typing import Any
import urllib.parse

import jinja2
import matplotlib
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from attnmel_jax import files
from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import overlays

PANEL = 320  # pixels, side of each square
MARGIN = 12  # around and between them
_LINE = 24   # height of a line of text
_SIZE = 15   # of the letters, in pixels
_BAR = (150, 10)
_INK = (26, 26, 26)


@dataclasses.dataclass(frozen=True)
class Row:
  """One photograph."""

  name: str
  path: str
  overlay: str  # beside the page; '' where none was drawn
  probabilities: tuple[float, ...]

  @property
  def best(self) -> int:
    """The likeliest class."""
    return self.probabilities.index(max(self.probabilities))

  def at_threshold(self, threshold: float) -> int:
    """The class of two that a run calls: the second from its threshold on."""
    return int(self.probabilities[1] >= threshold)

  @property
  def link(self) -> str:
    """The overlay as an address: a name may hold any character."""
    return urllib.parse.quote(self.overlay)


def write(path: pathlib.Path, rows: Sequence[Row],
          unreadable: Sequence[tuple[str, str]], class_names: Sequence[str],
          settings: Mapping[str, Any]) -> None:
  """Writes the page; every name in it is escaped.

  Args:
    path: of the page.
    rows: the photographs, in order.
    unreadable: path and reason of the others.
    class_names: of the probabilities.
    settings: `predict_photographs.describe`.
  """
  environment = jinja2.Environment(
      loader=jinja2.PackageLoader('attnmel_jax.share'), autoescape=True,
      undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
  page = environment.get_template('photographs.html').generate(
      rows=rows, unreadable=unreadable, class_names=class_names, settings=settings)
  with files.replacing(path) as file:
    for part in page:
      file.write(part.encode())


def draw(photograph: np.ndarray, maps: Mapping[str, np.ndarray],
         path: str | os.PathLike, *, title: str, caption: str) -> None:
  """Writes the PNG: photograph, then each map over the photograph in grey.

  A map is brought to the size of the panel and rescaled to [0, 1].

  Args:
    photograph: uint8 [S, S, 3], as the network saw it.
    maps: name -> [h, w], over `photograph`.
    path: of the PNG.
    title: a line above, such as the name of the image.
    caption: a line below the photograph, such as the prediction.
  """
  if photograph.dtype != np.uint8 or photograph.shape[2:] != (3,):
    raise ValueError(f'photograph {photograph.dtype} {photograph.shape} is not uint8 '
                     '[S, S, 3]')
  square = Image.fromarray(photograph).resize((PANEL, PANEL), Image.Resampling.BICUBIC)
  panels = [square, *(_heat_map(np.asarray(square), values)
                      for values in maps.values())]
  width = MARGIN + len(panels) * (PANEL + MARGIN)
  height = MARGIN + _LINE + PANEL + _LINE + MARGIN + (_LINE if maps else 0)
  sheet = Image.new('RGB', (width, height), 'white')
  pen = ImageDraw.Draw(sheet)
  _write(pen, title, MARGIN, MARGIN, width - 2 * MARGIN)
  below = MARGIN + _LINE + PANEL + 5
  for number, (panel, text) in enumerate(zip(
      panels, (caption, *map(_label, maps)), strict=True)):
    left = MARGIN + number * (PANEL + MARGIN)
    sheet.paste(panel, (left, MARGIN + _LINE))
    _write(pen, text, left, below, PANEL)
  if maps:
    _legend(sheet, pen, 2 * MARGIN + PANEL, below + _LINE)
  with files.replacing(pathlib.Path(path)) as file:
    sheet.save(file, 'PNG', compress_level=4)


def _label(name: str) -> str:
  """'pool3' -> 'pool-3 attention'; 'cam' -> what that stands for."""
  if name == 'cam':
    return 'class activation map (CAM)'
  return f'{overlays.row_name(name)} attention'


def _heat_map(photograph: np.ndarray, values: np.ndarray) -> Image.Image:
  """uint8 [P, P, 3] in grey under the map [h, w]."""
  rescaled = attention_maps.rescale(
      attention_maps.upsample(values[None], len(photograph)))[0]
  mixed = overlays.blend(overlays.luminance(photograph), rescaled)
  return Image.fromarray(np.rint(mixed * 255).astype(np.uint8))


def _legend(sheet: Image.Image, pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
  """The colours from the least to the most attended place."""
  _write(pen, 'least', left, top, PANEL)
  left += round(_font().getlength('least ')) + 4
  shades = overlays.blend(np.full(_BAR[0], 0.75), np.linspace(0, 1, _BAR[0]))
  bar = np.broadcast_to(np.rint(shades * 255).astype(np.uint8), (*_BAR[::-1], 3))
  sheet.paste(Image.fromarray(bar.copy()), (left, top + 5))
  _write(pen, 'most, per map', left + _BAR[0] + 8, top, PANEL)


def _write(pen: ImageDraw.ImageDraw, text: str, left: int, top: int, room: int) -> None:
  """A line of text, its middle left out where it is too long."""
  font = _font()
  text = ' '.join(text.split())
  if font.getlength(text) > room:
    kept = len(text)
    while kept > 2 and font.getlength(_shortened(text, kept)) > room:
      kept -= 1
    text = _shortened(text, kept)
  pen.text((left, top), text, fill=_INK, font=font)


def _shortened(text: str, kept: int) -> str:
  """The first and the last characters, `kept` in all."""
  return text[:kept - kept // 2] + '…' + text[len(text) - kept // 2:]


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
  """Matplotlib's, which is there wherever Matplotlib is."""
  return ImageFont.truetype(
      pathlib.Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'), _SIZE)
