import zipfile

import pytest

from attnmel_jax import errors
from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import catalogue
from tests.data import conftest

ISIC2017 = catalogue.DATASETS['isic2017']
DATA = 'ISIC-2017_Training_Data.zip'
LESIONS = 'ISIC-2017_Training_Part1_GroundTruth.zip'
FEATURES = 'ISIC-2017_Training_Part2_GroundTruth.zip'
ATTRIBUTES = 'ISIC-2017_Training_AttributeMasks.zip'
LABELS = 'ISIC-2017_Training_Part3_GroundTruth.csv'
HEADER = 'image_id,melanoma,seborrheic_keratosis\n'


def _read(source, split='train') -> archives_lib.SplitFiles:
  with archives_lib.Reader() as reader:
    return archives_lib.read_split(
        ISIC2017, split, archives_lib.find(ISIC2017, split, source), reader)


def _labels(text: str) -> tuple[dict[str, int], list[str]]:
  bad: list[str] = []
  return ISIC2017.read_labels(text, bad), bad


def test_names_are_the_official_ones():
  assert [ISIC2017.file(role, 'test') for role in ISIC2017.files] == [
      'ISIC-2017_Test_v2_Data.zip', 'ISIC-2017_Test_v2_Part3_GroundTruth.csv',
      'ISIC-2017_Test_v2_Part1_GroundTruth.zip',
      'ISIC-2017_Test_v2_Part2_GroundTruth.zip',
      'ISIC-2017_Test_v2_AttributeMasks.zip']
  assert ISIC2017.class_names == ('melanoma', 'seborrheic_keratosis', 'nevus')


def test_files_are_paired_by_id(source):
  files = _read(source)
  assert files.bad == ()
  names = [f'ISIC_train{k}' for k in range(6)]
  assert [example.id for example in files.examples] == names
  assert [example.label for example in files.examples] == [0, 1, 2, 0, 1, 2]
  assert [example.lesion is not None for example in files.examples] == [
      True, True, False, True, True, True]
  assert [example.features is not None for example in files.examples] == [
      True, True, False, False, False, False]
  assert set(files.examples[3].attributes) == {'globules', 'streaks'}
  for example in files.examples:
    assert example.image.name == f'{example.id}.jpg'
    assert example.superpixels.name == f'{example.id}_superpixels.png'


def test_order_of_the_members_does_not_matter(tmp_path, archives):
  shuffled = {
      name: members if isinstance(members, bytes) else dict(reversed(members.items()))
      for name, members in archives.items()}
  straight = _read(conftest.write(tmp_path / 'a', archives))
  reverse = _read(conftest.write(tmp_path / 'b', shuffled))
  assert straight.digests == reverse.digests
  assert [e.lesion and e.lesion.name for e in straight.examples] == [
      e.lesion and e.lesion.name for e in reverse.examples]


@pytest.mark.parametrize('unpacked', [
    (DATA,), (LESIONS, ATTRIBUTES), (DATA, LESIONS, FEATURES, ATTRIBUTES)])
def test_zips_and_folders_mix(tmp_path, archives, unpacked):
  zips = _read(conftest.write(tmp_path / 'zips', archives))
  mixed_source = conftest.write(tmp_path / 'mixed', archives, unpacked=unpacked)
  mixed = _read(mixed_source)
  assert mixed.bad == ()
  assert mixed.digests == zips.digests
  with archives_lib.Reader() as reader:
    files = archives_lib.read_split(
        ISIC2017, 'train', archives_lib.find(ISIC2017, 'train', mixed_source), reader)
    for example in files.examples:
      assert reader.read(example.image) == archives[DATA][example.image.name]


def test_a_changed_byte_changes_the_digest_of_its_archive_only(tmp_path, archives):
  before = _read(conftest.write(tmp_path / 'a', archives)).digests
  archives[LESIONS]['ISIC_train0_segmentation.png'] += b'\0'
  after = _read(conftest.write(tmp_path / 'b', archives)).digests
  assert {name for name in before if before[name] != after[name]} == {LESIONS}


@pytest.mark.parametrize('folder', ['', 'a/b/c/', '/', '../../', 'C:/', 'a\\b\\'])
def test_only_the_base_name_of_a_member_counts(tmp_path, archives, folder):
  source = conftest.write(tmp_path / 'deep' / 'source', archives)
  with zipfile.ZipFile(source / DATA, 'w') as file:
    for name, content in archives[DATA].items():
      file.writestr(folder + name, content)
  before = sorted(tmp_path.rglob('*'))
  files = _read(source)
  assert files.bad == ()
  assert [example.image.name for example in files.examples] == [
      f'ISIC_train{k}.jpg' for k in range(6)]
  assert sorted(tmp_path.rglob('*')) == before  # nothing is extracted


def test_other_files_in_an_archive_are_passed_over(tmp_path, archives):
  source = conftest.write(tmp_path, archives)
  with zipfile.ZipFile(source / DATA, 'a') as file:
    for name in ('LICENSE.txt', 'ATTRIBUTION.txt', 'x/.DS_Store', 'x/._ISIC_1.jpg',
                 '__MACOSX/x/ISIC_2.jpg', 'x/empty/'):
      file.writestr(name, b'?')
  files = _read(source)
  assert files.bad == ()
  assert len(files.examples) == 6


