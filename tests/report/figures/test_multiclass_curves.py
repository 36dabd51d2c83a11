import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import prediction_files
from attnmel_jax.report.figures import multiclass_curves
from tests.report import conftest
from tests.report import drawn


def _numbers(axis):
  return [text.get_text() for text in axis.get_legend().get_texts()]


def test_curves_are_those_of_scikit_learn_and_legible(seven):
  classes = seven(7)
  for draw, score, area in (
      (multiclass_curves.roc, sklearn.metrics.roc_auc_score, sklearn.metrics.auc),
      (multiclass_curves.precision_recall, sklearn.metrics.average_precision_score,
       lambda x, y: np.sum(np.diff(x) * y[1:]))):
    figure = draw(classes)
    drawn.check_texts(figure)
    assert figure.get_size_inches()[0] <= 10.5
    for k, (name, axis) in enumerate(zip(
        prediction_files.CHALLENGE_CLASSES, figure.axes, strict=True)):
      assert axis.get_title() == f'{name} (10)'
      expected = [score(one.table.labels == k, one.table.probabilities[:, k])
                  for (one,) in classes.systems.values()]
      assert _numbers(axis) == [f'{value:.3f}' for value in expected]
      chance, *lines = axis.get_lines()
      np.testing.assert_allclose([area(*line.get_data()) for line in lines], expected)
      if draw is multiclass_curves.precision_recall:
        assert chance.get_ydata()[0] == pytest.approx(10 / 70)


def test_folds_are_averaged_with_a_thin_line_each(make_run, grouped):
  rows = conftest.predictions(70, classes=7)
  for fold in range(2):
    make_run(f'f{fold}', tuple(values[fold::2] for values in rows), fold=fold,
             num_folds=2, **conftest.ISIC2018)
  axis = multiclass_curves.roc(grouped()[0]).axes[3]
  assert len(axis.get_lines()) == 1 + 2 + 1
  areas = [sklearn.metrics.roc_auc_score(
      rows[1][fold::2] == 3, rows[2][fold::2, 3]) for fold in range(2)]
  assert _numbers(axis) == [f'{np.mean(areas):.3f}']


def test_long_names_and_a_class_without_images(make_run, grouped):
  ids, labels, probabilities = conftest.predictions(30, classes=3)
  make_run('a', (ids, np.minimum(labels, 1), probabilities), positive=(),
           class_names=('melanoma', 'seborrheic_keratosis', 'nevus'))
  figure = multiclass_curves.roc(grouped()[0])
  assert figure.axes[1].get_title() == 'seborrheic keratosis (20)'
  assert figure.axes[2].texts[0].get_text() == 'no image of this class'
  drawn.check_texts(figure)


@pytest.mark.usefixtures('undrawn')
def test_only_tasks_of_several_classes_have_a_figure(make_run, grouped, tmp_path):
  make_run('binary', conftest.predictions())
  make_run('seven', conftest.predictions(70, classes=7), **conftest.ISIC2018)
  entries = multiclass_curves.write(grouped(), tmp_path)
  assert [entry.stem for entry in entries] == [
      'figure_3_2_roc_isic2018', 'figure_3_2_precision_recall_isic2018']
  assert sorted(path.name for path in tmp_path.glob('figure*')) == sorted(
      name for entry in entries for name in entry.files)
