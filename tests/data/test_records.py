
import numpy as np

from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import catalogue
from attnmel_jax.data import records
from tests.data import conftest

ATTRIBUTES = catalogue.DATASETS['isic2017'].attributes


def _example(archives, number: int) -> tuple[archives_lib.Example, dict[str, bytes]]:
  """An image with superpixels and with masks of attributes, and its files."""
  name = f'ISIC_train{number}'
  contents = {
      file: content for archive in archives.values() if isinstance(archive, dict)
      for file, content in archive.items() if file.startswith(f'{name}')}
  members = {file: archives_lib.Member(None, file, 0, 0) for file in contents}
  return archives_lib.Example(
      name, members[f'{name}.jpg'], 1,
      superpixels=members[f'{name}_superpixels.png'],
      features=members.get(f'{name}_features.json')), contents


def _record(example, contents) -> records.Record:
  return records.make_record(
      example, read=lambda member: contents[member.name], attributes=ATTRIBUTES,
      crop_ratio=0.8, resize_size=24)


def test_masks_of_attributes_go_before_superpixels(archives):
  example, contents = _example(archives, 0)
  from_superpixels = _record(example, contents)
  mask = archives_lib.Member(None, 'mask.png', 0, 0)
  contents['mask.png'] = conftest.encode(np.full((30, 40), 255, np.uint8))
  example.attributes['globules'] = mask
  record = _record(example, contents)
  assert record.bad == ()
  assert record.digest != from_superpixels.digest
  dermo = np.full((24, 24), 1 << ATTRIBUTES.index('globules'), np.uint8)
  assert record.encoded['dermo'] == records.encode_png(dermo)


def test_the_digest_tells_not_annotated_from_empty(archives):
  example, contents = _example(archives, 0)
  contents['empty.png'] = conftest.encode(np.zeros((30, 40), np.uint8))
  bare = _record(example, contents)
  example.lesion = archives_lib.Member(None, 'empty.png', 0, 0)
  empty = _record(example, contents)
  assert (bare.has_lesion, empty.has_lesion) == (False, True)
  assert bare.encoded == empty.encoded
  assert bare.digest != empty.digest


def test_every_bad_file_of_an_image_is_named(archives):
  example, contents = _example(archives, 0)
  contents['lesion.png'] = b''
  contents['ISIC_train0_superpixels.png'] = b''
  example.lesion = archives_lib.Member(None, 'lesion.png', 0, 0)
  assert _record(example, contents).bad == (
      'lesion.png: cannot be read: it is no JPEG, PNG or BMP',
      'ISIC_train0_superpixels.png: cannot be read: it is no JPEG, PNG or BMP')


def test_the_digest_tells_lesions_apart(archives):
  example, contents = _example(archives, 0)
  alone = _record(example, contents)
  assert alone.group == example.id
  example.group = 'HAM_1'
  grouped = _record(example, contents)
  assert grouped.group == 'HAM_1'
  assert grouped.digest != alone.digest


def test_a_bad_file_is_named_after_the_row_of_the_table(archives):
  example, contents = _example(archives, 0)
  example.origin = 'labels.csv row 7'
  contents['ISIC_train0.jpg'] = b''
  assert _record(example, contents).bad == (
      'labels.csv row 7: ISIC_train0.jpg: cannot be read: it is no JPEG, PNG or BMP',)
