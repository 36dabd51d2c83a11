"""The page as a browser reads it, and the pictures on it."""

import html.parser

import numpy as np
from PIL import Image
import pytest

from attnmel_jax.share import predictions_page

NAME = '<script>alert("1")</script> & \'#?%é'
SETTINGS = {
    'class_names': ['other', 'mel<b>'], 'calibrated': True, 'synthetic': False,
    'shared_maps': 1, 'threshold': None, 'runs': [{
        'run': '/runs/<i>x', 'model': 'attnmel_cnn', 'roi': 'lesion',
        'dataset': 'isic2017', 'step': 4, 'temperature': 1.25, 'crop_ratio': 0.8,
        'resize_size': 256, 'image_size': 224, 'normalisation': 'isic2017',
        'tta': False}]}
PANEL, MARGIN = predictions_page.PANEL, predictions_page.MARGIN
TOP = MARGIN + predictions_page._LINE  # of the panels


class _Reader(html.parser.HTMLParser):
  """Tags, attributes and text as a browser takes them."""

  def __init__(self):
    super().__init__()
    self.tags, self.attributes, self.text = [], {}, []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    for name, value in attrs:
      self.attributes.setdefault((tag, name), []).append(value)

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture
def page(tmp_path):
  def read(rows, unreadable=(), **settings):
    predictions_page.write(tmp_path / 'index.html', rows, unreadable,
                           SETTINGS['class_names'], SETTINGS | settings)
    reader = _Reader()
    reader.feed((tmp_path / 'index.html').read_text('utf-8'))
    return reader
  return read


def test_names_are_text_wherever_they_stand(page):
  rows = [predictions_page.Row(NAME, f'/in/{NAME}.jpg', f'overlays/{NAME}.png',
                               (0.25, 0.75)),
          predictions_page.Row('b', '/in/b.jpg', 'overlays/b.png', (0.5, 0.5))]
  reader = page(rows, [(f'{NAME}.jpg', '<u>cannot</u>')])
  assert reader.tags.count('script') == 1
  # Nothing is loaded from elsewhere.
  assert not {'b', 'i', 'u', 'link', 'iframe'} & set(reader.tags)
  assert ('script', 'src') not in reader.attributes
  assert NAME in reader.text
  assert f'{NAME}.jpg: <u>cannot</u>' in reader.text
  # Relative, and every character that an address gives a meaning is encoded.
  assert reader.attributes['img', 'src'] == [
      'overlays/%3Cscript%3Ealert%28%221%22%29%3C/script%3E%20%26%20%27%23%3F%25%C3%A9'
      '.png', 'overlays/b.png']
  assert reader.attributes['img', 'alt'][0] == f'{NAME} and its heat maps'
  assert reader.attributes['article', 'data-best'] == ['1', '0']
  assert reader.attributes['span', 'style'] == [
      'width:25.0%', 'width:75.0%', 'width:50.0%', 'width:50.0%']


def test_the_page_says_what_its_numbers_are(page):
  def text(overlay='overlays/a.png', **settings):
    rows = [predictions_page.Row('a', 'a.jpg', overlay, (1.0, 0.0))]
    return ' '.join(' '.join(page(rows, **settings).text).split())

  assert 'synthetic' not in text() and 'no medical device' in text()
  assert 'Trained on synthetic images' in text(synthetic=True)
  assert 'mean of 1 of the 2 runs' in text(runs=SETTINGS['runs'] * 2)
  assert 'Each picture' in text() and 'Each picture' not in text(overlay='')
  assert '1.250' in text() and '1.250' not in text(calibrated=False)
  assert 'threshold' not in text()
  assert "Likelier: other. At the run's threshold: mel<b>." in text(threshold=0.0)


def _draw(tmp_path, maps, *, title='a', caption='b', shade=180):
  path = tmp_path / 'deep' / 'o.png'
  predictions_page.draw(np.full((32, 32, 3), shade, np.uint8), maps, path, title=title,
                        caption=caption)
  with Image.open(path, formats=['PNG']) as picture:
    return np.asarray(picture.convert('RGB')).astype(float)


def _panel(picture, number):
  left = MARGIN + number * (PANEL + MARGIN)
  return picture[TOP:TOP + PANEL, left:left + PANEL]


def test_maps_follow_the_photograph_bright_where_they_are_high(tmp_path):
  ramp = np.repeat([np.linspace(0.2, 0.3, 8)], 8, axis=0)  # rescaled to 0 and 1
  picture = _draw(tmp_path, {'pool3': ramp, 'pool4': 0.5 - ramp.T}, shade=191)
  assert picture.shape[1] == 4 * MARGIN + 3 * PANEL
  assert (_panel(picture, 0) == 191).all()
  third = PANEL // 3
  pool3, pool4 = (_panel(picture, number).mean(axis=2) for number in (1, 2))
  assert pool3[:, -third:].min() > pool3[:, :third].max()
  assert pool4[:third].min() > pool4[-third:].max()
  assert _draw(tmp_path, {}).shape[1] == 2 * MARGIN + PANEL


def test_long_names_stay_in_their_line(tmp_path):
  # Wide letters: kept whole, they would reach into the next panel.
  flat = {'pool3': np.zeros((2, 2))}
  long = _draw(tmp_path, flat, title='W' * 500, caption='W\n' * 400)
  inked = (long != _draw(tmp_path, flat, title='', caption='')).any(axis=2)
  assert inked.any()
  assert not inked[:, :MARGIN].any()
  assert not inked[:, -MARGIN + 1:].any()
  caption = inked[TOP + PANEL:]
  assert caption.any()
  assert not caption[:, MARGIN + PANEL + 2:].any()
  # The ends of a name, which tell files apart, are kept.
  assert predictions_page._shortened('abcdefgh', 5) == 'abc…gh'
