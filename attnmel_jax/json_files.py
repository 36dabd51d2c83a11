"""JSON files that a stranger may have written: read without trust."""

import json
import pathlib
from typing import Any


def read(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in a file.

  Raises:
    OSError: it cannot be read.
    ValueError: it holds no JSON, another kind than an object, or one nested too deep.
  """
  if path.exists() and not path.is_file():  # a pipe would be waited for
    raise ValueError('it is no plain file')
  return parse(path.read_bytes())


def parse(text: str | bytes) -> dict[str, Any]:
  """The JSON object in a text; raises ValueError as `read` does."""
  try:
    content = json.loads(text)
  except RecursionError:
    raise ValueError('it is nested too deep') from None
  if not isinstance(content, dict):
    raise ValueError(f'it holds a {type(content).__name__}, no object')
  return content


def check_types(content: Any, types: dict[str, type | tuple[type, ...]]
                ) -> None:
  """Raises ValueError for the first field that is missing or of another type.

  A bool is no number here. A list of one type is written `list[str]`.
  """
  if not isinstance(content, dict):
    raise ValueError(f'{content!r} is no object')
  for name, expected in types.items():
    if name not in content:
      raise ValueError(f'{name} is missing')
    if not _is(content[name], expected):
      raise ValueError(f'{name} is of another type')


def _is(value: Any, expected: Any) -> bool:
  if isinstance(expected, tuple):
    return any(_is(value, one) for one in expected)
  item = getattr(expected, '__args__', None)
  if item is not None:
    return isinstance(value, list) and all(_is(v, item[0]) for v in value)
  return isinstance(value, expected) and (
      not isinstance(value, bool) or expected is bool)
