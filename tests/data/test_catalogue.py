"""Tables and archives of every data set, from their official names to splits.

They are written here by hand, as the challenges publish them, so that the phantom and
the catalogue cannot agree on a mistake. ISIC 2017 is tested in `test_archives`.
"""

import functools
import pathlib
import re

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.data import catalogue
from attnmel_jax.data import prepare
from attnmel_jax.data import storage
from tests.data import conftest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GEOMETRY = {'crop_ratio': 1.0, 'resize_size': 30}
MASKS_2018 = 'HAM10000_segmentations_lesion_tschandl.zip'
GROUPS_2018 = 'ISIC2018_Task3_Training_LesionGroupings.csv'
LABELS_2018 = 'ISIC2018_Task3_Training_GroundTruth.zip'
HEADER_2018 = 'image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n'
HEADER_2017 = 'image_id,melanoma,seborrheic_keratosis\n'
isic2018 = functools.partial(
    catalogue.isic2018, columns=catalogue.DATASETS['isic2018'].class_names)


def _read(reader, text):
  bad: list[str] = []
  return reader(text, bad), bad


def test_labels_are_read_as_published():
  assert _read(catalogue.isic2016, 'A,benign\nB,malignant\n') == ({'A': 0, 'B': 1}, [])
  assert _read(catalogue.isic2016, 'A,0.0\r\nB,1.0\r\n\r\n') == ({'A': 0, 'B': 1}, [])
  assert _read(catalogue.isic2017, HEADER_2017 + 'A,1.0,0.0\nB,0.0,1.0\nC,0.0,0.0\n'
               ) == ({'A': 0, 'B': 1, 'C': 2}, [])
  rows = ''.join(f'{name},' + ','.join(str(float(k == i)) for k in range(7)) + '\n'
                 for i, name in enumerate('ABCDEFG'))
  assert _read(isic2018, HEADER_2018 + rows) == (
      {name: i for i, name in enumerate('ABCDEFG')}, [])
  text = 'image,lesion_id,diagnosis_confirm_type\nA,HAM_1,histo\nB,HAM_1,follow_up\n'
  assert _read(catalogue.isic2018_lesions, text) == ({'A': 'HAM_1', 'B': 'HAM_1'}, [])


def test_columns_are_found_by_name():
  text = 'age,seborrheic_keratosis, melanoma,image_id\n60,1,0,A\n70,0,1,B\n'
  assert _read(catalogue.isic2017, text) == ({'A': 1, 'B': 0}, [])
  text = 'image,NV,MEL,BCC,AKIEC,BKL,DF,VASC,score_weight\nA,0,1,0,0,0,0,0,0.5\n'
  assert _read(isic2018, text) == ({'A': 0}, [])
  assert _read(catalogue.isic2018_lesions, 'image,lesion\nA,1\n') == (
      {}, ["has no column lesion_id; its first line is 'image,lesion'"])


def test_wrong_labels_are_noted():
  for reader, text, expected, note in [
      (catalogue.isic2016, 'A,Malign\n', {'A': -1}, "unknown label 'malign' of A"),
      (catalogue.isic2016, 'A\n', {'A': -1}, "unknown label '' of A"),
      (catalogue.isic2016, 'NaN,benign\n', {}, 'line 1 has no image id'),
      (catalogue.isic2016, 'A,benign,1\n', {'A': -1}, 'line 1 has 3 cells, not 2'),
      (catalogue.isic2016, 'A,benign\nA,malignant\n', {'A': 0},
       'duplicate id A, again in line 2'),
      (catalogue.isic2017, HEADER_2017 + 'A,,0', {'A': -1}, "label melanoma=''"),
      (catalogue.isic2017, HEADER_2017 + 'A,1,1', {'A': -1}, 'is both melanoma and'),
      (catalogue.isic2017, HEADER_2017 + 'A,1,0\nA.jpg,0,0', {'A': 0},
       'duplicate id A, again in line 3'),
      (catalogue.isic2017, HEADER_2017 + ',1,0', {}, 'line 2 has no image_id'),
      (isic2018, HEADER_2018 + 'A,0,0,0,0,0,0,0', {'A': -1}, 'A is none of MEL, NV,'),
      (isic2018, HEADER_2018 + 'A,1,0,0,0,1,0,0', {'A': -1}, 'A is both MEL and BKL'),
      (isic2018, HEADER_2018 + 'A,1,0,x,0,0,0,0', {'A': -1}, "unknown label BCC='x'"),
      *((catalogue.isic2018_lesions,
         f'image,lesion_id,diagnosis_confirm_type\n{row}\nB,HAM_1,histo\n',
         {'A': '', 'B': 'HAM_1'}, 'no lesion_id of A')
        for row in ('A', 'A, ,histo', 'A,NaN,histo'))]:
    values, (found,) = _read(reader, text)
    assert values == expected, text
    assert note in found


