import importlib.util
import subprocess
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax.evaluation import prediction_files
from attnmel_jax.share import export
from attnmel_jax.share import onnx_export
from attnmel_jax.share import trained
from tests.commands import environment

# The card's own preparation, and ONNX Runtime, where neither JAX nor we can load.
READ = '''
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
np.savez('onnx.npz', **{name: np.concatenate(values)
                        for name, values in zip(names, zip(*rows))})
'''


def test_without_the_converter_it_says_so(monkeypatch):
  monkeypatch.setitem(sys.modules, 'jax2onnx', None)
  with pytest.raises(onnx_export.Unavailable, match='jax2onnx is not installed'):
    onnx_export.model(lambda x: {}, 32)


def test_what_it_cannot_convert_is_one_line(monkeypatch):
  class Converter:
    @staticmethod
    def to_onnx(step, inputs, **named):
      assert named['output_names'] == ['probabilities', 'pool3', 'cam']
      assert inputs[0].shape == (1, 8, 8, 3)
      raise NotImplementedError('no such\noperation')

  monkeypatch.setitem(sys.modules, 'jax2onnx', Converter)
  with pytest.raises(onnx_export.Unavailable,
                     match=r'cannot convert this run \(no such operation\)$'):
    onnx_export.model(lambda x: {'probabilities': x, 'attention': {'pool3': x},
                                 'cam': jnp.sum(x)}, 8)


@pytest.mark.slow
def test_onnx_runtime_gives_what_the_run_predicted(finished, prepared, tmp_path):
  for name in ('jax2onnx', 'onnxruntime'):
    if importlib.util.find_spec(name) is None:
      pytest.skip(f'needs {name}')
  with zipfile.ZipFile(
      prepared.parent / 'archives' / 'ISIC-2017_Test_v2_Data.zip') as archive:
    archive.extractall(tmp_path / 'photos')
  run, = trained.open_runs([finished[0]], tta=None)
  paths, missing = export.write(run, tmp_path / 'out')
  assert (missing, paths[1].name) == ('', 'model.onnx')
  (tmp_path / 'out' / 'script.py').write_text(READ)
  subprocess.run([sys.executable, '-I', 'script.py', str(tmp_path / 'photos')],
                 cwd=tmp_path / 'out', check=True, timeout=300,
                 env=environment(tmp_path))
  with np.load(tmp_path / 'out' / 'onnx.npz') as found:
    stored = prediction_files.read_predictions(
        finished[0] / 'predictions' / 'test.csv')
    np.testing.assert_allclose(found['probabilities'], stored.probabilities, atol=1e-5)
    _, maps = prediction_files.read_attention(finished[0] / 'attention' / 'test.npz')
    assert set(found) == {'probabilities', *maps}
    for name, values in maps.items():
      np.testing.assert_allclose(found[name], values, atol=1e-5)
