"""Exported models, read without attnmel_jax, give what the run predicted."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import zipfile

import jax
from jax import export as jax_export
import numpy as np
import pytest
import safetensors.numpy

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.data import storage
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import build
from attnmel_jax.share import export
from attnmel_jax.share import model_card
from attnmel_jax.share import onnx_export
from attnmel_jax.share import trained
from tests.commands import environment

# Reads the card's own code, in a process that cannot import ours.
READ_PROGRAM = '''
import json, pathlib, sys
sys.modules['attnmel_jax'] = None
card = pathlib.Path('MODEL_CARD.md').read_text()
exec(card.split('```python')[1].split('```')[0])
paths = sorted(pathlib.Path(sys.argv[1]).rglob('*.jpg'))
out = predict(paths)
parts = predict(paths[:1])  # another size of batch
np.savez('program.npz', ids=[path.stem for path in paths], **{
    'probabilities': out['probabilities'], 'first': parts['probabilities'],
    **out['attention']})
'''

# An own forward pass from the names alone; NCHW, as PyTorch has it.
READ_WEIGHTS = '''
import json, sys
sys.modules['attnmel_jax'] = None
import jax, numpy as np, safetensors.numpy
from jax import lax
weights = safetensors.numpy.load_file('weights.safetensors')
images, mean, std = (np.load('in.npz')[k] for k in ('images', 'mean', 'std'))
x = ((images / np.float32(255) - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)

def conv(x, name, pad):
  return lax.conv_general_dilated(
      x, weights[name + '.weight'], (1, 1), ((pad, pad),) * 2,
      dimension_numbers=('NCHW', 'OIHW', 'NCHW'), precision='highest')

def column(name):
  return weights[name][:, None, None]

pools, index = {}, 0
for block, layers in enumerate((2, 2, 3, 3, 3), 1):
  for _ in range(layers):
    x = conv(x, f'features.{index}', 1) + column(f'features.{index}.bias')
    bn = f'features.{index + 1}.'
    x = (x - column(bn + 'running_mean')) / np.sqrt(column(bn + 'running_var') + 1e-5)
    x = jax.nn.relu(x * column(bn + 'weight') + column(bn + 'bias'))
    index += 3
  x = lax.reduce_window(x, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), 'VALID')
  pools[block] = x
  index += 1
pooled, maps = [pools[5].mean((2, 3))], {}
for tap in (3, 4):
  gate, feature = f'gate_pool{tap}', pools[tap]
  guidance = conv(pools[5], gate + '.guidance', 0)
  guidance = jax.image.resize(guidance, (*guidance.shape[:2], *feature.shape[2:]),
                              'linear', antialias=False)
  hidden = jax.nn.relu(conv(feature, gate + '.feature', 0) + guidance)
  response = conv(hidden, gate + '.response', 0) + column(gate + '.response.bias')
  attention = jax.nn.sigmoid(response)
  maps[f'pool{tap}'] = attention[:, 0]
  pooled.append((attention * feature).mean((2, 3)))
logits = (np.concatenate(pooled, 1) @ weights['classifier.weight'].T
          + weights['classifier.bias'])
np.savez('weights.npz', probabilities=jax.nn.softmax(logits), **maps)
'''


@pytest.fixture
def run(finished):
  run, = trained.open_runs([finished[0]], tta=None)
  return run


def _alone(script, folder, *arguments):
  """Runs a script in a process of its own, isolated from this repository."""
  (folder / 'script.py').write_text(script)
  subprocess.run([sys.executable, '-I', 'script.py', *map(str, arguments)], cwd=folder,
                 check=True, timeout=300, env=environment(folder))


def _read(path):
  with np.load(path) as archive:
    return dict(archive)


@pytest.mark.slow
def test_the_program_reads_alone_and_predicts_what_the_run_did(
    run, finished, prepared, tmp_path):
  with zipfile.ZipFile(
      prepared.parent / 'archives' / 'ISIC-2017_Test_v2_Data.zip') as archive:
    archive.extractall(tmp_path / 'photos')
  export.write(run, tmp_path / 'out')
  _alone(READ_PROGRAM, tmp_path / 'out', tmp_path / 'photos')
  found = _read(tmp_path / 'out' / 'program.npz')
  stored = prediction_files.read_predictions(finished[0] / 'predictions' / 'test.csv')
  ids, maps = prediction_files.read_attention(finished[0] / 'attention' / 'test.npz')
  assert found['ids'].tolist() == stored.ids.tolist() == ids.tolist()
  np.testing.assert_allclose(found['probabilities'], stored.probabilities, atol=1e-5)
  np.testing.assert_allclose(found['first'], stored.probabilities[:1], atol=1e-5)
  for name, values in maps.items():
    np.testing.assert_allclose(found[name], values, atol=1e-5)


@pytest.mark.slow
def test_the_weights_read_alone_make_the_same_network(
    run, finished, prepared, tmp_path):
  split = storage.open_split('isic2017', 'test', data_dir=prepared, crop_ratio=0.8,
                              resize_size=36)
  images = np.stack([split.load(row)['image'] for row in range(len(split))])
  mean, std = model_card.images.NORMALISATIONS['isic2017']
  export.write(run, tmp_path)
  np.savez(tmp_path / 'in.npz', images=images[:, 2:34, 2:34], mean=np.float32(mean),
           std=np.float32(std))
  _alone(READ_WEIGHTS, tmp_path)
  found = _read(tmp_path / 'weights.npz')
  stored = prediction_files.read_predictions(finished[0] / 'predictions' / 'test.csv')
  np.testing.assert_allclose(found['probabilities'], stored.probabilities, atol=1e-5)
  _, maps = prediction_files.read_attention(finished[0] / 'attention' / 'test.npz')
  for name, values in maps.items():
    np.testing.assert_allclose(found[name], values, atol=1e-5)


def _random(run, **config):
  """A run of another model, with weights nobody trained."""
  config = {**run.config, **config}
  variables, _ = build.initial_variables(config, 2, lambda: None)
  return dataclasses.replace(run, config=config, variables=variables)


@pytest.mark.slow
@pytest.mark.parametrize('config', [
    {'model': 'vgg16_gap', 'backbone': 'vgg16'}, {'model': 'vgg16'},
    {'model': 'mel_cnn', 'tta': True}, {'gate_norm': 'softmax', 'dtype': 'bfloat16'}],
    ids=str)
def test_every_system_is_exported(run, config):
  run = _random(run, **config)
  images = np.random.default_rng(0).integers(0, 256, (3, 36, 36, 3), np.uint8)
  exported = jax_export.deserialize(export.program(run).serialize())
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  expected = parallel.unshard(build.prediction_step(run.config, 2)(
      run.variables, parallel.shard({'image': images})))
  found = exported.call(images)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  tolerance = 2e-2 if config.get('dtype') == 'bfloat16' else 1e-5
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), found,
               expected)


def test_the_files_hold_all_that_a_reader_needs(run, tmp_path, monkeypatch):
  class Program:
    def serialize(self):
      return bytearray(b'program')

  monkeypatch.setattr(export, 'program', lambda run: Program())
  def convert(step, side):
    raise onnx_export.Unavailable('it is not there')

  monkeypatch.setattr(onnx_export, 'model', convert)
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'model.onnx').touch()  # of an earlier call
  paths, missing = export.write(run, tmp_path / 'out')
  assert missing == 'it is not there'
  assert [path.name for path in paths] == [
      'model.stablehlo', 'weights.safetensors', 'MODEL_CARD.md']
  assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(
      path.name for path in paths)
  assert 'onnx' not in paths[2].read_text()
  assert paths[0].read_bytes() == b'program'
  with safetensors.safe_open(paths[1], 'numpy') as file:
    metadata = file.metadata()
  assert json.loads(metadata['class_names']) == ['other', 'melanoma']
  assert json.loads(metadata['config'])['image_size'] == 32
  assert '# AttnMel-CNN' in paths[2].read_text()
  with pytest.raises(errors.UserError, match='--out=/dev/null/x cannot be written'):
    export.write(run, pathlib.Path('/dev/null/x'))
  monkeypatch.setattr(onnx_export, 'model', lambda step, side: b'onnx')
  paths, missing = export.write(run, tmp_path / 'out')
  assert (paths[1].name, paths[1].read_bytes(), missing) == ('model.onnx', b'onnx', '')
  assert '## Use: model.onnx' in paths[-1].read_text()
