"""launch/predict.py as a user types it."""

import csv
import json
import shutil
import zipfile

import pytest

from tests import commands


def _rows(path):
  with path.open(newline='') as file:
    return {row['image']: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_photographs_get_what_the_run_stored_of_them(home, tmp_path, monkeypatch):
  """One run, then two of the same weights, with one bad file among good ones."""
  monkeypatch.chdir(tmp_path)
  with zipfile.ZipFile(home / 'archives' / 'ISIC-2017_Test_v2_Data.zip') as file:
    file.extractall('photos')
  shutil.copytree(home / 'run', 'second')
  (tmp_path / 'bad.jpg').write_text('-')
  first = min((tmp_path / 'photos').rglob('*.jpg'))
  first.rename(first.with_suffix(''))  # known by its first bytes
  first.with_name('notes.txt').touch()
  stored = _rows(home / 'run' / 'predictions' / 'test.csv')
  done = commands.in_process(
      'predict', f'--run={home / "run"}', '--images=photos', '--out=one')
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('one/index.html: 16 photographs, predicted other ')
  # The note and the 16 maps of superpixels.
  assert ' 17 files passed over: ' in done.stdout.replace('\n', ' ')
  assert len(list((tmp_path / 'one' / 'overlays').iterdir())) == 16
  threshold = json.loads((home / 'run' / 'summary.json').read_text())['threshold']
  called = sum(float(row['melanoma']) >= threshold for row in stored.values())
  assert f' {threshold:.3f} on: other {16 - called}, melanoma {called}' in done.stdout
  found = _rows(tmp_path / 'one' / 'predictions.csv')
  assert found.keys() == stored.keys()
  for name, row in found.items():
    assert list(row) == ['image', 'other', 'melanoma']
    assert float(row['melanoma']) == pytest.approx(
        float(stored[name]['melanoma']), abs=2e-6)

  done = commands.in_process(
      'predict', f'--run={home / "run"},second', '--images=photos,bad.jpg',
      '--out=two', '--tta', '--calibrated', '--no-overlays')
  assert done.returncode == 1
  *_, first, last = done.stderr.splitlines()  # there may be lines of progress
  assert first.endswith('/bad.jpg: cannot be read: it is not a JPEG, PNG or BMP')
  assert last == ('error: 1 of 17 files were not predicted; two/predictions.json lists '
                  'them')
  assert _rows(tmp_path / 'two' / 'predictions.csv').keys() == stored.keys()
  assert not (tmp_path / 'two' / 'overlays').exists()
  record = json.loads((tmp_path / 'two' / 'predictions.json').read_text())
  assert [run['tta'] for run in record['runs']] == [True, True]


def test_mistakes_are_one_line(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'a.jpg').touch()
  for images, words in (('a.jpg', ['nowhere', 'launch/main.py']),
                        ('empty', ['--images=empty', 'JPEG']),
                        (',', ['--images is empty'])):
    done = commands.in_process(
        'predict', '--run=nowhere', f'--images={images}', '--out=out')
    assert done.returncode == 2
    assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert all(word in done.stderr for word in words), done.stderr
