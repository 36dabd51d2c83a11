"""Opening what is prepared: what is read back, and what is damaged or foreign."""

import dataclasses
import io
import json
import pathlib
import sys

import numpy as np
from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax.data import decode
from attnmel_jax.data import storage
from tests.data import conftest
from tests.data.conftest import opened

TFDS = 'tensorflow_datasets.core.features.'


def _damaged(data_dir, words='') -> None:
  with pytest.raises(errors.UserError, match=f'is damaged .*{words}.* prepare again'
                     ) as caught:
    opened(data_dir)
  assert '\n' not in str(caught.value)


def test_labels_and_annotation_flags(sound):
  split = opened(sound)
  assert len(split) == 6
  assert split.ids.tolist() == [f'ISIC_train{k}' for k in range(6)]
  assert split.groups.tolist() == split.ids.tolist()
  assert split.labels.tolist() == [0, 1, 2, 0, 1, 2]
  assert split.labels.dtype == np.int32
  # 1 is annotated and empty, 2 is not annotated.
  assert split.has_lesion.tolist() == [True, True, False, True, True, True]
  assert split.has_dermo.tolist() == [True, True, False, True, False, False]
  assert split.class_names == ('melanoma', 'seborrheic_keratosis', 'nevus')
  assert split.side == 24 and not split.synthetic


def test_pixels_and_maps(sound):
  block, split = conftest.BLOCK // 255, opened(sound)
  # Superpixel 5 (rows 10-19, columns 10-19): bits 1 and 3; 6, to the right: bit 0.
  bits = block * 0
  bits[10:20, 10:20], bits[10:20, 20:30] = 2 + 8, 1
  pictures = conftest.split_archives('train', 6)[conftest.DATA]
  for row, (lesion, dermo) in enumerate([
      (block, bits), (block * 0, block * 0), (block * 0, block * 0),
      (block, block * 16), (block, block * 0)]):
    loaded = split.load(row)
    pixels = np.asarray(Image.open(io.BytesIO(pictures[f'ISIC_train{row}.jpg'])))
    for name, expected in (('image', pixels), ('lesion', lesion * 255),
                           ('dermo', dermo)):
      np.testing.assert_array_equal(loaded[name], conftest.cropped(expected))
      assert loaded[name].dtype == np.uint8


def test_places_and_names(sound, monkeypatch):
  geometry = decode.Geometry(1, 256)
  assert storage.folder('isic2017', 'test', pathlib.Path('/data'), geometry
                        ) == pathlib.Path(
      '/data/isic2017/test-crop1.0-side256-bilinear/1.1.0')
  assert storage.available_splits(
      'isic2017', data_dir=sound, **conftest.GEOMETRY) == ('train', 'validation')
  monkeypatch.setenv('HOME', '/home/someone')
  monkeypatch.delenv('ATTNMEL_DATA', raising=False)
  assert storage.resolve_data_dir('') == pathlib.Path('/home/someone/attnmel_data')
  monkeypatch.setenv('ATTNMEL_DATA', '/data')
  assert storage.resolve_data_dir('') == pathlib.Path('/data')
  assert storage.resolve_data_dir('~/x') == pathlib.Path('/home/someone/x')
  assert storage.resolve_data_dir('x') == pathlib.Path.cwd() / 'x'
  monkeypatch.delenv('ATTNMEL_DATA')
  monkeypatch.setenv('HOME', '~nobody_at_all')
  with pytest.raises(errors.UserError, match='no home folder .* --data_dir'):
    storage.resolve_data_dir('')


def test_an_absent_split_names_the_command(sound):
  with pytest.raises(errors.UserError) as caught:
    opened(sound, 'test')
  assert (f'run python launch/prepare.py --dataset=isic2017 --source=DIR '
          f'--data_dir={sound} --crop_ratio=0.8 --resize_size=24') in str(caught.value)
  with pytest.raises(errors.UserError, match='not prepared'):
    opened(sound, resize_size=25)
  with pytest.raises(errors.UserError, match="split='dev' is unknown"):
    opened(sound, 'dev')


def test_damaged_json_is_one_line(data_dir):
  folder = opened(data_dir).path
  for file in ('metadata.json', 'features.json', 'dataset_info.json'):
    before = (folder / file).read_text()
    for content in ('', '{"id": ', '[]', '[' * 100_000, '\udc80', None):
      (folder / file).unlink(missing_ok=True)
      if content is not None:
        (folder / file).write_text(content, errors='surrogateescape')
      _damaged(data_dir)
    (folder / file).write_text(before)
  assert len(opened(data_dir)) == 6


