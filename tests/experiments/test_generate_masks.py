"""Masks of a small U-Net, and a classifier that is trained with them."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import images
from attnmel_jax.data import generated
from attnmel_jax.data import storage
from attnmel_jax.experiments import batches as batches_lib
from attnmel_jax.experiments import build
from attnmel_jax.experiments import evaluate
from attnmel_jax.experiments import generate_masks
from attnmel_jax.experiments import leakage
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run as run_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.experiments import segmentation
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.training import checkpoint


def _generate(run, data, **changed):
  said = []
  generate_masks.generate(run, quiet=True, say=said.append, **(
      {'dataset': 'isic2018', 'data_dir': str(data), 'name': 'unet'} | changed))
  return said


def _split(data, name='train', dataset='isic2018'):
  return storage.open_split(
      dataset, name, data_dir=data, crop_ratio=1.0, resize_size=36)


@pytest.fixture(scope='module')
def masked(segmenter, tmp_path_factory):
  """The data of the U-Net's run with all masks of isic2018."""
  run, _, data = segmenter
  copy = tmp_path_factory.mktemp('masked') / 'data'
  shutil.copytree(data, copy)
  assert [line.partition(' masks')[0] for line in _generate(run, copy)] == [
      'train: 63', 'validation: 14', 'test: 14']
  return copy


@pytest.fixture
def drawn(segmenter, masked, tmp_path):
  """The U-Net's run, and a copy of `masked`."""
  shutil.copytree(masked, tmp_path / 'data')
  return segmenter[0], tmp_path / 'data'


@pytest.fixture
def classifier(config, drawn):
  """The config of a classifier that is trained with the masks."""
  return config | {
      'dataset': 'isic2018', 'data_dir': str(drawn[1]), 'crop_ratio': 1.0,
      'positive': (), 'roi': 'generated', 'sampler': 'none', 'num_epochs': 1,
      'overlay_images': 0}


def test_a_mask_is_what_the_unet_says_of_the_whole_image(drawn):
  run, data = drawn
  config = run_folder.read_config(run)
  with checkpoint.Checkpoints(run / 'checkpoints', create=False) as checkpoints:
    variables, best = checkpoints.restore_best(
        build.state_template(config, 0).variables())
  split = generated.attach(_split(data), 'unet')
  loaded = [split.load(row) for row in (0, 40, 62)]
  seen = images.normalise(jnp.stack([arrays['image'] for arrays in loaded]), 'isic2018')
  model = segmentation.create_model(config, 0, remat=False)
  logits, _ = jax.jit(lambda x: model.apply(variables, x, train=False))(seen)
  probability = 255 / (1 + np.exp(-np.asarray(logits, np.float64)))
  for arrays, known in zip(loaded, probability, strict=True):
    assert np.abs(arrays['generated'] - known).max() < 0.51
    assert len(np.unique(arrays['generated'])) > 2  # no threshold
  identity = split.generated.unet
  assert identity['best_step'] == best['step']
  assert identity['parameters'] == generate_masks.fingerprint(variables)
  parts = parts_lib.read_split(run / 'split.csv')
  assert identity['trained_on'] == sorted(parts['train'] + parts['validation'])
  assert len(identity['trained_on']) == 30


def test_stopped_it_resumes_and_whole_masks_are_left_as_they_are(
    drawn, classifier, monkeypatch):
  run, data = drawn
  write = generated.Writer.write
  folder = generated.folder(_split(data), 'again')

  def stopping(writer, row, values):
    if row == 20:
      raise KeyboardInterrupt
    write(writer, row, values)

  def state():
    return generate_masks.state(run_folder.read_config(run) | {'data_dir': str(data)},
                                dataset='isic2018', name='again')

  def written():
    return {path: path.stat().st_mtime_ns for path in folder.iterdir()}

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr(generated.Writer, 'write', stopping)
    _generate(run, data, name='again')
  kept = {path: time for path, time in written().items() if path.suffix == '.png'}
  assert len(kept) == 20 and state() == 'begun'
  with pytest.raises(errors.UserError, match='are incomplete'):
    task_lib.open_task(classifier | {'generated_masks': 'again'})
  _generate(run, data, name='again')
  whole = written()
  assert whole | kept == whole and state() == 'finished'
  assert generated.open_maps(_split(data), 'again').fingerprint == generated.open_maps(
      _split(data), 'unet').fingerprint
  assert all('already' in line for line in _generate(run, data, name='again'))
  assert written() == whole


def test_a_unet_that_knows_test_images_draws_nothing(segmenter, tmp_path):
  run, _, data = segmenter
  tested = _split(data, 'test').ids[3]
  shutil.copytree(run, tmp_path / 'run')
  with (tmp_path / 'run' / 'split.csv').open('a') as file:
    file.write(f'{tested},{tested},validation\n')
  with pytest.raises(errors.UserError, match=f'1 of the 14 test .* as {tested}'):
    _generate(tmp_path / 'run', data)
  assert not list(data.rglob('*-generated-*'))


