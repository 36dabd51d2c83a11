"""The records of images and the writer by themselves; `test_storage` reads back."""

import dataclasses
import io
import zlib

import numpy as np
from PIL import Image

from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import catalogue
from attnmel_jax.data import decode
from attnmel_jax.data import storage
from attnmel_jax.data import writing
from tests.data import conftest

ATTRIBUTES = catalogue.DATASETS['isic2017'].attributes
SMALL = decode.Geometry(1.0, 8)


def _member(name: str, content: bytes = b'') -> archives_lib.Member:
  return archives_lib.Member(None, name, len(content), zlib.crc32(content))


def _example(archives) -> tuple[archives_lib.Example, dict[str, bytes]]:
  """The first image, with superpixels and without masks, and its files."""
  name = 'ISIC_train0'
  contents = {file: content for members in archives.values()
              if isinstance(members, dict) for file, content in members.items()
              if file.startswith(name)}
  contents['empty.png'] = conftest.encode(conftest.BLOCK * 0)
  return archives_lib.Example(
      name, _member(f'{name}.jpg'), 1, superpixels=_member(f'{name}_superpixels.png'),
      features=_member(f'{name}_features.json')), contents


def _record(example, contents) -> writing.Record:
  masks = [data for name, data in contents.items()
           if name in ('mask.png', 'empty.png')]
  return writing.make_record(
      example, read=lambda member: contents[member.name], attributes=ATTRIBUTES,
      geometry=decode.Geometry(**conftest.GEOMETRY), readings=dict.fromkeys(
          ('lesion', 'attribute'), decode.mask_reading(
              map(decode.mask_values, masks), kind='binary')))


def test_masks_of_attributes_go_before_superpixels(archives):
  example, contents = _example(archives)
  from_superpixels = _record(example, contents)
  contents['mask.png'] = conftest.encode(conftest.BLOCK | 255)
  example.attributes['globules'] = _member('mask.png')
  record = _record(example, contents)
  assert record.bad == ()
  assert record.digest != from_superpixels.digest
  dermo = np.full((24, 24), 1 << ATTRIBUTES.index('globules'), np.uint8)
  assert record.encoded['dermo'] == writing.encode_png(dermo)


def test_the_digest_is_of_pixels_maps_flags_label_id_and_group(archives):
  def record(**changes):
    example, contents = _example(archives)
    for name, value in changes.pop('files', {}).items():
      contents[name] = value
    return _record(dataclasses.replace(example, **changes), contents)

  bare = record()
  image = np.array(Image.open(io.BytesIO(_example(archives)[1]['ISIC_train0.jpg'])))
  assert record(files={'ISIC_train0.jpg': conftest.encode(image)}).digest == bare.digest
  image[15, 20, 1] ^= 1
  empty = record(lesion=_member('empty.png'))
  assert (bare.has_lesion, empty.has_lesion) == (False, True)
  assert bare.encoded == empty.encoded
  grouped = record(group='HAM_1')
  assert (bare.group, grouped.group) == (bare.id, 'HAM_1')
  others = [
      empty, grouped, record(label=2), record(id='ISIC_x'), record(features=None),
      record(files={'ISIC_train0.jpg': conftest.encode(image)}),
      record(lesion=_member('full.png'),
             files={'full.png': conftest.encode(conftest.BLOCK)})]
  assert len({bare.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_every_bad_file_of_an_image_is_named_after_its_row(archives):
  example, contents = _example(archives)
  contents['lesion.png'] = contents['ISIC_train0_superpixels.png'] = b''
  example.lesion, example.origin = _member('lesion.png'), 'labels.csv row 7'
  assert _record(example, contents).bad == tuple(
      f'labels.csv row 7: {name}.png: cannot be read: it is not a JPEG, PNG or BMP'
      for name in ('lesion', 'ISIC_train0_superpixels'))
  contents['ISIC_train0.jpg'] = b''
  assert _record(example, contents).bad == (
      'labels.csv row 7: ISIC_train0.jpg: cannot be read: it is not a JPEG, PNG or '
      'BMP',)


def _write(contents, stage) -> list[str]:
  examples = tuple(archives_lib.Example(name, _member(name, content))
                   for name, content in contents.items())
  return writing.write_split(
      archives_lib.SplitFiles('train', examples, {'images': 'x'}, ()),
      catalogue.Schema('folder', (), ()), SMALL, stage,
      lambda member: contents[member.entry])


def test_several_shards_keep_the_order_of_the_examples(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(writing, '_SHARD_RECORDS', 2)
  contents = {f'{k}.png': conftest.encode(np.full((8, 8, 3), k, np.uint8))
              for k in range(5)}
  assert _write(contents, tmp_path) == []
  split = storage.open_split('folder', 'train', data_dir=tmp_path, crop_ratio=1.0,
                             resize_size=8)
  assert len(list(split.path.glob('*.array_record*'))) == 3
  assert split.ids.tolist() == split.groups.tolist() == list(contents)
  assert split.labels.tolist() == [-1] * 5
  assert [split.load(row)['image'][0, 0, 0] for row in range(5)] == [*range(5)]
  assert storage.read_index(split.path)['archives'] == {'images': 'x'}
  assert capsys.readouterr().out == ''  # TFDS prints nothing


def test_bad_files_are_returned_and_nothing_is_left(tmp_path):
  contents = {'a': b'', 'b': conftest.encode(np.zeros((8, 8), np.uint8)), 'c': b'?'}
  assert _write(contents, tmp_path) == [
      f'{name}: cannot be read: it is not a JPEG, PNG or BMP' for name in 'ac']
  assert not storage.folder('folder', 'train', tmp_path, SMALL).exists()
  assert _write({}, tmp_path) == ['images: holds no image']
