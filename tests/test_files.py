"""Files of JSON that are not what they should be."""

import os

import pytest

from attnmel_jax import errors
from attnmel_jax import files


@pytest.mark.parametrize('text, words', [
    ('', 'Expecting value'), ('{"a": ', 'Expecting value'), ('[]', 'a list, no object'),
    ('null', 'a NoneType, no object'), ('[' * 100_000, 'nested too deep'),
    ('{"a": "b', 'Unterminated')])
def test_damaged_files_are_value_errors(tmp_path, text, words):
  path = tmp_path / 'a.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=words):
    files.read_json(path)


def test_what_is_no_text_is_a_value_error(tmp_path):
  (tmp_path / 'a.json').write_bytes(b'{"a": "\xff\xfe"}')
  with pytest.raises(ValueError, match='utf-8'):
    files.read_json(tmp_path / 'a.json')


def test_an_object_is_read(tmp_path):
  (tmp_path / 'a.json').write_text('{"a": [1, "\u00e9"]}')
  assert files.read_json(tmp_path / 'a.json') == {'a': [1, '\u00e9']}
  with pytest.raises(FileNotFoundError):
    files.read_json(tmp_path / 'b.json')


@pytest.mark.parametrize('content, types, words', [
    ({}, {'a': int}, 'a is missing'), ({'a': True}, {'a': int}, 'a is of another'),
    ({'a': 1}, {'a': bool}, 'a is of'), ({'a': '1'}, {'a': (int, float)}, 'a is of'),
    ({'a': [1, '2']}, {'a': list[int]}, 'a is of'),
    ({'a': 'ab'}, {'a': list[str]}, 'a is of'), (None, {'a': int}, 'no object'),
    ({'a': [True]}, {'a': list[int]}, 'a is of')])
def test_other_types_are_named(content, types, words):
  with pytest.raises(ValueError, match=words):
    files.check_types(content, types)


def test_right_types_pass():
  files.check_types(
      {'a': 1, 'b': [1, 2], 'c': None, 'd': [], 'e': True, 'f': 'x'},
      {'a': (int, float), 'b': list[int], 'c': (str, type(None)), 'd': list[str],
       'e': bool})



def test_a_plain_file_is_read(tmp_path):
  (tmp_path / 'a').write_bytes(b'abc')
  (tmp_path / 'link').symlink_to('a')
  assert files.read_bytes(tmp_path / 'a') == b'abc'
  assert files.read_bytes(tmp_path / 'link') == b'abc'
  with pytest.raises(FileNotFoundError):
    files.read_bytes(tmp_path / 'b')


def test_what_might_never_end_is_refused(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  for path, words in ((tmp_path / 'pipe', 'no plain'), (tmp_path, 'a folder'),
                      ('/dev/zero', 'no plain file')):
    with pytest.raises(errors.Unusable, match=f'is {words}'):
      files.read_bytes(type(tmp_path)(path))


@pytest.mark.parametrize('name', ['a', 'a.b', '...', 'a b', 'a\\b', '\u00e9'])
def test_names_of_files(name):
  assert files.is_name(name)


@pytest.mark.parametrize('name', ['', '.', '..', '../a', '/a', 'a/b', 'a\0', '\udc80'])
def test_what_names_no_file_of_a_folder(name):
  assert not files.is_name(name)


def test_a_vast_file_is_refused_by_its_size(tmp_path):
  with (tmp_path / 'vast').open('wb') as file:
    file.truncate(files.LARGEST + 1)  # sparse
  with pytest.raises(errors.Unusable, match='has 536870913 bytes, more than 536870912'):
    files.read_bytes(tmp_path / 'vast')



def test_a_name_is_one_line_of_text():
  assert files.escaped('a_b *c*\n| <i>`x` [go](javascript:1)') == (
      r'a_b \*c\* \| \<i>\`x\` [go\](javascript:1)')


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'deep' / 'a'
  with files.replacing(path) as file:
    file.write(b'first')
  with pytest.raises(KeyboardInterrupt), files.replacing(path) as file:
    file.write(b'sec')
    raise KeyboardInterrupt
  assert path.read_bytes() == b'first'
  assert [found.name for found in path.parent.iterdir()] == ['a']


def test_publishing_replaces_a_whole_folder(tmp_path):
  final = tmp_path / 'deep' / 'final'
  for name in ('old', 'new'):
    (tmp_path / 'staged').mkdir()
    (tmp_path / 'staged' / name).touch()
    files.publish(tmp_path / 'staged', final)
    assert [path.name for path in final.iterdir()] == [name]
  assert not (tmp_path / 'staged').exists()


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
  words = {'name': 'workdir=x', 'remedy': 'name another'}
  with (files.locked(tmp_path / 'new', **words),
        pytest.raises(errors.UserError, match='^workdir=x is in use by another process;'
                                              ' wait for it, or name another$'),
        files.locked(tmp_path / 'new', **words)):
    pass
  with files.locked(tmp_path / 'new', **words):
    pass
  (tmp_path / 'file').touch()
  with (pytest.raises(errors.UserError, match=r'^workdir=x cannot be written \(Not a '
                                              r'directory\); name another$'),
        files.locked(tmp_path / 'file' / 'x', **words)):
    pass
