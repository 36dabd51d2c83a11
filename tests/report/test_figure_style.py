import csv

from matplotlib import colors
import numpy as np
import pytest

from attnmel_jax.report import figure_style
from attnmel_jax.report import names
from tests.report import drawn


def test_a_system_looks_the_same_beside_whatever_others():
  together = figure_style.styles(names.CLASSIFIERS)
  for name in names.CLASSIFIERS:
    assert figure_style.styles([name]) == {name: together[name]}


@pytest.mark.parametrize('part', range(3))
def test_systems_differ_in_colour_dashes_and_marker_each(part):
  found = [style[part] for style in figure_style.styles(names.CLASSIFIERS).values()]
  assert len(set(found)) == len(names.CLASSIFIERS)


def test_every_line_stands_out_from_white():
  for style in figure_style.styles(names.CLASSIFIERS).values():
    linear = (np.array(colors.to_rgb(style.colour)) / 1.055 + 0.052) ** 2.4
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) > 2


def test_others_take_what_is_free_and_then_begin_anew():
  labels = ['Mel-CNN', 'Mel-CNN #2', 'own']
  found = figure_style.styles(labels)
  assert len(set(found.values())) == 3
  many = figure_style.styles([*names.CLASSIFIERS, *(f'own {i}' for i in range(9))])
  assert len(many) == 17 and set(many.values()) == set(
      figure_style.styles(names.CLASSIFIERS).values())


def test_files_are_whole_and_have_the_size_that_was_asked_for(tmp_path):
  figure = figure_style.blank(3, 2)
  axis = figure_style.place(figure, 0.5, 0.25, 1.5, 1)
  axis.plot([0, 1], [0, 1], linewidth=9)
  np.testing.assert_allclose(axis.get_position().bounds, [1 / 6, 1 / 8, 1 / 2, 1 / 2])
  figure_style.save(figure, tmp_path / 'figures', 'x')
  drawn.check_files(tmp_path / 'figures', 'x', (3, 2))
  assert sorted(path.name for path in (tmp_path / 'figures').iterdir()) == [
      'x.pdf', 'x.png']


def test_tables_give_floats_back(tmp_path):
  figure_style.save_table([('a', 0.1 + 0.2)], ('name', 'value'), tmp_path, 'x')
  with (tmp_path / 'x.csv').open() as file:
    (row,) = csv.DictReader(file)
  assert float(row['value']) == 0.1 + 0.2


def test_a_section_links_picture_print_and_numbers():
  text = '\n'.join(figure_style.section('Title', 'Words.', 'x', table='y'))
  for link in ('![Title](figures/x.png)', '[PDF](figures/x.pdf)',
               '[numbers](figures/y.csv)', '### Title', 'Words.'):
    assert link in text
  assert 'numbers' not in '\n'.join(figure_style.section('T', 'W.', 'x'))
