import concurrent.futures
import dataclasses
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import prepare
from attnmel_jax.data import storage
from attnmel_jax.data import writing
from tests.data import conftest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = 'ISIC-2017_Training_Data.zip'
LESIONS = 'ISIC-2017_Training_Part1_GroundTruth.zip'
FEATURES = 'ISIC-2017_Training_Part2_GroundTruth.zip'
ATTRIBUTES = 'ISIC-2017_Training_AttributeMasks.zip'
LABELS = 'ISIC-2017_Training_Part3_GroundTruth.csv'
GEOMETRY = {'crop_ratio': 0.8, 'resize_size': 24}  # 24 = int(0.8 * 30): no resizing


def _prepare(source, data_dir, **geometry) -> dict[str, int]:
  return prepare.from_archives('isic2017', source=source, data_dir=data_dir,
                          **{**GEOMETRY, **geometry})


def _open(data_dir, split='train', **geometry) -> storage.PreparedSplit:
  return storage.open_split(
      'isic2017', split, data_dir=data_dir, **{**GEOMETRY, **geometry})


def _available(data_dir) -> tuple[str, ...]:
  return storage.available_splits('isic2017', data_dir=data_dir, **GEOMETRY)


def _cropped(array: np.ndarray) -> np.ndarray:
  return array[3:27, 8:32]


@pytest.fixture
def data_dir(tmp_path) -> pathlib.Path:
  return tmp_path / 'data'


def test_labels_and_annotation_flags(source, data_dir):
  assert _prepare(source, data_dir) == {'train': 6, 'validation': 4}
  split = _open(data_dir)
  assert len(split) == 6
  assert split.ids.tolist() == [f'ISIC_train{k}' for k in range(6)]
  assert split.groups.tolist() == split.ids.tolist()
  assert split.labels.tolist() == [0, 1, 2, 0, 1, 2]
  assert split.labels.dtype == np.int32
  # 1 is annotated and empty, 2 is not annotated.
  assert split.has_lesion.tolist() == [True, True, False, True, True, True]
  assert split.has_dermo.tolist() == [True, True, False, True, False, False]
  assert split.class_names == ('melanoma', 'seborrheic_keratosis', 'nevus')
  assert split.side == 24


def test_pixels_and_maps(source, data_dir, archives):
  _prepare(source, data_dir)
  split = _open(data_dir)
  block = np.zeros((30, 40), np.uint8)
  block[10:20, 10:30] = 1
  # Superpixel 5 (rows 10-19, columns 10-19): bits 1 and 3; 6, to the right: bit 0.
  bits = np.zeros((30, 40), np.uint8)
  bits[10:20, 10:20], bits[10:20, 20:30] = 2 + 8, 1
  nothing = np.zeros((30, 40), np.uint8)
  expected = {0: (block, bits), 1: (nothing, nothing), 2: (nothing, nothing),
              3: (block, block * 16), 4: (block, nothing)}
  for row, (lesion, dermo) in expected.items():
    loaded = split.load(row)
    jpeg = archives[DATA][f'ISIC_train{row}.jpg']
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert('RGB'))
    np.testing.assert_array_equal(loaded['image'], _cropped(pixels))
    np.testing.assert_array_equal(loaded['lesion'], _cropped(lesion) * 255)
    np.testing.assert_array_equal(loaded['dermo'], _cropped(dermo))
    assert {array.dtype for array in loaded.values()} == {np.dtype(np.uint8)}


def test_rows_may_be_loaded_by_many_threads(source, data_dir):
  _prepare(source, data_dir)
  split = _open(data_dir)
  alone = [split.load(row)['image'] for row in range(6)]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    together = list(pool.map(lambda k: split.load(k % 6)['image'], range(120)))
  for k, image in enumerate(together):
    np.testing.assert_array_equal(image, alone[k % 6])


