"""Files that are none, or too large to be meant."""

import os

import pytest

from attnmel_jax.data import decode
from attnmel_jax.data import files


def test_a_plain_file_is_read(tmp_path):
  (tmp_path / 'a').write_bytes(b'abc')
  (tmp_path / 'link').symlink_to('a')
  assert files.read(tmp_path / 'a') == files.read(tmp_path / 'link') == b'abc'
  with pytest.raises(FileNotFoundError):
    files.read(tmp_path / 'b')


def test_what_might_never_end_is_refused(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  for path, words in ((tmp_path / 'pipe', 'no plain'), (tmp_path, 'a folder'),
                      ('/dev/zero', 'no plain file')):
    with pytest.raises(decode.Unusable, match=f'is {words}'):
      files.read(type(tmp_path)(path))


@pytest.mark.parametrize('name', ['a', 'a.b', '...', 'a b', 'a\\b', '\u00e9'])
def test_names_of_files(name):
  assert files.is_name(name)


@pytest.mark.parametrize('name', ['', '.', '..', '../a', '/a', 'a/b', 'a\0', '\udc80'])
def test_what_names_no_file_of_a_folder(name):
  assert not files.is_name(name)


def test_a_vast_file_is_refused_by_its_size(tmp_path):
  with (tmp_path / 'vast').open('wb') as file:
    file.truncate(files.LARGEST + 1)  # sparse
  with pytest.raises(decode.Unusable, match='has 536870913 bytes, more than 536870912'):
    files.read(tmp_path / 'vast')
