"""launch/predict.py as a user types it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.commands import TINY
from tests.commands import command
from tests.commands import environment
from tests.commands import prepare_phantom


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A home folder with a finished run, and the photographs of its test set."""
  home = tmp_path_factory.mktemp('home')
  prepare_phantom(home, train=24, validation=12, test=12)
  subprocess.run(command('main', *TINY, '--config.passes_per_epoch=1',
                         '--workdir=run', '--quiet'), cwd=home, check=True,
                 env=environment(home), timeout=600)
  subprocess.run([sys.executable, '-m', 'zipfile', '-e',
                  'archives/ISIC-2017_Test_v2_Data.zip', 'photos'], cwd=home,
                 check=True)
  return home


@pytest.fixture
def predict(home, tmp_path):
  """Runs the command in an empty folder."""

  def call(*arguments, run=home / 'run', images=home / 'photos', out='out'):
    return subprocess.run(
        command('predict', f'--run={run}', f'--images={images}', f'--out={out}',
                *arguments), cwd=tmp_path, timeout=600, env=environment(home),
        capture_output=True, text=True, check=False)
  return call


def _rows(path):
  with path.open(newline='') as file:
    return {row['image']: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_photographs_get_what_the_run_stored_of_them(predict, home, tmp_path):
  done = predict()
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('out/index.html: 12 photographs, predicted other ')
  assert done.stdout.count('\n') == 1
  stored = _rows(home / 'run' / 'predictions' / 'test.csv')
  found = _rows(tmp_path / 'out' / 'predictions.csv')
  assert found.keys() == stored.keys()
  for name, row in found.items():
    assert list(row) == ['image', 'other', 'melanoma']
    assert float(row['melanoma']) == pytest.approx(
        float(stored[name]['melanoma']), abs=2e-6)
  assert len(list((tmp_path / 'out' / 'overlays').iterdir())) == 12


@pytest.mark.slow
def test_an_ensemble_and_one_bad_file_among_good_ones(predict, home, tmp_path):
  second = tmp_path / 'second'
  subprocess.run(['cp', '-r', str(home / 'run'), str(second)], check=True)
  bad = tmp_path / 'bad.jpg'
  bad.write_text('-')
  done = predict('--tta', '--calibrated', '--no-overlays', run=f'{home}/run,{second}',
                 images=f'{home}/photos,{bad}')
  assert done.returncode == 1
  *_, first, last = done.stderr.splitlines()  # there may be lines of progress
  assert first == f'{bad}: cannot be read: it is not a JPEG, PNG or BMP'
  assert last == ('error: 1 of 13 files could not be read; out/predictions.json lists '
                  'them')
  assert len(_rows(tmp_path / 'out' / 'predictions.csv')) == 12
  assert not (tmp_path / 'out' / 'overlays').exists()
  record = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
  assert [run['tta'] for run in record['runs']] == [True, True]


@pytest.mark.slow
def test_mistakes_are_one_line(predict, tmp_path):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'empty' / 'notes.txt').write_text('-')
  for arguments, words in (
      ({'run': 'nowhere'}, ['nowhere', 'launch/main.py']),
      ({'images': 'empty'}, ['--images=empty', '.jpg']),
      ({'out': 'empty'}, ['--out=empty', 'other files'])):
    done = predict(**arguments)
    assert done.returncode == 2
    assert done.stderr.startswith('error: '), done.stderr
    assert done.stderr.count('\n') == 1
    for word in words:
      assert word in done.stderr


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_leaves_nothing_that_looks_whole(home, tmp_path):
  many = tmp_path / 'many'
  many.mkdir()
  photograph = next((home / 'photos').rglob('*.jpg'))
  for number in range(3000):
    os.link(photograph, many / f'{number}.jpg')
  with subprocess.Popen(
      command('predict', f'--run={home / "run"}', f'--images={many}', '--out=out'),
      cwd=tmp_path, env=environment(home), stderr=subprocess.PIPE, text=True
  ) as process:
    overlays = tmp_path / 'out' / 'overlays'
    while not overlays.is_dir() or len(os.listdir(overlays)) < 10:
      assert process.poll() is None
      time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    text = process.stderr.read()
    assert process.wait(timeout=60) == 130
  assert text.splitlines()[-1].startswith('error: stopped by Ctrl-C')
  assert 'Traceback' not in text
  assert sorted(os.listdir(tmp_path / 'out')) == ['overlays', 'predictions.json']
