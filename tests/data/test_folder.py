import pathlib
import zlib

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import folder
from attnmel_jax.data import prepare
from attnmel_jax.data import storage
from tests import commands
from tests.data import conftest

GEOMETRY = {'crop_ratio': 1.0, 'resize_size': 30}
TABLE = """image,label,mask,group,split
photos/a.png,nevus,masks/a.png,patient1,
photos/b.png,melanoma,,patient1,train
photos/c.png,other,masks/c.png,,test
"""
RAMP = np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1))  # 0 to 234


@pytest.fixture
def source(tmp_path) -> pathlib.Path:
  """Three photographs of 40 x 30, two masks, and the table."""
  root = tmp_path / 'own'
  for place in ('photos', 'masks'):
    (root / place).mkdir(parents=True)
  for k, name in enumerate('abc'):
    picture = np.full((30, 40, 3), 50 * k, np.uint8)
    (root / 'photos' / f'{name}.png').write_bytes(conftest.encode(picture))
    (root / 'masks' / f'{name}.png').write_bytes(conftest.encode(RAMP))
  (root / 'labels.csv').write_text(TABLE)
  return root


def _prepare(source, tmp_path, *, classes=(), mask_kind='binary') -> dict[str, int]:
  return prepare.from_table(
      source, table=source / 'labels.csv', classes=classes, mask_kind=mask_kind,
      data_dir=tmp_path / 'data', **GEOMETRY)


def _open(tmp_path, split='train') -> storage.PreparedSplit:
  return storage.open_split('folder', split, data_dir=tmp_path / 'data', **GEOMETRY)


def _problems(source, text) -> list[str]:
  """What is bad about the splits of a table with this text."""
  (source / 'labels.csv').write_text(text)
  _, splits = folder.read_splits(
      source, table=source / 'labels.csv', classes=(), mask_kind='binary')
  return [note for files in splits.values() for note in files.bad]


def test_labels_groups_masks_and_splits(source, tmp_path):
  assert _prepare(source, tmp_path) == {'train': 2, 'test': 1}
  train, test = _open(tmp_path), _open(tmp_path, 'test')
  assert train.class_names == test.class_names == ('melanoma', 'nevus', 'other')
  assert train.ids.tolist() == ['a', 'b']
  assert train.labels.tolist() == [1, 0]
  assert train.groups.tolist() == ['patient1', 'patient1']
  assert train.has_lesion.tolist() == [True, False]
  assert test.groups.tolist() == ['c']
  assert test.labels.tolist() == [2]
  assert not train.load(1)['lesion'].any()
  # Binary: half of the greys' range and above, in the central 30 of 40 columns.
  np.testing.assert_array_equal(
      train.load(0)['lesion'], np.where(RAMP.max() / 2 <= RAMP, 255, 0)[:, 5:35])
  _prepare(source, tmp_path, mask_kind='probability')  # never thresholded
  np.testing.assert_array_equal(_open(tmp_path).load(0)['lesion'], RAMP[:, 5:35])


def test_classes_may_be_given_in_order(source, tmp_path):
  _prepare(source, tmp_path, classes=('nevus', 'melanoma', 'other', 'wart'))
  assert _open(tmp_path).class_names == ('nevus', 'melanoma', 'other', 'wart')
  assert _open(tmp_path).labels.tolist() == [0, 1]
  with pytest.raises(errors.UserError, match="row 4: label 'other' is none of nevus"):
    _prepare(source, tmp_path, classes=('nevus', 'melanoma'))
  with pytest.raises(errors.UserError, match='names a class twice'):
    _prepare(source, tmp_path, classes=('nevus', 'nevus'))