def test_several_shards_keep_the_order(source, data_dir, monkeypatch):
  monkeypatch.setattr(writing, '_SHARD_RECORDS', 4)
  _prepare(source, data_dir)
  split = _open(data_dir)
  assert len(list(split.path.glob('*.array_record*'))) == 2
  assert [record['id'].decode() for record in split.records] == split.ids.tolist()


def test_equal_content_has_an_equal_fingerprint(tmp_path, archives):
  fingerprints = {}
  for name, unpacked in (('zips', ()), ('mixed', (DATA, LESIONS))):
    source = conftest.write(tmp_path / name, archives, unpacked=unpacked)
    _prepare(source, tmp_path / name / 'data')
    fingerprints[name] = _open(tmp_path / name / 'data').fingerprint
  assert fingerprints['zips'] == fingerprints['mixed']
  assert len(fingerprints['zips']) == 64


@pytest.mark.parametrize('change', ['pixel', 'mask', 'bit', 'label', 'flag', 'id'])
def test_other_content_has_another_fingerprint(source, data_dir, tmp_path, archives,
                                               change):
  _prepare(source, data_dir)
  data, name = archives[DATA], 'ISIC_train4'
  mask = np.zeros((30, 40), np.uint8)
  if change == 'pixel':
    pixels = np.array(Image.open(io.BytesIO(data[f'{name}.jpg'])))
    data[f'{name}.png'] = conftest.encode(pixels)
    del data[f'{name}.jpg']
    pixels[15, 20, 1] ^= 1
    other = conftest.encode(pixels)
    _prepare(conftest.write(tmp_path / 'png', archives), tmp_path / 'png' / 'data')
    # The same pixels from a PNG are the same content.
    assert _open(tmp_path / 'png' / 'data').fingerprint == _open(data_dir).fingerprint
    data[f'{name}.png'] = other
  elif change == 'mask':
    archives[LESIONS][f'{name}_segmentation.png'] = conftest.encode(mask)
  elif change == 'bit':
    mask[15, 20] = 255
    archives[ATTRIBUTES]['ISIC_train3_attribute_streaks.png'] = conftest.encode(mask)
  elif change == 'label':
    archives[LABELS] = archives[LABELS].replace(b'train4,0.0,1.0', b'train4,1.0,0.0')
  elif change == 'flag':  # an empty mask where there was no annotation
    archives[LESIONS]['ISIC_train2_segmentation.png'] = conftest.encode(mask)
  else:
    data['ISIC_train6.jpg'] = data.pop('ISIC_train5.jpg')
    data['ISIC_train6_superpixels.png'] = data.pop('ISIC_train5_superpixels.png')
    archives[LESIONS]['ISIC_train6_segmentation.png'] = archives[LESIONS].pop(
        'ISIC_train5_segmentation.png')
    archives[LABELS] = archives[LABELS].replace(b'train5', b'train6')
  _prepare(conftest.write(tmp_path / 'other', archives), tmp_path / 'other' / 'data')
  other = _open(tmp_path / 'other' / 'data')
  assert other.fingerprint != _open(data_dir).fingerprint


def test_geometries_lie_side_by_side(source, data_dir):
  _prepare(source, data_dir)
  _prepare(source, data_dir, resize_size=16)
  _prepare(source, data_dir, crop_ratio=1.0)
  assert _open(data_dir).load(0)['image'].shape == (24, 24, 3)
  assert _open(data_dir, resize_size=16).load(0)['lesion'].shape == (16, 16)
  assert _open(data_dir, crop_ratio=1).path.parent.name == (
      'train-crop1.0-side24-bilinear')