def test_upper_case_endings_and_png_images(tmp_path, archives):
  data = archives[DATA]
  data['ISIC_train0.JPG'] = data.pop('ISIC_train0.jpg')
  data['ISIC_train1.png'] = data.pop('ISIC_train1.jpg')
  files = _read(conftest.write(tmp_path, archives))
  assert files.bad == ()
  assert [e.image.name for e in files.examples[:2]] == [
      'ISIC_train0.JPG', 'ISIC_train1.png']


def test_unpaired_files_are_bad(tmp_path, archives):
  data = archives[DATA]
  data['ISIC_extra.jpg'] = data['ISIC_train0.jpg']
  del data['ISIC_train1.jpg']
  archives[ATTRIBUTES]['ISIC_train4_attribute_hair.png'] = b''
  assert set(_read(conftest.write(tmp_path, archives)).bad) == {
      f'ISIC_extra.jpg: no label in {LABELS}',
      f'{LABELS}: label of ISIC_train1, but no image of it',
      'ISIC_train1_segmentation.png: no image of ISIC_train1',
      'ISIC_train1_superpixels.png: no image of ISIC_train1',
      'ISIC_train1_features.json: no image of ISIC_train1',
      "ISIC_train4_attribute_hair.png: unknown attribute 'hair'; known are "
      'pigment_network, negative_network, milia_like_cyst, streaks, globules'}


@pytest.mark.parametrize('twin', ['ISIC_train0.png', 'again/ISIC_train0.jpg'])
def test_an_id_that_comes_twice_is_bad(tmp_path, archives, twin):
  archives[DATA][twin] = archives[DATA]['ISIC_train0.jpg']
  bad = _read(conftest.write(tmp_path, archives)).bad
  assert bad == (f'{twin.rpartition("/")[2]}: duplicate id ISIC_train0',)


def test_a_broken_zip_is_bad(tmp_path, archives):
  source = conftest.write(tmp_path, archives)
  content = (source / LESIONS).read_bytes()
  (source / LESIONS).write_bytes(content[:len(content) // 2])
  bad, = _read(source).bad
  assert bad.startswith(f'{LESIONS}: cannot be opened (')


def test_labels_are_read_as_published():
  text = HEADER + 'A,1.0,0.0\nB,0.0,1.0\nC,0.0,0.0\n'
  assert _labels(text) == ({'A': 0, 'B': 1, 'C': 2}, [])


def test_columns_are_found_by_name():
  text = 'age,seborrheic_keratosis, melanoma,image_id\n60,1,0,A\n70,0,1,B\n'
  assert _labels(text) == ({'A': 1, 'B': 0}, [])


@pytest.mark.parametrize('row, label, note', [
    ('A,2.0,0.0', -1, "unknown label melanoma='2.0' of A"),
    ('A,0,maybe', -1, "unknown label seborrheic_keratosis='maybe' of A"),
    ('A,,0', -1, "unknown label melanoma='' of A"),
    ('A,0', -1, 'unknown label seborrheic_keratosis=None of A'),
    ('A,nan,0', -1, "unknown label melanoma='nan' of A"),
    ('A,1,1', -1, 'A is both melanoma and seborrheic_keratosis'),
    ('A,1,0\nA,0,0', 0, 'duplicate id A')])
def test_wrong_labels_are_noted_by_id(row, label, note):
  labels, bad = _labels(HEADER + row + '\nB,0,0\n')
  assert labels == {'A': label, 'B': 2}
  assert len(bad) == 1
  assert note in bad[0]


def test_a_wrong_label_is_reported_once(tmp_path, archives):
  archives[LABELS] = archives[LABELS].replace(b'train1,0.0,1.0', b'train1,0.0,7')
  assert _read(conftest.write(tmp_path, archives)).bad == (
      f"{LABELS}: unknown label seborrheic_keratosis='7' of ISIC_train1, not 0 or 1",)


def test_a_wrong_header_is_reported_once(tmp_path, archives):
  archives[LABELS] = archives[LABELS].replace(b'melanoma', b'mel', 1)
  assert _read(conftest.write(tmp_path, archives)).bad == (
      f'{LABELS}: has no column melanoma',)


@pytest.mark.parametrize('content', [b'\xff\xfe', b'image_id\r\0', b'', b'a' * 200000])
def test_a_label_file_of_another_sort_is_reported_once(tmp_path, archives, content):
  archives[LABELS] = content
  bad, = _read(conftest.write(tmp_path, archives)).bad
  assert bad.startswith(f'{LABELS}: ')


def test_byte_order_mark_and_windows_lines(tmp_path, archives):
  archives[LABELS] = b'\xef\xbb\xbf' + archives[LABELS].replace(b'\n', b'\r\n')
  files = _read(conftest.write(tmp_path, archives))
  assert files.bad == ()
  assert [example.label for example in files.examples] == [0, 1, 2, 0, 1, 2]


def test_source_without_archives_lists_what_is_expected(tmp_path):
  for folder in (tmp_path, tmp_path / 'absent'):
    with pytest.raises(errors.UserError) as caught:
      archives_lib.check_source(ISIC2017, folder)
    assert str(folder) in str(caught.value)
    assert 'ISIC-2017_{Training,Validation,Test_v2}_Data.zip' in str(caught.value)
    assert '\n' not in str(caught.value)
