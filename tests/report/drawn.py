"""What is asked of every drawn figure: nothing cut off, nothing on top of another."""

import itertools

from matplotlib.text import Text
import numpy as np
from PIL import Image


def texts(figure):
  """The visible texts of a figure and their boxes in pixels."""
  figure.draw_without_rendering()
  renderer = figure.canvas.get_renderer()
  # Ticks beyond the ends of an axis are there, but not drawn.
  beyond = {tick.label1 for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
            if not min(axis.get_view_interval()) <= tick.get_loc() <= max(
                axis.get_view_interval())}
  found = [text for text in figure.findobj(Text) if text not in beyond
           and text.get_visible() and text.get_text().strip()
           and (text.axes is None or text.axes.get_visible())]
  return [(text.get_text(), text.get_window_extent(renderer)) for text in found]


def check_texts(figure):
  """All texts lie inside the figure, and none over another."""
  found = texts(figure)
  assert found
  width, height = figure.canvas.get_width_height()
  for text, box in found:
    assert box.x0 >= -1 and box.y0 >= -1, text
    assert box.x1 <= width + 1 and box.y1 <= height + 1, text
  for (text, box), (other, beside) in itertools.combinations(found, 2):
    across = min(box.x1, beside.x1) - max(box.x0, beside.x0)
    up = min(box.y1, beside.y1) - max(box.y0, beside.y0)
    # The boxes of lines that follow each other touch by a pixel or two.
    assert across <= 1 or up <= 2, f'{text!r} lies over {other!r}'


def check_files(folder, stem):
  """PNG and PDF are there, and the PNG is not blank; returns its size in pixels."""
  assert (folder / f'{stem}.pdf').read_bytes().startswith(b'%PDF')
  with Image.open(folder / f'{stem}.png', formats=['PNG']) as picture:
    pixels = np.asarray(picture.convert('L'))
    assert pixels.min() < 80 and np.mean(pixels < 250) > 0.005, stem
    return picture.size
