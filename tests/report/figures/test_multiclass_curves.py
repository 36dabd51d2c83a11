import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import prediction_files
from attnmel_jax.report.figures import multiclass_curves
from tests.report import conftest
from tests.report import drawn


def test_seven_systems_and_seven_classes_are_legible(classes):
  for draw in (multiclass_curves.roc, multiclass_curves.precision_recall):
    figure = draw(classes)
    drawn.check_texts(figure)
    assert figure.get_size_inches()[0] <= 10.5


def test_one_system_and_long_class_names_are_legible(make_run, grouped):
  make_run('a', conftest.predictions(classes=3), positive=(),
           class_names=('melanoma', 'seborrheic_keratosis', 'nevus'))
  (group,) = grouped()
  figure = multiclass_curves.roc(group)
  drawn.check_texts(figure)
  assert 'seborrheic keratosis (13)' in [text for text, _ in drawn.texts(figure)]


def test_curves_and_areas_are_those_of_scikit_learn(classes):
  figure = multiclass_curves.roc(classes)
  assert len(figure.axes) == 7
  for k, axis in enumerate(figure.axes):
    assert axis.get_title() == f'{prediction_files.CHALLENGE_CLASSES[k]} (10)'
    written = [text.get_text() for text in axis.get_legend().get_texts()]
    expected = []
    for (one,) in classes.systems.values():
      expected.append(sklearn.metrics.roc_auc_score(
          one.table.labels == k, one.table.probabilities[:, k]))
    assert written == [f'{area:.3f}' for area in expected]
    drawn_areas = [sklearn.metrics.auc(*line.get_data())
                   for line in axis.get_lines()[1:]]
    np.testing.assert_allclose(drawn_areas, expected)


def test_precision_and_recall_are_those_of_scikit_learn(classes):
  figure = multiclass_curves.precision_recall(classes)
  for k, axis in enumerate(figure.axes):
    chance, *lines = axis.get_lines()
    assert chance.get_ydata()[0] == pytest.approx(10 / 70)
    expected = [sklearn.metrics.average_precision_score(
        one.table.labels == k, one.table.probabilities[:, k])
                for (one,) in classes.systems.values()]
    written = [text.get_text() for text in axis.get_legend().get_texts()]
    assert written == [f'{area:.3f}' for area in expected]
    steps = [np.sum(np.diff(x) * y[1:]) for x, y in (line.get_data() for line in lines)]
    np.testing.assert_allclose(steps, expected)


def test_folds_are_averaged_with_a_thin_line_each(make_run, grouped):
  rows = conftest.predictions(70, classes=7)
  for fold in range(2):
    make_run(f'f{fold}', tuple(values[fold::2] for values in rows), fold=fold,
             num_folds=2, **conftest.ISIC2018)
  (group,) = grouped()
  axis = multiclass_curves.roc(group).axes[3]
  assert len(axis.get_lines()) == 1 + 2 + 1
  areas = [sklearn.metrics.roc_auc_score(
      rows[1][fold::2] == 3, rows[2][fold::2, 3]) for fold in range(2)]
  assert axis.get_legend().get_texts()[0].get_text() == f'{np.mean(areas):.3f}'


def test_a_class_without_images_says_so(make_run, grouped):
  ids, labels, probabilities = conftest.predictions(30, classes=3)
  make_run('a', (ids, np.minimum(labels, 1), probabilities), positive=(),
           class_names=('x', 'y', 'z'))
  (group,) = grouped()
  figure = multiclass_curves.roc(group)
  assert figure.axes[2].texts[0].get_text() == 'no image of this class'
  drawn.check_texts(figure)


def test_only_tasks_of_several_classes_have_a_figure(make_run, grouped, tmp_path):
  make_run('binary', conftest.predictions())
  make_run('seven', conftest.predictions(70, classes=7), **conftest.ISIC2018)
  classes = grouped()[1]
  entries = multiclass_curves.write(grouped(), tmp_path)
  assert [entry.stem for entry in entries] == [
      'figure_3_2_roc_isic2018', 'figure_3_2_precision_recall_isic2018']
  for entry in entries:
    assert entry.chart
    drawn.check_files(tmp_path, entry.stem,
                      multiclass_curves.roc(classes).get_size_inches())
