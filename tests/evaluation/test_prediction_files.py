import csv
import os

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import score_summary

HEAD = 'image,label,nevus,melanoma\n'


def test_predictions_come_back_exactly(tmp_path):
  path = tmp_path / 'new' / 'val.csv'
  prediction_files.write_predictions(
      path, ['a', 'b'], np.array([0, 1]), np.array([[0.75, 0.25], [0, 1]]),
      ('nevus', 'melanoma'))
  assert path.read_bytes() == HEAD.encode() + b'a,nevus,0.75,0.25\nb,melanoma,0.0,1.0\n'
  assert os.listdir(path.parent) == ['val.csv']
  rng = np.random.default_rng(0)
  ids = [f'ISIC_{k:07d}' for k in range(200)] + ['with, comma', 'with "quotes"', 'ü']
  labels = rng.integers(3, size=203)
  for dtype in (np.float32, np.float64):
    probabilities = rng.dirichlet([0.1] * 3, 203).astype(dtype)
    prediction_files.write_predictions(
        path, ids, labels, probabilities, ('A', 'B', 'C,D'))
    found = prediction_files.read_predictions(path)
    assert found.ids.tolist() == ids
    assert found.class_names == ('A', 'B', 'C,D')
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.probabilities, probabilities.astype(np.float64))


@pytest.mark.parametrize('body, line, message', [
    ('', 1, 'expected image, label and one column'),
    ('ISIC_1,nevus,1,0\n', 1, 'no names of columns; expected image, label'),
    ('image,label,nevus\na,nevus,1\n', 1, 'two or more classes'),
    ('image,label,nevus,nevus\na,nevus,1,0\n', 1, 'not all named and different'),
    ('image,label,nevus,\na,nevus,1,0\n', 1, 'not all named and different'),
    (HEAD + 'a,nevus,1,0\na,nevus,1,0\n', 3, 'occurs in an earlier line'),
    (HEAD + ',nevus,1,0\n', 2, 'no id'),
    (HEAD + 'a,naevus,1,0\n', 2, 'the label is none of nevus, melanoma'),
    (HEAD + '\na,nevus,nan,0\n', 3, 'not all in'),
    (HEAD + 'a,nevus,1.5,-0.5\n', 2, 'not all in'),
    (HEAD + 'a,nevus,0.5,0.4\n', 2, 'sum to 0.9'),
    (HEAD + 'a,nevus,0.5,half\n', 2, 'column melanoma holds no number'),
    (HEAD + 'a,nevus,0.5\n', 2, '3 cells under 4 columns'),
    (HEAD + 'a,nevus,0.5,0.5,0\n', 2, '5 cells under 4 columns'),
    (HEAD + f'{"a" * 200_000},nevus,1,0\n', 2, 'limit')])
def test_a_bad_row_is_named_by_file_and_line(tmp_path, body, line, message):
  path = tmp_path / 'test.csv'
  path.write_text(body)
  with pytest.raises(errors.UserError) as caught:
    prediction_files.read_predictions(path)
  text = str(caught.value)
  assert text.startswith(f'{path}, line {line}: ')
  assert message in text
  assert '\n' not in text and 'ISIC' not in text


def test_files_from_elsewhere(tmp_path):
  path = tmp_path / 'test.csv'
  # Rounded, from a spreadsheet.
  path.write_bytes(b'\xef\xbb\xbf' + HEAD.encode() + b'a,nevus,0.3333,0.6664\r\n')
  found = prediction_files.read_predictions(path)
  np.testing.assert_array_equal(found.probabilities, [[0.3333, 0.6664]])
  for read in (prediction_files.read_predictions, prediction_files.read_image_scores):
    with pytest.raises(errors.UserError, match='No such file.*launch/evaluate.py'):
      read(tmp_path / 'absent.csv')
    path.write_bytes(b'image\xff\xfe')
    with pytest.raises(errors.UserError, match='not UTF-8'):
      read(path)
  path.write_text(HEAD)
  with pytest.raises(errors.UserError, match='has no rows'):
    prediction_files.read_predictions(path)


def test_scores_of_images_come_back_exactly(tmp_path):
  path = tmp_path / 'test_images.csv'
  scores = {'jaccard_pool4': np.array([1 / 3, np.nan, 1.0]),
            'mass_pool4': np.array([0.1, np.nan, np.nan])}
  prediction_files.write_image_scores(path, ['a', 'b', 'c'], ['x', 'x', 'c'], scores)
  assert path.read_text() == (
      'image,lesion_id,jaccard_pool4,mass_pool4\n'
      'a,x,0.3333333333333333,0.1\nb,x,,\nc,c,1.0,\n')
  table = prediction_files.read_image_scores(path)
  assert table.ids.tolist() == ['a', 'b', 'c']
  assert table.groups.tolist() == ['x', 'x', 'c']
  np.testing.assert_equal(table.scores, scores)
  prediction_files.write_image_scores(path, ['a', 'b'], ['a', 'b'], {})
  assert prediction_files.read_image_scores(path).scores == {}


@pytest.mark.parametrize('text, message', [
    ('', 'holds no images'),
    ('image,label\na,b\n', 'holds no images'),
    ('image,lesion_id\n', 'holds no images'),
    ('image,lesion_id,x\na,b\n', 'different lengths'),
    ('image,lesion_id,x\na,b,high\n', "'high'"),
    ('image,lesion_id,x\na,b,inf\n', r'inf in column x, not in \[0, 1\]'),
    ('image,lesion_id,x\na,b,-1\n', 'not in'),
    ('image,lesion_id,x\n' + 'a' * 200_000 + ',b,1\n', 'line 2'),
    ('image,lesion_id\na,b\na,c\n', 'twice')])
