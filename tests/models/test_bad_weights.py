"""Files of weights that are damaged, mistaken, or made to do harm."""

import io
import json
import os
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from attnmel_jax import errors
from attnmel_jax.models import pretrained
from tests.models.test_pretrained import _initial
from tests.models.test_pretrained import _pretend_torch
from tests.models.test_pretrained import _weights


class Harm:
  """Makes a folder when it is unpickled."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


def _saved(tensors) -> bytes:
  return safetensors.numpy.save(
      {name: np.ascontiguousarray(array) for name, array in tensors.items()})


def _with(name, value):
  return lambda: _saved({**_weights('vgg16_bn', dense=False), name: value})


def _header(changes: dict | bytes, size: int | None = None):
  """A small file whose JSON header is another."""
  def make():
    data = _saved({'a': np.zeros(4, np.float32)})
    length, = struct.unpack('<Q', data[:8])
    header = changes
    if isinstance(changes, dict):
      header = json.dumps(json.loads(data[8:8 + length]) | changes).encode()
    return (struct.pack('<Q', len(header) if size is None else size) + header
            + data[8 + length:])
  return make


def _tensor(**changes) -> dict:
  return {'a': {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 16]} | changes}


def _without(name):
  def make():
    weights = _weights('vgg16_bn', dense=False)
    del weights[name]
    return _saved(weights)
  return make


_VAR, _BIAS = 'features.1.running_var', 'features.0.bias'
_ONE = np.ones(8, np.float32)  # as many as the slim model's first layer has channels
FILES = [
    (lambda: b'', 'cannot be read'),
    (lambda: b'<!DOCTYPE html><title>404</title>', 'cannot be read'),
    (_header({}, size=1 << 60), 'cannot be read'),
    (_header(b'{"a": '), 'cannot be read'),
    (_header(_tensor(shape=[5], data_offsets=[0, 20])), 'cannot be read'),
    (_header(_tensor(data_offsets=[-8, 8])), 'cannot be read'),
    (_header(_tensor(dtype='P64')), 'cannot be read'),
    (_with(_BIAS, np.ones(8, np.int8)), f'tensor {_BIAS} is of type'),
    (_with(_BIAS, _ONE * np.inf), f'{_BIAS} holds a NaN or an infinity'),
    (_with(_BIAS, np.full(8, 1e300)), f'{_BIAS} holds a NaN or an infinity'),
    (_with(_VAR, _ONE * np.nan), f'{_VAR} holds a NaN'),
    (_with(_VAR, -_ONE), f'{_VAR} holds a negative variance'),
    (_with(_BIAS, _ONE[:1]), rf'{_BIAS} has shape \(1,\)'),
    (_with('features.3.weight', np.zeros((3, 3, 8, 8), np.float32)),
     r'features.3.weight has shape \(3, 3, 8, 8\)'),
    (_with('features.99.weight', _ONE), 'hold unexpected features.99.weight'),
    (_without('features.10.bias'), 'lack features.10.bias'),
    (lambda: _saved({'bn1.running_mean': _ONE}), r'lack features.0.bias.*, \.\.\.; '),
]


def test_what_is_wrong_with_a_file_is_named(tmp_path):
  variables = _initial('vgg16_gap', 'vgg16_bn')
  path = tmp_path / 'weights.safetensors'
  for make, message in FILES:
    path.write_bytes(make())
    with pytest.raises(errors.UserError, match=message) as caught:
      pretrained.apply_weights(variables, pretrained.load_file(path),
                               backbone='vgg16_bn')
    assert '\n' not in str(caught.value)
    assert os.listdir(tmp_path) == ['weights.safetensors']


def test_sound_weights_pass(tmp_path):
  path = tmp_path / 'weights.safetensors'
  path.write_bytes(_with(_BIAS, _ONE)())
  variables, _ = pretrained.apply_weights(
      _initial('vgg16_gap', 'vgg16_bn'), pretrained.load_file(path),
      backbone='vgg16_bn')
  np.testing.assert_array_equal(
      variables['params']['backbone']['conv1_1']['bias'], _ONE)


def test_no_pickle_is_opened_without_a_safe_torch(tmp_path, monkeypatch):
  for version in (None, '2.5.1'):
    _pretend_torch(monkeypatch, version)
    for ending, message in (('.safetensors', 'cannot be read'),
                            ('.pth', 'needs torch >= 2.6; pip install torch')):
      path = tmp_path / f'weights{ending}'
      path.write_bytes(pickle.dumps(Harm(tmp_path / 'harm')))
      with pytest.raises(errors.UserError, match=message):
        pretrained.load_file(path)
      assert not (tmp_path / 'harm').exists()


def _torch_archive(content: bytes) -> bytes:
  """What torch.save writes around a pickle."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as file:
    for name, data in (('data.pkl', content), ('version', b'3\n'),
                       ('byteorder', b'little')):
      file.writestr(f'archive/{name}', data)
  return buffer.getvalue()


def test_torch_runs_no_code_of_a_file(tmp_path):
  pytest.importorskip('torch', '2.6', reason='reads .pth files')
  path, harm = tmp_path / 'weights.pth', Harm(tmp_path / 'harm')
  for hidden in (harm, {'features.0.weight': harm}, {harm.path: 0, 'x': [(harm,)]}):
    content = pickle.dumps(hidden, protocol=2)
    for wrap in (bytes, _torch_archive):
      path.write_bytes(wrap(content))
      with pytest.raises(errors.UserError, match='cannot be read') as caught:
        pretrained.load_file(path)
      assert '\n' not in str(caught.value)
      assert not (tmp_path / 'harm').exists()
    pickle.loads(content)  # it would have
    (tmp_path / 'harm').rmdir()


def test_torch_tensors_that_are_no_floating_point_numbers(tmp_path):
  torch = pytest.importorskip('torch', '2.6', reason='reads .pth files')
  for dtype in (torch.int8, torch.bool, torch.complex64):
    torch.save({'features.0.bias': torch.ones(4, dtype=dtype)}, tmp_path / 'w.pth')
    with pytest.raises(errors.UserError, match='features.0.bias is of type'):
      pretrained.load_file(tmp_path / 'w.pth')
  torch.save({'features.0.bias': torch.ones(4, dtype=torch.bfloat16)},
             tmp_path / 'w.pth')
  loaded = pretrained.load_file(tmp_path / 'w.pth')
  np.testing.assert_array_equal(loaded['features.0.bias'], np.ones(4, np.float32))


def test_a_damaged_record_beside_the_weights(tmp_path, monkeypatch):
  _pretend_torch(monkeypatch, None)
  path = tmp_path / 'vgg16.tv_in1k.safetensors'
  path.write_bytes(b'weights')
  record = pathlib.Path(f'{path}.json')
  for content in ('', '[]', '{}', '{"sha256": 5}', '{"sha256": ""}'):
    record.write_text(content)
    with pytest.raises(errors.UserError, match=f'{record} is damaged; remove it'):
      pretrained.fetch_imagenet('vgg16', tmp_path)
