import io
import stat
import struct
import tracemalloc
import zipfile
import zlib

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import archives
from attnmel_jax.data import zips


def _pack(content: bytes, **fields) -> bytes:
  """A deflated zip with the entry 'a'."""
  buffer = io.BytesIO()
  info = zipfile.ZipInfo('a')
  info.compress_type = zipfile.ZIP_DEFLATED
  for name, value in fields.items():
    setattr(info, name, value)
  with zipfile.ZipFile(buffer, 'w') as file:
    file.writestr(info, content)
  return buffer.getvalue()


def _with_size(data: bytes, size: int) -> bytes:
  """The zip with another size in both of its headers."""
  changed = bytearray(data)
  for start, offset in ((data.index(b'PK\3\4'), 22), (data.index(b'PK\1\2'), 24)):
    changed[start + offset:start + offset + 4] = struct.pack('<I', size)
  return bytes(changed)


def _read(data: bytes, path) -> bytes:
  path.write_bytes(data)
  with zips.opened(path) as archive:
    return zips.read(archive, 'a')


@pytest.mark.parametrize('content', [b'', b'x', b'photograph' * 10_000])
def test_content_comes_back(tmp_path, content):
  assert _read(_pack(content), tmp_path / 'z.zip') == content


def test_a_bomb_is_refused_by_its_size(tmp_path):
  with pytest.raises(errors.Unusable, match=f'has {files.LARGEST + 1} bytes'):
    _read(_with_size(_pack(b'0'), files.LARGEST + 1), tmp_path / 'z.zip')


def test_a_bomb_that_hides_its_size_is_not_unpacked(tmp_path):
  data = _with_size(_pack(bytes(64 << 20)), 1000)
  assert len(data) < 100_000
  tracemalloc.start()
  try:
    with pytest.raises(zipfile.BadZipFile, match='CRC'):
      _read(data, tmp_path / 'z.zip')
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
  finally:
    tracemalloc.stop()


def test_a_link_is_not_a_file(tmp_path):
  data = _pack(b'/etc/passwd', create_system=3,
               external_attr=(stat.S_IFLNK | 0o777) << 16)
  with pytest.raises(errors.Unusable, match='is a link'):
    _read(data, tmp_path / 'z.zip')


@pytest.mark.parametrize('method', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_limit_are_refused(tmp_path, method):
  with pytest.raises(errors.Unusable, match='another method than deflate'):
    _read(_pack(b'0' * 1000, compress_type=method), tmp_path / 'z.zip')


def test_a_damaged_name_is_a_bad_zip(tmp_path):
  data = bytearray(_pack(b'x'))
  start = data.index(b'PK\1\2')
  data[start + 8:start + 10] = struct.pack('<H', 0x800)  # the name is UTF-8
  data[start + 46] = 0xff
  with pytest.raises(zipfile.BadZipFile, match='utf-8'):
    _read(bytes(data), tmp_path / 'z.zip')


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
       st.integers(0, 400))
def test_no_damage_raises_anything_else(tmp_path_factory, changes, cut):
  content = b'photograph' * 20
  data = bytearray(_pack(content))
  for place, value in changes:
    data[place % len(data)] = value
  path = tmp_path_factory.mktemp('zip') / 'z.zip'
  path.write_bytes(data[:max(len(data) - cut, 0)] if cut < 200 else data)
  try:
    with zips.opened(path) as archive:
      for name in archive.namelist():
        assert zlib.crc32(zips.read(archive, name)) == archive.getinfo(name).CRC
  except (errors.Unusable, *archives.READ_ERRORS):
    pass
