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


def test_a_name_is_text_and_another_one_for_every_file(tmp_path, pixels):
  for name in ('caf\udce9.png', r'caf\xe9.png', r'caf\\xe9.png'):
    _save(tmp_path / name, pixels)
  found, _ = photographs.find([tmp_path], excluded=tmp_path / 'out')
  assert {one.name for one in found} == {r'caf\xe9', r'caf\\xe9', r'caf\\\\xe9'}


def test_folders_are_searched_and_what_is_no_photograph_is_named(tmp_path, pixels):
  for name in ('b/2.JPG', 'a/1.png', 'a/1_superpixels.png', 'a/._1.jpg', '.cache/3.jpg',
               'out/overlays/1.png', 'before/overlays/1.png'):
    _save(tmp_path / name, pixels)
  (tmp_path / 'before' / 'written.json').write_text(
      '{"kind": "predictions", "files": {}}')
  (tmp_path / 'a' / 'notes.txt').write_text('BM is a text')
  os.mkfifo(tmp_path / 'a' / 'pipe')
  found, passed_over = photographs.find([tmp_path], excluded=tmp_path / 'out')
  assert [p.path.relative_to(tmp_path).as_posix() for p in found] == [
      'a/1.png', 'b/2.JPG']
  assert passed_over == ['.cache/', 'a/._1.jpg', 'a/1_superpixels.png', 'a/notes.txt',
                         'a/pipe', 'before/']
  assert photographs.listed(passed_over, 1) == '6 files passed over: .cache/ and 5 more'
  # A file that is named counts whatever it is called, and once.
  maps = tmp_path / 'a' / '1_superpixels.png'
  twice, _ = photographs.find([maps, tmp_path / 'a', maps], excluded=tmp_path / 'out')
  assert [p.name for p in twice] == ['1_superpixels', '1']
  # So do earlier results.
  before, _ = photographs.find([tmp_path / 'before' / 'overlays'], excluded=tmp_path)
  assert [p.name for p in before] == ['1']


def test_a_picture_is_known_by_its_first_bytes(tmp_path, pixels):
  for name in ('a.jfif', 'b.JPE', 'ISIC_4', 'd.dat'):
    for form in ('JPEG', 'PNG', 'BMP'):
      _save(tmp_path / form / name, pixels, format=form)
  found, passed_over = photographs.find([tmp_path], excluded=tmp_path / 'out')
  assert len(found) == 12 and not passed_over
  assert not any(item.problem for item in photographs.read_all(found, [GEOMETRY]))


def test_links_are_followed_and_never_round(tmp_path, pixels):
  inside, elsewhere = tmp_path / 'in', tmp_path / 'elsewhere'
  _save(inside / 'a.png', pixels)
  _save(elsewhere / 'ward' / 'b.png', pixels)
  (elsewhere / 'ward' / 'back').symlink_to(elsewhere)
  (inside / 'up').symlink_to(tmp_path)
  (inside / 'ward').symlink_to(elsewhere / 'ward')
  (inside / 'ward2').symlink_to(elsewhere / 'ward')
  (inside / 'gone.png').symlink_to(tmp_path / 'none.png')
  found, passed_over = photographs.find([inside], excluded=tmp_path / 'out')
  assert [one.name for one in found] == ['a', 'gone', 'b']
  assert passed_over == ['up/']
  assert 'No such file' in photographs.read(found[1], [GEOMETRY]).problem


def test_other_formats_and_masks_are_reported(tmp_path, pixels):
  for name in ('a.tiff', 'b.webp', 'c.gif', 'd.png'):
    _save(tmp_path / name, pixels)
  (tmp_path / 'e.heic').write_bytes(b'\0\0\0\x18ftypheic')
  (tmp_path / 'raw').write_bytes(b'FUJIFILMCCD-RAW')
  mask = np.zeros((30, 41), np.uint8)
  mask[8:20, 8:30] = 255
  _save(tmp_path / 'm.bmp', mask > 0)
  _save(tmp_path / 'n.jpg', mask, quality=60)
  found, _ = photographs.find([tmp_path], excluded=tmp_path / 'out')
  problems = {one.photograph.name: one.problem
              for one in photographs.read_all(found, [GEOMETRY])}
  for name, word in (
      ('a', 'TIFF'), ('b', 'WebP'), ('c', 'GIF'), ('e', 'HEIF'),
      ('raw', 'is a raw file'), ('m', 'no photograph'), ('n', 'no photograph')):
    assert word in problems.pop(name)
  assert problems == {'d': ''}


def test_nothing_to_find_is_a_mistake(tmp_path, pixels):
  with pytest.raises(errors.UserError, match='none.jpg does not exist'):
    photographs.find([tmp_path / 'none.jpg'], excluded=tmp_path)
  (tmp_path / 'Thumbs.db').touch()
  with pytest.raises(errors.UserError, match=r'no photograph.* passed over: Thumbs.db'):
    photographs.find([tmp_path], excluded=tmp_path / 'out')
  # Beside others it is reported, and they are read.
  there = _save(tmp_path / 'a.png', pixels)
  found, _ = photographs.find([tmp_path / 'none.jpg', there], excluded=tmp_path)
  assert [photographs.read(one, [GEOMETRY]).problem for one in found] == [
      'does not exist', '']


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
