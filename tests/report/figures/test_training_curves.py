import csv
import json

import numpy as np
import pytest

from attnmel_jax.report.figures import curves
from attnmel_jax.report.figures import training_curves
from tests.report import conftest
from tests.report import drawn

pytestmark = pytest.mark.usefixtures('undrawn')


def _metrics(folder, losses, scores=(), *, every=10, name='auc'):
  """metrics.jsonl with a line a step, and validation after each `every` steps."""
  lines = []
  for step, value in enumerate(losses, start=1):
    lines.append({'step': step, 'focal_loss': 9., 'loss': value})
    if step % every == 0 and len(scores) >= step // every:
      score = scores[step // every - 1]
      lines.append({'step': step, f'validation_{name}': score,
                    'validation_score': score})
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))


def test_losses_are_means_of_equal_parts_and_scores_are_all_there(make_run, found):
  folder = make_run('a', conftest.predictions())
  losses = np.arange(120.)
  _metrics(folder, losses.tolist(), [0.5, 0.75], every=50)
  history = training_curves.read(found()[0])
  # 120 steps in 60 parts of two.
  np.testing.assert_array_equal(history.steps, np.arange(2, 121, 2))
  np.testing.assert_array_equal(history.losses, losses.reshape(60, 2).mean(axis=1))
  assert history.ends.tolist() == [50, 100]
  assert history.scores.tolist() == [0.5, 0.75]
  assert history.score_name == 'auc'


def test_seeds_have_a_mean_line_and_a_thin_one_each(make_run, found, grouped, tmp_path):
  for seed, rise in ((0, 0.), (1, 0.2)):
    folder = make_run(f's{seed}', conftest.predictions(seed=seed), seed=seed)
    _metrics(folder, [1., 0.5 + rise] * 10, [0.6, 0.7 + rise])
  _metrics(make_run('other', conftest.predictions(), roi='lesion'), [3.] * 20)
  losses, scores = training_curves.write(found(), grouped(), tmp_path)
  assert (losses.stem, scores.stem) == ('training_loss', 'training_validation')
  assert 'Bold: the mean at each step' in losses.text
  trained = training_curves.Trained('x', {
      'AttnMel-CNN': [training_curves.read(run) for run in found()
                      if run.folder.name != 'other']})
  figure = curves.figure([trained], training_curves.loss, strip=False)
  drawn.check_texts(figure)
  thin, other, bold = (line.get_ydata() for line in figure.axes[0].get_lines())
  np.testing.assert_allclose(bold, np.mean([thin, other], axis=0))
  np.testing.assert_allclose(bold[:2], [1., 0.6])
  figure = curves.figure([trained], training_curves.validation, strip=False)
  assert figure.axes[0].get_ylabel() == 'validation AUC'
  (text,) = figure.legends[0].get_texts()
  assert text.get_text() == 'AttnMel-CNN ×2  best 0.900'
  with (tmp_path / 'training_validation.csv').open() as file:
    rows = [row for row in csv.DictReader(file) if row['seed'] == '1']
  assert [(row['step'], float(row['value'])) for row in rows] == [
      ('10', 0.6), ('20', pytest.approx(0.9))]


def test_runs_of_other_lengths_are_lines_of_their_own(make_run, found):
  for seed, steps in ((0, 20), (1, 30)):
    _metrics(make_run(f's{seed}', conftest.predictions(seed=seed), seed=seed),
             [1.] * steps)
  trained = training_curves.Trained('x', {
      'AttnMel-CNN': [training_curves.read(run) for run in found()]})
  figure = curves.figure([trained], training_curves.loss, strip=False)
  assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [20, 30]


def test_a_network_for_masks_has_a_panel_of_its_own(make_run, found, grouped, tmp_path):
  folder = make_run('u', conftest.predictions(), model='unet', roi='lesion',
                    dataset='isic2018_task1')
  _metrics(folder, [1.] * 20, [0.3, 0.4], name='jaccard')
  assert len(training_curves.write(found(), grouped(), tmp_path)) == 2
  with (tmp_path / 'training_loss.csv').open() as file:
    assert {row['system'] for row in csv.DictReader(file)} == {'U-Net'}


def test_missing_and_damaged_metrics_are_a_line(make_run, found, grouped, tmp_path):
  folder = make_run('a', conftest.predictions())
  for content in (None, '', '{"step": 1', '[]\n', '{"loss": 1}\n'):
    if content is not None:
      (folder / 'metrics.jsonl').write_text(content)
    (entry,) = training_curves.write(found(), grouped(), tmp_path / 'out')
    assert f'{folder}/metrics.jsonl is missing or damaged' in entry.text, content
    assert not (tmp_path / 'out').exists()
