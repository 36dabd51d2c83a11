import csv

import pytest

from attnmel_jax.report.figures import class_counts
from tests.report import conftest
from tests.report import drawn

ISIC2018 = class_counts.ClassCounts('isic2018', False, (
    ('MEL', 1113), ('NV', 6705), ('BCC', 514), ('AKIEC', 327), ('BKL', 1099),
    ('DF', 115), ('VASC', 142)))
ISIC2017 = class_counts.ClassCounts('isic2017', False, (
    ('melanoma', 374), ('seborrheic_keratosis', 254), ('nevus', 1372)))


def test_bars_and_their_numbers():
  (axis,) = class_counts.figure([ISIC2018]).axes
  assert [bar.get_width() for bar in axis.patches] == [
      count for _, count in ISIC2018.counts]
  assert axis.texts[1].get_text() == '6,705 (67 %)'


@pytest.mark.parametrize('number', [1, 2, 4])
def test_many_data_sets_are_legible(number):
  sets = [ISIC2018, ISIC2017, ISIC2018, ISIC2017._replace(synthetic=True)]
  figure = class_counts.figure(sets[:number])
  drawn.check_texts(figure)
  assert figure.get_size_inches()[0] < 10.5


@pytest.mark.usefixtures('undrawn')
def test_what_is_prepared_is_counted_and_what_is_missing_named(
    prepared, make_run, found, tmp_path):
  labels = conftest.open_split(prepared, 'train').labels.tolist()
  (one,) = class_counts.training_sets([prepared, prepared])
  assert one.title == 'ISIC 2017, synthetic (12)'
  assert one.counts == tuple(
      (name, labels.count(k)) for k, name in enumerate(
          ('melanoma', 'seborrheic_keratosis', 'nevus')))
  make_run('a', conftest.predictions(), dataset='isic2016', positive=('malignant',))
  missing = 'The training images of ISIC 2016 are not prepared in'
  text = conftest.text(class_counts.write(found(), tmp_path / 'none', tmp_path))
  assert missing in text and '![' not in text
  assert not (tmp_path / 'none').exists()
  text = conftest.text(class_counts.write(found(), tmp_path, prepared))
  assert '![Figure 3.1' in text and missing in text
  with (tmp_path / 'figure_3_1_classes.csv').open() as file:
    table = [(row['class'], int(row['images'])) for row in csv.DictReader(file)]
  assert tuple(table) == one.counts
