"""Finished runs scored on data that arrived later."""

import shutil

import pytest

from attnmel_jax import errors
from attnmel_jax.experiments import evaluate
from attnmel_jax.experiments import run as run_lib
from attnmel_jax.experiments import run_folder


def test_a_run_scores_a_split_as_it_did_itself(finished, prepared, tmp_path):
  folder, summary = finished
  again = evaluate.evaluate(folder, dataset='isic2017', data_dir=str(prepared),
                            split='test', out=tmp_path)
  assert again['test'] == summary['test']
  assert (tmp_path / 'predictions' / 'test.csv').read_bytes() == (
      folder / 'predictions' / 'test.csv').read_bytes()


def test_a_test_set_may_arrive_later(finished, config, prepared, tmp_path):
  _, summary = finished
  data = tmp_path / 'data'
  shutil.copytree(prepared, data)
  for path in (data / 'isic2017').glob('test-*'):
    shutil.rmtree(path)
  config |= {'data_dir': str(data)}
  folder = tmp_path / 'run'
  without = run_lib.run(config, folder, quiet=True)
  assert 'test' not in without
  assert without['validation'] == summary['validation']
  later = evaluate.evaluate(folder, dataset='isic2017', data_dir=str(prepared),
                            split='test', out=tmp_path / 'later')
  assert later['test'] == summary['test']


def test_an_unfinished_run_cannot_be_scored(config, prepared, tmp_path):
  run_folder.bind(tmp_path, config, {}, {})
  with pytest.raises(errors.UserError, match='is not finished'):
    evaluate.evaluate(tmp_path, dataset='isic2017', data_dir=str(prepared),
                      split='test', out=tmp_path / 'out')


def test_other_classes_are_refused(finished, prepared, tmp_path, config):
  folder, _ = finished
  other = tmp_path / 'run'
  shutil.copytree(folder, other)
  (other / 'config.json').unlink()
  run_folder.bind(other, config | {'positive': ('nevus',)}, {}, {})
  with pytest.raises(errors.UserError, match='other, nevus, the run other, melanoma'):
    evaluate.evaluate(other, dataset='isic2017', data_dir=str(prepared),
                      split='test', out=tmp_path / 'out')
