"""Masks of a small U-Net, and a classifier that learns from them."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import errors
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
from attnmel_jax.models import unet
from attnmel_jax.training import checkpoint
from configs import isic2018

GEOMETRY = {'crop_ratio': 1.0, 'resize_size': 36}


def _generate(run, data, **changed):
  said = []
  generate_masks.generate(run, quiet=True, say=said.append, **(
      {'dataset': 'isic2018', 'data_dir': str(data), 'name': 'unet'} | changed))
  return said


@pytest.fixture(scope='module')
def masked(segmented, tmp_path_factory):
  """The data of the U-Net's run with all masks of isic2018."""
  run, _, data = segmented
  copy = tmp_path_factory.mktemp('masked') / 'data'
  shutil.copytree(data, copy)
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(unet, 'DEPTH', 1)
    said = _generate(run, copy)
  assert [line.partition(' masks')[0] for line in said] == [
      'train: 63', 'validation: 14', 'test: 14']
  return copy


@pytest.fixture
def drawn(segmenter, masked, tmp_path):
  """The U-Net's run, and a copy of `masked`."""
  shutil.copytree(masked, tmp_path / 'data')
  return segmenter[0], tmp_path / 'data'


def _split(data, name='train'):
  return storage.open_split('isic2018', name, data_dir=data, **GEOMETRY)


def _classifier(data, **changes):
  config = isic2018.get_config()
  config.data_dir = str(data)
  config.roi = 'generated'
  config.resize_size = 36
  config.image_size = 32
  config.width = 1 / 16
  config.gate_width = 8
  config.pretrained = ''
  config.sampler = 'none'
  config.batch_size = 16
  config.num_epochs = 1
  config.bootstrap_draws = 100
  config.overlay_images = 1
  return config.to_dict() | changes


def test_a_mask_is_what_the_unet_says_of_the_whole_image(drawn):
  run, data = drawn
  config = run_folder.read_config(run)
  with checkpoint.Checkpoints(run / 'checkpoints', create=False) as checkpoints:
    variables, best = checkpoints.restore_best(
        build.state_template(config, 0).variables())
  split = generated.attach(_split(data), 'unet')
  rows = [0, 40, 62]
  loaded = [split.load(row) for row in rows]
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
  assert not set(identity['trained_on']) & set(parts['test'])


def test_whole_masks_are_left_as_they_are(drawn):
  run, data = drawn
  before = {path: path.stat().st_mtime_ns for path in data.rglob('*-generated-*/*')}
  assert len(before) == 63 + 14 + 14 + 3 * 2
  said = _generate(run, data)
  assert all('already' in line for line in said)
  assert before == {
      path: path.stat().st_mtime_ns for path in data.rglob('*-generated-*/*')}


def test_stopped_it_goes_on(drawn, monkeypatch):
  run, data = drawn
  whole = generated.open_maps(_split(data), 'unet')
  write = generated.Writer.write

  def stopping(writer, row, values):
    if row == 20:
      raise KeyboardInterrupt
    write(writer, row, values)

  with monkeypatch.context() as patched:
    patched.setattr(generated.Writer, 'write', stopping)
    with pytest.raises(KeyboardInterrupt):
      _generate(run, data, name='again')
  folder = generated.folder(_split(data), 'again')
  kept = {path: path.stat().st_mtime_ns for path in folder.glob('*.png')}
  assert len(kept) == 20 and not (folder / 'index.json').exists()
  assert generate_masks.state(run_folder.read_config(run) | {'data_dir': str(data)},
                          dataset='isic2018', name='again') == 'begun'
  with pytest.raises(errors.UserError, match='are incomplete'):
    task_lib.open_task(_classifier(data, generated_masks='again'))
  _generate(run, data, name='again')
  assert kept == {path: path.stat().st_mtime_ns for path in kept}
  assert generated.open_maps(_split(data), 'again').fingerprint == whole.fingerprint
  assert generate_masks.state(run_folder.read_config(run) | {'data_dir': str(data)},
                          dataset='isic2018', name='again') == 'finished'


def test_a_unet_that_knows_test_images_draws_nothing(segmenter, tmp_path):
  run, _, data = segmenter
  tested = _split(data, 'test').ids[3]
  shutil.copytree(run, tmp_path / 'run')
  with (tmp_path / 'run' / 'split.csv').open('a') as file:
    file.write(f'{tested},{tested},validation\n')
  with pytest.raises(errors.UserError, match=f'1 of the 14 test .* as {tested}'):
    _generate(tmp_path / 'run', data)
  assert not list(data.rglob('*-generated-*'))


def test_what_cannot_draw_is_refused(segmenter, finished, prepared, tmp_path):
  run, _, data = segmenter
  with pytest.raises(errors.UserError, match="model='attnmel_cnn', which draws no"):
    _generate(finished[0], data)
  with pytest.raises(errors.UserError, match=r'launch/prepare\.py --dataset=isic2016'):
    _generate(run, data, dataset='isic2016')
  run_folder.bind(tmp_path / 'new', run_folder.read_config(run), {}, {})
  with pytest.raises(errors.UserError, match='is not finished'):
    _generate(tmp_path / 'new', data)


