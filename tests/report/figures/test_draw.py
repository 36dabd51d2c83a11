"""All figures of a report, from runs of every system to none at all."""

import json
import re

import pytest

from attnmel_jax.evaluation import challenge
from attnmel_jax.report.figures import draw
from attnmel_jax.report.figures import selection
from tests.report import conftest


def _write(runs, out, data_dir, *, photographs=True):
  panels, notes = selection.panels(runs, split='auto')
  return conftest.text(draw.write(
      runs, panels, notes, out, data_dir, photographs=photographs))


@pytest.mark.usefixtures('seven')
def test_every_link_leads_to_a_file_and_every_file_has_a_link(
    make_run, found, prepared, tmp_path):
  for seed in (0, 1):
    make_run(f's{seed}', conftest.predictions(70, classes=7, seed=seed), seed=seed,
             dataset='isic2018', positive=(), class_names=challenge.CLASSES)
  out = tmp_path / 'report'
  text = _write(found(), out, prepared)
  linked = set(re.findall(r'\]\((figures/[^)]+)\)', text))
  assert linked == {f'figures/{path.name}' for path in (out / 'figures').iterdir()}
  assert {name.partition('.')[0] for name in linked} == {
      f'figures/{stem}' for stem in (
          'figure_3_1_classes', 'figure_3_2_roc', 'figure_3_2_precision_recall',
          'figure_3_2_reliability', 'figure_3_2_roc_isic2018',
          'figure_3_2_precision_recall_isic2018', 'confusion_isic2018',
          'confusion_isic2017_melanoma')}
  for number in ('3.1', '3.2', '3.3', '3.4', '3.5'):
    assert f'### Figure {number}: ' in text


def test_without_runs_and_data_each_figure_is_a_line(tmp_path, monkeypatch):
  monkeypatch.setenv('ATTNMEL_DATA', str(tmp_path / 'nowhere'))
  text = _write([], tmp_path / 'report', None)
  assert '![' not in text and not (tmp_path / 'report').exists()
  for number in ('3.1', '3.2', '3.3', '3.4', '3.5'):
    assert f'### Figure {number}: ' in text


def test_runs_from_before_generated_masks_are_drawn(make_run, found, tmp_path):
  folder = make_run('a', conftest.predictions())
  config = json.loads((folder / 'config.json').read_text())
  del config['generated_masks']
  (folder / 'config.json').write_text(json.dumps(config))
  text = _write(found(), tmp_path / 'report', None)
  assert '![Figure 3.2: ROC curves](figures/figure_3_2_roc.png)' in text


def test_without_photographs_no_figure_that_shows_some_is_drawn(tmp_path, monkeypatch):
  for module in (draw.figure_overlays, draw.figure_masks):
    monkeypatch.delattr(module, 'write')
  monkeypatch.setenv('ATTNMEL_DATA', str(tmp_path / 'nowhere'))
  text = _write([], tmp_path / 'report', None, photographs=False)
  assert '### Figures 3.3 to 3.5\n\nLeft out, as all photographs.' in text
  assert '### Figure 3.2: ' in text
