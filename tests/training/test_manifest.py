"""Manifests: what they find, compared with the sha256sum of the files."""

import hashlib
import json

import pytest

from attnmel_jax.training import manifest


@pytest.fixture
def folder(tmp_path):
  """A folder of three files with a manifest."""
  (tmp_path / 'tree' / 'd').mkdir(parents=True)
  (tmp_path / 'meta').write_bytes(b'{"score": 0.5}')
  (tmp_path / 'tree' / 'd' / '0').write_bytes(bytes(range(256)) * 40)
  (tmp_path / 'tree' / 'empty').touch()
  manifest.write(tmp_path)
  return tmp_path


def test_a_whole_folder_has_no_fault(folder):
  assert manifest.fault(folder) == ''
  assert json.loads((folder / manifest.NAME).read_text()) == {
      'meta': hashlib.sha256(b'{"score": 0.5}').hexdigest(),
      'tree/d/0': hashlib.sha256(bytes(range(256)) * 40).hexdigest(),
      'tree/empty': hashlib.sha256().hexdigest()}


@pytest.mark.parametrize('position', [0, 5000, 10239])
@pytest.mark.parametrize('bit', [0, 7])
def test_a_flipped_bit_is_found(folder, position, bit):
  path = folder / 'tree' / 'd' / '0'
  content = bytearray(path.read_bytes())
  content[position] ^= 1 << bit
  path.write_bytes(content)
  assert manifest.fault(folder) == 'tree/d/0 has another sha256'


def test_truncated_missing_and_foreign_files_are_found(folder):
  path = folder / 'tree' / 'd' / '0'
  content = path.read_bytes()
  path.write_bytes(content[:-1])
  assert manifest.fault(folder) == 'tree/d/0 has another sha256'
  path.unlink()
  assert manifest.fault(folder) == 'tree/d/0 is missing'
  path.write_bytes(content)
  (folder / 'tree' / 'other').touch()
  assert manifest.fault(folder) == 'tree/other was added'


@pytest.mark.parametrize('content, expected', [
    (b'', 'cannot be read'), (b'{"meta": "0', 'cannot be read'),
    (b'\xff', 'cannot be read'), (b'[]', 'cannot be read'),
    (b'{}', 'meta was added'), (b'{"meta": 3}', 'tree/d/0 was added')])
def test_a_damaged_manifest_is_a_fault(folder, content, expected):
  (folder / manifest.NAME).write_bytes(content)
  assert expected in manifest.fault(folder)


def test_without_a_manifest_that_is_the_fault(folder):
  (folder / manifest.NAME).rename(folder / f'.{manifest.NAME}.17.tmp')
  assert manifest.fault(folder) == manifest.ABSENT
  manifest.write(folder)  # what a kill left of the first is no file of the folder
  assert manifest.fault(folder) == ''