ROWS = [  # a change of the table, and what is bad about row k + 2
    ('masks/a.png', 'masks/x.png', 'labels.csv row 2: mask masks/x.png is not in own, '
     'with or without an ending'),
    ('photos/b.png', 'photos', 'labels.csv row 3: image photos is a folder'),
    ('photos/b.png', '/dev/zero', 'labels.csv row 3: image /dev/zero is no plain file'),
    ('photos/b.png', 'photos/b\0.png', "labels.csv row 3: image 'photos/b\\x00.png' is "
     'not a file name'),
    ('photos/b.png', 'NaN', 'labels.csv row 3: image is missing'),
    ('melanoma', 'NaN', "labels.csv row 3: label '' is missing"),
    ('photos/b', 'photos/a', 'labels.csv row 3: duplicate id a, also in labels.csv '
     'row 2'),
    ('photos/c', 'photos/a', 'labels.csv row 4: duplicate id a, also in labels.csv '
     'row 2'),  # in another split
    ('test', 'dev', "labels.csv row 4: split 'dev' is none of train, validation, test"),
    ('masks/a.png,patient1', 'nan,NaN', None),
    ('photos/a.png', '../own/photos/a.png', None),
    ('patient1,\n', 'patient1,,,\n', None),
    ('photos/a.png', '"photos/a.png"', None), ('photos/a.png', 'photos\\a.png', None),
    ('photos/a.png', 'photos/a', None), ('photos/a.png', 'photos/a.PNG', None)]


def test_errors_name_the_row(source):
  for old, new, problem in ROWS:
    assert old in TABLE
    assert _problems(source, TABLE.replace(old, new)) == [problem] * bool(problem), new


def test_what_no_class_and_no_id_can_be_called(source):
  for label, why in (
      ('image', 'is the name of another column'), ('mean', 'is the name of another'),
      ('a\x1b[31mb', 'holds unprintable'), ('a\0b', 'unprintable'),
      ('"a\nb"', 'holds unprintable'), ('x' * 101, 'has more than 100'),
      (None, 'is empty')):
    if label:
      problem, = _problems(source, f'image,label\nphotos/a.png,{label}\n')
      assert why in problem and problem.isprintable()
      assert problem.startswith(f'labels.csv row {2 + label.count(chr(10))}: label ')
    with pytest.raises(errors.UserError, match=f'--classes: .* {why}'):
      folder.read_splits(source, table=source / 'labels.csv',
                         classes=('a', (label or '').strip('"')), mask_kind='binary')
  (source / 'photos' / '..png').write_bytes((source / 'photos' / 'a.png').read_bytes())
  assert "labels.csv row 2: the id '.' cannot name a file" in _problems(
      source, 'image,label\nphotos/..png,x\n')


def test_an_umlaut_in_two_forms_is_one_class_and_one_group(source, tmp_path, capsys):
  nfc, nfd = 'n\u00e4vus', 'na\u0308vus'
  (source / 'labels.csv').write_text(
      f'image,label,group\nphotos/a.png,{nfc},{nfc}\nphotos/b.png,{nfd},{nfd}\n'
      'photos/c.png,A,p\n', 'utf-8')
  _prepare(source, tmp_path)
  assert _open(tmp_path).class_names == ('A', nfc)
  assert _open(tmp_path).groups.tolist() == [nfc, nfc, 'p']
  _prepare(source, tmp_path, classes=(nfd, 'A'))
  assert _open(tmp_path).class_names == (nfc, 'A')
  capsys.readouterr()
  _problems(source, 'image,label\nphotos/a.png,A\nphotos/b.png,a\n')
  assert "labels.csv: the classes 'a' (1) and 'A' (1) are" in capsys.readouterr().out


def test_a_vast_file_is_not_read(source, monkeypatch):
  with (source / 'photos' / 'vast.png').open('wb') as file:
    file.truncate(files.LARGEST + 1)  # sparse
  monkeypatch.setattr(zlib, 'crc32', None)
  vast, = _problems(source, 'image,label\nphotos/vast.png,nevus\n')
  assert vast.startswith('labels.csv row 2: image photos/vast.png has 5368709')


