"""sha256 of the files of a folder, written last: is it still what was written?

Orbax does not see a flipped bit in an array, and restores it.
"""

import hashlib
import pathlib

from attnmel_jax import files

NAME = 'sha256.json'  # within the folder; file -> sha256 of its bytes
ABSENT = f'it has no {NAME}: saving it was cut short, or it is from an older version'


def write(folder: pathlib.Path) -> None:
  """Writes the manifest of all files in `folder`, whole or not at all."""
  files.write_json(folder / NAME, _digests(folder))


def fault(folder: pathlib.Path) -> str:
  """What speaks against `folder`: '' nothing, ABSENT, or how it was damaged."""
  try:
    expected = files.read_json(folder / NAME)
  except FileNotFoundError:
    return ABSENT
  except (OSError, ValueError):
    return f'{NAME} cannot be read'
  try:
    found = _digests(folder)
  except OSError as error:
    return f'{error.filename} cannot be read: {error.strerror}'
  return next((what.format(name) for what, names in (
      ('{} is missing', expected.keys() - found.keys()),
      ('{} was added', found.keys() - expected.keys()),
      ('{} has another sha256', [name for name in found
                                 if found[name] != expected.get(name)]))
      for name in sorted(names)), '')


def _digests(folder: pathlib.Path) -> dict[str, str]:
  digests = {}
  for path in sorted(folder.rglob('*')):
    # The manifest is not its own, nor is one that a kill left half-written.
    if path.is_file() and NAME not in path.name:
      with path.open('rb') as file:
        digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(
            file, 'sha256').hexdigest()
  return digests
