"""Archives -> prepared splits: what is prepared, what again, and never a half."""

import io
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time

from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import prepare
from attnmel_jax.data import storage
from attnmel_jax.data import writing
from tests import commands
from tests.data import conftest
from tests.data.conftest import ATTRIBUTES
from tests.data.conftest import DATA
from tests.data.conftest import FEATURES
from tests.data.conftest import LABELS
from tests.data.conftest import LESIONS
from tests.data.conftest import opened
from tests.data.conftest import prepared

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _available(data_dir) -> tuple[str, ...]:
  return storage.available_splits('isic2017', data_dir=data_dir, **conftest.GEOMETRY)


def _relabelled(archives) -> bytes:
  return archives[LABELS].replace(b'train5,0.0,0.0', b'train5,1.0,0.0')


@pytest.fixture
def data_dir(tmp_path) -> pathlib.Path:
  """Empty at first."""
  return tmp_path / 'data'


def test_equal_content_has_an_equal_fingerprint(tmp_path, archives, sound):
  mixed = conftest.write(tmp_path / 'mixed', archives, unpacked=(DATA, LESIONS))
  assert prepared(mixed, tmp_path) == {'train': 6, 'validation': 4}
  # The same pixels from another format are the same content.
  pixels = Image.open(io.BytesIO(archives[DATA].pop('ISIC_train4.jpg')))
  archives[DATA]['ISIC_train4.png'] = conftest.encode(pixels)
  prepared(conftest.write(tmp_path / 'png', archives), tmp_path / 'png')
  fingerprints = {opened(place).fingerprint  # of others: test_writing
                  for place in (sound, tmp_path, tmp_path / 'png')}
  assert len(fingerprints) == 1
  assert len(fingerprints.pop()) == 64


def test_geometries_lie_side_by_side(source, data_dir):
  prepared(source, data_dir)
  prepared(source, data_dir, resize_size=16)
  assert opened(data_dir).load(0)['image'].shape == (24, 24, 3)
  assert opened(data_dir, resize_size=16).load(0)['lesion'].shape == (16, 16)
  for name, value in (('crop_ratio', 0), ('crop_ratio', 1.1),
                      ('crop_ratio', float('nan')), ('resize_size', 0),
                      ('resize_size', 4097)):
    with pytest.raises(errors.UserError, match=f'{name}={value}'):
      prepared(source, data_dir, **{name: value})


def test_an_absent_split_is_named_and_can_come_later(source, data_dir, capsys):
  prepared(source, data_dir)
  assert ('test: left out, ISIC-2017_Test_v2_Data.zip, '
          'ISIC-2017_Test_v2_Part3_GroundTruth.csv are not in') in (
              capsys.readouterr().out)
  assert _available(data_dir) == ('train', 'validation')
  train = opened(data_dir)
  before = {p: p.stat().st_mtime_ns for p in train.path.iterdir()}
  conftest.write(source, conftest.split_archives('test', 5))
  assert prepared(source, data_dir) == {'train': 6, 'validation': 4, 'test': 5}
  out = capsys.readouterr().out
  assert 'train: already prepared\n' in out
  assert 'left out' not in out
  assert {p: p.stat().st_mtime_ns for p in train.path.iterdir()} == before
  # The test archives may come from a folder of their own.
  (source / DATA).unlink()
  assert prepared(source, data_dir) == {'validation': 4, 'test': 5}
  assert f'train: already prepared; {DATA} is not in' in capsys.readouterr().out
  assert _available(data_dir) == ('train', 'validation', 'test')


def test_images_or_labels_alone_are_no_split(source, data_dir, capsys):
  (source / LABELS).unlink()
  assert prepared(source, data_dir) == {'validation': 4}
  assert (f'train: left out, {LABELS} is not in {source}; available from '
          'https://isic') in capsys.readouterr().out
  for path in source.glob('*Data.zip'):
    path.unlink()
  with pytest.raises(errors.UserError, match='no complete split'):
    prepared(source, data_dir)


def test_absent_masks_are_named_and_can_come_later(source, data_dir, capsys):
  masks = (source / LESIONS).read_bytes()
  for name in (LESIONS, FEATURES, ATTRIBUTES):
    (source / name).unlink()
  prepared(source, data_dir)
  place = 'https://isic-challenge-data.s3.amazonaws.com/2017/'
  assert capsys.readouterr().out.splitlines()[:2] == [
      f'train: no lesion masks, {LESIONS} is not in --source; available from {place}',
      f'train: no dermo masks, {FEATURES} or {ATTRIBUTES} is not in --source; '
      f'available from {place}']
  assert not opened(data_dir).has_lesion.any()
  assert not opened(data_dir).has_dermo.any()
  (source / LESIONS).write_bytes(masks)
  prepared(source, data_dir)
  assert opened(data_dir).has_lesion.sum() == 5