def test_an_absent_split_is_named_and_can_come_later(source, data_dir, capsys):
  _prepare(source, data_dir)
  assert ('test: left out, ISIC-2017_Test_v2_Data.zip, '
          'ISIC-2017_Test_v2_Part3_GroundTruth.csv are not in') in (
              capsys.readouterr().out)
  assert _available(data_dir) == ('train', 'validation')
  train = _open(data_dir)
  before = {p: p.stat().st_mtime_ns for p in train.path.iterdir()}
  conftest.write(source, conftest.split_archives('test', 5))
  assert _prepare(source, data_dir) == {'train': 6, 'validation': 4, 'test': 5}
  out = capsys.readouterr().out
  assert 'train: already prepared\n' in out
  assert 'left out' not in out
  assert _available(data_dir) == ('train', 'validation', 'test')
  assert {p: p.stat().st_mtime_ns for p in train.path.iterdir()} == before
  # The test archives may come from a folder of their own.
  (source / DATA).unlink()
  assert _prepare(source, data_dir) == {'validation': 4, 'test': 5}
  assert f'train: already prepared; {DATA} is not in' in capsys.readouterr().out
  assert _available(data_dir) == ('train', 'validation', 'test')


@pytest.mark.parametrize('absent', [DATA, LABELS])
def test_images_or_labels_alone_are_no_split(source, data_dir, capsys, absent):
  (source / absent).unlink()
  assert _prepare(source, data_dir) == {'validation': 4}
  assert (f'train: left out, {absent} is not in {source}; to be had from '
          'https://isic') in capsys.readouterr().out


def test_no_complete_split_is_an_error(source, data_dir):
  for path in source.glob('*Part3*'):
    path.unlink()
  with pytest.raises(errors.UserError, match='no complete split'):
    _prepare(source, data_dir)


def test_a_split_without_masks_says_so(source, data_dir, capsys):
  (source / LESIONS).unlink()
  (source / FEATURES).unlink()
  (source / ATTRIBUTES).unlink()
  _prepare(source, data_dir)
  out = capsys.readouterr().out
  assert f'train: no lesion masks, {LESIONS} is not in' in out
  assert f'train: no dermo masks, {FEATURES} or {ATTRIBUTES} is not in' in out
  assert 'validation: no' not in out
  assert not _open(data_dir).has_lesion.any()
  assert not _open(data_dir).has_dermo.any()


def test_changed_archives_are_prepared_again(source, data_dir, archives, capsys):
  _prepare(source, data_dir)
  before = _open(data_dir)
  archives[LABELS] = archives[LABELS].replace(b'train5,0.0,0.0', b'train5,1.0,0.0')
  conftest.write(source, archives)
  capsys.readouterr()
  _prepare(source, data_dir)
  out = capsys.readouterr().out
  assert f'train: {LABELS} changed; preparing it again' in out
  assert 'validation: already prepared' in out
  assert _open(data_dir).labels[5] == 0
  assert _open(data_dir).fingerprint != before.fingerprint


def test_an_archive_that_came_later_is_added(source, data_dir):
  content = (source / LESIONS).read_bytes()
  (source / LESIONS).unlink()
  _prepare(source, data_dir)
  assert not _open(data_dir).has_lesion.any()
  (source / LESIONS).write_bytes(content)
  _prepare(source, data_dir)
  assert _open(data_dir).has_lesion.sum() == 5


def test_an_archive_that_went_away_loses_nothing(source, data_dir, archives, capsys):
  _prepare(source, data_dir)
  (source / LESIONS).unlink()
  capsys.readouterr()
  _prepare(source, data_dir)
  assert f'train: already prepared; {LESIONS} is not in' in capsys.readouterr().out
  assert _open(data_dir).has_lesion.sum() == 5
  archives[LABELS] = archives[LABELS].replace(b'train5,0.0,0.0', b'train5,1.0,0.0')
  (source / LABELS).write_bytes(archives[LABELS])
  with pytest.raises(errors.UserError, match=f'{LESIONS}, absent.*delete') as caught:
    _prepare(source, data_dir)
  assert '\n' not in str(caught.value)
  assert _open(data_dir).labels[5] == 2


