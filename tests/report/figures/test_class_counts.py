import csv

import numpy as np

from attnmel_jax.report.figures import class_counts
from tests.report import conftest
from tests.report import drawn

ISIC2018 = class_counts.ClassCounts('isic2018', False, (
    ('MEL', 1113), ('NV', 6705), ('BCC', 514), ('AKIEC', 327), ('BKL', 1099),
    ('DF', 115), ('VASC', 142)))
ISIC2017 = class_counts.ClassCounts('isic2017', False, (
    ('melanoma', 374), ('seborrheic_keratosis', 254), ('nevus', 1372)))


def test_the_prepared_training_set_is_counted(prepared):
  (one,) = class_counts.training_sets([prepared, prepared])
  labels = conftest.open_split(prepared, 'train').labels.tolist()
  assert one.synthetic and one.dataset == 'isic2017'
  assert one.counts == tuple(
      (name, labels.count(k)) for k, name in enumerate(
          ('melanoma', 'seborrheic_keratosis', 'nevus')))
  assert one.title == 'ISIC 2017, synthetic (12)'


def test_bars_and_their_numbers():
  figure = class_counts.figure([ISIC2018])
  (axis,) = figure.axes
  assert [bar.get_width() for bar in axis.patches] == [
      count for _, count in ISIC2018.counts]
  assert axis.texts[1].get_text() == '6,705 (67 %)'
  drawn.check_texts(figure)


def test_many_data_sets_are_legible():
  sets = [ISIC2017, ISIC2018, ISIC2017._replace(synthetic=True), ISIC2018]
  for number in (2, 3, 4):
    figure = class_counts.figure(sets[:number])
    drawn.check_texts(figure)
    assert figure.get_size_inches()[0] < 10.5


def test_files_and_what_is_missing(prepared, make_run, found, tmp_path):
  make_run('a', conftest.predictions(), dataset='isic2016', positive=('malignant',))
  text = conftest.text(class_counts.write(found(), tmp_path, prepared))
  assert '![Figure 3.1' in text
  assert 'The training images of ISIC 2016 are not prepared in' in text
  figure = class_counts.figure(class_counts.training_sets([prepared]))
  drawn.check_files(tmp_path, 'figure_3_1_classes', figure.get_size_inches())
  with (tmp_path / 'figure_3_1_classes.csv').open() as file:
    table = list(csv.DictReader(file))
  labels = conftest.open_split(prepared, 'train').labels
  assert [int(row['images']) for row in table] == np.bincount(labels).tolist()


def test_nothing_prepared_is_a_line(make_run, found, tmp_path):
  make_run('a', conftest.predictions())
  text = conftest.text(class_counts.write(found(), tmp_path / 'out', tmp_path))
  assert 'ISIC 2017 are not prepared' in text and '![' not in text
  assert not (tmp_path / 'out').exists()
