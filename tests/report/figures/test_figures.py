"""All figures of a report, from runs of every system to none at all."""

import json
import re

import numpy as np

from attnmel_jax.report import figures
from tests.report import conftest
from tests.report import drawn


def _write(runs, all_groups, out, data_dir, *, photographs=True):
  return conftest.text(figures.write(
      runs, all_groups, out, data_dir, photographs=photographs))


def test_every_link_leads_to_a_file_and_every_file_has_a_link(
    make_run, rows, found, grouped, prepared, tmp_path):
  make_run('a', rows, maps=conftest.maps(9, 'pool4'))
  make_run('apart', rows, num_epochs=2)
  folder = make_run('three', conftest.predictions(9, classes=3), dataset='isic2018',
                    positive=(), class_names=('x', 'y', 'z'))
  (folder / 'metrics.jsonl').write_text(''.join(
      json.dumps({'step': step, name: 0.5}) + '\n' for step in (1, 2)
      for name in ('loss', 'validation_score')))
  data_dir = conftest.with_generated(
      prepared, tmp_path / 'data',
      lambda row: np.full((conftest.SIDE,) * 2, row, np.uint8))
  out = tmp_path / 'report'
  text = _write(found(), grouped(), out, data_dir)
  linked = set(re.findall(r'\]\((figures/[^)]+)\)', text))
  assert linked == {f'figures/{path.name}' for path in (out / 'figures').iterdir()}
  stems = {name.split('/')[1].partition('.')[0] for name in linked}
  assert stems == {
      'figure_3_1_classes', 'figure_3_2_roc', 'figure_3_2_precision_recall',
      'figure_3_2_reliability', 'figure_3_2_roc_isic2018',
      'figure_3_2_precision_recall_isic2018', 'confusion_isic2018',
      'confusion_isic2017_melanoma', 'confusion_isic2017_melanoma_group2',
      'training_loss', 'training_validation', 'figure_3_3_isic2017_melanoma',
      'figure_3_4_isic2017_unet'}
  for stem in stems:
    drawn.check_files(out / 'figures', stem)
  assert 'ISIC 2017, group 2 has curves of its own because of other settings' in text
  assert '### Figure 3.5: ' in text


def test_without_runs_and_data_each_figure_is_a_line(tmp_path, monkeypatch):
  monkeypatch.setenv('ATTNMEL_DATA', str(tmp_path / 'nowhere'))
  text = _write([], [], tmp_path / 'report', None)
  assert '![' not in text and not (tmp_path / 'report').exists()
  for number in ('3.1', '3.2', '3.3', '3.4', '3.5'):
    assert f'### Figure {number}: ' in text


def test_without_photographs_no_figure_that_shows_some_is_drawn(tmp_path, monkeypatch):
  for module in (figures.attention_overlays, figures.generated_masks):
    monkeypatch.delattr(module, 'write')
  monkeypatch.setenv('ATTNMEL_DATA', str(tmp_path / 'nowhere'))
  text = _write([], [], tmp_path / 'report', None, photographs=False)
  assert '### Figures 3.3 to 3.5\n\nLeft out, as all photographs.' in text
  assert '### Figure 3.2: ' in text
