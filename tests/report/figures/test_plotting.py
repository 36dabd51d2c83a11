import csv

from matplotlib import colors
import numpy as np

from attnmel_jax.report import names
from attnmel_jax.report.figures import plotting
from tests.report import conftest
from tests.report import drawn


def test_the_styles_of_the_systems_of_the_thesis():
  together = plotting.styles(names.CLASSIFIERS)
  for part in zip(*together.values(), strict=True):  # colour, dashes, marker
    assert len(set(part)) == len(names.CLASSIFIERS)
  for name, style in together.items():
    assert plotting.styles([name]) == {name: style}  # whatever stands beside it
    linear = (np.array(colors.to_rgb(style.colour)) / 1.055 + 0.052) ** 2.4
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) > 2  # it stands out from white


def test_others_take_what_is_free_and_then_begin_anew():
  found = plotting.styles(['VGG-16', 'VGG-16 #2', 'own'])
  assert len(set(found.values())) == 3
  many = plotting.styles([*names.CLASSIFIERS, *(f'own {i}' for i in range(9))])
  assert len(many) == 17 and set(many.values()) == set(
      plotting.styles(names.CLASSIFIERS).values())


def test_a_chart_has_its_size_its_texts_and_is_the_same_each_time(tmp_path):
  figure = plotting.blank(3, 2)
  axis = plotting.place(figure, 0.5, 0.25, 1.5, 1)
  np.testing.assert_allclose(axis.get_position().bounds, [1 / 6, 1 / 8, 1 / 2, 1 / 2])
  axis.set_title('a <b> & c')
  axis.plot([0, 1], [0, 1], linewidth=9)
  for folder in ('a', 'b'):
    plotting.save_chart(figure, tmp_path / folder, 'x')
  assert drawn.check_files(tmp_path / 'a', 'x') == (600, 400)
  for kind in ('pdf', 'png', 'svg'):
    content = (tmp_path / 'a' / f'x.{kind}').read_bytes()
    assert content == (tmp_path / 'b' / f'x.{kind}').read_bytes(), kind
  assert b'a &lt;b&gt; &amp; c</text>' in content and b'width="216pt"' in content
  plotting.save(figure, tmp_path / 'c', 'x')
  assert sorted(path.name for path in (tmp_path / 'c').iterdir()) == ['x.pdf', 'x.png']


def test_tables_give_floats_back(tmp_path):
  plotting.save_table(('name', 'value'), [('a', 0.1 + 0.2)], tmp_path, 'x')
  with (tmp_path / 'x.csv').open() as file:
    (row,) = csv.DictReader(file)
  assert float(row['value']) == 0.1 + 0.2


def test_an_entry_links_picture_print_and_numbers():
  text = conftest.text([plotting.Entry('Title', 'Words.', 'x', chart=True)])
  assert text == (
      '### Title\n\n![Title](figures/x.png)\n\nWords. [PDF](figures/x.pdf), '
      '[SVG](figures/x.svg), [numbers](figures/x.csv)\n')
  text = conftest.text([plotting.Entry('T', 'W.', 'x')])
  assert 'numbers' not in text and 'svg' not in text
  assert conftest.text([plotting.Entry('T', 'W.')]) == '### T\n\nW.\n'
  assert conftest.text([plotting.Entry('', 'W.')]) == 'W.\n'
