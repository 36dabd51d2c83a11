"""Every data set but ISIC 2017 from its official archives to prepared splits.

The archives are written here by hand, under the names of the challenges, so that
the phantom and the catalogue cannot agree on a mistake.
"""

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
  rows = ['image,MEL,NV,BCC,AKIEC,BKL,DF,VASC']
  rows += [f'{name},' + ','.join(str(float(k % 7 == i)) for i in range(7))
           for k, name in enumerate(ids)]
  return {
      f'{stem}_Input.zip': {
          'LICENSE.txt': b'CC BY-NC', 'ATTRIBUTION.txt': b'...',
          **{f'{name}.jpg': _image(k) for k, name in enumerate(ids)}},
      f'{stem}_GroundTruth.zip': {'LICENSE.txt': b'CC BY-NC',
                                  f'{stem}_GroundTruth.csv': '\n'.join(rows).encode()}}


def _isic2018_train() -> dict:
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


def test_isic2018_has_seven_classes_and_lesions(tmp_path):
  assert _prepare('isic2018', _isic2018_train(), tmp_path) == {'train': 14}
  split = _open('isic2018', 'train', tmp_path)
  assert split.class_names == ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
  assert split.labels.tolist() == [*range(7), *range(7)]
  assert split.groups.tolist() == [f'HAM_{k // 2}' for k in range(14)]
  assert split.has_lesion.tolist() == [True] * 13 + [False]
  assert storage.available_splits('isic2018', data_dir=tmp_path, **GEOMETRY) == (
      'train',)


def test_isic2018_test_set_comes_later_with_the_unscored_image(tmp_path, capsys):
  archives = _isic2018_train()
  _prepare('isic2018', archives, tmp_path)
  assert 'test: left out, ISIC2018_Task3_Test_Input.zip' in capsys.readouterr().out
  archives |= _isic2018('Test', ['ISIC_0034524', 'ISIC_0035068', 'ISIC_0035069'])
  assert _prepare('isic2018', archives, tmp_path) == {'train': 14, 'test': 3}
  out = capsys.readouterr().out
  assert 'test: no' not in out  # masks exist for training alone
  split = _open('isic2018', 'test', tmp_path)
  # The challenge asks for a prediction of all; the scores leave that one out.
  assert split.ids.tolist() == ['ISIC_0034524', 'ISIC_0035068', 'ISIC_0035069']
  assert split.labels.tolist() == [0, 1, 2]
  assert split.groups.tolist() == split.ids.tolist()


def test_isic2018_without_lesions_is_no_split(tmp_path, capsys):
  archives = _isic2018_train()
  del archives[GROUPS_2018]
  with pytest.raises(errors.UserError, match=f'needs .*{GROUPS_2018}'):
    _prepare('isic2018', archives, tmp_path)
  assert (f'train: left out, {GROUPS_2018} is not in {tmp_path / "official"}; to be '
          'had from https://isic-challenge-data.s3.amazonaws.com/2018/') in (
              capsys.readouterr().out)


def test_isic2018_masks_are_published_elsewhere(tmp_path, capsys):
  archives = _isic2018_train()
  del archives[MASKS_2018]
  _prepare('isic2018', archives, tmp_path)
  assert (f'train: no lesion masks, {MASKS_2018} is not in --source; to be had from '
          'https://doi.org/10.7910/DVN/DBW86T') in capsys.readouterr().out


def test_an_image_without_a_lesion_is_bad(tmp_path):
  archives = _isic2018_train()
  archives[GROUPS_2018] = archives[GROUPS_2018].replace(b'ISIC_0003', b'ISIC_0099')
  with pytest.raises(errors.UserError) as caught:
    _prepare('isic2018', archives, tmp_path)
  assert f'ISIC_0003.jpg: no lesion in {GROUPS_2018}' in str(caught.value)
  assert f'{GROUPS_2018}: lesion of ISIC_0099, but no image' in str(caught.value)


def test_other_lesions_are_other_content(tmp_path, capsys):
  archives = _isic2018_train()
  _prepare('isic2018', archives, tmp_path)
  before = _open('isic2018', 'train', tmp_path).fingerprint
  archives[GROUPS_2018] = archives[GROUPS_2018].replace(b'HAM_0', b'HAM_1')
  _prepare('isic2018', archives, tmp_path)
  assert f'train: {GROUPS_2018} changed' in capsys.readouterr().out
  assert _open('isic2018', 'train', tmp_path).fingerprint != before


@pytest.mark.parametrize('form', ['folder', 'csv'])
def test_labels_may_be_unpacked(tmp_path, form):
  archives = _isic2018_train()
  name = 'ISIC2018_Task3_Training_GroundTruth.zip'
  if form == 'csv':
    archives[name.replace('.zip', '.csv')] = archives[name].pop(
        name.replace('.zip', '.csv'))
    del archives[name]
  assert _prepare('isic2018', archives, tmp_path, unpacked=(name,)) == {'train': 14}


@pytest.mark.parametrize('damage', ['empty', 'two', 'no zip'])
def test_labels_that_cannot_be_read_are_one_line(tmp_path, damage):
  archives = _isic2018_train()
  name = 'ISIC2018_Task3_Training_GroundTruth.zip'
  archives[name] = {'empty': {}, 'two': {'a.csv': b'', 'b.csv': b''},
                    'no zip': b'PK'}[damage]
  with pytest.raises(errors.UserError, match=f'1 bad file: {name}: cannot be read'):
    _prepare('isic2018', archives, tmp_path)


def test_task1_has_masks_and_no_labels(tmp_path):
  assert _prepare('isic2018_task1', _task1(), tmp_path) == {'train': 2}
  split = _open('isic2018_task1', 'train', tmp_path)
  assert split.class_names == ()
  assert split.labels.tolist() == [-1, -1]
  assert split.has_lesion.all()
  assert split.has_dermo.tolist() == [True, False]
  assert split.load(1)['lesion'].min() == 255
  # Row k of the photograph has attribute k: bit k.
  assert split.load(0)['dermo'][:6, 0].tolist() == [1, 2, 4, 8, 16, 0]


def test_task1_without_masks_is_no_split(tmp_path):
  archives = _task1()
  del archives['ISIC2018_Task1_Training_GroundTruth.zip']
  with pytest.raises(errors.UserError, match=r'ISIC2018_Task1_\{split\}_GroundTruth'):
    _prepare('isic2018_task1', archives, tmp_path)


def test_names():
  assert catalogue.NAMES == (
      'isic2016', 'isic2017', 'isic2018', 'isic2018_task1', 'folder')
  assert catalogue.splits('folder') == ('train', 'validation', 'test')
  with pytest.raises(errors.UserError, match="dataset='isic2019' is unknown"):
    catalogue.splits('isic2019')
  for spec in catalogue.DATASETS.values():
    assert isinstance(spec, catalogue.Dataset)
    assert set(spec.required) <= set(spec.published) <= set(spec.files)


def test_the_documentation_names_every_archive():
  text = (ROOT / 'docs' / 'data.md').read_text()
  for spec in catalogue.DATASETS.values():
    words = '{' + ','.join(spec.splits.values()) + '}'
    for role, name in spec.files.items():
      full = name.replace('{split}', words)
      short = re.sub(r'^.*\{split\}', '…', name)  # after the first of its table
      assert f'`{full}`' in text or f'`{short}`' in text, role
