"""What the page's gallery holds: which images, which maps, how they decided."""

import base64
import io
import re

import numpy as np
from PIL import Image
import pytest

from attnmel_jax.report import gallery
from tests.report import conftest

MANY = 10**9


def _gallery(grouped, prepared, budget=MANY):
  (group,) = grouped()
  return gallery.of_group(group, prepared, budget=budget)


def _picture(uri):
  kind, content = uri.split(',')
  assert kind == 'data:image/jpeg;base64'
  with Image.open(io.BytesIO(base64.b64decode(content)), formats=['JPEG']) as picture:
    return np.asarray(picture).astype(int)


def test_images_maps_and_decisions_belong_together(make_run, grouped, rows, prepared):
  ids, labels, probabilities = rows
  maps = conftest.maps(9)
  make_run('a', rows, maps=maps)
  make_run('b', rows, maps=conftest.maps(9, seed=1), roi='lesion')
  shown = _gallery(grouped, prepared)
  content = shown.content
  assert (shown.shown, shown.total, shown.notes) == (9, 9, [])
  assert [image['id'] for image in content['images']] == sorted(ids)
  assert [one['name'] for one in content['systems']] == [
      'AttnMel-CNN', 'AttnMel-CNN-Lesion']
  data = conftest.open_split(prepared, 'test')
  system = content['systems'][0]
  assert [one['name'] for one in system['maps']] == ['pool-3', 'pool-4']
  for i, image in enumerate(content['images']):
    row = list(ids).index(image['id'])
    assert image['label'] == labels[row]
    assert system['probabilities'][i] == probabilities[row].tolist()
    assert system['decided'][i] == (probabilities[row, 1] >= 0.5)
    cells = np.frombuffer(base64.b64decode(system['maps'][0]['values'][i]), np.uint8)
    own = maps['pool3'][row].astype(float)
    expected = 255 * (own - own.min()) / (own.max() - own.min())
    assert np.abs(cells.reshape(4, 4) - expected).max() <= 0.5 + 1e-4
    # The part of the photograph that the network saw.
    seen = data.load(row)['image'][2:34, 2:34]
    assert np.abs(_picture(image['photo']) - seen).mean() < 8


def test_errors_come_first_where_not_all_images_fit(make_run, grouped, rows, prepared):
  make_run('a', rows, maps=conftest.maps(9))
  whole = _gallery(grouped, prepared).content['images']
  size = max(len(image['photo']) + len(image['outline']) for image in whole)
  shown = _gallery(grouped, prepared, budget=4 * (size + 400))
  assert 3 <= shown.shown < 9 and shown.total == 9
  ids = [image['id'] for image in shown.content['images']]
  wrong = rows[0][::3].tolist()
  assert set(wrong) <= set(ids)
  rest = [name for name in sorted(rows[0]) if name not in wrong]
  assert [name for name in ids if name not in wrong] == rest[:len(ids) - 3]
  assert _gallery(grouped, prepared, budget=1).shown == 1  # never none


@pytest.mark.parametrize('names, labels, decided, expected', [
    (('other', 'melanoma'), [0, 0, 1, 1], [0, 1, 0, 1],
     {'missed melanoma': [2], 'false alarm': [1], 'found melanoma': [3],
      'rightly other': [0]}),
    (('a_b', 'c', 'd'), [0, 1, 2, 2], [0, 2, 0, 2],
     {'misclassified a b': [], 'misclassified c': [1], 'misclassified d': [2],
      'rightly classified': [0, 3]})])
def test_every_decision_is_of_one_kind(names, labels, decided, expected):
  codes = gallery.decision_codes(np.array(labels), np.array(decided), len(names))
  of = {kind.title: [i for i, code in enumerate(codes) if code in kind.codes]
        for kind in gallery.kinds(names)}
  assert of == {'all images': [0, 1, 2, 3], 'all errors': [1, 2]} | expected


def test_an_outline_runs_along_the_border_of_the_mask():
  def points(mask):
    return np.array(re.findall(r'(-?\d+) (-?\d+)', gallery.outline(mask)), int) / 2

  mask = np.zeros((64, 64), np.uint8)
  assert gallery.outline(mask) == ''
  mask[10:21, 30:51] = 255
  path = gallery.outline(mask)
  assert path.count('M') == path.count('Z') == 1
  # Pixel i reaches from i to i + 1.
  np.testing.assert_array_equal(points(mask).min(axis=0), [30, 10])
  np.testing.assert_array_equal(points(mask).max(axis=0), [51, 21])
  probable = np.where(mask > 0, 128, 127).astype(np.uint8)  # above one half is lesion
  assert gallery.outline(probable) == path
  whole = points(np.full((64, 64), 255, np.uint8))
  assert whole.min() == 0 and whole.max() == 64


def test_a_large_photograph_is_made_smaller():
  image = np.zeros((448, 448, 3), np.uint8)
  image[:224] = 200
  picture = _picture(gallery.photograph(image))
  assert picture.shape == (256, 256, 3)
  assert abs(picture[:100].mean() - 200) < 3 and picture[156:].mean() < 3


def test_a_constant_map_marks_everything(make_run, grouped, rows, prepared):
  make_run('a', rows, maps={'pool4': np.full((9, 2, 2), 0.3, np.float32)})
  (one,) = _gallery(grouped, prepared).content['systems'][0]['maps']
  assert one['values'][0] == base64.b64encode(b'\xff' * 4).decode()
