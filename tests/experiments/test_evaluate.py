"""Finished runs scored on data that arrived later."""

import json
import shutil
import zipfile

import pytest

from attnmel_jax import errors
from attnmel_jax.data import prepare
from attnmel_jax.experiments import evaluate
from attnmel_jax.experiments import run_folder
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.phantom import generate
from tests import commands


def test_a_run_scores_a_split_as_it_did_itself(finished, prepared, tmp_path):
  folder, summary = finished
  again = evaluate.evaluate(folder, dataset='isic2017', data_dir=str(prepared),
                            split='test', out=tmp_path, allow_leakage=False)
  assert again['test'] == summary['test']
  assert (tmp_path / 'predictions' / 'test.csv').read_bytes() == (
      folder / 'predictions' / 'test.csv').read_bytes()


def test_a_test_set_may_arrive_later(finished, prepared, tmp_path):
  folder, summary = finished
  data, moved = tmp_path / 'data', tmp_path / 'run'
  shutil.copytree(prepared, data, ignore=shutil.ignore_patterns('test-*'))
  shutil.copytree(folder, moved)
  path = moved / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'data_dir': str(data)}))
  later = evaluate.evaluate(moved, dataset='isic2017', data_dir=str(prepared),
                            split='test', out=tmp_path / 'later', allow_leakage=False)
  assert later['test'] == summary['test'] and later['leakage'] == summary['leakage']


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


def test_a_data_set_of_one_class_is_scored_where_the_class_is_known(
    finished, tmp_path):
  rows = list(generate.rows(year=2016, split='test', total=4, size=60, seed=9,
                            artefact_bias={}))
  for name, scored in (('nevus', {'other': 4, 'melanoma': 0}),
                       ('melanoma', {'other': 0, 'melanoma': 4}), ('Nevus', None)):
    source = tmp_path / name
    source.mkdir()
    table = ['image,label,split']
    for row in rows:
      for files in generate.YEARS[2016].encode(row.image_id, row.case):
        for file, content in files.items():
          (source / file).write_bytes(content)
      table.append(f'{row.image_id}.jpg,{name},test')
    (source / 'labels.csv').write_text('\n'.join(table))
    prepare.from_table(
        source, table=source / 'labels.csv', classes=(), mask_kind='binary',
        data_dir=source / 'data', crop_ratio=0.8, resize_size=36)
    done = commands.in_process(
        'evaluate', f'--run={finished[0]}', '--dataset=folder',
        f'--data_dir={source / "data"}', f'--out={source / "out"}')
    if scored is None:
      assert done.returncode == 2
      assert 'has the classes Nevus, the run tells melanoma from' in done.stderr
      continue
    assert done.returncode == 0, done.stderr
    test = run_folder.read_evaluation(source / 'out')['test']
    assert test['class_counts'] == scored and test['auc']['estimate'] is None


def test_training_images_in_another_data_set_end_the_command(
    finished, prepared, tmp_path):
  folder, _ = finished
  table = ['image,label,split']
  with zipfile.ZipFile(
      prepared.parent / 'archives' / 'ISIC-2017_Training_Data.zip') as archive:
    photographs = sorted(
        name for name in archive.namelist() if name.endswith('.jpg'))[:4]
    for number, name in enumerate(photographs):
      image = name.split('/')[-1]
      (tmp_path / image).write_bytes(archive.read(name))
      table.append(f'{image},{("melanoma", "other")[number % 2]},test')
  (tmp_path / 'labels.csv').write_text('\n'.join(table))
  prepare.from_table(
      tmp_path, table=tmp_path / 'labels.csv', classes=(), mask_kind='binary',
      data_dir=tmp_path / 'data', crop_ratio=0.8, resize_size=36)
  done = commands.in_process(
      'evaluate', f'--run={folder}', '--dataset=folder',
      f'--data_dir={tmp_path / "data"}', f'--out={tmp_path / "out"}')
  assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
  assert 'isic2017 train and folder test share 4 images: ISIC_' in done.stderr
  assert not (tmp_path / 'out' / 'summary.json').exists()


def test_a_run_is_no_place_for_the_scores_of_one(finished, prepared, tmp_path):
  folder, _ = finished
  other = tmp_path / 'other'
  shutil.copytree(folder, other)
  before = {path: path.read_bytes() for path in other.rglob('*') if path.is_file()}
  for run in (folder, other):
    done = commands.in_process('evaluate', f'--run={run}', f'--data_dir={prepared}',
                               f'--out={other}')
    assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
    assert 'holds something other than the scores of ' in done.stderr
  assert before == {
      path: path.read_bytes() for path in other.rglob('*') if path.is_file()}


def test_what_cannot_be_scored_is_refused(finished, config, prepared, tmp_path):
  unfinished, other = tmp_path / 'unfinished', tmp_path / 'other'
  run_folder.bind(unfinished, config, {}, {})
  shutil.copytree(finished[0], other)
  (other / 'config.json').unlink()
  run_folder.bind(other, config | {'positive': ('nevus',)},
                  run_folder.read_environment(finished[0])['fingerprints'],
                  {'commit': 'c', 'devices': []})
  for run, words in ((unfinished, 'is not finished'),
                     (other, 'other, nevus, the run other, melanoma')):
    with pytest.raises(errors.UserError, match=words):
      evaluate.evaluate(run, dataset='isic2017', data_dir=str(prepared), split='test',
                        out=tmp_path / 'out', allow_leakage=False)


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
  gone = tmp_path / 'gone'
  shutil.copytree(prepared, gone, ignore=shutil.ignore_patterns('validation-*'))
  config['validation_fraction'] = 0.0
  unknown, = compare(folder, gone, gone)
  assert unknown.startswith('unknown, as the training images of the run are not')