def _image(number) -> bytes:
  return conftest.encode(np.full((*conftest.SIZE[::-1], 3), 8 * number, np.uint8))


def _mask(rows) -> bytes:
  mask = np.zeros(conftest.SIZE[::-1], np.uint8)
  mask[rows] = 255
  return conftest.encode(mask)


def _isic2016() -> dict:
  made = {}
  for word, values in (('Training', ('benign', 'malignant')), ('Test', ('0.0', '1.0'))):
    ids = [f'ISIC_{word}{k}' for k in range(4)]
    made[f'ISBI2016_ISIC_Part3_{word}_Data.zip'] = {
        f'{name}.jpg': _image(k) for k, name in enumerate(ids)}
    made[f'ISBI2016_ISIC_Part1_{word}_GroundTruth.zip'] = {
        f'{name}_Segmentation.png': _mask(slice(5, 15)) for name in ids}
    made[f'ISBI2016_ISIC_Part3_{word}_GroundTruth.csv'] = ''.join(
        f'{name},{values[k == 3]}\n' for k, name in enumerate(ids)).encode()
  return made


def _isic2018(word, ids) -> dict:
  stem = f'ISIC2018_Task3_{word}'
  rows = [f'{name},' + ','.join(str(float(k % 7 == i)) for i in range(7))
          for k, name in enumerate(ids)]
  return {
      f'{stem}_Input.zip': {
          'LICENSE.txt': b'CC BY-NC', 'ATTRIBUTION.txt': b'...',
          **{f'{name}.jpg': _image(k) for k, name in enumerate(ids)}},
      f'{stem}_GroundTruth.zip': {
          'LICENSE.txt': b'CC BY-NC',
          f'{stem}_GroundTruth.csv': (HEADER_2018 + '\n'.join(rows)).encode()}}


@pytest.fixture
def train_2018() -> dict:
  """Archives of 14 images of 7 lesions; the last one has no mask."""
  ids = [f'ISIC_00{k:02d}' for k in range(14)]
  lesions = '\n'.join(f'{name},HAM_{k // 2},histo' for k, name in enumerate(ids))
  return {**_isic2018('Training', ids),
          GROUPS_2018: f'image,lesion_id,diagnosis_confirm_type\n{lesions}\n'.encode(),
          MASKS_2018: {f'{name}_segmentation.png': _mask(slice(0, 3))
                       for name in ids[:13]}}


def _task1() -> dict:
  ids = ['ISIC_0', 'ISIC_1']
  return {
      'ISIC2018_Task1-2_Training_Input.zip': {
          f'{name}.jpg': _image(k) for k, name in enumerate(ids)},
      'ISIC2018_Task1_Training_GroundTruth.zip': {
          f'{name}_segmentation.png': _mask(slice(0, 30)) for name in ids},
      'ISIC2018_Task2_Training_GroundTruth_v3.zip': {
          f'ISIC_0_attribute_{attribute}.png': _mask(slice(k, k + 1))
          for k, attribute in enumerate((
              'pigment_network', 'negative_network', 'milia_like_cyst', 'streaks',
              'globules'))}}


def _prepare(dataset, archives, tmp_path, **options) -> dict[str, int]:
  source = conftest.write(tmp_path / 'official', archives, **options)
  return prepare.from_archives(dataset, source=source, data_dir=tmp_path, **GEOMETRY)


def _open(dataset, split, tmp_path) -> storage.PreparedSplit:
  return storage.open_split(dataset, split, data_dir=tmp_path, **GEOMETRY)


def test_isic2016(tmp_path, capsys):
  assert _prepare('isic2016', _isic2016(), tmp_path) == {'train': 4, 'test': 4}
  assert 'dermo' not in capsys.readouterr().out  # it never had any
  for name in ('train', 'test'):
    split = _open('isic2016', name, tmp_path)
    assert split.class_names == ('benign', 'malignant')
    assert split.labels.tolist() == [0, 0, 0, 1]
    assert split.has_lesion.all() and not split.has_dermo.any()
    assert split.load(0)['lesion'].sum() == 255 * 10 * 30
  with pytest.raises(errors.UserError, match="one of 'train', 'test'"):
    _open('isic2016', 'validation', tmp_path)


