"""Photographs predicted as the run's own images were."""

import csv
import io
import os
import pathlib
import weakref

import numpy as np
from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import photographs as photographs_lib
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.share import predict_photographs
from attnmel_jax.share import predictions_page


def _predict(run, paths, out, *, overlays=True):
  return predict_photographs.predict(
      [run], photographs_lib.find(paths, excluded=out)[0], out, calibrated=False,
      overlays=overlays)


def _table(path):
  """Names, and probabilities by class, of a CSV in the submission form."""
  header, *rows = list(csv.reader(io.StringIO(path.read_text())))
  assert header[0] == 'image'
  return [row[0] for row in rows], {
      name: np.array([float(row[k]) for row in rows])
      for k, name in enumerate(header) if k}


def test_a_prepared_photograph_gets_the_stored_prediction(
    run, finished, originals, tmp_path):
  result = _predict(run, [originals], tmp_path)
  names, columns = _table(tmp_path / 'predictions.csv')
  stored = prediction_files.read_predictions(finished[0] / 'predictions' / 'test.csv')
  assert tuple(columns) == stored.class_names
  order = np.argsort(names)
  np.testing.assert_array_equal(np.array(names)[order], stored.ids)
  for k, name in enumerate(stored.class_names):
    np.testing.assert_allclose(
        columns[name][order], stored.probabilities[:, k], atol=2e-6)
  assert [row.name for row in result.rows] == names
  assert not result.unreadable
  assert sorted(os.listdir(tmp_path)) == [
      '.lock', 'index.html', 'overlays', 'predictions.csv', 'predictions.json',
      'written.json']
  for row in result.rows:
    with Image.open(tmp_path / row.overlay) as picture:
      assert picture.format == 'PNG'
  record = files.read_json(tmp_path / 'predictions.json')
  assert record['images'] == 20
  assert record['runs'][0]['roi'] == 'lesion'


def test_files_that_cannot_be_read_are_skipped_and_listed(run, originals, tmp_path):
  folder, out = tmp_path / 'in', tmp_path / 'out'
  for name in ('a', 'b'):
    (folder / name).mkdir(parents=True)
  photograph = next(originals.rglob('*.jpg')).read_bytes()
  for name in ('a/1.jpg', 'b/1.jpg', 'b/2.jpg', f'b/{"x" * 251}.jpg'):
    (folder / name).write_bytes(photograph)
  (folder / 'a' / '0.jpg').write_text('no photograph')
  result = _predict(run, [folder], out)
  names, _ = _table(out / 'predictions.csv')
  assert names == ['a/1', 'b/1', '2', 'x' * 251]
  assert result.unreadable == [
      (str(folder / 'a' / '0.jpg'), 'cannot be read: it is not a JPEG, PNG or BMP')]
  # Two files of one name have a picture each.
  assert all((out / 'overlays' / f'{name}.png').is_file() for name in names[:3])
  assert (out / result.rows[3].overlay).is_file()  # its name is too long for a file
  record = files.read_json(out / 'predictions.json')
  assert record['unreadable'][0]['file'].endswith('a/0.jpg')


def test_a_second_call_replaces_the_first_and_spares_the_files_of_others(
    run, originals, tmp_path):
  out, other = tmp_path / 'out', tmp_path / 'other'
  first = sorted(originals.rglob('*.jpg'))[:3]
  for chosen in (first, first[:1]):
    _predict(run, chosen, out)
    assert len(list((out / 'overlays').iterdir())) == len(chosen)
  _predict(run, first, out, overlays=False)
  assert not (out / 'overlays').exists()
  assert '<img' not in (out / 'index.html').read_text()
  other.mkdir()
  (other / 'thesis.tex').write_text('-')
  for folder, words in ((other, 'other than predictions, such as thesis.tex'),
                        (pathlib.Path('/dev/null/x'), 'x cannot be written')):
    with pytest.raises(errors.UserError, match=words):
      _predict(run, first, folder)
  assert os.listdir(other) == ['thesis.tex']


def test_stopped_halfway_the_results_of_before_stay(
    run, originals, tmp_path, monkeypatch):
  paths = sorted(originals.rglob('*.jpg'))[:5]
  _predict(run, paths, tmp_path / 'out', overlays=False)
  before = {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()}
  drawn = []

  def draw(*arguments, **options):
    drawn.append(arguments)
    if len(drawn) == 3:
      raise KeyboardInterrupt

  monkeypatch.setattr(predictions_page, 'draw', draw)
  with pytest.raises(KeyboardInterrupt):
    _predict(run, paths, tmp_path / 'out')
  assert os.listdir(tmp_path) == ['out']
  assert before == {
      path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()}


def test_few_photographs_are_in_memory_at_a_time(run, monkeypatch, tmp_path):
  alive, most = weakref.WeakSet(), []

  class Square(np.ndarray):
    __hash__ = object.__hash__

  def read(photograph, geometries):
    square = np.zeros((36, 36, 3), np.uint8).view(Square)
    alive.add(square)
    most.append(len(alive))
    return photographs_lib.Decoded(photograph, {geometries[0]: square}, '')

  monkeypatch.setattr(photographs_lib, 'read', read)
  found = [photographs_lib.Photograph(str(i), tmp_path / str(i)) for i in range(400)]
  result = predict_photographs.predict([run], found, tmp_path / 'out', calibrated=False,
                                       overlays=False)
  assert len(result.rows) == 400
  assert predict_photographs.batch_size([run], 3) == 3  # no larger than needed
  # Two batches of 16 and what the threads read ahead.
  assert 16 <= max(most) < 16 * 2 + 4 * (predict_photographs.threads.cores() + 1)
