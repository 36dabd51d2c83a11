"""Files of JSON that are not what they should be."""

import csv
import errno
import io
import os
import pathlib

import pytest

from attnmel_jax import errors
from attnmel_jax import files


@pytest.mark.parametrize('text, words', [
    (b'', 'Expecting value'), (b'{"a": ', 'Expecting value'),
    (b'[]', 'a list, no object'), (b'null', 'a NoneType, no object'),
    (b'[' * 100_000, 'nested too deep'), (b'{"a": "b', 'Unterminated'),
    (b'{"a": "\xff\xfe"}', 'utf-8'), (b'{"a": 1e400}', '1e400, which is no finite'),
    (b'{"a": [NaN]}', 'NaN, which'), (b'{"a": -Infinity}', 'finite'),
    (b'{"a": 1' + b'0' * 400 + b'}', 'no finite number'),
    (b'{"a": "\\udcff"}', 'half a character')])
def test_damaged_json_is_a_value_error(tmp_path, text, words):
  (tmp_path / 'a.json').write_bytes(text)
  with pytest.raises(ValueError, match=words):
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


def test_a_plain_file_is_read_and_what_might_never_end_is_refused(tmp_path):
  (tmp_path / 'a').write_bytes(b'abc')
  (tmp_path / 'link').symlink_to('a')
  assert files.read_bytes(tmp_path / 'a') == b'abc'
  assert files.read_bytes(tmp_path / 'link') == b'abc'
  with pytest.raises(FileNotFoundError):
    files.read_bytes(tmp_path / 'b')
  os.mkfifo(tmp_path / 'pipe')
  with (tmp_path / 'vast').open('wb') as file:
    file.truncate(files.LARGEST + 1)  # sparse
  for path, words in ((tmp_path / 'pipe', 'is no plain'), (tmp_path, 'is a folder'),
                      (pathlib.Path('/dev/zero'), 'is no plain file'),
                      (tmp_path / 'vast', 'has 536870913 bytes, more than 536870912')):
    with pytest.raises(errors.Unusable, match=words):
      files.read_bytes(path)


def test_names_of_files():
  assert all(map(files.is_name, ('a', 'a.b', '...', 'a b', 'a\\b', '\u00e9')))
  assert not any(map(files.is_name, (
      '', '.', '..', '../a', '/a', 'a/b', 'a\0', '\udc80')))


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


def test_texts_in_a_csv_are_no_formulas_and_come_back():
  texts = ['a', '', 'b,"c"', 'lone\rCR', 'two\nlines', '=1+1', '+cmd', '-2+cmd|x', '@f',
           '\tx', "'quoted", "''", "'=1", 'ä', '-0.5', '-.1 [-.2, +.3]', '-']
  text = files.csv_text([['name', 'value'], *([text, 0.1 + 0.2] for text in texts)])
  (_, header), *rows = files.csv_rows(text)
  assert header == ['name', 'value']
  assert [cells for _, cells in rows] == [[text, repr(0.1 + 0.2)] for text in texts]
  stored = [cells[0] for cells in csv.reader(io.StringIO(text, newline=''))]
  assert [cell for cell in stored if cell[:1] in '=+-@\t' and cell] == [
      '-0.5', '-.1 [-.2, +.3]', '-']
  assert text.count('\n') == len(texts) + 2 and text.count('\r') == 1
  with pytest.raises(ValueError, match='^line 2: '):
    list(files.csv_rows('a\n' + 'b' * 200_000))


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


def test_the_cache_is_in_the_home_folder_if_there_is_one(monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', '/somewhere')
  assert files.cache_dir() == pathlib.Path('/somewhere/attnmel_jax')
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setenv('HOME', '/home/me')
  assert files.cache_dir() == pathlib.Path('/home/me/.cache/attnmel_jax')
  monkeypatch.setenv('HOME', '~nobody_at_all')
  assert files.cache_dir() is None


def test_a_file_system_without_locks_is_said_and_no_obstacle(
    tmp_path, monkeypatch, capsys):
  words = {'name': 'the folder', 'remedy': 'name another'}

  def fail_with(code):
    def flock(descriptor, operation):
      raise OSError(code, os.strerror(code))
    monkeypatch.setattr(files.fcntl, 'flock', flock)

  for code in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK) * 2:
    fail_with(code)
    with files.locked(tmp_path, **words):
      pass
  said = capsys.readouterr().err
  assert said.count('the folder is on a file system without locks') == 4
  for code, refused in ((errno.EAGAIN, 'in use'), (errno.EIO, 'cannot be locked')):
    fail_with(code)
    with (pytest.raises(errors.UserError, match=refused),
          files.locked(tmp_path, **words)):
      pass
