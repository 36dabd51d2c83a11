"""Photographs predicted as the run's own images were."""

import csv
import io
import json
import os
import pathlib
import threading
import zipfile

import numpy as np
from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax.data import photographs as photographs_lib
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.share import predict_photographs
from attnmel_jax.share import trained


@pytest.fixture(scope='module')
def originals(prepared, tmp_path_factory):
  """The photographs that the test split was prepared from, with their superpixels."""
  folder = tmp_path_factory.mktemp('originals')
  with zipfile.ZipFile(
      prepared.parent / 'archives' / 'ISIC-2017_Test_v2_Data.zip') as archive:
    archive.extractall(folder)
  return folder


@pytest.fixture(scope='module')
def runs(finished):
  return trained.open_runs([finished[0]], tta=None)


def _predict(runs, folder, out, **options):
  found = photographs_lib.find([folder], excluded=out)
  options = {'calibrated': False, 'overlays': True} | options
  return predict_photographs.predict(runs, found, out, **options)


def _table(path):
  """Names, and probabilities by class, of a CSV in the submission form."""
  header, *rows = list(csv.reader(io.StringIO(path.read_text())))
  assert header[0] == 'image'
  return [row[0] for row in rows], {
      name: np.array([float(row[k]) for row in rows])
      for k, name in enumerate(header) if k}


def test_a_prepared_photograph_gets_the_stored_prediction(
    runs, finished, originals, tmp_path):
  result = _predict(runs, originals, tmp_path / 'out')
  names, columns = _table(tmp_path / 'out' / 'predictions.csv')
  stored = prediction_files.read_predictions(finished[0] / 'predictions' / 'test.csv')
  assert tuple(columns) == stored.class_names
  assert sorted(names) == sorted(stored.ids)
  order = np.argsort(names)
  np.testing.assert_array_equal(np.array(names)[order], stored.ids)
  for k, name in enumerate(stored.class_names):
    np.testing.assert_allclose(
        columns[name][order], stored.probabilities[:, k], atol=2e-6)
  assert [row.name for row in result.rows] == names
  assert not result.unreadable
  assert sorted(os.listdir(tmp_path / 'out')) == [
      'index.html', 'overlays', 'predictions.csv', 'predictions.json']
  for row in result.rows:
    with Image.open(tmp_path / 'out' / row.overlay) as picture:
      assert picture.format == 'PNG'
  assert json.loads((tmp_path / 'out' / 'predictions.json').read_text())['finished']


def test_files_that_cannot_be_read_are_skipped_and_listed(runs, originals, tmp_path):
  folder = tmp_path / 'in'
  for name in ('a', 'b'):
    (folder / name).mkdir(parents=True)
  photograph = next(originals.rglob('*.jpg')).read_bytes()
  for name in ('a/1.jpg', 'b/1.jpg', 'b/2.jpg'):
    (folder / name).write_bytes(photograph)
  (folder / 'a' / '0.jpg').write_text('no photograph')
  result = _predict(runs, folder, tmp_path / 'out')
  names, _ = _table(tmp_path / 'out' / 'predictions.csv')
  assert names == ['a/1', 'b/1', '2']
  assert result.unreadable == [
      (str(folder / 'a' / '0.jpg'), 'cannot be read: it is no JPEG, PNG or BMP')]
  # Two files of one name have a picture each.
  for name in names:
    assert (tmp_path / 'out' / 'overlays' / f'{name}.png').is_file()
  record = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
  assert record['unreadable'][0]['file'].endswith('a/0.jpg')


def test_a_second_call_starts_anew_and_spares_the_files_of_others(
    runs, originals, tmp_path):
  out = tmp_path / 'out'
  first = sorted(originals.rglob('*.jpg'))[:3]
  for chosen in (first, first[:1]):
    predict_photographs.predict(runs, photographs_lib.find(chosen, excluded=out), out,
                        calibrated=False, overlays=True)
    assert len(list((out / 'overlays').iterdir())) == len(chosen)
  predict_photographs.predict(runs, photographs_lib.find(first, excluded=out), out,
                      calibrated=False, overlays=False)
  assert not (out / 'overlays').exists()
  assert '<img' not in (out / 'index.html').read_text()
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'thesis.tex').write_text('-')
  with pytest.raises(errors.UserError, match='holds other files'):
    predict_photographs.clear(other)
  assert (other / 'thesis.tex').exists()
  with pytest.raises(errors.UserError, match='--out=/dev/null/x cannot be written'):
    predict_photographs.clear(pathlib.Path('/dev/null/x'))


def test_what_is_stopped_halfway_has_neither_table_nor_page(
    runs, originals, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  _predict(runs, originals, out)
  drawn = []

  def draw(*arguments, **options):
    drawn.append(arguments)
    if len(drawn) == 3:
      raise KeyboardInterrupt

  monkeypatch.setattr(predict_photographs.panels, 'draw', draw)
  with pytest.raises(KeyboardInterrupt):
    _predict(runs, originals, out)
  assert not (out / 'predictions.csv').exists()
  assert not (out / 'index.html').exists()
  assert not json.loads((out / 'predictions.json').read_text())['finished']


def test_few_photographs_are_in_memory_at_a_time(runs, monkeypatch, tmp_path):
  alive, most, lock = 0, 0, threading.Lock()

  class Square(np.ndarray):
    def __del__(self):
      nonlocal alive
      with lock:
        alive -= self.base is None

  def read(photograph, geometries):
    nonlocal alive, most
    square = np.zeros((36, 36, 3), np.uint8).copy().view(Square).copy()
    with lock:
      alive += 1
      most = max(most, alive)
    return photographs_lib.Decoded(photograph, {geometries[0]: square}, '')

  monkeypatch.setattr(photographs_lib, 'read', read)
  found = [photographs_lib.Photograph(str(i), tmp_path / str(i)) for i in range(400)]
  result = predict_photographs.predict(runs, found, tmp_path / 'out', calibrated=False,
                               overlays=False)
  assert len(result.rows) == 400
  # Two batches of 16 and what the threads read ahead.
  assert 16 <= most < 16 * 2 + 4 * (predict_photographs.threads.cores() + 1)


def test_a_batch_is_no_larger_than_needed(runs):
  assert predict_photographs.batch_size(runs, 1000) == 16
  assert predict_photographs.batch_size(runs, 3) == 3