def test_a_misspelt_class_and_a_divided_group_are_named(source, capsys):
  rows = ''.join(f'photos/{k}.png,melanoma,,,\n' for k in range(30))
  _problems(source, f'{TABLE}photos/d.png,Melanom,,patient1,test\n{rows}')
  assert capsys.readouterr().out.splitlines() == [
      "labels.csv: the classes 'Melanom' (1) and 'melanoma' (31) are distinct; if "
      'one is misspelt, correct it, or name all with --classes',
      'labels.csv rows 2 and 5: group patient1 is in train and test: a run on these '
      'splits aborts, because it would be scored on what it was trained on']


def test_two_columns_are_enough(source, tmp_path, capsys):
  (source / 'labels.csv').write_text(
      '\ufeffimage, label, age\r\nphotos/a.png, 1, 60\r\nphotos/b.png, 0,\r\n')
  assert _prepare(source, tmp_path) == {'train': 2}
  assert 'labels.csv: not used: age' in capsys.readouterr().out
  assert _open(tmp_path).class_names == ('0', '1')
  assert _open(tmp_path).groups.tolist() == ['a', 'b']


def test_a_table_that_is_none_is_one_line(source):
  path = source / 'labels.csv'
  for content, message in [
      (None, 'cannot be read'), (b'\xff\xfe\xff', 'not a table in UTF-8'),
      (b'', 'has no column image and label'), (b'image,mask\n', 'has no column label'),
      (b'image,label\n', 'has no row'),
      ('image,label\na.png,x\n'.encode('utf-16'), 'not a table in UTF-8'),
      (b'image,label,label\na.png,x,y\n', 'has two columns label; remove one'),
      (b'image,label\nphotos/a,b.png,x\n', 'row 2 has more cells than the header'),
      (b'image,label\n"' + b'a' * 200_000 + b'",x\n', 'cannot be read'),
      (b'image,label,split\na.png,x,dev\n', "row 2: split 'dev'")]:
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(errors.UserError, match=message) as caught:
      folder.read_splits(source, table=path, classes=(), mask_kind='binary')
    assert '\n' not in str(caught.value)


def test_only_what_changed_is_prepared_again(source, tmp_path, capsys):
  _prepare(source, tmp_path)
  before = _open(tmp_path)
  _prepare(source, tmp_path)
  assert 'train: already prepared\ntest: already prepared\n' in capsys.readouterr().out
  (source / 'masks' / 'a.png').write_bytes(conftest.encode(RAMP[:, ::-1]))
  _prepare(source, tmp_path)
  assert ('train: masks changed; preparing it again\ntest: already prepared\n'
          in capsys.readouterr().out)
  assert _open(tmp_path).fingerprint != before.fingerprint
  (source / 'labels.csv').write_text(TABLE.replace('other', 'another'))
  _prepare(source, tmp_path)  # every label moved, also those of the training rows
  assert 'train: table changed' in capsys.readouterr().out
  assert _open(tmp_path).labels.tolist() == [2, 1]
  path = _open(tmp_path, 'test').path
  (source / 'labels.csv').write_text(TABLE.partition('photos/c')[0])
  capsys.readouterr()
  assert _prepare(source, tmp_path) == {'train': 2}
  assert f'test: kept from an earlier table; delete {path} if unwanted' in (
      capsys.readouterr().out)


def test_masks_without_any_lesion_are_refused(source, tmp_path):
  (source / 'masks' / 'a.png').write_bytes(conftest.encode(RAMP * 0))
  for kind in ('binary', 'probability'):
    with pytest.raises(errors.UserError, match='train: all 1 lesion masks are without '
                                               'a lesion, for example a.png'):
      _prepare(source, tmp_path, mask_kind=kind)


def test_the_command(source, tmp_path):
  done = commands.in_process(
      'prepare', '--dataset=folder', '--classes=nevus,melanoma,other',
      f'--source={source}', '--resize_size=32', f'--data_dir={tmp_path / "data"}')
  assert done.returncode == 0, done.stderr
  assert ('train: 2 images of 1 lesion (1 nevus, 1 melanoma, 0 other), 1 lesion masks'
          in done.stdout)
