"""All figures of a report, from runs of every system to none at all."""

import re

import pytest

from attnmel_jax.report import figures
from tests.report import conftest


def _write(runs, all_groups, out, data_dir, *, photographs=True):
  return conftest.text(figures.write(
      runs, all_groups, out, data_dir, photographs=photographs))


@pytest.mark.usefixtures('seven')
def test_every_link_leads_to_a_file_and_every_file_has_a_link(
    make_run, found, grouped, prepared, tmp_path):
  make_run('many', conftest.predictions(70, classes=7), **conftest.ISIC2018)
  make_run('apart', conftest.predictions(), num_epochs=2)
  out = tmp_path / 'report'
  text = _write(found(), grouped(), out, prepared)
  linked = set(re.findall(r'\]\((figures/[^)]+)\)', text))
  assert linked == {f'figures/{path.name}' for path in (out / 'figures').iterdir()}
  assert {name.partition('.')[0] for name in linked} == {
      f'figures/{stem}' for stem in (
          'figure_3_1_classes', 'figure_3_2_roc', 'figure_3_2_precision_recall',
          'figure_3_2_reliability', 'figure_3_2_roc_isic2018',
          'figure_3_2_precision_recall_isic2018', 'confusion_isic2018',
          'confusion_isic2017_melanoma', 'confusion_isic2017_melanoma_group2')}
  assert ('ISIC 2017, group 2 has curves of its own because of other settings '
          '(num\\_epochs=2).') in text or '(num_epochs=2).' in text
  for number in ('3.1', '3.2', '3.3', '3.4', '3.5'):
    assert f'### Figure {number}: ' in text


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
