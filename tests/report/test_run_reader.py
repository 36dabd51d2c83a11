"""Run folders that are whole, unfinished, damaged, or scored later."""

import shutil

import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.report import run_reader
from tests.report import run_folders


@pytest.fixture
def root(tmp_path):
  """Two finished runs and one that is not."""
  for name, roi in (('b', 'lesion'), ('a', 'none'), ('c', 'none')):
    run_folders.write(tmp_path / name, run_folders.config('isic2017', roi=roi))
  (tmp_path / 'c' / 'summary.json').unlink()
  return tmp_path


def test_finished_runs_are_found_and_unfinished_ones_named(root):
  found = run_reader.find_runs(root)
  assert [run.folder.name for run in found.runs] == ['a', 'b']
  assert found.unfinished == [root / 'c']
  assert not found.damaged
  assert found.runs[0].config['taps'] == ('pool3', 'pool4')
  shutil.rmtree(root / 'a')
  shutil.rmtree(root / 'b')
  with pytest.raises(errors.UserError, match='no finished run'):
    run_reader.find_runs(root)


def test_runs_behind_links_are_found_once_and_loops_end(root):
  runs = root / 'runs'
  runs.mkdir()
  (root / 'b').rename(runs / 'b')
  for name, target in (('0', 'b'), ('elsewhere', root / 'a'), ('loop', runs),
                       ('gone', root / 'nothing')):
    (runs / name).symlink_to(target)
  found = run_reader.find_runs(runs)
  assert [run.folder for run in found.runs] == [runs / 'b', runs / 'elsewhere']


def test_a_damaged_folder_is_named_and_left_out(root):
  for name, text, words in (
      ('summary.json', '{"best": {}, "class_names": [], "threshold": 0.5}',
       'summary.json is damaged (temperature is missing)'),
      ('summary.json', '[]', 'summary.json cannot be read: it holds a list'),
      ('environment.json', None, 'environment.json does not exist')):
    path = root / 'a' / name
    whole = path.read_text()
    path.unlink()
    if text is not None:
      path.write_text(text)
    found = run_reader.find_runs(root)
    assert [run.folder.name for run in found.runs] == ['b']
    (line,) = found.damaged
    assert words in line and str(root / 'a') in line
    path.write_text(whole)


def test_results_that_contradict_the_summary_are_left_out(root):
  run = run_folders.read(root / 'a')
  path = root / 'a' / 'predictions' / 'test.csv'
  whole = path.read_text().splitlines()
  name, label, first, second = whole[1].split(',')
  for lines, summary, words in (
      (whole, {'n': 39}, '20 other, 20 melanoma, summary.json scores of 39 images'),
      ([*whole[:1], f'{name},{label},{second},{first}', *whole[2:]], {
          'files': {'predictions/test.csv': files.digest(path)}}, 'has changed since'),
      (whole, {'auc': {'estimate': .123, 'low': .1, 'high': .2}}, 'holds 0.1230;')):
    path.write_text('\n'.join(lines) + '\n')
    run_folders.change(root / 'a', 'summary', test=run.summary['test'] | summary)
    found = run_reader.find_runs(root)
    assert [run.folder.name for run in found.runs] == ['b']
    (line,) = found.damaged
    assert words in line and str(root / 'a') in line, line


def test_an_error_that_nobody_foresaw_is_of_one_run(root, monkeypatch):
  whole = run_reader._read

  def read(folder):
    if folder.name == 'a':
      raise IndexError('of a\ncell')
    return whole(folder)

  monkeypatch.setattr(run_reader, '_read', read)
  found = run_reader.find_runs(root)
  assert [run.folder.name for run in found.runs] == ['b']
  assert found.damaged[0].startswith(f'{root / "a"}: IndexError: of a cell (in')


def test_scores_are_those_of_the_run_or_of_a_later_evaluation(tmp_path):
  run = run_folders.write(tmp_path / 'run', run_folders.config('isic2017'),
                          split='validation', leakage=['a'])
  assert run_reader.find_scores(run, 'auto').split == 'validation'
  with pytest.raises(errors.UserError, match='has no test scores'):
    run_reader.find_scores(run, 'test')
  later = tmp_path / 'run' / 'evaluations' / 'isic2017-test'
  run_folders.write(later, run.config, rows=20, leakage=['b', 'a'])
  found = run_reader.find_scores(run, 'auto')
  assert (found.split, found.folder, found.leakage) == ('test', later, ('a', 'b'))
  assert found.values['n'] == 20
  (later / 'summary.json').write_text('{}')
  with pytest.raises(errors.UserError, match=r'is damaged \(.* is missing\); delete'):
    run_reader.find_scores(run, 'test')
  fold = run_folders.write(tmp_path / 'b', run_folders.config('isic2018_cv'),
                           split='validation')
  with pytest.raises(errors.UserError, match='validation images overlap'):
    run_reader.find_scores(fold, 'validation')


def test_what_was_run(root):
  defaults = run_folders.config('isic2017')
  run_folders.change(root / 'b', 'config', data_dir='/x', pretrained='/own/vgg.pth')
  first, second = run_reader.describe(run_reader.find_runs(root).runs, defaults)
  assert (first.name, first.best_step, first.devices) == ('a', 7, 'cpu: x')
  assert first.changed == {} and first.fingerprints == {'train': 'a'}
  # A path is one of a single machine.
  assert second.changed == {'roi': 'lesion', 'pretrained': 'vgg.pth'}


def test_runs_of_one_name_are_told_apart_by_their_parents(root):
  shutil.copytree(root / 'b', root / 'x' / 'a')
  runs = run_reader.find_runs(root).runs
  assert run_reader.run_names(runs) == [f'{root.name}/a', 'b', 'x/a']