def test_isic2018_and_its_test_set_that_comes_later(tmp_path, train_2018, capsys):
  assert _prepare('isic2018', train_2018, tmp_path) == {'train': 14}
  assert 'test: left out, ISIC2018_Task3_Test_Input.zip' in capsys.readouterr().out
  split = _open('isic2018', 'train', tmp_path)
  assert split.class_names == ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
  assert split.labels.tolist() == [*range(7), *range(7)]
  assert split.groups.tolist() == [f'HAM_{k // 2}' for k in range(14)]
  assert split.has_lesion.tolist() == [True] * 13 + [False]
  train_2018 |= _isic2018('Test', ['ISIC_0034524', 'ISIC_0035068', 'ISIC_0035069'])
  assert _prepare('isic2018', train_2018, tmp_path) == {'train': 14, 'test': 3}
  assert 'test: no' not in capsys.readouterr().out  # masks exist for training alone
  split = _open('isic2018', 'test', tmp_path)
  # The challenge asks for a prediction of all; the scores leave the second one out.
  assert split.ids.tolist() == ['ISIC_0034524', 'ISIC_0035068', 'ISIC_0035069']
  assert split.labels.tolist() == [0, 1, 2]
  assert split.groups.tolist() == split.ids.tolist()


def test_isic2018_needs_lesions_and_its_masks_are_elsewhere(
    tmp_path, train_2018, capsys):
  del train_2018[MASKS_2018]
  groups = train_2018.pop(GROUPS_2018)
  with pytest.raises(errors.UserError, match=f'needs .*{GROUPS_2018}'):
    _prepare('isic2018', train_2018, tmp_path)
  train_2018[GROUPS_2018] = groups.replace(b'ISIC_0003', b'ISIC_0099')
  with pytest.raises(errors.UserError) as caught:
    _prepare('isic2018', train_2018, tmp_path)
  assert f'ISIC_0003.jpg: no lesion in {GROUPS_2018}' in str(caught.value)
  assert f'{GROUPS_2018}: lesion of ISIC_0099, but no image' in str(caught.value)
  train_2018[GROUPS_2018] = groups
  _prepare('isic2018', train_2018, tmp_path)
  assert (f'train: no lesion masks, {MASKS_2018} is not in --source; available from '
          'https://doi.org/10.7910/DVN/DBW86T') in capsys.readouterr().out
  before = _open('isic2018', 'train', tmp_path).fingerprint
  train_2018[GROUPS_2018] = groups.replace(b'HAM_0', b'HAM_1')  # is other content
  _prepare('isic2018', train_2018, tmp_path)
  assert _open('isic2018', 'train', tmp_path).fingerprint != before


def test_labels_may_be_unpacked_but_have_to_be_one_table(tmp_path, train_2018):
  packed = dict(train_2018)
  assert _prepare('isic2018', packed, tmp_path / 'folder', unpacked=(LABELS_2018,)
                  ) == {'train': 14}
  table = LABELS_2018.replace('.zip', '.csv')
  alone = {**packed, table: packed[LABELS_2018][table]}
  del alone[LABELS_2018]
  assert _prepare('isic2018', alone, tmp_path / 'csv') == {'train': 14}
  for k, content in enumerate(({}, {'a.csv': b'', 'b.csv': b''}, b'PK')):
    with pytest.raises(errors.UserError,
                       match=f'1 bad file: {LABELS_2018}: cannot be read'):
      _prepare('isic2018', {**packed, LABELS_2018: content}, tmp_path / str(k))


def test_task1_has_masks_and_no_labels(tmp_path):
  archives = _task1()
  assert _prepare('isic2018_task1', archives, tmp_path) == {'train': 2}
  split = _open('isic2018_task1', 'train', tmp_path)
  assert split.class_names == ()
  assert split.labels.tolist() == [-1, -1]
  assert split.has_lesion.all()
  assert split.has_dermo.tolist() == [True, False]
  assert split.load(1)['lesion'].min() == 255
  # Row k of the photograph has attribute k: bit k.
  assert split.load(0)['dermo'][:6, 0].tolist() == [1, 2, 4, 8, 16, 0]
  del archives['ISIC2018_Task1_Training_GroundTruth.zip']
  with pytest.raises(errors.UserError, match=r'ISIC2018_Task1_\{split\}_GroundTruth'):
    _prepare('isic2018_task1', archives, tmp_path / 'without')


def test_names():
  with pytest.raises(errors.UserError, match="dataset='isic2019' is unknown"):
    catalogue.splits('isic2019')
  for spec in catalogue.DATASETS.values():
    assert set(spec.required) <= set(spec.published) <= set(spec.files)


def test_the_documentation_names_every_archive():
  text = (ROOT / 'docs' / 'data.md').read_text()
  for spec in catalogue.DATASETS.values():
    words = '{' + ','.join(spec.splits.values()) + '}'
    for role, name in spec.files.items():
      full = name.replace('{split}', words)
      short = re.sub(r'^.*\{split\}', '…', name)  # after the first of its table
      assert f'`{full}`' in text or f'`{short}`' in text, role
