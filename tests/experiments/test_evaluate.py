"""Finished runs scored on data that arrived later."""

import json
import shutil

import pytest

from attnmel_jax import errors
from attnmel_jax.data import prepare
from attnmel_jax.experiments import evaluate
from attnmel_jax.experiments import run as run_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.phantom import generate


def test_a_run_scores_a_split_as_it_did_itself(finished, prepared, tmp_path):
  folder, summary = finished
  again = evaluate.evaluate(folder, dataset='isic2017', data_dir=str(prepared),
                            split='test', out=tmp_path, allow_leakage=False)
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
                            split='test', out=tmp_path / 'later', allow_leakage=False)
  assert later['test'] == summary['test']


def test_own_photographs_are_an_external_test_set(finished, tmp_path):
  folder, summary = finished
  table = ['image,label,mask,split']
  for row in generate.rows(year=2016, split='test', total=12, size=60, seed=9,
                          artefact_bias={}):
    for files in generate.YEARS[2016].encode(row.image_id, row.case):
      for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    table.append(f'{row.image_id}.jpg,{row.case.diagnosis},'
                 f'{row.image_id}_Segmentation.png,test')
  (tmp_path / 'labels.csv').write_text('\n'.join(table))
  prepare.from_table(
      tmp_path, table=tmp_path / 'labels.csv', classes=(), mask_kind='binary',
      data_dir=tmp_path / 'data', crop_ratio=0.8, resize_size=36)
  scored = evaluate.evaluate(folder, dataset='folder', data_dir=str(tmp_path / 'data'),
                             split='test', out=tmp_path / 'out', allow_leakage=False)
  assert scored['test']['class_counts'] == {'other': 10, 'melanoma': 2}
  assert scored['threshold'] == summary['threshold']
  assert 'jaccard_pool4' in scored['test']


def test_an_unfinished_run_cannot_be_scored(config, prepared, tmp_path):
  run_folder.bind(tmp_path, config, {}, {})
  with pytest.raises(errors.UserError, match='is not finished'):
    evaluate.evaluate(tmp_path, dataset='isic2017', data_dir=str(prepared),
                      split='test', out=tmp_path / 'out', allow_leakage=False)


def test_other_classes_are_refused(finished, prepared, tmp_path, config):
  folder, _ = finished
  other = tmp_path / 'run'
  shutil.copytree(folder, other)
  (other / 'config.json').unlink()
  run_folder.bind(other, config | {'positive': ('nevus',)}, {}, {})
  with pytest.raises(errors.UserError, match='other, nevus, the run other, melanoma'):
    evaluate.evaluate(other, dataset='isic2017', data_dir=str(prepared),
                      split='test', out=tmp_path / 'out', allow_leakage=False)


def test_training_images_that_are_elsewhere_or_others_leave_leakage_unknown(
    finished, config, prepared, tmp_path):
  folder, _ = finished
  part = task_lib.open_part(config, 'test')

  def compare(run, first, second):
    found = evaluate._compare(run, config | {'data_dir': str(first)}, part,
                              tmp_path / 'out', data_dir=str(second), allowed=False)
    return found['found']

  assert compare(folder, prepared, tmp_path) == []
  assert compare(folder, tmp_path, prepared) == []
  taught = tmp_path / 'taught'  # by generated masks
  fingerprints = run_folder.read_json(folder / 'environment.json')['fingerprints']
  run_folder.bind(taught, config, fingerprints | {'generated': 'f'},
                  {'commit': 'c', 'devices': []})
  assert compare(taught, prepared, tmp_path) == []
  unknown, = compare(folder, tmp_path, tmp_path)
  assert unknown.startswith('unknown') and 'launch/prepare.py' in unknown
  run_folder.bind(tmp_path / 'other', config, {'train': 'f', 'validation': 'f'},
                  {'commit': 'c', 'devices': []})
  unknown, = compare(tmp_path / 'other', prepared, tmp_path)
  assert 'isic2017/train-' in unknown and 'are others' in unknown


def test_validation_images_that_are_gone_leave_leakage_unknown(
    finished, prepared, tmp_path):
  folder, _ = finished
  moved, data = tmp_path / 'run', tmp_path / 'data'
  shutil.copytree(folder, moved)
  shutil.copytree(prepared, data)
  for path in (data / 'isic2017').glob('validation-*'):
    shutil.rmtree(path)
  config = json.loads((moved / 'config.json').read_text())
  (moved / 'config.json').write_text(json.dumps(
      config | {'data_dir': str(data), 'validation_fraction': 0.0}))
  scored = evaluate.evaluate(moved, dataset='isic2017', data_dir=str(data),
                             split='test', out=tmp_path / 'out', allow_leakage=False)
  (line,) = scored['leakage']['found']
  assert line.startswith('unknown, as the training images of the run are not')
