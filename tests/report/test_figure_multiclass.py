import csv

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import challenge
from attnmel_jax.report import figure_multiclass
from attnmel_jax.report import figure_runs
from tests.report import conftest
from tests.report import drawn

ISIC2018 = {'dataset': 'isic2018', 'positive': (), 'class_names': challenge.CLASSES}


@pytest.fixture
def panel(make_run, found):
  """Seven systems on seven classes."""
  for seed, (name, fields) in enumerate(conftest.SYSTEMS.items()):
    make_run(name, conftest.predictions(70, classes=7, seed=seed), **ISIC2018, **fields)
  return figure_runs.panels(found(), split='auto')[0][0]


def test_seven_systems_and_seven_classes_are_legible(panel):
  for figure in (figure_multiclass.roc(panel), figure_multiclass.confusion(panel)):
    drawn.check_texts(figure)
    assert figure.get_size_inches()[0] <= 10.5


def test_one_system_and_long_class_names_are_legible(make_run, found):
  make_run('a', conftest.predictions(classes=3), positive=(),
           class_names=('melanoma', 'seborrheic_keratosis', 'nevus'))
  (panel,), _ = figure_runs.panels(found(), split='auto')
  drawn.check_texts(figure_multiclass.roc(panel))
  figure = figure_multiclass.confusion(panel)
  drawn.check_texts(figure)
  assert 'seborrheic keratosis' in [text for text, _ in drawn.texts(figure)]


def test_curves_and_areas_are_those_of_scikit_learn(panel):
  figure = figure_multiclass.roc(panel)
  assert len(figure.axes) == 7
  for k, axis in enumerate(figure.axes):
    assert axis.get_title() == f'{challenge.CLASSES[k]} (10)'
    written = [text.get_text() for text in axis.get_legend().get_texts()]
    expected = []
    for (one,) in panel.systems.values():
      expected.append(sklearn.metrics.roc_auc_score(
          one.table.labels == k, one.table.probabilities[:, k]))
    assert written == [f'{area:.3f}' for area in expected]
    drawn_areas = [sklearn.metrics.auc(*line.get_data())
                   for line in axis.get_lines()[1:]]
    np.testing.assert_allclose(drawn_areas, expected)


def test_folds_are_averaged_with_a_thin_line_each(make_run, found):
  rows = conftest.predictions(70, classes=7)
  for fold in range(2):
    make_run(f'f{fold}', tuple(values[fold::2] for values in rows), fold=fold,
             num_folds=2, **ISIC2018)
  (panel,), _ = figure_runs.panels(found(), split='auto')
  axis = figure_multiclass.roc(panel).axes[3]
  assert len(axis.get_lines()) == 1 + 2 + 1
  areas = [sklearn.metrics.roc_auc_score(
      rows[1][fold::2] == 3, rows[2][fold::2, 3]) for fold in range(2)]
  assert axis.get_legend().get_texts()[0].get_text() == f'{np.mean(areas):.3f}'


def test_the_matrix_holds_shares_of_the_true_class(make_run, found):
  ids, _, _ = conftest.predictions(5)
  labels = np.array([0, 0, 0, 1, 1])
  predicted = np.array([0, 0, 1, 2, 1])
  probabilities = np.eye(3)[predicted] * 0.7 + 0.1
  make_run('a', (ids, labels, probabilities), positive=(), class_names=('x', 'y', 'z'))
  (panel,), _ = figure_runs.panels(found(), split='auto')
  (axis,) = figure_multiclass.confusion(panel).axes
  written = {text.get_position(): text.get_text() for text in axis.texts}
  # Column, row.
  assert written == {(0, 0): '.67', (1, 0): '.33', (2, 0): '.00', (0, 1): '.00',
                     (1, 1): '.50', (2, 1): '.50', (0, 2): '–', (1, 2): '–',
                     (2, 2): '–'}


def test_a_class_without_images_says_so(make_run, found):
  ids, labels, probabilities = conftest.predictions(30, classes=3)
  make_run('a', (ids, np.minimum(labels, 1), probabilities), positive=(),
           class_names=('x', 'y', 'z'))
  (panel,), _ = figure_runs.panels(found(), split='auto')
  figure = figure_multiclass.roc(panel)
  assert figure.axes[2].texts[0].get_text() == 'no image of this class'
  drawn.check_texts(figure)


def test_files_and_tables(panel, make_run, found, tmp_path):
  make_run('binary', conftest.predictions())
  panels, _ = figure_runs.panels(found(), split='auto')
  text = '\n'.join(figure_multiclass.write(panels, tmp_path))
  assert text.count('### ') == 2
  drawn.check_files(tmp_path, 'figure_3_2_roc_isic2018',
                    figure_multiclass.roc(panel).get_size_inches())
  drawn.check_files(tmp_path, 'confusion_isic2018',
                    figure_multiclass.confusion(panel).get_size_inches())
  with (tmp_path / 'confusion_isic2018.csv').open() as file:
    table = [row for row in csv.DictReader(file) if row['system'] == 'Mel-CNN']
  one = panel.systems['Mel-CNN'][0].table
  np.testing.assert_array_equal(
      [[int(row[name]) for name in challenge.CLASSES] for row in table],
      sklearn.metrics.confusion_matrix(one.labels, one.probabilities.argmax(axis=1)))
