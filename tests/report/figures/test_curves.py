import csv

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.report.figures import curves
from tests.report import conftest
from tests.report import drawn


def _lines(axis, colour):
  return [line for line in axis.get_lines() if line.get_color() == colour]


def test_the_line_is_scikit_learns_curve(make_run, grouped):
  _, labels, probabilities = rows = conftest.predictions()
  make_run('a', rows)
  axis = curves.figure(
      grouped(), curves.roc, strip=False).axes[0]
  x, y, _ = sklearn.metrics.roc_curve(
      labels, probabilities[:, 1], drop_intermediate=False)
  curve, point = _lines(axis, '#0072B2')
  shown = set(zip(*map(np.round, curve.get_data(), (9, 9)), strict=True))
  # Of points on a vertical line its ends are enough: the area below is the same.
  assert shown <= set(zip(x.round(9), y.round(9), strict=True))
  assert sklearn.metrics.auc(*curve.get_data()) == pytest.approx(
      sklearn.metrics.roc_auc_score(labels, probabilities[:, 1]))
  called = probabilities[:, 1] >= 0.5
  np.testing.assert_allclose(
      np.ravel(point.get_data()),
      [called[labels == 0].mean(), called[labels == 1].mean()])


def test_precision_is_a_step_function_from_recall_0(make_run, grouped):
  _, labels, probabilities = rows = conftest.predictions()
  make_run('a', rows)
  axis = curves.figure(
      grouped(), curves.precision_recall, strip=False).axes[0]
  (curve,) = _lines(axis, '#0072B2')
  x, y = curve.get_data()
  assert curve.get_drawstyle() == 'steps-pre' and x[0] == 0
  assert np.sum(np.diff(x) * y[1:]) == pytest.approx(
      sklearn.metrics.average_precision_score(labels, probabilities[:, 1]))


def test_reliability_is_drawn_with_the_share_of_images(make_run, grouped):
  _, labels, probabilities = rows = conftest.predictions()
  make_run('a', rows)
  axis, strip = curves.figure(
      grouped(), curves.reliability, strip=True).axes
  (curve,) = _lines(axis, '#0072B2')
  inside = (probabilities[:, 1] > 14 / 15) & (probabilities[:, 1] <= 1)
  assert inside.any()
  np.testing.assert_allclose(
      np.array(curve.get_data())[:, -1],
      [probabilities[inside, 1].mean(), labels[inside].mean()])
  (stairs,) = strip.patches
  assert stairs.get_data().values.sum() == pytest.approx(100)
  assert stairs.get_data().values[14] == pytest.approx(100 * inside.mean())


@pytest.mark.usefixtures('seven')
def test_seven_systems_and_two_data_sets_are_legible(make_run, grouped):
  for seed in (0, 1, 2):
    make_run(f's{seed}', conftest.predictions(seed=seed), seed=seed,
             dataset='isic2016', positive=('malignant',), synthetic=True,
             class_names=('other', 'malignant'))
  found = grouped()
  for draw in (curves.roc, curves.precision_recall, curves.reliability):
    figure = curves.figure(found, draw, strip=draw is curves.reliability)
    drawn.check_texts(figure)
    assert figure.get_size_inches()[0] < 8.61
    said = [text.get_text() for legend in figure.legends
            for text in legend.get_texts()]
    assert len(said) == 8
    assert said[0].startswith('AttnMel-CNN ×3  ')
    # A thin line for each seed, the bold one and, on the first, operating points.
    assert len([line for line in _lines(figure.axes[0], '#0072B2')
                if len(line.get_xdata()) > 1]) == 4
    for legend in figure.legends:
      box = legend.get_window_extent()
      assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes)


def test_the_legend_has_the_interval_of_the_table(make_run, grouped):
  make_run('a', conftest.predictions())
  (group,) = grouped()
  low = group.interval('AttnMel-CNN', 'auc').low
  figure = curves.figure([group], curves.roc, strip=False)
  assert f'[{low:.3f}'.replace('0.', '.') in figure.legends[0].get_texts()[0].get_text()


def test_files_captions_and_numbers(make_run, grouped, tmp_path):
  rows = conftest.predictions()
  make_run('a', rows)
  make_run('b', conftest.predictions(seed=1), seed=1)
  make_run('c', conftest.predictions(classes=3), dataset='isic2018', positive=(),
           class_names=('x', 'y', 'z'))
  text = conftest.text(curves.write(grouped(), tmp_path))
  for stem in ('figure_3_2_roc', 'figure_3_2_precision_recall'):
    drawn.check_files(tmp_path, stem, curves.figure(
        grouped()[:1], curves.roc, strip=False).get_size_inches())
    assert f'figures/{stem}.png' in text
  assert 'Bold: the vertical average of seeds and folds' in text
  with (tmp_path / 'figure_3_2_roc.csv').open() as file:
    table = list(csv.DictReader(file))
  own = [row for row in table if row['seed'] == '0']
  x, y, t = (np.array([float(row[name] or 'inf') for row in own]) for name in (
      'false_positive_rate', 'true_positive_rate', 'threshold'))
  assert sklearn.metrics.auc(x, y) == pytest.approx(
      sklearn.metrics.roc_auc_score(rows[1], rows[2][:, 1]))
  called = rows[2][:, 1] >= t[:, None]
  np.testing.assert_allclose(x, called[:, rows[1] == 0].mean(axis=1))
  np.testing.assert_allclose(y, called[:, rows[1] == 1].mean(axis=1))
  assert {row['seed'] for row in table} == {'0', '1', ''}
  with (tmp_path / 'figure_3_2_reliability.csv').open() as file:
    assert {row['class'] for row in csv.DictReader(file)} == {'melanoma', 'likeliest'}


def test_no_binary_run_is_a_line_and_one_class_alone_no_crash(
    make_run, grouped, tmp_path):
  assert 'No run has predictions' in conftest.text(
      curves.write([], tmp_path))
  ids, _, probabilities = conftest.predictions()
  make_run('a', (ids, np.zeros(40, int), probabilities))
  assert grouped()[0].counts == [40, 0]
  curves.write(grouped(), tmp_path)
  figure = curves.figure(grouped(), curves.roc, strip=False)
  assert 'AUC undefined' in figure.legends[0].get_texts()[0].get_text()
