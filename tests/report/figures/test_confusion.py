import csv

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import prediction_files
from attnmel_jax.report.figures import confusion
from tests.report import conftest
from tests.report import drawn


def _written(axis):
  """The texts of the cells by column and row."""
  return {text.get_position(): text.get_text() for text in axis.texts}


def test_seven_systems_and_seven_classes_are_legible(seven):
  figure = confusion.confusion(seven(7))
  drawn.check_texts(figure)
  assert figure.get_size_inches()[0] <= 10.5


def test_the_matrix_holds_shares_of_the_true_class(make_run, grouped):
  ids, _, _ = conftest.predictions(5)
  probabilities = np.eye(3)[[0, 0, 1, 2, 1]] * 0.7 + 0.1
  make_run('a', (ids, np.array([0, 0, 0, 1, 1]), probabilities), positive=(),
           class_names=('melanoma', 'seborrheic_keratosis', 'nevus'))
  figure = confusion.confusion(grouped()[0])
  assert _written(figure.axes[0]) == {
      (0, 0): '.67', (1, 0): '.33', (2, 0): '.00', (0, 1): '.00', (1, 1): '.50',
      (2, 1): '.50', (0, 2): '–', (1, 2): '–', (2, 2): '–'}
  drawn.check_texts(figure)
  assert 'seborrheic keratosis' in [text for text, _ in drawn.texts(figure)]


def test_two_classes_are_told_apart_at_the_threshold(make_run, grouped):
  ids, _, _ = conftest.predictions(5)
  scores = np.array([0.1, 0.5, 0.49, 0.6, 0.45])
  make_run('a', (ids, np.array([0, 0, 1, 1, 1]), np.stack([1 - scores, scores], 1)))
  figure = confusion.confusion(grouped()[0])
  drawn.check_texts(figure)
  assert _written(figure.axes[0]) == {(0, 0): '.50\n(1)', (1, 0): '.50\n(1)',
                                      (0, 1): '.67\n(2)', (1, 1): '.33\n(1)'}


@pytest.mark.usefixtures('undrawn')
def test_files_and_tables(make_run, grouped, tmp_path):
  make_run('binary', conftest.predictions())
  _, labels, probabilities = rows = conftest.predictions(70, classes=7)
  make_run('seven', rows, model='mel_cnn', **conftest.ISIC2018)
  assert [entry.stem for entry in confusion.write(grouped(), tmp_path)] == [
      'confusion_isic2017_melanoma', 'confusion_isic2018']
  with (tmp_path / 'confusion_isic2018.csv').open() as file:
    table = [row for row in csv.DictReader(file) if row['system'] == 'Mel-CNN']
  np.testing.assert_array_equal(
      [[int(row[name]) for name in prediction_files.CHALLENGE_CLASSES]
       for row in table],
      sklearn.metrics.confusion_matrix(labels, probabilities.argmax(axis=1)))
