import numpy as np
from PIL import Image
import pytest

from attnmel_jax.share import panels


def _draw(tmp_path, maps, *, title='a', caption='b', shade=180):
  path = tmp_path / 'deep' / 'o.png'
  panels.draw(np.full((32, 32, 3), shade, np.uint8), maps, path, title=title,
              caption=caption)
  with Image.open(path, formats=['PNG']) as picture:
    return np.asarray(picture.convert('RGB')).astype(float)


def _panel(picture, number):
  left = panels.MARGIN + number * (panels.PANEL + panels.MARGIN)
  top = panels.MARGIN + panels._LINE
  return picture[top:top + panels.PANEL, left:left + panels.PANEL]


def test_the_photograph_comes_first_and_maps_are_bright_where_they_say(tmp_path):
  right = np.repeat([[0.2, 0.2, 0.3, 0.3]], 4, axis=0)  # rescaled to 0 and 1
  picture = _draw(tmp_path, {'pool3': right, 'pool4': 1 - right.T})
  assert picture.shape[1] == 4 * panels.MARGIN + 3 * panels.PANEL
  assert (_panel(picture, 0) == 180).all()
  third = panels.PANEL // 3
  pool3 = _panel(picture, 1).mean(axis=2)
  assert pool3[:, -third:].min() > pool3[:, :third].max() + 60
  pool4 = _panel(picture, 2).mean(axis=2)
  assert pool4[:third].min() > pool4[-third:].max() + 60


def test_the_legend_has_the_colours_of_the_maps(tmp_path):
  ramp = np.repeat([np.linspace(0, 1, 8)], 8, axis=0)
  picture = _draw(tmp_path, {'pool4': ramp}, shade=191)  # the legend's grey
  right = _panel(picture, 1)[panels.PANEL // 2]
  below = picture[panels.MARGIN + panels._LINE + panels.PANEL:]
  left, top = 2 * panels.MARGIN + panels.PANEL, panels._LINE + 5
  bar = below[top + panels._BAR[1] // 2, left:left + panels.PANEL]
  inked = np.flatnonzero(np.ptp(bar, axis=1) > 20)  # the text is black
  assert np.abs(bar[inked[0]] - right[0]).max() < 30
  assert np.abs(bar[inked[-1]] - right[-1]).max() < 30
  assert np.abs(right[0] - right[-1]).max() > 90


def test_without_maps_there_is_the_photograph_alone(tmp_path):
  picture = _draw(tmp_path, {})
  assert picture.shape[1] == 2 * panels.MARGIN + panels.PANEL
  assert (_panel(picture, 0) == 180).all()


def test_long_names_stay_in_their_line(tmp_path):
  # Wide letters: kept whole, they would reach into the next panel.
  flat = {'pool3': np.zeros((2, 2))}
  long = _draw(tmp_path, flat, title='W' * 500, caption='W\n' * 400)
  short = _draw(tmp_path, flat, title='', caption='')
  inked = (long != short).any(axis=2)
  assert inked.any()
  assert not inked[:, :panels.MARGIN].any()
  assert not inked[:, -panels.MARGIN + 1:].any()
  caption = inked[panels.MARGIN + panels._LINE + panels.PANEL:]
  assert caption.any()
  assert not caption[:, panels.MARGIN + panels.PANEL + 2:].any()


def test_the_ends_of_a_long_name_are_kept():
  assert panels._shortened('abcdefgh', 5) == 'abc…gh'
  assert panels._shortened('abcdefgh', 2) == 'a…h'


def test_photographs_are_uint8(tmp_path):
  with pytest.raises(ValueError, match='not uint8'):
    panels.draw(np.zeros((8, 8, 3)), {}, tmp_path / 'o.png', title='', caption='')
