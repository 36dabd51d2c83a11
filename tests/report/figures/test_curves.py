import csv

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.report.figures import curves
from tests.report import conftest
from tests.report import drawn

BLUE = '#0072B2'  # of AttnMel-CNN


def _lines(axis):
  return [line for line in axis.get_lines() if line.get_color() == BLUE]


def _legend(figure):
  return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.fixture
def one(make_run, grouped):
  """Labels and scores of a run, and its group."""
  _, labels, probabilities = rows = conftest.predictions()
  make_run('a', rows)
  return labels, probabilities[:, 1], grouped()[0]


def test_the_line_is_scikit_learns_curve(one):
  labels, scores, group = one
  figure = curves.figure([group], curves.roc, strip=False)
  x, y, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
  curve, point = _lines(figure.axes[0])
  shown = set(zip(*map(np.round, curve.get_data(), (9, 9)), strict=True))
  # Of points on a vertical line its ends are enough: the area below is the same.
  assert shown <= set(zip(x.round(9), y.round(9), strict=True))
  assert sklearn.metrics.auc(*curve.get_data()) == pytest.approx(
      sklearn.metrics.roc_auc_score(labels, scores))
  called = scores >= 0.5
  np.testing.assert_allclose(
      np.ravel(point.get_data()),
      [called[labels == 0].mean(), called[labels == 1].mean()])
  # The legend has the interval of the table.
  low = group.interval('AttnMel-CNN', 'auc').low
  assert f'[{low:.3f}'.replace('0.', '.') in _legend(figure)[0]


def test_precision_is_a_step_function_from_recall_0(one):
  labels, scores, group = one
  axis = curves.figure([group], curves.precision_recall, strip=False).axes[0]
  (curve,) = _lines(axis)
  x, y = curve.get_data()
  assert curve.get_drawstyle() == 'steps-pre' and x[0] == 0
  assert np.sum(np.diff(x) * y[1:]) == pytest.approx(
      sklearn.metrics.average_precision_score(labels, scores))


def test_reliability_is_drawn_with_the_share_of_images(one):
  labels, scores, group = one
  axis, strip = curves.figure([group], curves.reliability, strip=True).axes
  (curve,) = _lines(axis)
  inside = (scores > 14 / 15) & (scores <= 1)
  assert inside.any()
  np.testing.assert_allclose(np.array(curve.get_data())[:, -1],
                             [scores[inside].mean(), labels[inside].mean()])
  (stairs,) = strip.patches
  assert stairs.get_data().values.sum() == pytest.approx(100)
  assert stairs.get_data().values[14] == pytest.approx(100 * inside.mean())


def test_seven_systems_and_two_data_sets_are_legible(seven, make_run, grouped):
  seven(2)
  for seed in (0, 1, 2):
    make_run(f's{seed}', conftest.predictions(seed=seed), seed=seed,
             dataset='isic2016', positive=('malignant',), synthetic=True,
             class_names=('other', 'malignant'))
  found = grouped()
  for draw in (curves.roc, curves.precision_recall, curves.reliability):
    figure = curves.figure(found, draw, strip=draw is curves.reliability)
    drawn.check_texts(figure)
    assert figure.get_size_inches()[0] < 8.61
    said = _legend(figure)
    assert len(said) == 8 and said[0].startswith('AttnMel-CNN ×3  ')
    # A thin line for each seed, the bold one and, on the first, operating points.
    assert len([line for line in _lines(figure.axes[0])
                if len(line.get_xdata()) > 1]) == 4
    for legend in figure.legends:
      box = legend.get_window_extent()
      assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes)


def _table(path, *columns):
  """Rows of a CSV and columns of those of seed 0."""
  with path.open() as file:
    table = list(csv.DictReader(file))
  own = [row for row in table if row['seed'] == '0']
  return table, [np.array([float(row[name] or 'inf') for row in own])
                 for name in columns]


@pytest.mark.usefixtures('undrawn')
def test_captions_and_numbers(one, make_run, grouped, tmp_path):
  labels, scores, _ = one
  make_run('b', conftest.predictions(seed=1), seed=1)
  make_run('c', conftest.predictions(classes=3), dataset='isic2018', positive=(),
           class_names=('x', 'y', 'z'))
  text = conftest.text(curves.write(grouped(), tmp_path))
  assert 'Bold: the vertical average of seeds and folds' in text
  table, (x, y, t) = _table(tmp_path / 'figure_3_2_roc.csv', 'false_positive_rate',
                            'true_positive_rate', 'threshold')
  assert {row['seed'] for row in table} == {'0', '1', ''}
  assert sklearn.metrics.auc(x, y) == pytest.approx(
      sklearn.metrics.roc_auc_score(labels, scores))
  called = scores >= t[:, None]
  np.testing.assert_allclose(x, called[:, labels == 0].mean(axis=1))
  np.testing.assert_allclose(y, called[:, labels == 1].mean(axis=1))
  table, (recall, precision) = _table(
      tmp_path / 'figure_3_2_precision_recall.csv', 'recall', 'precision')
  assert {(row['class'], row['seed']) for row in table} == {
      ('melanoma', '0'), ('melanoma', '1')}
  assert np.sum(np.diff(recall, prepend=0) * precision) == pytest.approx(
      sklearn.metrics.average_precision_score(labels, scores))
  table, _ = _table(tmp_path / 'figure_3_2_reliability.csv')
  assert {row['class'] for row in table} == {'melanoma', 'likeliest'}


@pytest.mark.usefixtures('undrawn')
def test_no_binary_run_is_a_line_and_one_class_alone_no_crash(
    make_run, grouped, tmp_path):
  assert 'No run has predictions' in conftest.text(curves.write([], tmp_path))
  ids, _, probabilities = conftest.predictions()
  make_run('a', (ids, np.zeros(40, int), probabilities))
  assert grouped()[0].counts == [40, 0]
  curves.write(grouped(), tmp_path)
  figure = curves.figure(grouped(), curves.roc, strip=False)
  assert 'AUC undefined' in _legend(figure)[0]
