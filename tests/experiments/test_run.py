"""Whole runs on phantom data: files, resuming, scoring what arrives later."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import progress
from attnmel_jax.data import prepare
from attnmel_jax.data import storage
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import evaluate
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run as run_lib
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.phantom import generate
from attnmel_jax.training import loop
from tests.training import event_files


def test_a_run_leaves_all_its_files(finished):
  folder, summary = finished
  for name in ('config.json', 'environment.json', 'metrics.jsonl', 'timing.jsonl',
               'summary.json', 'leakage.json', 'predictions/val.csv',
               'predictions/test.csv', 'attention/val.npz', 'attention/test.npz',
               'attention/test.png'):
    assert (folder / name).is_file(), name
  assert json.loads((folder / 'summary.json').read_text()) == summary
  assert summary['leakage'] == {'allowed': False, 'found': [], 'near_duplicates': {}}
  table = prediction_files.read_predictions(folder / 'predictions' / 'test.csv')
  assert len(table.ids) == summary['test']['n'] == 20
  assert summary['test']['threshold'] == summary['threshold']
  ids, maps = prediction_files.read_attention(folder / 'attention' / 'test.npz')
  assert maps['pool3'].shape == (20, 4, 4)
  assert maps['pool4'].shape == (20, 2, 2)
  assert list(ids) == list(table.ids)
  for name, steps in (('loss', [1, 2, 3, 4, 5, 6]), ('validation_auc', [3, 6])):
    assert [line['step'] for line in _lines(folder) if name in line] == steps


def _lines(folder):
  return [json.loads(line) for line in
          (folder / 'metrics.jsonl').read_text().splitlines()]


def test_a_finished_run_is_not_run_again(finished, config):
  folder, summary = finished
  before = (folder / 'summary.json').stat().st_mtime_ns
  assert run_lib.run(config, folder, quiet=True) == summary
  assert (folder / 'summary.json').stat().st_mtime_ns == before


def test_a_stopped_run_ends_as_one_that_was_left_alone(
    finished, config, tmp_path, monkeypatch):
  folder, summary = finished
  other = tmp_path / 'stopped'
  config = config | {'tensorboard': True}  # which changes no number
  _stop_in_step_four(config, other, monkeypatch)
  assert not (other / 'summary.json').exists()
  assert run_lib.run(config, other, quiet=True) == summary
  for name in ('metrics.jsonl', 'predictions/test.csv', 'predictions/val.csv'):
    assert (other / name).read_bytes() == (folder / name).read_bytes(), name
  assert not (folder / 'tensorboard').exists()
  _check_events(other)


def _stop_in_step_four(config, folder, monkeypatch):
  """Runs until a SIGTERM comes in the fourth step."""
  make_update = run_lib.parallel.update

  def stopping_in_step_four(step):
    update = make_update(step)

    def stopping(state, batch, hyper):
      if int(state.step) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
      return update(state, batch, hyper)
    return stopping

  with monkeypatch.context() as patched:
    patched.setattr(run_lib.parallel, 'update', stopping_in_step_four)
    with pytest.raises(loop.Stopped):
      run_lib.run(config, folder, quiet=True)


def test_runs_with_a_frozen_backbone_share_its_maps_and_resume(
    config, tmp_path, monkeypatch):
  shutil.copytree(config['data_dir'], tmp_path / 'data')  # maps are kept beside them
  config |= {'data_dir': str(tmp_path / 'data'), 'freeze_backbone': True,
             'random_crop': False, 'random_rotation': False}
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  summary = run_lib.run(config, whole, quiet=True)
  views = {path: path.stat().st_mtime_ns
           for path in tmp_path.glob('data/isic2017/*-maps-*/view*')}
  assert sorted(path.name for path in views) == [
      'view0', 'view0', 'view0', 'view2', 'view4', 'view6']
  _stop_in_step_four(config, stopped, monkeypatch)
  assert run_lib.run(config, stopped, quiet=True) == summary
  for name in ('metrics.jsonl', 'predictions/test.csv'):
    assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
  run_lib.run(config | {'model': 'mel_cnn', 'roi': 'none'}, tmp_path / 'mel_cnn',
              quiet=True)
  assert views == {path: path.stat().st_mtime_ns
                   for path in tmp_path.glob('data/isic2017/*-maps-*/*view*')}
  # The whole network, from its checkpoint, on the photographs.
  scored = evaluate.evaluate(
      whole, dataset='isic2017', data_dir=config['data_dir'], split='test',
      out=tmp_path / 'scored', allow_leakage=False)
  assert scored['test']['n'] == 20
  found, wanted = (prediction_files.read_predictions(
      folder / 'predictions' / 'test.csv').probabilities
                   for folder in (tmp_path / 'scored', whole))
  np.testing.assert_allclose(found, wanted, atol=1e-4)


def _check_events(folder):
  """TensorBoard shows each step and validation once, with a picture of the maps."""
  rows = [(event.step, value) for event in event_files.read(folder / 'tensorboard')
          for value in event.summary.value]
  lines = _lines(folder)
  for tag, name in (('train/loss', 'loss'), ('validation/auc', 'validation_auc')):
    found = [(step, value.simple_value) for step, value in rows if value.tag == tag]
    assert found == [(line['step'], float(np.float32(line[name])))
                     for line in lines if name in line]
  pictures = [(step, value.image) for step, value in rows
              if value.tag == 'maps/validation']
  assert [step for step, _ in pictures] == [3, 6]
  assert all(image.encoded_image_string.startswith(b'\x89PNG') and image.width > 100
             for _, image in pictures)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_resumes_once_there_is_space(
    finished, config, tmp_path):
  folder, summary = finished
  for name in ('config.json', 'environment.json'):  # else it is no run's folder
    shutil.copy(folder / name, tmp_path)
  (tmp_path / 'timing.jsonl').symlink_to('/dev/full')
  with pytest.raises(errors.UserError,
                     match='cannot be written .No space left on device.; free'):
    run_lib.run(config, tmp_path, quiet=True)
  (tmp_path / 'timing.jsonl').unlink()
  assert run_lib.run(config, tmp_path, quiet=True) == summary
  assert ((tmp_path / 'metrics.jsonl').read_bytes()
          == (folder / 'metrics.jsonl').read_bytes())


def test_a_damaged_state_is_made_again(finished, config, tmp_path, capsys):
  folder, summary = finished
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  (tmp_path / 'summary.json').unlink()
  latest = tmp_path / 'checkpoints' / 'latest'
  arrays = max((latest / '6').rglob('*'), key=lambda p: p.stat().st_size)
  content = bytearray(arrays.read_bytes())
  content[len(content) // 2] ^= 1
  arrays.write_bytes(content)
  assert run_lib.run(config, tmp_path, quiet=False) == summary
  assert f'{latest}/6 is not whole' in capsys.readouterr().err
  for name in ('metrics.jsonl', 'predictions/test.csv'):
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_data_prepared_anew_are_refused(finished, config, tmp_path):
  folder, _ = finished
  root = pathlib.Path(config['data_dir'])
  for split, words in (('validation', 'the validation data are not those that'),
                       ('test', r'scored on other test data .*evaluate\.py --run=')):
    shutil.copytree(root, tmp_path / split)
    path, = (tmp_path / split / 'isic2017').glob(f'{split}-*/*/metadata.json')
    index = json.loads(path.read_text()) | {'fingerprint': '0' * 64}
    path.write_text(json.dumps(index | {'digest': storage.digest_of(index)}))
    with pytest.raises(errors.UserError, match=words):
      run_lib.run(config | {'data_dir': str(tmp_path / split)}, folder, quiet=True)


def test_predictions_that_were_not_scored_are_refused(finished, config, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(finished[0], folder)
  shutil.copy(folder / 'predictions' / 'val.csv', folder / 'predictions' / 'test.csv')
  with pytest.raises(errors.UserError, match=r'predictions/test\.csv has changed'):
    run_lib.run(config, folder, quiet=True)


@pytest.fixture
def compilations(monkeypatch):
  """(name, compilations in each call) of every step function made meanwhile."""
  events, made = [], []

  def listen(event, seconds, **_):
    if event.endswith('backend_compile_duration'):
      events.append(event)

  def counted(name, make):
    def make_counted(step):
      function, counts = make(step), []
      made.append((name, counts))

      def call(*arguments):
        before = len(events)
        outputs = function(*arguments)
        counts.append(len(events) - before)
        return outputs
      return call
    monkeypatch.setattr(run_lib.parallel, name, make_counted)

  for name in ('update', 'apply'):
    counted(name, getattr(run_lib.parallel, name))
  jax.monitoring.register_event_duration_secs_listener(listen)
  yield made
  jax.monitoring.unregister_event_duration_listener(listen)


def test_a_run_compiles_each_step_once(config, tmp_path, compilations):
  """Over varied batches, learning rates, checkpoints and a padded last batch."""
  summary = run_lib.run(config | {'decay_every_epochs': 1}, tmp_path, quiet=True)
  # 20 images in batches of 16: the second of the test set is padded.
  assert summary['test']['n'] == 20
  assert {name: counts for name, counts in compilations} == {
      'update': [1, 0, 0, 0, 0, 0], 'apply': [1, 0, 0, 0, 0]}


def test_the_plan_counts_without_weights(config):
  config |= {'backbone': 'vgg16_bn', 'gate_width': 256, 'pretrained': 'imagenet'}
  lines = '\n'.join(run_lib.plan(config))
  assert 'parameters: 15184964' in lines
  assert 'train: images 48' in lines
  frozen = config | {'freeze_backbone': True, 'random_crop': False}
  assert ('parameters: 15184964, of which 461828 are trained: the backbone is frozen'
          in run_lib.plan(frozen))
  assert f'devices: {jax.local_device_count()}' in lines
  assert 'not used' not in lines
  lines = run_lib.plan(config | {'num_folds': 4, 'fold': 1})
  assert ('not used: the validation and test split, as this is fold 1 of 4 of the '
          'training images; launch/evaluate.py scores the run with it') in lines


@pytest.mark.parametrize('model, backbone, roi', [
    ('vgg16_gap', 'two_blocks', 'none'), ('attnmel_cnn', 'two_blocks_bn', 'dermo'),
    pytest.param('vgg16', 'vgg16_bn', 'none', marks=pytest.mark.slow),
    pytest.param('mel_cnn', 'vgg16_bn', 'none', marks=pytest.mark.slow),
    pytest.param('attnmel_cnn', 'vgg16', 'background', marks=pytest.mark.slow)])
def test_every_named_system_runs(config, tmp_path, model, backbone, roi):
  config |= {'model': model, 'backbone': backbone, 'roi': roi, 'num_epochs': 1}
  if backbone.startswith('vgg'):
    config['width'] = 1 / 16
  summary = run_lib.run(config, tmp_path, quiet=True)
  assert 0 <= summary['test']['auc']['estimate'] <= 1
  # What is looked at: gates, the activation map of the pooled network, or nothing.
  assert ('jaccard_pool4' in summary['test']) == (model == 'attnmel_cnn')
  assert ('jaccard_cam' in summary['test']) == (model == 'vgg16_gap')
  assert (tmp_path / 'attention' / 'test.png').exists() == (
      model in ('attnmel_cnn', 'vgg16_gap'))


def test_a_fold_of_three_classes_scores_its_own_test_images(config, tmp_path):
  config |= {'positive': (), 'num_epochs': 1, 'roi': 'none', 'model': 'vgg16_gap',
             'backbone': 'two_blocks', 'num_folds': 2, 'fold': 1, 'overlay_images': 0}
  summary = run_lib.run(config, tmp_path, quiet=True)
  assert summary['class_names'] == ['melanoma', 'seborrheic_keratosis', 'nevus']
  assert summary['threshold'] is None
  parts = parts_lib.read_split(tmp_path / 'split.csv')
  assert len(set().union(*parts.values())) == sum(map(len, parts.values())) == 48
  for name, file in (('validation', 'val.csv'), ('test', 'test.csv')):
    scored = prediction_files.read_predictions(tmp_path / 'predictions' / file).ids
    assert sorted(scored) == sorted(parts[name])
    assert np.sum(summary[name]['confusion_matrix']) == len(parts[name])


@pytest.fixture
def copied(config, tmp_path):
  """A config of photographs in a table, and the training image that is tested too."""
  table = ['image,label,split']
  for split, number in (('train', 16), ('validation', 8), ('test', 8)):
    for row in generate.rows(year=2017, split=split, total=number, size=60, seed=4,
                             artefact_bias={}):
      name, ill = f'{row.image_id}.jpg', row.case.diagnosis == 'melanoma'
      photograph = generate.YEARS[2017].encode(row.image_id, row.case)[0][name]
      (tmp_path / name).write_bytes(photograph)
      table.append(f'{name},{"melanoma" if ill else "other"},{split}')
  name, label, _ = table[1].split(',')
  shutil.copy(tmp_path / name, tmp_path / 'copy.jpg')
  table.append(f'copy.jpg,{label},test')
  (tmp_path / 'labels.csv').write_text('\n'.join(table))
  prepare.from_table(
      tmp_path, table=tmp_path / 'labels.csv', classes=(), mask_kind='binary',
      data_dir=tmp_path / 'data', crop_ratio=0.8, resize_size=36)
  return config | {
      'dataset': 'folder', 'data_dir': str(tmp_path / 'data'), 'roi': 'none',
      'model': 'vgg16_gap', 'backbone': 'two_blocks', 'num_epochs': 1,
      'oversample_factors': (1, 1)}, name[:-4]


def test_a_copy_of_a_training_image_aborts_the_run_unless_allowed(
    copied, tmp_path, monkeypatch, capsys):
  config, name = copied
  capsys.readouterr()
  monkeypatch.setattr(progress, '_SECONDS', -1)  # the shortest work shows lines
  folder = tmp_path / 'run'
  pair = f'train and test share 1 near-duplicate pairs: {name} = copy '
  for _ in range(2):
    with pytest.raises(errors.UserError, match=f'{pair}.*--config.allow_leakage=True'):
      run_lib.run(config, folder, quiet=True)
  assert not (folder / 'config.json').exists()  # other data may be trained on here
  summary = run_lib.run(config | {'allow_leakage': True}, folder, quiet=True)
  assert capsys.readouterr() == ('', '')
  assert summary['leakage']['allowed']
  assert summary['leakage']['found'][0].startswith(pair)
  assert summary['test']['n'] == 9
  assert summary['test']['without_near_duplicates']['n'] == 8
  line = run_lib.result_line(summary, 'test', tmp_path)
  assert '; without near-duplicates (8 synthetic images) ap' in line
  assert f'; leakage: {pair}' in line


def test_the_plan_reports_leakage(config):
  task = task_lib.open_task(config)
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(task_lib, 'open_task', lambda _: dataclasses.replace(
        task, parts=task.parts | {'test': task.parts['train']}))
    with pytest.raises(errors.UserError, match='train and test share .* images: '):
      run_lib.plan(config)


def test_the_result_line_holds_intervals_of_every_tap():
  def score(value):
    return {'estimate': value, 'low': 0.125, 'high': 0.75}

  undefined = {'estimate': None, 'low': None, 'high': None}
  summary = {'synthetic': False, 'leakage': {'found': []}, 'test': {
      'n': 20, 'jaccard_pool4': score(0.25), 'jaccard_pool2': score(0.375),
      'jaccard_disc': score(0.5), 'auc': score(0.5), 'ap': undefined}}
  assert run_lib.result_line(summary, 'test', pathlib.Path('r')) == (
      'r: test (20 images) ap undefined, auc 0.500 [0.125, 0.750], '
      'jaccard_pool2 0.375 [0.125, 0.750], jaccard_pool4 0.250 [0.125, 0.750]')
