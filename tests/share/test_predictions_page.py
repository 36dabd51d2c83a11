import html.parser

import pytest

from attnmel_jax.share import predictions_page

NAME = '<script>alert("1")</script> & \'#?%é'
SETTINGS = {
    'class_names': ['other', 'mel<b>'], 'calibrated': True, 'synthetic': False,
    'shared_maps': 1, 'runs': [{
        'run': '/runs/<i>x', 'model': 'attnmel_cnn', 'roi': 'lesion',
        'dataset': 'isic2017', 'step': 4, 'temperature': 1.25, 'crop_ratio': 0.8,
        'resize_size': 256, 'image_size': 224, 'normalisation': 'isic2017',
        'tta': False}]}


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
  assert not {'b', 'i', 'u'} & set(reader.tags)
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


def test_nothing_is_loaded_from_elsewhere(page):
  reader = page([predictions_page.Row('a', 'a.jpg', '', (1.0, 0.0))])
  assert not {'link', 'iframe', 'img'} & set(reader.tags)
  assert ('script', 'src') not in reader.attributes


def test_synthetic_training_images_and_the_mean_of_runs_are_said(page):
  rows = [predictions_page.Row('a', 'a.jpg', 'overlays/a.png', (1.0, 0.0))]

  def text(**settings):
    return ' '.join(' '.join(page(rows, **settings).text).split())

  assert 'synthetic' not in text()
  assert 'Trained on synthetic images' in text(synthetic=True)
  assert 'no medical device' in text()
  assert 'mean of 1 of the 2 runs' in text(runs=SETTINGS['runs'] * 2)
  assert '1.250' in text()
  assert '1.250' not in text(calibrated=False)
