"""Runs side by side, from hand-made run folders."""

import csv
import io
import json

import pytest

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax.report import run_reader


def _make_run(folder, *, auc, roi, finished=True):
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(
      config_lib.defaults().to_dict() | {'roi': roi, 'data_dir': str(folder)}))
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
  found = run_reader.find_runs(root)
  assert [run.folder.name for run in found.runs] == ['a', 'b']
  assert found.unfinished == [root / 'c']
  assert not found.damaged
  assert found.runs[0].config['taps'] == ('pool3', 'pool4')


def test_a_folder_without_finished_runs_is_an_error(tmp_path):
  with pytest.raises(errors.UserError, match='no finished run'):
    run_reader.find_runs(tmp_path)


@pytest.mark.parametrize('name, text, words', [
    ('summary.json', '{"best": {}, "class_names": [], "threshold": 0.5}',
     'summary.json is damaged (synthetic is missing)'),
    ('summary.json', '{"best": {}, "synthetic": false}', 'summary.json is damaged'),
    ('summary.json', '[]', 'summary.json cannot be read: it holds a list'),
    ('summary.json', '{"best"', 'summary.json cannot be read'),
    ('config.json', '{"model": "vgg16"}', 'another version: the config lacks dataset'),
    ('environment.json', None, 'environment.json does not exist')])
def test_a_damaged_folder_is_named_and_left_out(root, name, text, words):
  path = root / 'a' / name
  path.unlink()
  if text is not None:
    path.write_text(text)
  found = run_reader.find_runs(root)
  assert [run.folder.name for run in found.runs] == ['b']
  (line,) = found.damaged
  assert words.replace('"', '') in line.replace('"', '')
  assert str(root / 'a') in line
  for file in (root / 'b').iterdir():
    file.unlink()
  with pytest.raises(errors.UserError, match='no finished run .*a/'):
    run_reader.find_runs(root)


def test_a_unet_needs_no_classes(root):
  config = json.loads((root / 'a' / 'config.json').read_text())
  (root / 'a' / 'config.json').write_text(json.dumps(
      config | {'model': 'unet', 'roi': 'lesion', 'pretrained': ''}))
  (root / 'a' / 'summary.json').write_text(json.dumps(
      {'best': {'step': 1}, 'synthetic': False, 'class_names': [], 'threshold': 0.5}))
  assert len(run_reader.find_runs(root).runs) == 2


def test_scores_and_intervals_of_each_run(root):
  table = run_reader.rows(run_reader.find_runs(root).runs, 'test')
  lines = run_reader.to_markdown(table)
  assert lines[0] == '| run | n | AP | AUC |'
  assert lines[3] == '| b | 20 | – | 0.800 [0.700, 0.850] |'
  cells = list(csv.DictReader(io.StringIO(run_reader.to_csv(table))))
  assert [row['AUC'] for row in cells] == ['0.7', '0.8']
  assert cells[1]['AUC low'] == str(0.8 - 0.1)
  assert cells[0]['AP'] == ''
  assert cells[0]['dataset'] == 'isic2017'
  assert run_reader.rows(run_reader.find_runs(root).runs, 'validation') == []


def test_what_was_run(root):
  defaults = config_lib.defaults().to_dict()
  first, second = run_reader.settings(run_reader.find_runs(root).runs, defaults)
  assert first == ('- a: best after step 7; commit abcdef012345; cpu: x; differs from '
                   'configs/common.py in nothing')
  assert second.endswith("differs from configs/common.py in roi='lesion'")


def test_only_fields_that_differ_are_listed():
  configs = [{'a': 1, 'b': 2, 'data_dir': 'x'}, {'a': 1, 'b': 3, 'data_dir': 'y'}]
  assert run_reader.differing_fields(configs) == {'b': [2, 3]}


def test_pictures_are_linked_from_the_page(root, tmp_path):
  (root / 'a' / 'attention').mkdir()
  (root / 'a' / 'attention' / 'test.png').write_bytes(b'')
  lines = run_reader.pictures(run_reader.find_runs(root).runs, tmp_path / 'out')
  assert lines == ['a, test:', '', '![test](../a/attention/test.png)', '']
  assert run_reader.pictures([], tmp_path) == ['No run has attention maps.']


def test_scores_without_near_duplicates_and_leakage_are_told(root):
  path = root / 'a' / 'summary.json'
  summary = json.loads(path.read_text())
  summary['test']['without_near_duplicates'] = {'n': 18, 'auc': {
      'estimate': 0.6, 'low': 0.5, 'high': 0.7}}
  summary['leakage'] = {'allowed': True, 'found': ['x', 'y']}
  path.write_text(json.dumps(summary))
  rows = run_reader.rows(run_reader.find_runs(root).runs, 'test')
  assert [(row['run'], row['n'], row['AUC'], row.get('leakage')) for row in rows] == [
      ('a', 20, 0.7, 'x; y'), ('a without near-duplicates', 18, 0.6, 'x; y'),
      ('b', 20, 0.8, 'unknown, as the version that made the run did not look for it')]