def test_a_damaged_table_of_scores_is_named(tmp_path, text, message):
  path = tmp_path / 'images.csv'
  path.write_text(text)
  with pytest.raises(errors.UserError, match=message) as caught:
    prediction_files.read_image_scores(path)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


def test_what_does_not_fit_is_not_written(tmp_path):
  path = tmp_path / 'a.csv'
  for write, *arguments in (
      (prediction_files.write_predictions, ['a'], [0, 1], np.eye(2), ('x', 'y')),
      (prediction_files.write_predictions, ['a', 'b'], [0, 1], np.eye(2), ('x',)),
      (prediction_files.write_image_scores, ['a', 'b'], ['a'], {}),
      (prediction_files.write_attention, ['a'], {'pool3': np.zeros((2, 4, 4))}),
      (prediction_files.write_attention, ['a'], {'ids': np.zeros((1, 4, 4))})):
    with pytest.raises(ValueError):
      write(path, *arguments)
  assert not os.listdir(tmp_path)


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


def test_damaged_attention_is_a_users_error(tmp_path):
  path = tmp_path / 'a.npz'
  with pytest.raises(errors.UserError, match='does not exist'):
    prediction_files.read_attention(path)
  prediction_files.write_attention(
      path, ['a'], {'pool3': np.random.default_rng(0).random((1, 40, 40))})
  whole = path.read_bytes()
  flipped, undone = bytearray(whole), bytearray(whole)
  flipped[len(whole) // 2] ^= 255
  undone[undone.index(b'pool3.npy') + 29] ^= 255  # where its deflated stream begins
  np.save(tmp_path / 'b.npy', np.zeros(3))
  for content in (b'', b'text', whole[:-30], flipped, undone,
                  (tmp_path / 'b.npy').read_bytes()):
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


def _challenge(seed, rows=140):
  """Ids, labels and probabilities, the image without weight among them."""
  rng = np.random.default_rng(seed)
  ids = [f'ISIC_{35060 + i:07d}' for i in range(rows)]
  assert 'ISIC_0035068' in ids
  labels = rng.permutation(np.arange(rows) % 7)
  # A large class and small ones, right about half the time.
  labels[labels == 6] = np.where(rng.random((labels == 6).sum()) < 0.8, 1, 6)
  logits = rng.normal(size=(rows, 7))
  logits[np.arange(rows), labels] += 1.5
  return ids, labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_attention_of_other_kinds_is_a_users_error(tmp_path):
  path = tmp_path / 'test.npz'
  good = np.full((2, 3, 3), .5)
  for ids, values in (
      (['a', 'b'], np.where(np.eye(3), np.nan, good)), (['a', 'b'], good.astype(str)),
      (['a', 'b'], good[:, :0]), (['a', 'a'], good), ([1, 2], good), ('a', good)):
    np.savez(path, ids=np.array(ids), pool3=values)
    with pytest.raises(errors.UserError, match=r'test\.npz'):
      prediction_files.read_attention(path)
  path.unlink()
  os.mkfifo(path)  # never ends
  with pytest.raises(errors.UserError, match=r'test\.npz'):
    prediction_files.read_attention(path)


def test_a_submission_by_hand(tmp_path):
  path = tmp_path / 'submission.csv'
  row = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125, 0.0]
  prediction_files.write_submission(path, ['ISIC_1', 'ISIC_2'], [row, row[::-1]])
  assert path.read_text() == (
      'image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n'
      'ISIC_1,0.5,0.25,0.125,0.0625,0.03125,0.03125,0.0\n'
      'ISIC_2,0.0,0.03125,0.03125,0.0625,0.125,0.25,0.5\n')
  found = prediction_files.scored(['ISIC_0035067', 'ISIC_0035068', 'ISIC_0035069'])
  assert found.tolist() == [True, False, True]
  assert prediction_files.scored([]).tolist() == []


# pandas 2 warns of a method that the tool uses.
@pytest.mark.filterwarnings('ignore')
def test_the_official_tool_gives_the_same_scores(tmp_path):
  official = pytest.importorskip(
      'isic_challenge_scoring',
      reason='the official scorer is not installed: tests/requirements.txt')
  ids, labels, probabilities = _challenge(0)
  prediction_files.write_submission(tmp_path / 'submission.csv', ids, probabilities)
  with open(tmp_path / 'truth.csv', 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['image', *prediction_files.CHALLENGE_CLASSES])
    for name, label in zip(ids, labels, strict=True):
      writer.writerow([name, *np.eye(7)[label]])
  theirs = official.ClassificationScore.from_file(
      tmp_path / 'truth.csv', tmp_path / 'submission.csv',
      official.ClassificationMetric.BALANCED_ACCURACY)

  rows = prediction_files.scored(ids)
  assert rows.sum() == len(ids) - 1
  found = score_summary.classification(
      labels[rows], probabilities[rows], groups=np.array(ids)[rows], threshold=None,
      class_names=prediction_files.CHALLENGE_CLASSES, temperature=None, num_draws=10,
      seed=0)
  assert found['balanced_accuracy']['estimate'] == pytest.approx(
      theirs.overall, abs=1e-12)
  for name in prediction_files.CHALLENGE_CLASSES:
    assert found['auc'][name]['estimate'] == pytest.approx(
        theirs.per_category.loc[name, 'auc'], abs=1e-12)
  assert found['auc_mean']['estimate'] == pytest.approx(
      theirs.macro_average['auc'], abs=1e-12)
