"""Files of JSON that are not what they should be."""

import pytest

from attnmel_jax import json_files


@pytest.mark.parametrize('text, words', [
    ('', 'Expecting value'), ('{"a": ', 'Expecting value'), ('[]', 'a list, no object'),
    ('null', 'a NoneType, no object'), ('[' * 100_000, 'nested too deep'),
    ('{"a": "b', 'Unterminated')])
def test_damaged_files_are_value_errors(tmp_path, text, words):
  path = tmp_path / 'a.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=words):
    json_files.read(path)


def test_what_is_no_text_is_a_value_error(tmp_path):
  (tmp_path / 'a.json').write_bytes(b'{"a": "\xff\xfe"}')
  with pytest.raises(ValueError, match='utf-8'):
    json_files.read(tmp_path / 'a.json')


def test_an_object_is_read(tmp_path):
  (tmp_path / 'a.json').write_text('{"a": [1, "\u00e9"]}')
  assert json_files.read(tmp_path / 'a.json') == {'a': [1, '\u00e9']}
  with pytest.raises(FileNotFoundError):
    json_files.read(tmp_path / 'b.json')


@pytest.mark.parametrize('content, types, words', [
    ({}, {'a': int}, 'a is missing'), ({'a': True}, {'a': int}, 'a is of another'),
    ({'a': 1}, {'a': bool}, 'a is of'), ({'a': '1'}, {'a': (int, float)}, 'a is of'),
    ({'a': [1, '2']}, {'a': list[int]}, 'a is of'),
    ({'a': 'ab'}, {'a': list[str]}, 'a is of'), (None, {'a': int}, 'no object'),
    ({'a': [True]}, {'a': list[int]}, 'a is of')])
def test_other_types_are_named(content, types, words):
  with pytest.raises(ValueError, match=words):
    json_files.check_types(content, types)


def test_right_types_pass():
  json_files.check_types(
      {'a': 1, 'b': [1, 2], 'c': None, 'd': [], 'e': True, 'f': 'x'},
      {'a': (int, float), 'b': list[int], 'c': (str, type(None)), 'd': list[str],
       'e': bool})
