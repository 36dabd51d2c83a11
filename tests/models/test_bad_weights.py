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


def _archive() -> bytes:
  buffer = io.BytesIO()
  np.savez(buffer, a=np.zeros(4))
  return buffer.getvalue()


_VAR, _BIAS = 'features.1.running_var', 'features.0.bias'
_ONE = np.ones(8, np.float32)  # as many as the slim model's first layer has channels
FILES = {
    'no bytes': (lambda: b'', 'cannot be read'),
    'half of it': (lambda: _with(_BIAS, _ONE)()[:20_000], 'cannot be read'),
    'an error page': (lambda: b'<!DOCTYPE html><title>404</title>', 'cannot be read'),
    'a zip of arrays': (_archive, 'cannot be read'),
    'a header of exabytes': (_header({}, size=1 << 60), 'cannot be read'),
    'a header that is no JSON': (_header(b'{"a": '), 'cannot be read'),
    'a tensor beyond the end': (
        _header(_tensor(shape=[5], data_offsets=[0, 20])), 'cannot be read'),
    'a tensor of a negative place': (
        _header(_tensor(data_offsets=[-8, 8])), 'cannot be read'),
    'a shape beyond its bytes': (_header(_tensor(shape=[1 << 40])), 'cannot be read'),
    'an unknown type': (_header(_tensor(dtype='P64')), 'cannot be read'),
    'whole numbers': (_with(_BIAS, np.ones(8, np.int8)), f'tensor {_BIAS} is of type'),
    'truth values': (_with(_BIAS, np.ones(8, bool)), f'tensor {_BIAS} is of type bool'),
    'a NaN in a variance': (_with(_VAR, _ONE * np.nan), f'{_VAR} holds a NaN'),
    'a negative variance': (_with(_VAR, -_ONE), f'{_VAR} holds a negative variance'),
    'an infinity': (_with(_BIAS, _ONE * np.inf), f'{_BIAS} holds a NaN or an infinity'),
    'more than float32 can hold': (
        _with(_BIAS, np.full(8, 1e300)), f'{_BIAS} holds a NaN or an infinity'),
    'a tensor without numbers': (
        _with(_BIAS, _ONE[:0]), rf'{_BIAS} has shape \(0,\)'),
    'a single number': (_with(_BIAS, _ONE[:1]), rf'{_BIAS} has shape \(1,\)'),
    'turned axes': (
        _with('features.3.weight', np.zeros((3, 3, 8, 8), np.float32)),
        r'features.3.weight has shape \(3, 3, 8, 8\)'),
    'another prefix': (
        lambda: _saved({f'module.{name}': value for name, value in _weights(
            'vgg16_bn', dense=False).items()}), r'lack features.0.bias'),
}


@pytest.mark.parametrize('name', FILES)
def test_what_is_wrong_with_a_file_is_named(tmp_path, name):
  make, message = FILES[name]
  path = tmp_path / 'weights.safetensors'
  path.write_bytes(make())
  with pytest.raises(errors.UserError, match=message) as caught:
    pretrained.apply_weights(
        _initial('vgg16_gap', 'vgg16_bn'), pretrained.load_file(path),
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


@pytest.mark.parametrize('ending', ['.safetensors', '.pth'])
@pytest.mark.parametrize('version', [None, '2.5.1'])
def test_no_pickle_is_opened_without_a_safe_torch(tmp_path, monkeypatch, ending,
                                                  version):
  _pretend_torch(monkeypatch, version)
  path = tmp_path / f'weights{ending}'
  path.write_bytes(pickle.dumps(Harm(tmp_path / 'harm')))
  with pytest.raises(errors.UserError, match='cannot be read|needs torch >= 2.6'):
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


@pytest.mark.parametrize('wrap', [bytes, _torch_archive], ids=['plain', 'archive'])
@pytest.mark.parametrize('hide', [
    lambda harm: harm, lambda harm: {'features.0.weight': harm},
    lambda harm: {harm.path: 0, 'x': [(harm,)]}])
def test_torch_runs_no_code_of_a_file(tmp_path, wrap, hide):
  pytest.importorskip('torch', '2.6', reason='reads .pth files')
  path = tmp_path / 'weights.pth'
  content = pickle.dumps(hide(Harm(tmp_path / 'harm')), protocol=2)
  path.write_bytes(wrap(content))
  with pytest.raises(errors.UserError, match='cannot be read') as caught:
    pretrained.load_file(path)
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'harm').exists()
  pickle.loads(content)  # it would have
  assert (tmp_path / 'harm').exists()


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


@pytest.mark.parametrize('content', [
    '', '{', '[]', '{}', '{"sha256": 5}', '{"sha256": ""}', '{"sha256": null}'])
def test_a_damaged_record_beside_the_weights(tmp_path, monkeypatch, content):
  _pretend_torch(monkeypatch, None)
  path = tmp_path / 'vgg16.tv_in1k.safetensors'
  path.write_bytes(b'weights')
  record = pathlib.Path(f'{path}.json')
  record.write_text(content)
  with pytest.raises(errors.UserError, match=f'{record} is damaged; remove it'):
    pretrained.fetch_imagenet('vgg16', tmp_path)