def test_what_cannot_draw_is_refused(segmenter, finished, tmp_path):
  run, _, data = segmenter
  run_folder.bind(tmp_path / 'new', run_folder.read_config(run), {}, {})
  shutil.copytree(run, tmp_path / 'other')
  summary = files.read_json(run / 'summary.json')
  files.write_json(tmp_path / 'other' / 'summary.json', summary | {
      'best': summary['best'] | {'step': summary['best']['step'] + 1}})
  for source, dataset, words in (
      (finished[0], 'isic2018', "model='attnmel_cnn', which draws no"),
      (run, 'isic2016', r'launch/prepare\.py --dataset=isic2016'),
      (tmp_path / 'new', 'isic2018', 'is not finished'),
      (tmp_path / 'other', 'isic2018', 'holds a best state after step')):
    with pytest.raises(errors.UserError, match=words):
      _generate(source, data, dataset=dataset)


def test_training_batches_hold_the_masks_as_they_are(classifier):
  task = task_lib.open_task(classifier)
  split = task.parts['train'].prepared
  for gib in (0.0, 1.0):
    batch = batches_lib.training_batches(
        classifier, task, batches_lib.open_store(split, task.region, gib)).batch_at(0)
    np.testing.assert_array_equal(
        batch['roi'], [split.generated.load(row) for row in batch['index']])
    assert batch['has_roi'].all()
  assert 'generated masks: ' in '\n'.join(run_lib.plan(classifier))


@pytest.mark.slow
def test_a_run_notes_its_masks_and_is_scored_by_lesions(drawn, classifier, tmp_path):
  _, data = drawn
  folder = tmp_path / 'run'
  split = task_lib.open_task(classifier).parts['train'].prepared
  summary = run_lib.run(classifier, folder, quiet=True)
  bound = run_folder.read_environment(folder)['fingerprints']
  assert bound['generated'] == split.generated.fingerprint
  known = run_folder.read_json(folder / 'generated_masks.json')
  assert known['unet'] == split.generated.unet
  assert summary['test']['n_annotated'] == 0  # the phantom has masks of training alone
  again = evaluate.evaluate(folder, dataset='isic2018', data_dir=str(data),
                            split='train', out=tmp_path / 'out', allow_leakage=False)
  assert again['train']['n_annotated'] == 63
  with pytest.raises(errors.UserError, match='trained on 30 of the 40 train images'):
    run_folder.check_unseen(folder, _split(data, dataset='isic2018_task1').ids,
                            'the 40 train images')


def test_a_run_resumes_with_the_same_masks_alone(classifier, tmp_path):
  fingerprints = {name: part.prepared.fingerprint
                  for name, part in task_lib.open_task(classifier).parts.items()}
  run_folder.bind(tmp_path, classifier, fingerprints | {'generated': 'other'},
                  {'commit': 'c', 'devices': []})
  with pytest.raises(errors.UserError, match='the generated data are not those'):
    run_lib.run(classifier, tmp_path, quiet=True)


def test_scoring_images_that_the_unet_knew_is_refused(
    drawn, classifier, finished, tmp_path):
  _, data = drawn
  folder = tmp_path / 'run'
  run_folder.bind(folder, classifier, {}, {'commit': 'c', 'devices': []})
  tested = _split(data, 'test').ids
  kept = ('best', 'synthetic', 'threshold', 'temperature', 'leakage')
  (folder / 'summary.json').write_text(json.dumps(
      {name: finished[1][name] for name in kept} | {
          'class_names': list(task_lib.open_task(classifier).class_names),
          'fingerprints': {}, 'trained_on': {'n': 1, 'groups': 1, 'class_counts': {}}}))
  path = generated.open_maps(_split(data), 'unet').path / 'index.json'
  index = json.loads(path.read_text())
  index['unet']['trained_on'] += [tested[0], tested[1]]
  path.write_text(json.dumps(index))
  for allowed in (False, True):
    with pytest.raises(errors.UserError,
                       match=f'2 of the 14 test images .*{tested[0]}'):
      task_lib.open_task(classifier | {'allow_leakage': allowed})
  run_folder.write_generated(folder, generated.open_maps(_split(data), 'unet'))
  with pytest.raises(errors.UserError, match=f'2 of the 14 test images .*{tested[0]}'):
    evaluate.evaluate(folder, dataset='isic2018', data_dir=str(data), split='test',
                      out=tmp_path / 'out', allow_leakage=True)


def test_the_images_that_taught_the_unet_are_compared_with_the_tests(
    drawn, classifier, tmp_path):
  _, data = drawn
  task = task_lib.open_task(classifier)
  known = task.generated.unet
  part, = task_lib.open_learnt(known, str(data), {known['trained_on'][4]: 'L'})
  assert sorted(part.ids) == known['trained_on']
  assert dict(zip(part.ids, part.groups, strict=True)) == {
      name: name for name in known['trained_on']} | {known['trained_on'][4]: 'L'}
  found = leakage.of_run(
      classifier, task, batches_lib.open_stores(classifier, task), tmp_path)
  assert found['found'] == []
  compared = run_folder.read_json(tmp_path / 'leakage.json')['shared']
  assert compared[-1]['parts'] == ['the U-Net of the masks', 'test']
  with pytest.raises(errors.UserError, match='1 of the 31 images .* isic2018_task1 in'):
    task_lib.open_learnt(
        known | {'trained_on': [*known['trained_on'], 'ISIC_9']}, str(data), {})
  with pytest.raises(errors.UserError, match='30 of the 30 images that the U-Net'):
    task_lib.open_learnt(known, str(tmp_path), {})
