import errno
import json
import os

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.evaluation import prediction_files

NAMES = ('nevus', 'melanoma')


def _write(path, ids=('a', 'b'), labels=(0, 1), probabilities=((0.75, 0.25), (0, 1)),
           class_names=NAMES):
  prediction_files.write_predictions(
      path, ids, np.array(labels), np.array(probabilities), class_names)


def test_the_file_is_a_plain_table(tmp_path):
  _write(tmp_path / 'new' / 'test.csv')
  assert (tmp_path / 'new' / 'test.csv').read_bytes() == (
      b'image,label,nevus,melanoma\na,nevus,0.75,0.25\nb,melanoma,0.0,1.0\n')
  assert os.listdir(tmp_path / 'new') == ['test.csv']


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_predictions_come_back_exactly(tmp_path, dtype):
  rng = np.random.default_rng(0)
  ids = [f'ISIC_{k:07d}' for k in range(200)] + ['with, comma', 'with "quotes"', 'ü']
  labels = rng.integers(3, size=203)
  logits = rng.normal(0, 8, (203, 3))
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  probabilities = probabilities.astype(dtype)
  path = tmp_path / 'val.csv'
  _write(path, ids, labels, probabilities, ('A', 'B', 'C,D'))
  found = prediction_files.read_predictions(path)
  assert found.ids.tolist() == ids
  assert found.class_names == ('A', 'B', 'C,D')
  assert found.labels.dtype == np.int32
  np.testing.assert_array_equal(found.labels, labels)
  np.testing.assert_array_equal(found.probabilities, probabilities.astype(np.float64))


@pytest.mark.parametrize('body, line, message', [
    ('', 1, 'columns are none; expected image, label'),
    ('image,nevus,melanoma\na,1,0\n', 1, 'columns are image, nevus, melanoma'),
    ('image,label,nevus\na,nevus,1\n', 1, 'two or more classes'),
    ('image,label,nevus,nevus\na,nevus,1,0\n', 1, 'not all named and different'),
    ('image,label,nevus,\na,nevus,1,0\n', 1, 'not all named and different'),
    ('image,label,nevus,melanoma\na,nevus,1,0\na,nevus,1,0\n', 3, "'a' occurs twice"),
    ('image,label,nevus,melanoma\n,nevus,1,0\n', 2, 'no id'),
    ('image,label,nevus,melanoma\na,naevus,1,0\n', 2,
     "'naevus' is none of nevus, melanoma"),
    ('image,label,nevus,melanoma\n\na,nevus,nan,0\n', 3, 'not all in'),
    ('image,label,nevus,melanoma\na,nevus,1.5,-0.5\n', 2, 'not all in'),
    ('image,label,nevus,melanoma\na,nevus,0.5,0.4\n', 2, 'sum to 0.9'),
    ('image,label,nevus,melanoma\na,nevus,0.5,half\n', 2, "'half' in column melanoma"),
    ('image,label,nevus,melanoma\na,nevus,0.5\n', 2, '3 cells under 4 columns'),
    ('image,label,nevus,melanoma\na,nevus,0.5,0.5,0\n', 2, '5 cells under 4 columns'),
    (f'image,label,nevus,melanoma\n{"a" * 200_000},nevus,1,0\n', 2, 'limit'),
])
def test_a_bad_row_is_named_by_file_and_line(tmp_path, body, line, message):
  path = tmp_path / 'test.csv'
  path.write_text(body)
  with pytest.raises(errors.UserError) as caught:
    prediction_files.read_predictions(path)
  text = str(caught.value)
  assert text.startswith(f'{path}, line {line}: ')
  assert message in text
  assert '\n' not in text


def test_files_that_cannot_be_read(tmp_path):
  with pytest.raises(errors.UserError, match='No such file'):
    prediction_files.read_predictions(tmp_path / 'absent.csv')
  (tmp_path / 'binary.csv').write_bytes(b'image\xff\xfe')
  with pytest.raises(errors.UserError, match='not UTF-8'):
    prediction_files.read_predictions(tmp_path / 'binary.csv')
  (tmp_path / 'empty.csv').write_text('image,label,nevus,melanoma\n')
  with pytest.raises(errors.UserError, match='has no rows'):
    prediction_files.read_predictions(tmp_path / 'empty.csv')