def _spoil(archives) -> set[str]:
  """One bad file of every sort; returns what has to be reported."""
  data, lesions = archives[DATA], archives[LESIONS]
  data['ISIC_train0.jpg'] = data['ISIC_train0.jpg'][:300]
  lesions['ISIC_train1_segmentation.png'] = conftest.encode(
      np.zeros((30, 41), np.uint8))
  archives[FEATURES]['ISIC_train1_features.json'] = b'[]'
  archives[LABELS] += b'ISIC_nobody,0.0,0.0\n'
  archives[LABELS] = archives[LABELS].replace(b'train2,0.0,0.0', b'train2,0.0,?')
  archives[ATTRIBUTES]['ISIC_train3_attribute_globules.png'] = b'no image'
  data['ISIC_train4.png'] = data['ISIC_train4.jpg']
  validation = archives['ISIC-2017_Validation_Data.zip']
  validation['ISIC_validation0.jpg'] = b''
  return {
      'ISIC_train0.jpg: cannot be read: it is damaged',
      'ISIC_train1_segmentation.png: is 41x30 pixels, its image 40x30',
      'ISIC_train1_superpixels.png: features are no JSON object of attributes',
      f'{LABELS}: label of ISIC_nobody, but no image of it',
      f"{LABELS}: unknown label seborrheic_keratosis='?' of ISIC_train2, not 0 or 1",
      'ISIC_train3_attribute_globules.png: cannot be read: it is no JPEG, PNG or BMP',
      'ISIC_train4.png: duplicate id ISIC_train4',
      'ISIC_validation0.jpg: cannot be read: it is no JPEG, PNG or BMP'}


def test_bad_files_of_all_splits_are_reported_together(tmp_path, data_dir, archives):
  expected = _spoil(archives)
  source = conftest.write(tmp_path / 'bad', archives)
  with pytest.raises(errors.UserError) as caught:
    _prepare(source, data_dir)
  message = str(caught.value)
  assert message.startswith('8 bad files: ')
  assert '\n' not in message
  for line in expected:
    assert line in message
  report = data_dir / 'isic2017' / 'bad_files.txt'
  assert str(report) in message
  assert set(report.read_text().splitlines()) == expected


def test_bad_files_leave_nothing_prepared(tmp_path, data_dir, archives):
  # Training images are sound: only the split that is written last is bad.
  archives['ISIC-2017_Validation_Data.zip']['ISIC_validation0.jpg'] = b''
  with pytest.raises(errors.UserError, match='^1 bad file: '):
    _prepare(conftest.write(tmp_path / 'bad', archives), data_dir)
  assert _available(data_dir) == ()
  assert not list(data_dir.rglob('dataset_info.json'))
  assert {p.name for p in (data_dir / 'isic2017').iterdir()} == {
      '.lock', 'bad_files.txt'}
  sound = conftest.split_archives('validation', 4)
  _prepare(conftest.write(tmp_path / 'bad', sound), data_dir)
  assert _available(data_dir) == ('train', 'validation')
  assert not (data_dir / 'isic2017' / 'bad_files.txt').exists()


def test_bad_files_leave_what_was_prepared_before(source, tmp_path, data_dir, archives):
  _prepare(source, data_dir)
  before = _open(data_dir).fingerprint
  archives[DATA]['ISIC_train0.jpg'] = b''
  with pytest.raises(errors.UserError, match='ISIC_train0.jpg: cannot be read'):
    _prepare(conftest.write(tmp_path / 'bad', archives), data_dir)
  assert _open(data_dir).fingerprint == before


def test_a_long_list_is_cut_in_the_message_only(tmp_path, data_dir):
  archives = conftest.split_archives('train', 30)
  for name in archives[DATA]:
    archives[DATA][name] = b''
  with pytest.raises(errors.UserError, match='^30 bad files: .*; and 10 more;'):
    _prepare(conftest.write(tmp_path / 'bad', archives), data_dir)
  report = (data_dir / 'isic2017' / 'bad_files.txt').read_text()
  assert len(report.splitlines()) == 30