CONTRADICTIONS = [
    ({'labels': [0]}, 'labels are not one for each image'),
    ({'labels': [0, 1, 2, 0, 1, 3]}, 'labels are from 0 to 3, of 3 classes'),
    ({'labels': [0, 1, 2, 0, 1, -2]}, 'labels are from -2'),
    ({'labels': [0.5] * 6}, 'labels is of another type'),
    ({'ids': ['a'] * 6}, 'an id is there twice'),
    ({'ids': ['../../evil', *'bcdef']}, "id '../../evil' names no file"),
    ({'ids': ['\udc80', *'bcdef']}, 'half a character'),
    ({'ids': []}, 'groups are not one'),
    (dict.fromkeys(('ids', 'groups', 'labels', 'has_lesion', 'has_dermo'), ()),
     'no image'),
    ({'groups': ['a', ['b']]}, 'groups is of another type'),
    ({'class_names': ['a', 'a', 'b']}, 'a class is there twice'),
    ({'class_names': ['c', 'b', 'a']}, 'metadata.json has the classes .*features'),
    ({'dermo_attributes': list('abcdefghi')}, '9 attributes do not fit a map'),
    ({'synthetic': 'no'}, 'synthetic is of another type')]


def test_an_index_that_contradicts_itself_is_damaged(data_dir):
  path = opened(data_dir).path / 'metadata.json'
  index = json.loads(path.read_text())
  for change, words in CONTRADICTIONS:
    path.write_text(_sealed(index | change))
    _damaged(data_dir, words)
  for change in ({'fingerprint': '0' * 64}, {'synthetic': not index['synthetic']},
                 {'groups': index['groups'][::-1]}, {'digest': '0' * 64}):
    path.write_text(json.dumps(index | change))
    _damaged(data_dir, 'metadata.json has changed since it was written')
  path.write_text(_sealed(index | {
      name: index[name][:5] for name in storage._COLUMNS}))
  _damaged(data_dir, '6 records, 5 ids')


def _sealed(index) -> str:
  return json.dumps(index | {'digest': storage.digest_of(index)})


def test_an_index_that_differs_from_its_records_names_the_image(data_dir):
  path = opened(data_dir).path / 'metadata.json'
  index = json.loads(path.read_text())
  for field, value in (('labels', 1), ('has_lesion', False), ('has_dermo', False),
                       ('ids', 'ISIC_train3x')):
    changed = index | {field: [*index[field][:3], value, *index[field][4:]]}
    path.write_text(_sealed(changed))
    split = opened(data_dir)
    split.load(2)
    with pytest.raises(errors.UserError,
                       match=f'is damaged .{split.ids[3]}: its record'):
      split.load(3)


def test_a_record_of_another_kind_is_damaged(sound):
  split = opened(sound)
  for content in (
      b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n', b'GIF89a',
      conftest.encode(np.zeros((24, 24, 3), np.uint8), 'JPEG'),
      conftest.encode(np.zeros((24, 25, 3), np.uint8)),
      conftest.encode(np.zeros((24, 24), np.uint8)),
      conftest.encode(np.zeros((24, 24), np.uint16))):
    record = {**split.records[0], 'image': content}
    with pytest.raises(errors.UserError, match='is damaged .* prepare again'):
      dataclasses.replace(split, records=[record] * 6).load(0)


def test_damaged_records_name_the_image(data_dir):
  """At many places of the file; where none is named, no pixel has changed."""
  split = opened(data_dir)
  whole = [split.load(row) for row in range(len(split))]
  shard, = split.path.glob('*.array_record*')
  content = shard.read_bytes()
  named = set()
  for position in np.flatnonzero(np.frombuffer(content, np.uint8))[::1499]:
    shard.write_bytes(content[:position] + bytes([content[position] ^ 4])
                      + content[position + 1:])
    for row, image_id in enumerate(split.ids):
      try:
        loaded = opened(data_dir).load(row)
      except errors.UserError as error:
        assert 'is damaged' in str(error)
        named |= {image_id} if f'is damaged ({image_id}: ' in str(error) else set()
      else:
        for name, array in loaded.items():
          np.testing.assert_array_equal(array, whole[row][name])
  assert named == set(split.ids)
  for rest in (content[:len(content) // 2], None):
    shard.unlink()
    if rest:
      shard.write_bytes(rest)
    with pytest.raises(errors.UserError, match='is damaged'):
      opened(data_dir).load(5)


FOREIGN = [
    {'pythonClassName': 'evil.Feature'}, {'pythonClassName': ['evil.Feature']},
    {'pythonClassName': TFDS + 'image_feature.Other'},
    {'python_class_name': 'evil.Feature'}, {'type': 'evil.Feature', 'content': {}},
    {'jsonFeature': {'json': '{"type": "evil.Feature"}'}},
    {'json_feature': {'json': '{"type": "evil.Feature"}'}},
    {'sequence': [{'pythonClassName': 'evil.Feature'}]}]


def test_foreign_code_is_refused_in_every_spelling(data_dir, tmp_path, monkeypatch):
  (tmp_path / 'evil.py').write_text('raise SystemExit("imported")')
  monkeypatch.syspath_prepend(str(tmp_path))
  path = opened(data_dir).path / 'features.json'
  features = json.loads(path.read_text())
  for feature in FOREIGN:
    features['featuresDict']['features']['added'] = feature
    path.write_text(json.dumps(features))
    with pytest.raises(errors.UserError, match='no feature of a prepared split'):
      opened(data_dir)
  assert 'evil' not in sys.modules