def test_training_batches_hold_the_masks_as_they_are(drawn):
  _, data = drawn
  config = _classifier(data)
  task = task_lib.open_task(config)
  split = task.parts['train'].prepared
  batches = [batches_lib.training_batches(
      config, task, batches_lib.open_store(split, task.region, gib)).batch_at(0)
             for gib in (0.0, 1.0)]
  for batch in batches:
    np.testing.assert_array_equal(
        batch['roi'], [split.generated.load(row) for row in batch['index']])
    assert batch['has_roi'].all()
  assert 'generated masks: ' in '\n'.join(run_lib.plan(config))


@pytest.mark.slow
def test_a_run_notes_its_masks_and_is_scored_by_lesions(drawn, tmp_path):
  _, data = drawn
  config = _classifier(data)
  split = task_lib.open_task(config).parts['train'].prepared
  summary = run_lib.run(config, tmp_path / 'run', quiet=True)
  bound = run_folder.read_json(tmp_path / 'run' / 'environment.json')['fingerprints']
  assert bound['generated'] == split.generated.fingerprint
  known = run_folder.read_json(tmp_path / 'run' / 'generated_masks.json')
  assert known['unet'] == split.generated.unet
  assert summary['test']['n_annotated'] == 0  # the phantom has masks of training alone
  again = evaluate.evaluate(tmp_path / 'run', dataset='isic2018', data_dir=str(data),
                            split='train', out=tmp_path / 'out', allow_leakage=False)
  assert again['train']['n_annotated'] == 63
  with pytest.raises(errors.UserError, match='trained on 30 of the 40 train images'):
    run_folder.check_unseen(
        tmp_path / 'run', storage.open_split(
            'isic2018_task1', 'train', data_dir=data, **GEOMETRY).ids,
        'the 40 train images')


def test_scoring_images_that_the_unet_knew_is_refused(drawn, tmp_path):
  _, data = drawn
  folder = tmp_path / 'run'
  config = _classifier(data)
  run_folder.bind(folder, config, {}, {})
  maps = generated.open_maps(_split(data), 'unet')
  names = ['MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC']
  (folder / 'summary.json').write_text(json.dumps(
      {'class_names': names, 'threshold': None, 'temperature': None,
       'best': {'step': 1}, 'synthetic': True, 'leakage': {'found': []},
       'fingerprints': {}, 'trained_on': {'n': 1, 'groups': 1, 'class_counts': {}}}))
  tested = _split(data, 'test').ids
  path = maps.path / 'index.json'
  index = json.loads(path.read_text())
  index['unet']['trained_on'] += [tested[0], tested[1]]
  path.write_text(json.dumps(index))
  with pytest.raises(errors.UserError, match=f'2 of the 14 test images .*{tested[0]}'):
    task_lib.open_task(config)
  run_folder.write_generated(folder, generated.open_maps(_split(data), 'unet'))
  with pytest.raises(errors.UserError, match=f'2 of the 14 test images .*{tested[0]}'):
    evaluate.evaluate(folder, dataset='isic2018', data_dir=str(data), split='test',
                      out=tmp_path / 'out', allow_leakage=False)


def test_the_images_that_taught_the_unet_are_compared_with_the_tests(drawn, tmp_path):
  _, data = drawn
  config = _classifier(data)
  task = task_lib.open_task(config)
  known = task.generated.unet
  part, = task_lib.open_learnt(known, str(data), {known['trained_on'][4]: 'L'})
  assert sorted(part.ids) == known['trained_on']
  assert dict(zip(part.ids, part.groups, strict=True)) == {
      name: name for name in known['trained_on']} | {known['trained_on'][4]: 'L'}
  found = leakage.of_run(
      config, task, batches_lib.open_stores(config, task), tmp_path)
  assert found['found'] == []
  compared = run_folder.read_json(tmp_path / 'leakage.json')['shared']
  assert compared[-1]['parts'] == ['the U-Net of the masks', 'test']
  with pytest.raises(errors.UserError, match='1 of the 31 images .* isic2018_task1 in'):
    task_lib.open_learnt(
        known | {'trained_on': [*known['trained_on'], 'ISIC_9']}, str(data), {})
  with pytest.raises(errors.UserError, match='30 of the 30 images that the U-Net'):
    task_lib.open_learnt(known, str(tmp_path), {})


def test_a_run_goes_on_with_the_same_masks_alone(drawn, tmp_path):
  _, data = drawn
  config = _classifier(data)
  folder = tmp_path / 'run'
  task = task_lib.open_task(config)
  fingerprints = {name: part.prepared.fingerprint for name, part in task.parts.items()}
  run_folder.bind(folder, config, fingerprints | {'generated': 'other'},
                  {'commit': 'c', 'devices': []})
  with pytest.raises(errors.UserError, match='the generated data are not those'):
    run_lib.run(config, folder, quiet=True)
