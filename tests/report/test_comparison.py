"""Tables from hand-made run folders."""

import csv
import json

import pytest

from attnmel_jax import errors
from attnmel_jax.report import comparison


def _make_run(folder, *, auc, roi, finished=True):
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(
      {'model': 'attnmel_cnn', 'roi': roi, 'seed': 0, 'taps': ['pool3', 'pool4'],
       'data_dir': str(folder)}))
  (folder / 'environment.json').write_text(json.dumps(
      {'commit': 'abcdef0123456789', 'devices': ['cpu: x'], 'fingerprints': {}}))
  if finished:
    interval = {'estimate': auc, 'low': auc - 0.1, 'high': auc + 0.05}
    undefined = {'estimate': None, 'low': None, 'high': None}
    (folder / 'summary.json').write_text(json.dumps(
        {'best': {'step': 7}, 'class_names': [], 'threshold': 0.5,
         'synthetic': roi == 'none',
         'test': {'n': 20, 'auc': interval, 'ap': undefined}}))


@pytest.fixture
def root(tmp_path):
  """Two finished runs and one that is not."""
  _make_run(tmp_path / 'b', auc=0.8, roi='lesion')
  _make_run(tmp_path / 'a', auc=0.7, roi='none')
  _make_run(tmp_path / 'c', auc=0.9, roi='none', finished=False)
  return tmp_path


def test_finished_runs_are_found_and_unfinished_ones_named(root):
  runs, unfinished = comparison.find_runs(root)
  assert [run.folder.name for run in runs] == ['a', 'b']
  assert unfinished == [root / 'c']
  assert runs[0].config['taps'] == ('pool3', 'pool4')


def test_a_folder_without_finished_runs_is_an_error(tmp_path):
  with pytest.raises(errors.UserError, match='no finished run'):
    comparison.find_runs(tmp_path)


def test_the_report_holds_scores_intervals_and_differences(root, tmp_path):
  runs, unfinished = comparison.find_runs(root)
  out = tmp_path / 'out'
  text = comparison.write(runs, unfinished, {'roi': 'none', 'seed': 0,
                                             'model': 'attnmel_cnn'}, out)
  assert (out / 'report.md').read_text() == text
  assert '| b | 20 | – | 0.800 [0.700, 0.850] |' in text
  assert '**Synthetic data**: the images of a were drawn' in text
  assert "b: best after step 7; commit abcdef012345" in text
  assert "roi='lesion'" in text
  assert f'left out: {root / "c"}' in text
  with (out / 'test.csv').open() as file:
    table = list(csv.DictReader(file))
  assert [row['AUC'] for row in table] == ['0.7', '0.8']
  assert table[1]['AUC low'] == str(0.8 - 0.1)
  assert table[0]['AP'] == ''
  assert not (out / 'validation.csv').exists()


def test_only_fields_that_differ_are_listed():
  configs = [{'a': 1, 'b': 2, 'data_dir': 'x'}, {'a': 1, 'b': 3, 'data_dir': 'y'}]
  assert comparison.differing_fields(configs) == {'b': [2, 3]}