def test_rounded_files_from_a_spreadsheet_are_read(tmp_path):
  path = tmp_path / 'test.csv'
  path.write_bytes(
      b'\xef\xbb\xbfimage,label,nevus,melanoma\r\na,nevus,0.3333,0.6664\r\n')
  found = prediction_files.read_predictions(path)
  np.testing.assert_array_equal(found.probabilities, [[0.3333, 0.6664]])


@pytest.mark.parametrize('changes, message', [
    ({'ids': ('a', 'a')}, "row 1: image 'a' occurs twice"),
    ({'ids': ('a',)}, 'do not fit'),
    ({'class_names': ('nevus',)}, 'do not fit'),
    ({'class_names': ('nevus', 'label')}, 'not all named'),
    ({'labels': (0, 2)}, r'not all in \[0, 2\)'),
    ({'labels': (-1, 1)}, r'not all in \[0, 2\)'),
    ({'probabilities': ((np.nan, 1), (0, 1))}, 'row 0'),
    ({'probabilities': ((0.5, 0.6), (0, 1))}, 'sum to 1.1'),
])
def test_what_could_not_be_read_is_not_written(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    _write(tmp_path / 'test.csv', **changes)
  assert not os.listdir(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(KeyboardInterrupt), files.replacing(path) as file:
    file.write(b'half')
    assert path.read_text() == 'old'
    raise KeyboardInterrupt
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['file']


def test_a_write_that_fails_names_the_file(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with (pytest.raises(OSError) as caught,
        files.replacing(path)):
    raise OSError(errno.ENOSPC, 'No space left on device')
  assert caught.value.filename == str(path)
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['file']


def test_json_keeps_order_and_refuses_nan(tmp_path):
  path = tmp_path / 'summary.json'
  files.write_json(path, {'z': 1 / 3, 'a': {'low': None}})
  assert json.loads(path.read_text()) == {'z': 1 / 3, 'a': {'low': None}}
  assert list(json.loads(path.read_text())) == ['z', 'a']
  before = path.read_text()
  with pytest.raises(ValueError):
    files.write_json(path, {'auc': float('nan')})
  assert path.read_text() == before


def test_attention_comes_back_exactly(tmp_path):
  rng = np.random.default_rng(0)
  maps = {'pool3': rng.random((3, 8, 8)).astype(np.float32),
          'pool4': rng.random((3, 4, 4)).astype(np.float32)}
  path = tmp_path / 'attention' / 'test.npz'
  prediction_files.write_attention(path, np.array(['a', 'b', 'c'], object), maps)
  ids, found = prediction_files.read_attention(path)
  assert ids.tolist() == ['a', 'b', 'c']
  assert list(found) == ['pool3', 'pool4']
  for name, values in maps.items():
    assert found[name].dtype == np.float32
    np.testing.assert_array_equal(found[name], values)
  assert os.listdir(path.parent) == ['test.npz']


def test_attention_that_does_not_fit_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'not \[1, h, w\]'):
    prediction_files.write_attention(
        tmp_path / 'a.npz', ['a'], {'pool3': np.zeros((2, 4, 4))})
  with pytest.raises(ValueError, match='cannot be called'):
    prediction_files.write_attention(
        tmp_path / 'a.npz', ['a'], {'ids': np.zeros((1, 4, 4))})
  assert not os.listdir(tmp_path)


def test_damaged_attention_is_a_users_error(tmp_path):
  path = tmp_path / 'a.npz'
  with pytest.raises(errors.UserError, match='does not exist'):
    prediction_files.read_attention(path)
  prediction_files.write_attention(
      path, ['a'], {'pool3': np.random.default_rng(0).random((1, 40, 40))})
  whole = path.read_bytes()
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 255
  for content in (b'', b'text', whole[:-30], bytes(flipped)):
    path.write_bytes(content)
    with pytest.raises(errors.UserError, match='damaged'):
      prediction_files.read_attention(path)
  for arrays, message in (
      ({'pool3': np.zeros((1, 4, 4))}, 'no attention maps'),
      ({'ids': np.array(['a'], object)}, 'damaged'),
      ({'ids': np.array(['a']), 'pool3': np.zeros((2, 4, 4))}, 'does not belong')):
    np.savez(path, **arrays)
    with pytest.raises(errors.UserError, match=message):
      prediction_files.read_attention(path)
  np.save(tmp_path / 'b.npy', np.zeros(3))
  with pytest.raises(errors.UserError, match='damaged'):
    prediction_files.read_attention(tmp_path / 'b.npy')