def test_changed_archives_are_prepared_again(source, data_dir, archives, capsys):
  prepared(source, data_dir)
  (source / LABELS).write_bytes(_relabelled(archives))
  capsys.readouterr()
  prepared(source, data_dir)
  out = capsys.readouterr().out
  assert f'train: {LABELS} changed; preparing it again' in out
  assert 'validation: already prepared' in out
  assert opened(data_dir).labels[5] == 0
  (opened(data_dir).path / 'metadata.json').write_text('{}')
  prepared(source, data_dir)
  assert 'is damaged; preparing it again' in capsys.readouterr().out
  assert len(opened(data_dir)) == 6
  (source / LESIONS).unlink()  # an archive that went away loses nothing
  prepared(source, data_dir)
  assert f'train: already prepared; {LESIONS} is not in' in capsys.readouterr().out
  assert opened(data_dir).has_lesion.sum() == 5
  (source / LABELS).write_bytes(archives[LABELS])
  with pytest.raises(errors.UserError,
                     match=f'{LESIONS}, absent.*{LABELS} changed.*delete'):
    prepared(source, data_dir)
  assert opened(data_dir).labels[5] == 0


def test_bad_files_of_all_splits_are_reported_together(tmp_path, data_dir, archives):
  data = archives[DATA]
  data['ISIC_train0.jpg'] = data['ISIC_train0.jpg'][:300]
  del data['ISIC_train1_superpixels.png']
  archives[LABELS] += b'ISIC_nobody,0.0,0.0\n'
  archives['ISIC-2017_Validation_Data.zip']['ISIC_validation0.jpg'] = b''
  masks = archives['ISIC-2017_Training_Part1_GroundTruth.zip']
  for name in list(masks):
    masks[name.replace('segmentation', 'expert')] = masks.pop(name)
  with pytest.raises(errors.UserError, match='^5 bad files: ') as caught:
    prepared(conftest.write(tmp_path / 'bad', archives), data_dir)
  report = data_dir / 'isic2017' / 'bad_files.txt'
  assert str(report) in str(caught.value) and '\n' not in str(caught.value)
  expected = {
      'ISIC_train0.jpg: cannot be read: it is damaged',
      'ISIC_train1_features.json: no superpixels of ISIC_train1',
      f'{LABELS}: label of ISIC_nobody, but no image of it',
      'ISIC-2017_Training_Part1_GroundTruth.zip: holds 5 files, and none is called '
      '<id>_segmentation.png; rename them, or take it out of --source',
      'ISIC_validation0.jpg: cannot be read: it is not a JPEG, PNG or BMP'}
  assert set(report.read_text().splitlines()) == expected
  assert all(line in str(caught.value) for line in expected)


def test_bad_files_change_nothing_and_a_long_list_is_cut(tmp_path, source, data_dir):
  # Training images are sound: only the split that is written last is bad.
  bad = conftest.split_archives('validation', 30)
  for name in bad['ISIC-2017_Validation_Data.zip']:
    bad['ISIC-2017_Validation_Data.zip'][name] = b''
  mixed = conftest.write(tmp_path / 'mixed', conftest.split_archives('train', 6) | bad)
  with pytest.raises(errors.UserError, match='^30 bad files: .*; and 10 more;'):
    prepared(mixed, data_dir)
  folder = data_dir / 'isic2017'
  assert _available(data_dir) == ()
  assert {p.name for p in folder.iterdir()} == {'.lock', 'bad_files.txt'}
  assert len((folder / 'bad_files.txt').read_text().splitlines()) == 30
  prepared(source, data_dir)
  before = opened(data_dir, 'validation').fingerprint
  assert not (folder / 'bad_files.txt').exists()
  with pytest.raises(errors.UserError, match='^30 bad files'):
    prepared(mixed, data_dir)
  assert opened(data_dir, 'validation').fingerprint == before


