import os
import pathlib

import numpy as np
from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax.data import decode
from attnmel_jax.data import photographs

GEOMETRY = decode.Geometry(0.8, 8)


def _save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **options)
  return path


@pytest.fixture
def pixels():
  return np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)


def test_names_are_stems_unless_two_files_share_one():
  root = pathlib.Path('/some/where')
  for files, expected in [
      (['x/a.jpg', 'y/b.jpg'], ['a', 'b']),
      (['x/a.jpg', 'y/a.jpg', 'y/b.jpg'], ['x/a', 'y/a', 'b']),
      (['x/A.jpg', 'y/a.jpg'], ['x/A', 'y/a']),
      (['a.jpg', 'a.png', 'b.jpg'], ['a.jpg', 'a.png', 'b.jpg']),
      # 'a.jpg' is a stem here, and what two other files would be called.
      (['a.jpg', 'a.png', 'a.jpg.png'], ['a.jpg', 'a.png', 'a.jpg.png']),
      (['x/a.b.jpg'], ['a.b'])]:
    assert photographs.names([root / file for file in files]) == expected


def test_a_name_is_text_whatever_the_file_is_called(tmp_path, pixels):
  _save(pathlib.Path(str(tmp_path / 'caf\udce9.png')), pixels)
  found, = photographs.find([tmp_path], excluded=tmp_path / 'out')
  assert found.name == r'caf\xe9'


def test_folders_are_searched_and_what_is_no_photograph_is_passed_over(
    tmp_path, pixels):
  for name in ('b/2.JPG', 'a/1.png', 'a/1_superpixels.png', 'a/._1.jpg', '.cache/3.jpg',
               'out/overlays/1.png'):
    _save(tmp_path / name, pixels)
  (tmp_path / 'a' / 'notes.txt').write_text('-')
  found = photographs.find([tmp_path], excluded=tmp_path / 'out')
  assert [p.path.relative_to(tmp_path).as_posix() for p in found] == [
      'a/1.png', 'b/2.JPG']
  # A file that is named counts whatever it is called, and once.
  maps = tmp_path / 'a' / '1_superpixels.png'
  twice = photographs.find([maps, tmp_path / 'a', maps], excluded=tmp_path / 'out')
  assert [p.name for p in twice] == ['1_superpixels', '1']


def test_other_formats_are_told_and_earlier_results_passed_over(tmp_path, pixels):
  for name in ('a.tiff', 'b.webp', 'c.gif', 'd.png', 'before/overlays/d.png'):
    _save(tmp_path / name, pixels)
  (tmp_path / 'e.heic').write_bytes(b'\0\0\0\x18ftypheic')
  record = tmp_path / 'before' / 'predictions.json'
  record.write_text('{}')  # of something else
  assert len(photographs.find([tmp_path], excluded=tmp_path / 'out')) == 6
  record.write_text('{"finished": true}')
  found = photographs.find([tmp_path], excluded=tmp_path / 'out')
  assert [p.name for p in found] == ['a', 'b', 'c', 'd', 'e']
  problems = {one.photograph.name: photographs.read(one.photograph, [GEOMETRY]).problem
              for one in photographs.read_all(found, [GEOMETRY])}
  assert 'TIFF' in problems['a'] and 'WebP' in problems['b'] and 'GIF' in problems['c']
  assert problems['d'] == '' and problems['e']
  before = photographs.find([tmp_path / 'before' / 'overlays'], excluded=tmp_path)
  assert [p.name for p in before] == ['d']  # if that is asked for


def test_nothing_to_find_is_a_mistake(tmp_path):
  with pytest.raises(errors.UserError, match='none.jpg does not exist'):
    photographs.find([tmp_path / 'none.jpg'], excluded=tmp_path)
  with pytest.raises(errors.UserError, match=r'no photograph.*\.jpeg'):
    photographs.find([tmp_path], excluded=tmp_path / 'out')


def test_one_reading_gives_a_square_of_each_geometry(tmp_path, pixels):
  path = _save(tmp_path / 'a.png', pixels)
  other = decode.Geometry(1.0, 12)
  squares = photographs.read(
      photographs.Photograph('a', path), [GEOMETRY, other]).squares
  for geometry in (GEOMETRY, other):
    expected, _ = decode.read_image(path.read_bytes(), geometry)
    np.testing.assert_array_equal(squares[geometry], expected)


def test_unusable_files_are_said_and_the_others_read_in_order(tmp_path, pixels):
  good = [_save(tmp_path / f'{i:02}.png', pixels[:, i:]) for i in range(9)]
  (tmp_path / 'bad.png').write_text('no picture')
  os.mkfifo(tmp_path / 'pipe.jpg')
  paths = [good[0], tmp_path / 'bad.png', tmp_path / 'pipe.jpg', *good[1:],
           tmp_path / 'gone.png']
  done = list(photographs.read_all(
      [photographs.Photograph(path.stem, path) for path in paths], [GEOMETRY]))
  assert [item.photograph.path for item in done] == paths
  problems = {item.photograph.name: item.problem for item in done if item.problem}
  assert problems == {
      'bad': 'cannot be read: it is not a JPEG, PNG or BMP', 'pipe': 'is no plain file',
      'gone': 'cannot be read (No such file or directory)'}
  assert all(bool(item.squares) != bool(item.problem) for item in done)
