import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from attnmel_jax.evaluation import overlays

ROOT = pathlib.Path(__file__).parents[2]
SIDE = 32


def _input(count):
  images = np.full((count, SIDE, SIDE, 3), 180, np.uint8)
  lesion = np.zeros((count, SIDE, SIDE), np.uint8)
  lesion[:, 8:24, 8:24] = 255
  maps = {'pool3': np.zeros((count, 4, 4), np.float32),
          'pool4': np.zeros((count, 2, 2), np.float32)}
  maps['pool3'][:, :, 2:] = 1      # right half
  maps['pool4'][:, 1] = 1          # lower half
  return images, maps, lesion, np.ones(count, bool)


def _picture(path):
  with Image.open(path, formats=['PNG']) as picture:
    return np.asarray(picture.convert('RGB')).astype(float)


def _panels(path, rows, columns):
  """The drawn squares [rows][columns] as arrays, found by their white frames."""
  picture = _picture(path)
  pitch = (overlays.COLUMN_INCHES + overlays._GAP_INCHES) * overlays.DPI
  side = overlays.COLUMN_INCHES * overlays.DPI
  left, bottom = 0.3 * overlays.DPI, len(picture) - 0.08 * overlays.DPI
  inner = slice(4, int(side) - 4)
  return [[picture[int(bottom - (rows - 1 - r) * pitch - side):,
                   int(left + c * pitch):][inner, inner]
           for c in range(columns)] for r in range(rows)]


def test_attention_lies_where_the_map_says(tmp_path):
  images, maps, _, _ = _input(2)
  images[0] = 60
  maps['pool3'][0] = 1 - maps['pool3'][0]  # left half
  path = tmp_path / 'new' / 'o.png'
  overlays.attention_figure(images, maps, None, None, ['a', 'b'], path, heading='x')
  assert os.listdir(path.parent) == ['o.png']
  photographs, pool3, pool4 = _panels(path, 3, 2)
  assert (photographs[0] == 60).all() and (photographs[1] == 180).all()
  third = len(pool3[0]) // 3

  def brighter(high, low):
    return high.mean(axis=2).min() > low.mean(axis=2).max() + 60

  assert brighter(pool3[0][:, :third], pool3[0][:, -third:])
  assert brighter(pool3[1][:, -third:], pool3[1][:, :third])
  assert brighter(pool4[1][-third // 2:], pool4[1][:third // 2])


def test_the_outline_follows_the_mask_in_every_row(tmp_path):
  images, maps, lesion, _ = _input(3)
  lesion[2] = 0
  path = tmp_path / 'o.png'
  overlays.attention_figure(images, maps, lesion, np.array([True, False, True]),
                            ['a', 'b', 'c'], path, heading='')
  plain = tmp_path / 'plain.png'
  overlays.attention_figure(
      images, maps, None, None, ['a', 'b', 'c'], plain, heading='')
  drawn, bare = _panels(path, 3, 3), _panels(plain, 3, 3)
  for row in range(3):
    changed = (drawn[row][0] != bare[row][0]).any(axis=2)
    ys, xs = np.nonzero(changed)
    box = np.array([ys.min(), ys.max(), xs.min(), xs.max()]) / len(changed)
    np.testing.assert_allclose(box, [0.25, 0.75, 0.25, 0.75], atol=0.03)
    assert not changed[len(changed) // 2, len(changed) // 2]
  # Not annotated and annotated as empty: a word on the photograph alone.
  for column in (1, 2):
    assert (drawn[0][column] != bare[0][column]).any()
    for row in (1, 2):
      assert (drawn[row][column] == bare[row][column]).all()
  assert (drawn[0][1] != drawn[0][2]).any()


def test_masks_of_nothing_and_all_flat_maps_and_long_titles_in_pdf(tmp_path):
  images, maps, lesion, has_lesion = _input(2)
  lesion[0], lesion[1] = 0, 255
  maps['pool3'][:] = 0.5
  title = 'a_very_long_identifier_of_an_image seborrheic_keratosis p=0.83'
  path = tmp_path / 'o.pdf'
  overlays.attention_figure(
      images, maps, lesion, has_lesion, [title] * 2, path, heading='')
  assert path.read_bytes().startswith(b'%PDF')


def test_a_model_without_gates_has_photographs_only(tmp_path):
  images, _, lesion, has_lesion = _input(2)
  path = tmp_path / 'o.png'
  overlays.attention_figure(
      images, {}, lesion, has_lesion, ['a', 'b'], path, heading='')
  height, width, _ = _picture(path).shape
  assert width > height


@pytest.mark.slow
def test_neither_pyplots_global_state_nor_jax_is_loaded():
  code = ('import sys\n'
          'from attnmel_jax.evaluation import overlays, score_summary\n'
          'assert not {"matplotlib.pyplot", "jax"} & set(sys.modules)')
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


def test_arrays_that_do_not_fit_raise(tmp_path):
  images, maps, lesion, annotated = _input(2)
  path = tmp_path / 'o.png'
  for changes, message in (
      ({'images': images / 255.0}, 'not uint8'),
      ({'images': images[:0]}, 'not uint8'),
      ({'images': images[:, :9]}, 'not uint8'),
      ({'titles': ['a']}, 'not all for 2'),
      ({'maps': {'pool3': maps['pool3'][:1]}}, 'not all for 2'),
      ({'lesion': lesion[:, :9]}, 'do not fit'),
      ({'lesion': None}, 'do not fit')):
    arguments = {'images': images, 'maps': maps, 'lesion': lesion,
                 'has_lesion': annotated, 'titles': ['a', 'b'], 'path': path}
    with pytest.raises(ValueError, match=message):
      overlays.attention_figure(**(arguments | changes), heading='')
  assert not os.listdir(tmp_path)


def test_probabilities_are_drawn_as_they_are(tmp_path):
  images, _, lesion, annotated = _input(2)
  low = np.full((2, SIDE, SIDE), 0.1)
  low[:, :, SIDE // 2:] = 0.2
  path = tmp_path / 'o.png'
  arguments = (lesion, annotated, ['a', 'b'], path)
  overlays.attention_figure(images, {'U-Net': low}, *arguments, heading='')
  rescaled = np.ptp(_panels(path, 2, 2)[1][0][:20].mean(axis=2))
  overlays.probability_figure(images, {'U-Net': low}, *arguments, heading='')
  as_it_is = np.ptp(_panels(path, 2, 2)[1][0][:20].mean(axis=2))
  assert 0 < as_it_is < rescaled / 4
