"""Exported models, read without attnmel_jax, give what the run predicted."""

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
from jax import export as jax_export
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from attnmel_jax import errors
from attnmel_jax import outputs
from attnmel_jax import parallel
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import build
from attnmel_jax.models import torch_names
from attnmel_jax.share import export
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
np.savez('out.npz', ids=[path.stem for path in paths], **{
    'probabilities': out['probabilities'], 'first': parts['probabilities'],
    **out['attention']})
'''

# The card's preparation, and ONNX Runtime, where neither JAX nor we can load.
READ_ONNX = '''
import pathlib, sys
for name in ('attnmel_jax', 'jax', 'flax'):
  sys.modules[name] = None
import numpy as np, onnxruntime
code = pathlib.Path('MODEL_CARD.md').read_text().split('```python')[1].split('```')[0]
exec(code.partition('model = ')[0].replace('import jax.export', ''))
session = onnxruntime.InferenceSession('model.onnx')
names = [output.name for output in session.get_outputs()]
rows = [session.run(None, {'image': prepare(path)[None]})
        for path in sorted(pathlib.Path(sys.argv[1]).rglob('*.jpg'))]
np.savez('out.npz', **{name: np.concatenate(values)
                        for name, values in zip(names, zip(*rows))})
'''


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory):
  folder = tmp_path_factory.mktemp('exported')
  export.write(run, folder)
  return folder


def _alone(script, folder, *arguments):
  """Arrays that a script saves, in a process isolated from this repository."""
  (folder / 'script.py').write_text(script)
  subprocess.run([sys.executable, '-I', 'script.py', *map(str, arguments)], cwd=folder,
                 check=True, timeout=300, env=environment(folder))
  with np.load(folder / 'out.npz') as archive:
    return dict(archive)


def _check(found, folder):
  """The probabilities and maps of the test images are those that the run stored."""
  stored = prediction_files.read_predictions(folder / 'predictions' / 'test.csv')
  _, maps = prediction_files.read_attention(folder / 'attention' / 'test.npz')
  assert found.keys() == {'probabilities', *maps}
  for name, values in {'probabilities': stored.probabilities, **maps}.items():
    np.testing.assert_allclose(found[name], values, atol=1e-5)
  return stored


@pytest.mark.slow
def test_the_program_reads_alone_and_predicts_what_the_run_did(
    finished, exported, originals):
  found = _alone(READ_PROGRAM, exported, originals)
  ids, first = found.pop('ids'), found.pop('first')
  stored = _check(found, finished[0])
  assert ids.tolist() == stored.ids.tolist()
  np.testing.assert_allclose(first, stored.probabilities[:1], atol=1e-5)


@pytest.mark.slow
def test_onnx_runtime_gives_what_the_run_predicted(finished, exported, originals):
  if not all(map(importlib.util.find_spec, ('jax2onnx', 'onnxruntime'))):
    pytest.skip('needs jax2onnx and onnxruntime')
  _check(_alone(READ_ONNX, exported, originals), finished[0])


@pytest.mark.slow
def test_every_system_is_exported(run):
  images = np.random.default_rng(0).integers(0, 256, (3, 36, 36, 3), np.uint8)
  for changed in ({'model': 'vgg16_gap'}, {'model': 'vgg16', 'backbone': 'vgg16'},
                  {'model': 'mel_cnn', 'tta': True},
                  {'gate_norm': 'softmax', 'dtype': 'bfloat16'}):
    config = {**run.config, **changed}
    variables, _ = build.initial_variables(config, 2, lambda: None)
    exported = jax_export.deserialize(export.program(dataclasses.replace(
        run, config=config, variables=variables)).serialize())
    assert exported.platforms == ('cpu', 'cuda', 'tpu')
    expected = parallel.unshard(build.prediction_step(config, 2)(
        variables, parallel.shard({'image': images})))
    found = exported.call(images)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    tolerance = 2e-2 if config['dtype'] == 'bfloat16' else 1e-5
    jax.tree.map(lambda a, b, atol=tolerance: np.testing.assert_allclose(
        a, b, atol=atol), found, expected)


class Program:
  """In place of a program that takes seconds to lower."""

  def serialize(self):
    return bytearray(b'program')


def test_the_files_hold_all_that_a_reader_needs(run, tmp_path, monkeypatch):
  monkeypatch.setattr(export, 'program', lambda run: Program())
  monkeypatch.setattr(export, 'onnx_model', lambda step, side: b'onnx')
  paths, missing = export.write(run, tmp_path)
  assert missing == ''
  assert [path.name for path in paths] == [
      'model.stablehlo', 'model.onnx', 'weights.safetensors', 'MODEL_CARD.md']
  assert paths[0].read_bytes() == b'program'
  assert paths[1].read_bytes() == b'onnx'
  with safetensors.safe_open(paths[2], 'numpy') as file:
    metadata = file.metadata()
  # What the names mean is in tests/models/test_torch_names.py.
  jax.tree.map(np.testing.assert_array_equal, run.variables, torch_names.from_torch(
      safetensors.numpy.load_file(paths[2]), run.variables, run.config['backbone']))
  assert json.loads(metadata['class_names']) == ['other', 'melanoma']
  assert json.loads(metadata['config'])['image_size'] == 32
  assert '# AttnMel-CNN' in paths[3].read_text()
  assert '## Use: model.onnx' in paths[3].read_text()
  with pytest.raises(errors.UserError, match='--out=/dev/null/x cannot be written'):
    export.write(run, pathlib.Path('/dev/null/x'))


def test_without_onnx_it_says_why(run, tmp_path, monkeypatch):
  class Converter:
    @staticmethod
    def to_onnx(step, inputs, **named):
      assert named['output_names'] == ['probabilities', 'pool3', 'cam']
      assert inputs[0].shape == (1, 8, 8, 3)
      raise NotImplementedError('no such\noperation')

  monkeypatch.setitem(sys.modules, 'jax2onnx', Converter)
  with pytest.raises(export.Unavailable,
                     match=r'cannot convert this run \(no such operation\)$'):
    export.onnx_model(lambda x: {'probabilities': x, 'attention': {'pool3': x},
                                 'cam': jnp.sum(x)}, 8)
  monkeypatch.setitem(sys.modules, 'jax2onnx', None)
  monkeypatch.setattr(export, 'program', lambda run: Program())
  with outputs.exchanged(tmp_path, 'an export') as before:
    (before / 'model.onnx').touch()  # of an earlier call, maybe of another run
  paths, missing = export.write(run, tmp_path)
  assert missing.startswith('jax2onnx is not installed')
  assert sorted(tmp_path.glob('[!.w]*')) + [tmp_path / 'weights.safetensors'] == sorted(
      paths) and len(paths) == 3
  assert 'onnx' not in paths[2].read_text()
