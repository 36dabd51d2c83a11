"""Files of archives, zips and folders, paired by id; zips that mean harm."""

import io
import struct
import tracemalloc
import zipfile
import zlib

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import catalogue
from tests.data import conftest
from tests.data.conftest import ATTRIBUTES
from tests.data.conftest import DATA
from tests.data.conftest import LABELS
from tests.data.conftest import LESIONS

ISIC2017 = catalogue.DATASETS['isic2017']
NAMES = [f'ISIC_train{k}' for k in range(6)]


def _read(source) -> archives_lib.SplitFiles:
  with archives_lib.Reader() as reader:
    return archives_lib.read_split(
        ISIC2017, 'train', archives_lib.find(ISIC2017, 'train', source), reader)


def test_files_are_paired_by_id_whatever_their_order(tmp_path, archives):
  shuffled = {
      name: members if isinstance(members, bytes) else dict(reversed(members.items()))
      for name, members in archives.items()}
  straight = _read(conftest.write(tmp_path / 'a', archives))
  reverse = _read(conftest.write(tmp_path / 'b', shuffled))
  assert straight.digests == reverse.digests
  for split in (straight, reverse):
    assert split.bad == ()
    assert [example.id for example in split.examples] == NAMES
    assert [example.label for example in split.examples] == [0, 1, 2, 0, 1, 2]
    assert [example.lesion and example.lesion.name for example in split.examples] == [
        k != 2 and f'ISIC_train{k}_segmentation.png' or None for k in range(6)]
    assert [example.features is not None for example in split.examples] == [
        True, True, False, False, False, False]
    assert set(split.examples[3].attributes) == {'globules', 'streaks'}
    for example in split.examples:
      assert example.image.name == f'{example.id}.jpg'
      assert example.superpixels.name == f'{example.id}_superpixels.png'


def test_a_changed_byte_changes_the_digest_of_its_archive_only(tmp_path, archives):
  before = _read(conftest.write(tmp_path / 'a', archives)).digests
  archives[LESIONS]['ISIC_train0_segmentation.png'] += b'\0'
  after = _read(conftest.write(tmp_path / 'b', archives)).digests
  assert {name for name in before if before[name] != after[name]} == {LESIONS}


def test_only_the_base_name_of_a_member_counts(tmp_path, archives):
  source = conftest.write(tmp_path / 'deep' / 'source', archives)
  data = archives[DATA]
  data['ISIC_train0.JPG'] = data.pop('ISIC_train0.jpg')
  data['ISIC_train1.png'] = data.pop('ISIC_train1.jpg')
  for folder in ('', 'a/b/c/', '/', '../../', 'C:/', 'a\\b\\'):
    with zipfile.ZipFile(source / DATA, 'w') as file:
      for name, content in data.items():
        file.writestr(folder + name, content)
      for name in ('LICENSE.txt', 'x/.DS_Store', 'x/._ISIC_1.jpg',
                   '__MACOSX/x/ISIC_2.jpg', 'x/empty/'):
        file.writestr(name, b'?')
    before = sorted(tmp_path.rglob('*'))
    split = _read(source)
    assert split.bad == ()
    assert [example.image.name for example in split.examples] == [
        'ISIC_train0.JPG', 'ISIC_train1.png', *(f'{name}.jpg' for name in NAMES[2:])]
    assert sorted(tmp_path.rglob('*')) == before  # nothing is extracted


def test_unpaired_files_and_repeated_ids_are_bad(tmp_path, archives):
  data = archives[DATA]
  data['ISIC_extra.jpg'] = data['ISIC_train0.jpg']
  del data['ISIC_train1.jpg']
  archives[ATTRIBUTES]['ISIC_train4_attribute_hair.png'] = b''
  data['ISIC_train2.png'] = data['again/ISIC_train3.jpg'] = data['ISIC_train2.jpg']
  inside = f'{DATA}/{DATA.removesuffix(".zip")}'
  assert set(_read(conftest.write(tmp_path, archives)).bad) == {
      f'ISIC_extra.jpg: no label in {LABELS}',
      f'{LABELS}: label of ISIC_train1, but no image of it',
      'ISIC_train1_segmentation.png: no image of ISIC_train1',
      'ISIC_train1_superpixels.png: no image of ISIC_train1',
      'ISIC_train1_features.json: no image of ISIC_train1',
      "ISIC_train4_attribute_hair.png: unknown attribute 'hair'; known are "
      'pigment_network, negative_network, milia_like_cyst, streaks, globules',
      f'{inside}/ISIC_train2.png: duplicate id ISIC_train2, also of '
      f'{inside}/ISIC_train2.jpg',
      f'{inside}/again/ISIC_train3.jpg: duplicate id ISIC_train3, also of '
      f'{inside}/ISIC_train3.jpg'}


def test_source_without_archives_lists_what_is_expected(tmp_path):
  for folder in (tmp_path, tmp_path / 'absent'):
    with pytest.raises(errors.UserError) as caught:
      archives_lib.check_source(ISIC2017, folder)
    assert str(folder) in str(caught.value)
    assert 'ISIC-2017_{Training,Validation,Test_v2}_Data.zip' in str(caught.value)
    assert '\n' not in str(caught.value)


def _pack(content: bytes) -> bytes:
  """A deflated zip with the entry 'a'."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as file:
    file.writestr(zipfile.ZipInfo('a'), content, zipfile.ZIP_DEFLATED)  # no clock
  return buffer.getvalue()


def _with_size(data: bytes, size: int) -> bytes:
  """The zip with another size in both of its headers."""
  changed = bytearray(data)
  for start, offset in ((data.index(b'PK\3\4'), 22), (data.index(b'PK\1\2'), 24)):
    changed[start + offset:start + offset + 4] = struct.pack('<I', size)
  return bytes(changed)


def _contents(data: bytes, path) -> list[bytes]:
  path.write_bytes(data)
  with archives_lib.Reader() as reader:
    return [reader.read(member) for member in reader.members(path)]


def test_bombs_are_refused_by_their_size_or_not_unpacked(tmp_path):
  path = tmp_path / 'z.zip'
  for content in (b'', b'x', b'photograph' * 10_000):
    assert _contents(_pack(content), path) == [content]
  with pytest.raises(errors.Unusable, match=f'has {files.LARGEST + 1} bytes'):
    _contents(_with_size(_pack(b'0'), files.LARGEST + 1), path)
  hidden = _with_size(_pack(bytes(64 << 20)), 1000)
  assert len(hidden) < 100_000
  tracemalloc.start()
  try:
    with pytest.raises(zipfile.BadZipFile, match='CRC'):
      _contents(hidden, path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
  finally:
    tracemalloc.stop()


def test_an_entry_whose_damaged_name_is_empty_is_ignored(tmp_path):
  data = bytearray(_pack(b'x'))
  data[data.index(b'PK\1\2') + 46] = 0
  assert _contents(bytes(data), tmp_path / 'z.zip') == []


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
       st.integers(0, 400))
def test_no_damage_raises_anything_else(tmp_path_factory, changes, cut):
  data = bytearray(_pack(b'photograph' * 20))
  for place, value in changes:
    data[place % len(data)] = value
  path = tmp_path_factory.mktemp('zip') / 'z.zip'
  path.write_bytes(data[:max(len(data) - cut, 0)] if cut < 200 else data)
  try:
    with archives_lib.Reader() as reader:
      for member in reader.members(path):
        assert zlib.crc32(reader.read(member)) == member.crc
  except (errors.Unusable, *archives_lib.READ_ERRORS):
    pass