def test_a_flipped_bit_in_a_zip_is_a_bad_file(source, data_dir, archives):
  content = archives[DATA]['ISIC_train2.jpg']
  whole = (source / DATA).read_bytes()
  position = whole.index(content) + len(content) // 2
  (source / DATA).write_bytes(
      whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1:])
  with pytest.raises(errors.UserError, match='ISIC_train2.jpg: cannot be read from'):
    _prepare(source, data_dir)


def test_an_image_in_two_splits_is_bad(tmp_path, data_dir, archives):
  twins = {name.replace('Training', 'Validation'): content
           for name, content in conftest.split_archives('train', 2).items()}
  source = conftest.write(tmp_path / 'twins', {**archives, **twins})
  with pytest.raises(errors.UserError, match='duplicate id ISIC_train0, in train and '
                                             'validation'):
    _prepare(source, data_dir)


def test_features_without_superpixels_are_bad(tmp_path, data_dir, archives):
  del archives[DATA]['ISIC_train1_superpixels.png']
  with pytest.raises(errors.UserError, match='ISIC_train1_features.json: no super'):
    _prepare(conftest.write(tmp_path / 'bad', archives), data_dir)


def test_masks_of_zero_and_one_are_scaled_with_a_notice(tmp_path, data_dir, archives,
                                                        capsys):
  block = np.zeros((30, 40), np.uint8)
  block[10:20, 10:30] = 1
  archives[LESIONS]['ISIC_train4_segmentation.png'] = conftest.encode(block)
  _prepare(conftest.write(tmp_path / 'ones', archives), data_dir)
  assert ('train: masks of 0 and 1, scaled to 0 and 255: 1, for example '
          'ISIC_train4_segmentation.png') in capsys.readouterr().out
  np.testing.assert_array_equal(
      _open(data_dir).load(4)['lesion'], _cropped(block) * 255)


def test_an_empty_archive_is_bad(tmp_path, data_dir, archives):
  archives[DATA], archives[LABELS] = {}, b'image_id,melanoma,seborrheic_keratosis\n'
  for name in (LESIONS, FEATURES, ATTRIBUTES):
    archives[name] = {}
  with pytest.raises(errors.UserError, match=f'{DATA}: holds no image'):
    _prepare(conftest.write(tmp_path / 'empty', archives), data_dir)


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
                 data_dir=pathlib.Path({str(data_dir)!r}), **{GEOMETRY!r})
"""
  process = subprocess.Popen([sys.executable, '-c', program], cwd=ROOT)
  deadline = time.monotonic() + 60
  while not (tmp_path / 'reached').exists() and time.monotonic() < deadline:
    time.sleep(0.02)
  with pytest.raises(errors.UserError, match='another command writes to'):
    _prepare(source, data_dir)
  process.send_signal(signal.SIGKILL)
  process.wait()
  left_over, = (data_dir / 'isic2017').glob('.incomplete-*')
  assert list(left_over.rglob('dataset_info.json'))  # the training split was done
  assert _available(data_dir) == ()
  with pytest.raises(errors.UserError, match='is not prepared'):
    _open(data_dir)
  _prepare(source, data_dir)
  assert _available(data_dir) == ('train', 'validation')
  assert not list((data_dir / 'isic2017').glob('.incomplete-*'))


def test_ctrl_c_leaves_nothing(source, data_dir, monkeypatch):
  def stop(*args, **kwargs):
    raise KeyboardInterrupt
  monkeypatch.setattr(writing, 'make_record', stop)
  with pytest.raises(KeyboardInterrupt):
    _prepare(source, data_dir)
  assert {p.name for p in (data_dir / 'isic2017').iterdir()} == {'.lock'}


def test_a_full_disk_is_one_line(source, data_dir, tmp_path):
  program = f"""
