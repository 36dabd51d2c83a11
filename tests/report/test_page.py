"""report.html: what it holds, what it escapes, what it leaves out."""

import base64
import hashlib
from html import parser
import io
import json
import re

from PIL import Image
import pytest

from attnmel_jax.report import gallery
from attnmel_jax.report import groups
from attnmel_jax.report import page
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.tables import sections
from attnmel_jax.report.tables import table as table_lib
from tests.report import conftest
from tests.report import run_folders

NASTY = '</script><script>alert(1)</script><!-- "&\u2028'


class _Reader(parser.HTMLParser):
  """Tags with their attributes, and the text within style and script."""

  def __init__(self):
    super().__init__()
    self.tags, self.raw, self.words = [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    inside = self.tags and self.tags[-1][0] in ('script', 'style')
    (self.raw if inside and data.strip() else self.words).append(data)

  def of(self, name):
    """Attributes of all tags of that name."""
    return [attrs for tag, attrs in self.tags if tag == name]


def _read(html):
  reader = _Reader()
  reader.feed(html)
  return reader


def _data(html):
  found = re.search(
      r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
  return json.loads(found[1])


def _fingerprint(prepared):
  return conftest.open_split(prepared, 'train').fingerprint


@pytest.fixture
def rendered(make_run, rows, found, grouped, prepared, tmp_path):
  """Renders the page of two runs with maps of prepared images."""
  maps = conftest.maps(9, 'pool4')
  alike = {'maps': maps, 'learning_rate': 0.5, 'pretrained': '/secret/x.pth',
           'fingerprints': {'train': _fingerprint(prepared)}}
  make_run('first', rows, **alike)
  make_run('second', rows, roi='lesion', **alike)
  folder = tmp_path / 'figures'
  plotting.save_chart(plotting.blank(1, 1), folder, 'chart')
  plotting.save(plotting.blank(9, 6), folder, 'photographs')
  entries = [plotting.Entry('Curve', 'Of it.', 'chart', chart=True),
             plotting.Entry('Figure 3.3', 'Maps of all.', 'photographs'),
             plotting.Entry('Masks', 'There are none.')]

  def render(tables=(), left_out=(), **asked):
    own = sections.Section('Table 9', ['A line.'], list(tables), [])
    plan = run_folders.plan(**{'data_dir': prepared, **asked})
    return page.render(found(), [own], entries, grouped(), left_out, plan, folder)

  return render


def _table(title='T', **head):
  cell = table_lib.Cell
  return table_lib.Table(
      table_lib.Head('t', title, **{'context': ('Shared.',), 'notes': (
          table_lib.Bold('Mind.'),)} | head),
      ('system', 'AUC'), [[cell('A'), cell('0.8 [0.7, 0.9]')]])


def test_everything_of_the_report_is_in_the_page(rendered, monkeypatch):
  html = rendered([_table(), _table('U')], ['gone: it is damaged'])
  assert html.count('<p>Shared.</p>') == 1
  for text in ('<h3>Table 9</h3>', '<p>A line.</p>', '<strong>Mind.</strong>',
               '<th scope="row">A</th>', '<td>0.8 [0.7,\N{NO-BREAK SPACE}0.9]</td>',
               '<li>gone: it is damaged</li>', 'Masks: There are none.',
               '2 finished runs', 'melanoma against other: 9 of 9 are shown.',
               'Curve. Its numbers: figures/chart.csv'):
    assert text in html, text
  assert html.count('src="data:image/svg+xml;base64,') == 1
  monkeypatch.setattr(page, '_CHART', 10)  # a larger one is shown as PNG
  html = rendered()
  assert 'svg+xml' not in html and html.count('src="data:image/png;base64,') == 1


def test_figures_of_photographs_are_in_the_page_as_far_as_they_fit(
    rendered, monkeypatch):
  html = rendered()
  picture = next(attrs for attrs in _read(html).of('img') if attrs['alt'].startswith(
      'Figure 3.3. In full size: figures/photographs.png'))
  content = base64.b64decode(picture['src'].removeprefix('data:image/jpeg;base64,'))
  with Image.open(io.BytesIO(content)) as image:
    assert image.size == (page._PICTURE_WIDTH, round(page._PICTURE_WIDTH * 6 / 9))
  assert '<figcaption>Maps of all.</figcaption>' in html
  monkeypatch.setattr(page, '_PICTURES', 100)
  html = rendered()
  assert 'Too large for this page: figures/photographs.png' in html
  assert 'Figure 3.3. In' not in html and 'Maps of all.' in html
  assert 'Maps of all.' not in rendered(photographs=False)


def test_what_was_run_is_what_differs(rendered, prepared):
  html = rendered()
  shared = re.search(r'All runs differ from the defaults.*?</p>', html, re.S)[0]
  assert '<code>learning_rate=0.5</code>' in shared
  # A path is one of a single machine.
  assert '<code>pretrained=&#39;x.pth&#39;</code>' in shared and '/secret' not in html
  assert 'roi' not in shared
  assert ('<th scope="row">second</th><td>roi=&#39;lesion&#39;</td><td>7</td>'
          '<td>cccccccccccc</td>' in html)
  assert '<th scope="row">first</th><td>nothing</td>' in html
  assert f'<td>{_fingerprint(prepared)}</td><td>all</td>' in html


def test_names_from_outside_are_text(rendered, monkeypatch):
  monkeypatch.setattr(groups.Group, 'heading', NASTY)
  plain = _read(rendered())
  html = rendered([_table(NASTY, context=(NASTY,), notes=(table_lib.Bold(NASTY),))],
                  [NASTY])
  reader = _read(html)
  # Nothing but cells, rows and paragraphs is new: no tag of theirs.
  assert len(reader.of('script')) == len(plain.of('script')) == 2
  assert '<!--' not in html and 'alert' not in ''.join(
      text for text in reader.raw if 'use strict' in text)
  assert ''.join(reader.words).count(NASTY) >= 4
  assert {attrs['aria-label'] for attrs in reader.of('div') if attrs.get(
      'aria-label') == NASTY}
  assert _data(html)['sets'][0]['title'].startswith(NASTY)
  assert '\u2028' not in re.search(r'id="data">(.*?)</script>', html, re.S)[1]


def test_ids_of_images_are_text_too(rendered, monkeypatch):
  own = gallery.of_group

  def of_group(*args, **kwargs):
    shown = own(*args, **kwargs)
    for image in shown.content['images']:
      image['id'] = NASTY
    return shown

  monkeypatch.setattr(gallery, 'of_group', of_group)
  html = rendered()
  assert len(_read(html).of('script')) == 2 and '<!--' not in html
  assert _data(html)['sets'][0]['images'][0]['id'] == NASTY


def test_only_the_page_s_own_script_and_style_may_run(rendered):
  html = rendered()
  reader = _read(html)
  policy = next(attrs['content'] for attrs in reader.of('meta')
                if attrs.get('http-equiv') == 'Content-Security-Policy')
  assert "default-src 'none'" in policy and 'unsafe' not in policy
  for tag, directive in (('style', 'style-src'), ('script', 'script-src')):
    text = re.search(rf'<{tag}>(.*?)</{tag}>', html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{directive} 'sha256-{digest}'" in policy
  # No network: nothing is fetched, and no attribute runs or styles anything.
  for _, attrs in reader.tags:
    assert not [name for name in attrs if name.startswith('on') or name == 'style']
    for name in ('src', 'href'):
      assert attrs.get(name, 'data:').startswith(('data:', '#'))
  assert not re.search(r'https?://', html)


def test_without_images_there_is_no_photograph_map_or_name(rendered, found, tmp_path):
  html = rendered(photographs=False)
  ids = found()[0].folder / 'predictions' / 'test.csv'
  assert 'ISIC_' in ids.read_text() and 'ISIC_' not in html
  assert 'data:image/jpeg' not in html and 'id="data"' not in html
  assert 'Left out, as all photographs were' in html
  assert html.count('<script') == 0
  shown = rendered()
  assert shown.count('data:image/jpeg') == 1 + 9 and 'ISIC_' in shown
  html = rendered(data_dir=tmp_path)
  assert 'the photographs are missing' in html and 'id="data"' not in html


def test_a_page_stays_below_its_limit(rendered, monkeypatch):
  monkeypatch.setattr(page, '_PICTURES', 0)
  whole = len(rendered().encode())
  bare = len(rendered(photographs=False).encode())
  limit = bare + page._ROOM + (whole - bare) // 2
  monkeypatch.setattr(page, 'LIMIT', limit)
  html = rendered()
  assert len(html.encode()) <= limit
  number = int(re.search(r'(\d) of 9 are shown\. First those that', html)[1])
  assert 1 <= number < 9 and html.count('data:image/jpeg') == number


def test_every_field_is_labelled_and_every_picture_described(rendered):
  reader = _read(rendered())
  labelled = {attrs['for'] for attrs in reader.of('label') if 'for' in attrs}
  fields = {attrs['id'] for tag in ('select', 'input') for attrs in reader.of(tag)}
  assert fields - {'outlined'} == labelled  # the other one stands within its label
  assert all('alt' in attrs for attrs in reader.of('img'))
  assert reader.of('html') == [{'lang': 'en'}]
  assert len(reader.of('h1')) == 1
  ids = [attrs['id'] for _, attrs in reader.tags if 'id' in attrs]
  assert len(ids) == len(set(ids))
  links = {attrs['href'][1:] for attrs in reader.of('a')}
  assert links <= set(ids)