def test_a_killed_command_leaves_nothing_prepared(source, data_dir, tmp_path):
  program = f"""
import pathlib, time
from attnmel_jax.data import prepare, writing
make = writing.make_record
def slow(example, **options):
  if example.id == 'ISIC_validation3':
    pathlib.Path({str(tmp_path / 'reached')!r}).touch()
    time.sleep(60)
  return make(example, **options)
writing.make_record = slow
prepare.from_archives('isic2017', source=pathlib.Path({str(source)!r}),
    data_dir=pathlib.Path({str(data_dir)!r}), **{conftest.GEOMETRY!r})
"""
  process = subprocess.Popen([sys.executable, '-c', program], cwd=ROOT)
  deadline = time.monotonic() + 60
  while not (tmp_path / 'reached').exists() and time.monotonic() < deadline:
    time.sleep(0.02)
  with pytest.raises(errors.UserError, match='in use by another process.*--data_dir'):
    prepared(source, data_dir)
  process.send_signal(signal.SIGKILL)
  process.wait()
  left_over, = (data_dir / 'isic2017').glob('.incomplete-*')
  assert list(left_over.rglob('dataset_info.json'))  # the training split was done
  assert _available(data_dir) == ()
  prepared(source, data_dir)
  assert _available(data_dir) == ('train', 'validation')
  assert not list((data_dir / 'isic2017').glob('.incomplete-*'))


def test_ctrl_c_publishes_nothing_and_keeps_what_was_prepared(
    source, data_dir, archives, monkeypatch):
  make = writing.make_record

  def interrupt(example, **options):
    if example.id == 'ISIC_validation3':
      raise KeyboardInterrupt
    return make(example, **options)

  def interrupted():
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
      patch.setattr(writing, 'make_record', interrupt)
      prepared(source, data_dir)
    assert {path.name for path in (data_dir / 'isic2017').iterdir()
            } == {'.lock', *(path.parent.name for path in ready)}

  ready = ()
  interrupted()
  assert _available(data_dir) == ()
  prepared(source, data_dir)
  ready = tuple(opened(data_dir, split).path for split in ('train', 'validation'))
  before = [opened(data_dir, split).fingerprint for split in ('train', 'validation')]
  validation = 'ISIC-2017_Validation_Part3_GroundTruth.csv'
  (source / validation).write_bytes(archives[validation].replace(
      b'validation2,0.0,0.0', b'validation2,1.0,0.0'))
  interrupted()  # the split that is written again is still the earlier one
  assert [opened(data_dir, split).fingerprint for split in ('train', 'validation')
          ] == before
  assert prepared(source, data_dir) == {'train': 6, 'validation': 4}
  assert opened(data_dir, 'validation').labels[2] == 0


def test_a_full_disk_is_one_line(source, data_dir):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
  try:
    with pytest.raises(errors.UserError) as caught:
      prepared(source, data_dir, resize_size=200)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert 'train cannot be written to' in str(caught.value)
  assert 'free some space' in str(caught.value)
  assert _available(data_dir) == ()


def test_no_connection_is_made(source, data_dir, monkeypatch):
  def connect(*args):
    raise AssertionError(f'connects to {args[1:]}')
  monkeypatch.setattr(socket.socket, 'connect', connect)
  assert prepared(source, data_dir) == {'train': 6, 'validation': 4}
  with pytest.raises(errors.UserError, match="dataset='isic1999' is unknown"):
    prepare.from_archives('isic1999', source=source, data_dir=data_dir,
                          **conftest.GEOMETRY)


def test_one_drawn_image_marks_a_split_synthetic(data_dir, tmp_path, archives):
  archives[DATA]['ISIC_train2.jpg'] = conftest.encode(
      Image.new('RGB', (40, 30)), 'JPEG', comment=archives_lib.SYNTHETIC_COMMENT)
  prepared(conftest.write(tmp_path / 'mixed', archives), data_dir)
  assert opened(data_dir).synthetic
  assert not opened(data_dir, 'validation').synthetic


def test_the_command(source, tmp_path, monkeypatch):
  home = tmp_path / 'home'
  home.mkdir()
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.delenv('ATTNMEL_DATA', raising=False)
  done = commands.in_process(
      'prepare', '--dataset=isic2017', f'--source={source}', '--resize_size=32')
  assert (done.returncode, done.stderr) == (0, '')
  folder = home / 'attnmel_data' / 'isic2017' / 'train-crop0.8-side32-bilinear'
  assert ('train: 6 images (2 melanoma, 2 seborrheic_keratosis, 2 nevus), 5 lesion '
          f'masks, 3 dermo masks, 32 px, {folder}') in done.stdout
  assert f'isic2017: train, validation in {home / "attnmel_data"}' in done.stdout
  # Nothing else is written to the home folder.
  assert [p.name for p in home.iterdir()] == ['attnmel_data']
  (tmp_path / 'file').write_text('')
  for dataset, argument, message in [
      ('isic2017', f'--data_dir={tmp_path}/file/x',
       'file/x/isic2017 cannot be written (Not a directory); choose another folder'),
      ('isic2016', '--mask_kind=binary',
       'error: --mask_kind works only with --dataset=folder')]:
    done = commands.in_process(
        'prepare', f'--dataset={dataset}', f'--source={source}', argument)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count('\n') == 1
