import csv

from matplotlib import colors
import numpy as np
import pytest

from attnmel_jax.report import names
from attnmel_jax.report.figures import plotting
from tests.report import conftest
from tests.report import drawn


def test_a_system_looks_the_same_beside_whatever_others():
  together = plotting.styles(names.CLASSIFIERS)
  for name in names.CLASSIFIERS:
    assert plotting.styles([name]) == {name: together[name]}


@pytest.mark.parametrize('part', range(3))
def test_systems_differ_in_colour_dashes_and_marker_each(part):
  found = [style[part] for style in plotting.styles(names.CLASSIFIERS).values()]
  assert len(set(found)) == len(names.CLASSIFIERS)


def test_every_line_stands_out_from_white():
  for style in plotting.styles(names.CLASSIFIERS).values():
    linear = (np.array(colors.to_rgb(style.colour)) / 1.055 + 0.052) ** 2.4
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) > 2


def test_others_take_what_is_free_and_then_begin_anew():
  labels = ['Mel-CNN', 'Mel-CNN #2', 'own']
  found = plotting.styles(labels)
  assert len(set(found.values())) == 3
  many = plotting.styles([*names.CLASSIFIERS, *(f'own {i}' for i in range(9))])
  assert len(many) == 17 and set(many.values()) == set(
      plotting.styles(names.CLASSIFIERS).values())


def test_files_are_whole_and_have_the_size_that_was_asked_for(tmp_path):
  figure = plotting.blank(3, 2)
  axis = plotting.place(figure, 0.5, 0.25, 1.5, 1)
  axis.plot([0, 1], [0, 1], linewidth=9)
  np.testing.assert_allclose(axis.get_position().bounds, [1 / 6, 1 / 8, 1 / 2, 1 / 2])
  plotting.save(figure, tmp_path / 'figures', 'x')
  drawn.check_files(tmp_path / 'figures', 'x', (3, 2))
  assert sorted(path.name for path in (tmp_path / 'figures').iterdir()) == [
      'x.pdf', 'x.png']


def test_tables_give_floats_back(tmp_path):
  plotting.save_table(('name', 'value'), [('a', 0.1 + 0.2)], tmp_path, 'x')
  with (tmp_path / 'x.csv').open() as file:
    (row,) = csv.DictReader(file)
  assert float(row['value']) == 0.1 + 0.2


def test_a_chart_is_an_svg_too_with_texts_and_the_same_each_time(tmp_path):
  figure = plotting.blank(3, 2)
  axis = plotting.place(figure, 0.5, 0.25, 1.5, 1)
  axis.set_title('a <b> & c')
  axis.plot([0, 1], [0, 1])
  for folder in ('a', 'b'):
    plotting.save_chart(figure, tmp_path / folder, 'x')
  drawn.check_files(tmp_path / 'a', 'x', (3, 2))
  content = (tmp_path / 'a' / 'x.svg').read_bytes()
  assert content == (tmp_path / 'b' / 'x.svg').read_bytes()
  assert b'a &lt;b&gt; &amp; c</text>' in content and b'width="216pt"' in content


def test_an_entry_links_picture_print_and_numbers():
  entry = plotting.Entry('Title', 'Words.', 'x', chart=True)
  text = conftest.text([entry])
  for link in ('![Title](figures/x.png)', '[PDF](figures/x.pdf)',
               '[SVG](figures/x.svg)', '[numbers](figures/x.csv)', '### Title',
               'Words.'):
    assert link in text
  text = conftest.text([plotting.Entry('T', 'W.', 'x')])
  assert 'numbers' not in text and 'svg' not in text
  assert conftest.text([plotting.Entry('T', 'W.')]) == '### T\n\nW.\n'
  assert conftest.text([plotting.Entry('', 'W.')]) == 'W.\n'
