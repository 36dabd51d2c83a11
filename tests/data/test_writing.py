"""The writer by itself; what it writes is read back in test_builders."""

import zlib

import numpy as np

from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import catalogue
from attnmel_jax.data import decode
from attnmel_jax.data import storage
from attnmel_jax.data import writing
from tests.data import conftest

GEOMETRY = decode.Geometry(1.0, 8)
SCHEMA = catalogue.Schema('folder', (), ())


def _files(contents) -> archives_lib.SplitFiles:
  examples = tuple(
      archives_lib.Example(name, archives_lib.Member(None, name, len(data),
                                                     zlib.crc32(data)))
      for name, data in contents.items())
  return archives_lib.SplitFiles('train', examples, {'images': 'x'}, ())


def _write(contents, stage) -> list[str]:
  return writing.write_split(_files(contents), SCHEMA, GEOMETRY, stage,
                             lambda member: contents[member.entry])


def test_a_split_is_written_in_the_order_of_its_examples(tmp_path, capsys):
  contents = {f'{k}.png': conftest.encode(np.full((8, 8, 3), k, np.uint8))
              for k in range(5)}
  assert _write(contents, tmp_path) == []
  index = storage.read_index(GEOMETRY.folder('folder', 'train', tmp_path))
  assert index['ids'] == list(contents)
  assert index['groups'] == list(contents)
  assert index['labels'] == [-1] * 5
  assert index['archives'] == {'images': 'x'}
  assert capsys.readouterr().out == ''  # TFDS keeps quiet


def test_bad_files_are_returned_and_nothing_is_left(tmp_path):
  contents = {'a': b'', 'b': conftest.encode(np.zeros((8, 8), np.uint8)), 'c': b'?'}
  assert _write(contents, tmp_path) == [
      f'{name}: cannot be read: it is no JPEG, PNG or BMP' for name in 'ac']
  assert not GEOMETRY.folder('folder', 'train', tmp_path).exists()


def test_no_image_at_all_is_bad(tmp_path):
  assert _write({}, tmp_path) == ['images: holds no image']