import pathlib, resource
from attnmel_jax import errors
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
  prepare.from_archives('isic2017', source=pathlib.Path({str(source)!r}),
                   data_dir=pathlib.Path({str(data_dir)!r}), crop_ratio=0.8,
                   resize_size=200)
except errors.UserError as error:
  print(error)
"""
  done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, text=True,
                        capture_output=True, check=True)
  assert 'train cannot be written to' in done.stdout
  assert 'free some space' in done.stdout
  assert _available(data_dir) == ()


def test_an_absent_split_names_the_command(source, data_dir):
  _prepare(source, data_dir)
  with pytest.raises(errors.UserError) as caught:
    _open(data_dir, 'test')
  assert (f'run python launch/prepare.py --dataset=isic2017 --source=DIR '
          f'--data_dir={data_dir} --crop_ratio=0.8 --resize_size=24') in (
              str(caught.value))
  with pytest.raises(errors.UserError, match='not prepared'):
    _open(data_dir, resize_size=25)


@pytest.mark.parametrize('name, value', [
    ('crop_ratio', 0), ('crop_ratio', 1.1), ('crop_ratio', float('nan')),
    ('resize_size', 0), ('resize_size', 10**6)])
def test_geometry_is_checked(source, data_dir, name, value):
  with pytest.raises(errors.UserError, match=f'{name}={value}'):
    _prepare(source, data_dir, **{name: value})


def test_unknown_names_are_refused(source, data_dir):
  with pytest.raises(errors.UserError, match="dataset='isic1999' is unknown"):
    prepare.from_archives('isic1999', source=source, data_dir=data_dir, **GEOMETRY)
  with pytest.raises(errors.UserError, match="split='dev' is unknown"):
    _open(data_dir, 'dev')


def test_a_folder_that_names_foreign_code_is_not_opened(
    source, data_dir, tmp_path, monkeypatch):
  _prepare(source, data_dir)
  (tmp_path / 'evil.py').write_text('raise SystemExit("imported")')
  monkeypatch.syspath_prepend(str(tmp_path))
  path = _open(data_dir).path / 'features.json'
  features = json.loads(path.read_text())
  features['featuresDict']['features']['id']['pythonClassName'] = 'evil.Feature'
  path.write_text(json.dumps(features))
  with pytest.raises(errors.UserError, match="names 'evil.Feature'"):
    _open(data_dir)
  assert 'evil' not in sys.modules


def test_no_connection_is_made(source, data_dir, monkeypatch):
  def connect(*args):
    raise AssertionError(f'connects to {args[1:]}')
  monkeypatch.setattr(socket.socket, 'connect', connect)
  assert _prepare(source, data_dir) == {'train': 6, 'validation': 4}
  assert _open(data_dir).load(0)['image'].any()


@pytest.mark.parametrize('file', [
    'metadata.json', 'features.json', 'dataset_info.json'])
@pytest.mark.parametrize('content', [None, '', '{"id": ', '[]', '[' * 100_000])
def test_damaged_json_is_one_line(source, data_dir, file, content):
  _prepare(source, data_dir)
  path = _open(data_dir).path / file
  path.unlink()
  if content is not None:
    path.write_text(content)
  with pytest.raises(errors.UserError, match='is damaged .* prepare again') as caught:
    _open(data_dir)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('change, words', [
    ({'labels': [0]}, 'labels are not one for each image'),
    ({'labels': [0, 1, 2, 0, 1, 3]}, 'labels are from 0 to 3, of 3 classes'),
    ({'labels': [0, 1, 2, 0, 1, -2]}, 'labels are from -2'),
    ({'labels': 'abcdef'}, ''),
    ({'ids': ['a'] * 6}, 'an id is there twice'),
    ({'ids': list(range(6))}, 'ids is of another type'),
    ({'ids': ['../../evil', *'bcdef']}, "id '../../evil' names no file"),
    ({'ids': ['/home/evil', *'bcdef']}, 'names no file'),
    ({'ids': ['', *'bcdef']}, 'names no file'), ({'ids': ['..', *'bcdef']}, 'names no'),
    ({'ids': ['\udc80', *'bcdef']}, 'names no file'),
    ({'ids': ['a\0', *'bcdef']}, 'names no file'),
    ({'groups': [1] * 6}, 'groups is of another type'),
    ({'labels': [0.5] * 6}, 'labels is of another type'),
    ({'class_names': ['a', 'a', 'b']}, 'a class is there twice'),
    ({'dermo_attributes': list('abcdefghi')}, '9 attributes do not fit a map'),
    ({'synthetic': 'no'}, 'synthetic is of another type'),
    ({'fingerprint': None}, 'fingerprint is of another type'),
    ({'ids': []}, '6 records, 0 ids'),
    ({'groups': ['a', ['b']]}, ''),
    ({'has_lesion': True}, 'has_lesion is of another type'),
    ({'has_lesion': [True]}, 'has_lesion are not one'),
    ({'class_names': 5}, '')])
def test_an_index_that_contradicts_itself_is_damaged(source, data_dir, change, words):
  _prepare(source, data_dir)
  path = _open(data_dir).path / 'metadata.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(errors.UserError, match=f'is damaged .*{words}') as caught:
    _open(data_dir)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [
    b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n', b'GIF89a',
    conftest.encode(np.zeros((24, 24, 3), np.uint8), 'JPEG'),
    conftest.encode(np.zeros((24, 25, 3), np.uint8)),
    conftest.encode(np.zeros((24, 24), np.uint8)),
    conftest.encode(np.zeros((24, 24), np.uint16))])
def test_a_record_of_another_kind_is_damaged(source, data_dir, content):
  _prepare(source, data_dir)
  split = _open(data_dir)
  record = {**split.records[0], 'image': content}
  with pytest.raises(errors.UserError, match='is damaged .* prepare again'):
    dataclasses.replace(split, records=[record] * 6).load(0)


@pytest.mark.parametrize('damage', ['gone', 'cut', 'flipped'])
def test_damaged_records_are_one_line(source, data_dir, damage):
  _prepare(source, data_dir)
  shard, = _open(data_dir).path.glob('*.array_record*')
  content = shard.read_bytes()
  shard.unlink()
  if damage == 'cut':
    shard.write_bytes(content[:len(content) // 2])
  elif damage == 'flipped':
    middle = content.index(b'IDAT') + 20
    shard.write_bytes(content[:middle] + b'damage' + content[middle + 6:])
  with pytest.raises(errors.UserError, match='is damaged'):
    split = _open(data_dir)
    for row in range(len(split)):
      split.load(row)


def test_a_flipped_bit_in_a_record_names_the_image(source, data_dir):
  """At many places of the file; where none is told, no pixel has changed."""
  _prepare(source, data_dir)
  split = _open(data_dir)
  whole = [split.load(row) for row in range(len(split))]
  shard, = split.path.glob('*.array_record*')
  content = shard.read_bytes()
  named = set()
  for position in np.flatnonzero(np.frombuffer(content, np.uint8))[::211]:
    shard.write_bytes(content[:position] + bytes([content[position] ^ 4])
                      + content[position + 1:])
    for row, image_id in enumerate(split.ids):
      try:
        loaded = _open(data_dir).load(row)
      except errors.UserError as error:
        assert 'is damaged' in str(error)
        named |= {image_id} if f'is damaged ({image_id}: ' in str(error) else set()
      else:
        for name, array in loaded.items():
          np.testing.assert_array_equal(array, whole[row][name])
  assert named == set(split.ids)


@pytest.mark.parametrize('field', ['labels', 'has_lesion', 'has_dermo', 'ids'])
def test_an_index_that_differs_from_its_records_names_the_image(
    source, data_dir, field):
  _prepare(source, data_dir)
  path = _open(data_dir).path / 'metadata.json'
  index = json.loads(path.read_text())
  before = index[field][3]
  index[field][3] = (f'{before}x' if field == 'ids' else not before
                     if isinstance(before, bool) else 1 - before)
  path.write_text(json.dumps(index))
  split = _open(data_dir)
  split.load(2)
  with pytest.raises(errors.UserError, match=f'is damaged .{split.ids[3]}: its record'):
    split.load(3)


@pytest.mark.parametrize('content', ['', '[]', '{}'])
def test_a_damaged_index_is_prepared_again(source, data_dir, capsys, content):
  _prepare(source, data_dir)
  (_open(data_dir).path / 'metadata.json').write_text(content)
  capsys.readouterr()
  _prepare(source, data_dir)
  assert 'is damaged; preparing it again' in capsys.readouterr().out
  assert len(_open(data_dir)) == 6


def test_data_dir_comes_from_the_flag_the_environment_or_home(monkeypatch):
  monkeypatch.setenv('HOME', '/home/someone')
  monkeypatch.delenv('ATTNMEL_DATA', raising=False)
  assert storage.resolve_data_dir('') == pathlib.Path('/home/someone/attnmel_data')
  monkeypatch.setenv('ATTNMEL_DATA', '/data')
  assert storage.resolve_data_dir('') == pathlib.Path('/data')
  assert storage.resolve_data_dir('~/x') == pathlib.Path('/home/someone/x')
  assert storage.resolve_data_dir('x') == pathlib.Path.cwd() / 'x'


def _launch(*arguments, home, cwd) -> subprocess.CompletedProcess:
  environment = {**os.environ, 'HOME': str(home), 'PYTHONWARNINGS': 'error'}
  environment.pop('ATTNMEL_DATA', None)
  return subprocess.run(
      [sys.executable, str(ROOT / 'launch' / 'prepare.py'), '--dataset=isic2017',
       *arguments], env=environment, cwd=cwd, text=True, capture_output=True,
      check=False)


def test_the_command(source, tmp_path):
  home = tmp_path / 'home'
  home.mkdir()
  done = _launch(f'--source={source}', '--resize_size=32', home=home, cwd=tmp_path)
  assert done.returncode == 0
  assert done.stderr == ''
  folder = home / 'attnmel_data' / 'isic2017' / 'train-crop0.8-side32-bilinear'
  assert ('train: 6 images (2 melanoma, 2 seborrheic_keratosis, 2 nevus), 5 lesion '
          f'masks, 3 dermo masks, 32 px, {folder}') in done.stdout
  assert f'isic2017: train, validation in {home / "attnmel_data"}' in done.stdout
  # Nothing else is written to the home folder.
  assert [p.name for p in home.iterdir()] == ['attnmel_data']


def test_the_command_names_mistakes_in_one_line(source, tmp_path):
  (tmp_path / 'file').write_text('')
  for arguments, message in [
      (['--source=/no/such'], 'error: --source=/no/such is no folder; give the folder'),
      ([f'--source={source}', f'--data_dir={tmp_path}/file/x'], 'cannot be written'),
      ([f'--source={source}', '--base_url=https://x.org'], '--source=download only')]:
    done = _launch(*arguments, home=tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count('\n') == 1


def test_drawn_images_mark_a_split_synthetic(source, data_dir, tmp_path, archives):
  _prepare(source, data_dir)
  assert not _open(data_dir).synthetic
  # Even one drawn image, moved into other archives, marks the split.
  drawn = io.BytesIO()
  Image.new('RGB', (40, 30)).save(
      drawn, 'JPEG', comment=archives_lib.SYNTHETIC_COMMENT)
  archives[DATA]['ISIC_train2.jpg'] = drawn.getvalue()
  mixed = conftest.write(tmp_path / 'mixed', archives)
  _prepare(mixed, tmp_path / 'drawn')
  assert _open(tmp_path / 'drawn').synthetic
  assert not _open(tmp_path / 'drawn', 'validation').synthetic
