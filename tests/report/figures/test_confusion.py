import csv

import numpy as np
import sklearn.metrics

from attnmel_jax.evaluation import prediction_files
from attnmel_jax.report.figures import confusion
from tests.report import conftest
from tests.report import drawn


def test_seven_systems_and_seven_classes_are_legible(classes):
  figure = confusion.confusion(classes)
  drawn.check_texts(figure)
  assert figure.get_size_inches()[0] <= 10.5


def test_one_system_and_long_class_names_are_legible(make_run, grouped):
  make_run('a', conftest.predictions(classes=3), positive=(),
           class_names=('melanoma', 'seborrheic_keratosis', 'nevus'))
  (group,) = grouped()
  figure = confusion.confusion(group)
  drawn.check_texts(figure)
  assert 'seborrheic keratosis' in [text for text, _ in drawn.texts(figure)]


def test_the_matrix_holds_shares_of_the_true_class(make_run, grouped):
  ids, _, _ = conftest.predictions(5)
  labels = np.array([0, 0, 0, 1, 1])
  predicted = np.array([0, 0, 1, 2, 1])
  probabilities = np.eye(3)[predicted] * 0.7 + 0.1
  make_run('a', (ids, labels, probabilities), positive=(), class_names=('x', 'y', 'z'))
  (group,) = grouped()
  (axis,) = confusion.confusion(group).axes
  written = {text.get_position(): text.get_text() for text in axis.texts}
  # Column, row.
  assert written == {(0, 0): '.67', (1, 0): '.33', (2, 0): '.00', (0, 1): '.00',
                     (1, 1): '.50', (2, 1): '.50', (0, 2): '–', (1, 2): '–',
                     (2, 2): '–'}


def test_two_classes_are_told_apart_at_the_threshold(make_run, grouped):
  ids, _, _ = conftest.predictions(5)
  scores = np.array([0.1, 0.5, 0.49, 0.6, 0.45])
  rows = ids, np.array([0, 0, 1, 1, 1]), np.stack([1 - scores, scores], axis=1)
  make_run('a', rows)  # threshold 0.5
  (group,) = grouped()
  figure = confusion.confusion(group)
  drawn.check_texts(figure)
  written = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
  assert written == {(0, 0): '.50\n(1)', (1, 0): '.50\n(1)', (0, 1): '.67\n(2)',
                     (1, 1): '.33\n(1)'}


def test_files_and_tables(make_run, grouped, tmp_path):
  make_run('binary', conftest.predictions())
  make_run('seven', conftest.predictions(70, classes=7), model='mel_cnn',
           **conftest.ISIC2018)
  classes = grouped()[1]
  assert [entry.stem for entry in confusion.write(grouped(), tmp_path)] == [
      'confusion_isic2017_melanoma', 'confusion_isic2018']
  drawn.check_files(tmp_path, 'confusion_isic2018',
                    confusion.confusion(classes).get_size_inches())
  with (tmp_path / 'confusion_isic2018.csv').open() as file:
    table = [row for row in csv.DictReader(file) if row['system'] == 'Mel-CNN']
  one = classes.systems['Mel-CNN'][0].table
  np.testing.assert_array_equal(
      [[int(row[name]) for name in prediction_files.CHALLENGE_CLASSES]
       for row in table],
      sklearn.metrics.confusion_matrix(one.labels, one.probabilities.argmax(axis=1)))
