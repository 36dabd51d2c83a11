import contextlib
import hashlib
import http.server
import io
import json
import ssl
import threading
import time
import zipfile

import pytest

from attnmel_jax import errors
from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import catalogue
from attnmel_jax.data import download
from attnmel_jax.data import prepare
from tests.data import conftest


class Server(http.server.ThreadingHTTPServer):
  """Serves `files`; notes every request as (name, Range header)."""

  daemon_threads = True

  def __init__(self):
    super().__init__(('127.0.0.1', 0), _Handler)
    self.files: dict[str, bytes] = {}
    self.requests: list[tuple[str, str | None]] = []
    self.drops = 0           # answers that end half-way
    self.ranges = True       # whether Range is honoured
    self.codes: list[int] = []  # answers to give first
    self.tag = 'one'

  @property
  def url(self) -> str:
    return f'http://127.0.0.1:{self.server_address[1]}/'


class _Handler(http.server.BaseHTTPRequestHandler):
  server: Server

  def log_message(self, *args):
    pass

  def do_GET(self):
    name, wanted = self.path.lstrip('/'), self.headers['Range']
    self.server.requests.append((name, wanted))
    content = self.server.files.get(name)
    if self.server.codes:
      self.send_error(self.server.codes.pop(0))
    elif content is None:
      self.send_error(404)
    else:
      self._send(content, wanted)

  def _send(self, content: bytes, wanted: str | None):
    start = 0
    tag = self.headers.get('If-Range', f'"{self.server.tag}"')
    if wanted and self.server.ranges and tag == f'"{self.server.tag}"':
      start = int(wanted.removeprefix('bytes=').removesuffix('-'))
      if start >= len(content):
        self.send_response(416)
        self.send_header('Content-Range', f'bytes */{len(content)}')
        self.send_header('Content-Length', '0')
        self.end_headers()
        return
      self.send_response(206)
      self.send_header('Content-Range',
                       f'bytes {start}-{len(content) - 1}/{len(content)}')
    else:
      self.send_response(200)
    self.send_header('Content-Length', str(len(content) - start))
    self.send_header('ETag', f'"{self.server.tag}"')
    self.end_headers()
    rest = content[start:]
    if self.server.drops:
      self.server.drops -= 1
      rest = rest[:len(rest) // 2]
    self.wfile.write(rest)


@contextlib.contextmanager
def _serving(running):
  thread = threading.Thread(target=running.serve_forever, args=(0.01,))
  thread.start()
  yield running
  running.shutdown()
  thread.join()


@pytest.fixture
def server():
  with Server() as running, _serving(running):
    yield running


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
  monkeypatch.setattr(time, 'sleep', lambda seconds: None)


@pytest.fixture
def content() -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as file:
    file.writestr('a.txt', bytes(range(256)) * 1000)
  return buffer.getvalue()


def _names(folder) -> set[str]:
  return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_and_recorded(server, content, tmp_path):
  server.files['x.zip'] = content
  download.fetch_file(server.url + 'x.zip', tmp_path / 'x.zip')
  assert (tmp_path / 'x.zip').read_bytes() == content
  assert json.loads((tmp_path / 'x.zip.json').read_text()) == {
      'url': server.url + 'x.zip', 'size': len(content),
      'sha256': hashlib.sha256(content).hexdigest()}
  assert _names(tmp_path) == {'x.zip', 'x.zip.json'}
  download.fetch_file(server.url + 'x.zip', tmp_path / 'x.zip')
  assert server.requests == [('x.zip', None)]  # not asked for twice


def test_a_dropped_connection_is_resumed(server, content, tmp_path):
  server.files['x.zip'] = content
  server.codes = [503, 500]  # a busy server is asked again
  server.drops = 2
  download.fetch_file(server.url + 'x.zip', tmp_path / 'x.zip')
  half = len(content) // 2
  assert server.requests[2:] == [
      ('x.zip', None), ('x.zip', f'bytes={half}-'),
      ('x.zip', f'bytes={half + (len(content) - half) // 2}-')]
  assert (tmp_path / 'x.zip').read_bytes() == content
  for size in (1000, len(content)):  # a later command; nothing is missing of the latter
    (tmp_path / 'x.zip').unlink()
    (tmp_path / 'x.zip.part').write_bytes(content[:size])
    download.fetch_file(server.url + 'x.zip', tmp_path / 'x.zip')
    assert server.requests.pop() == ('x.zip', f'bytes={size}-')
    assert (tmp_path / 'x.zip').read_bytes() == content


def test_what_cannot_be_resumed_starts_again(server, content, tmp_path):
  server.files['x.zip'] = content
  for ranges, part, tag in ((False, b'old' * 100, ''), (True, b'old' * 100, '"zero"'),
                            (True, b'old' * len(content), '')):
    server.ranges = ranges
    (tmp_path / 'x.zip').unlink(missing_ok=True)
    (tmp_path / 'x.zip.part').write_bytes(part)
    if tag:
      (tmp_path / 'x.zip.part.tag').write_text(tag)
    download.fetch_file(server.url + 'x.zip', tmp_path / 'x.zip')
    assert (tmp_path / 'x.zip').read_bytes() == content
    assert _names(tmp_path) == {'x.zip', 'x.zip.json'}


def test_a_damaged_zip_is_refused_and_removed(server, content, tmp_path):
  flipped = bytearray(content)
  flipped[len(content) // 2] ^= 1
  for damaged, words in ((content[:-100], 'x.zip is not a complete zip'),
                         (bytes(flipped), r'not a complete zip \(a.txt\)')):
    server.files['x.zip'] = damaged  # Content-Length agrees with it
    with pytest.raises(errors.UserError, match=words):
      download.fetch_file(server.url + 'x.zip', tmp_path / 'x.zip')
    assert _names(tmp_path) == set()
  server.files['x.zip'] = content
  download.fetch_file(server.url + 'x.zip', tmp_path / 'x.zip')
  assert (tmp_path / 'x.zip').read_bytes() == content


def test_no_connection_and_a_full_disk_are_one_line(tmp_path, monkeypatch):
  with Server() as closed:
    url = closed.url
  with pytest.raises(errors.UserError, match='check the connection') as caught:
    download.fetch_file(url + 'x.zip', tmp_path / 'x.zip')
  assert '\n' not in str(caught.value)
  assert _names(tmp_path) == set()

  def receive(url, part):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(download, '_receive', receive)
  with pytest.raises(errors.UserError, match='No space left on device'):
    download.fetch_file(url + 'x.zip', tmp_path / 'x.zip')


def test_unsafe_addresses_are_refused(tmp_path):
  for url in ('http://example.org/2017/', 'ftp://localhost/', 'localhost:80',
              'file:///data', 'http://localhost.example.org/',
              'http://127.0.0.1@example.org/', 'https://[x'):
    with pytest.raises(errors.UserError, match='is not safe to download from'):
      download.fetch('isic2017', data_dir=tmp_path, base_url=url)


def _redirect(monkeypatch, *locations) -> list[str]:
  """Servers answer with one location after the other; returns the paths asked for."""
  asked, left = [], list(locations)

  def answer(handler):
    asked.append(handler.path)
    handler.send_response(302)
    handler.send_header('Location', left.pop(0))
    handler.end_headers()
  monkeypatch.setattr(_Handler, 'do_GET', answer)
  return asked


def test_no_step_of_a_redirection_may_be_unsafe(server, tmp_path, monkeypatch):
  # The last address is safe, and could be any that the one in between wants.
  monkeypatch.setattr(download, '_LOCAL', ('127.0.0.1',))
  port = server.server_address[1]
  asked = _redirect(monkeypatch, f'http://localhost:{port}/middle',
                    f'http://127.0.0.1:{port}/end')
  with pytest.raises(errors.UserError, match='localhost.*/middle.* is not safe'):
    download.fetch_file(server.url + 'x.zip', tmp_path / 'x.zip')
  assert asked == ['/x.zip']
  assert _names(tmp_path) == set()


# For localhost, signed by itself: it protects nothing but this test's server.
KEY = '''-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgK1XpjCEYfE6K5wO1
pvDDqI7FhQ5BbIcgVPB/gRODOjahRANCAASO+7MsE/RgpYCHnSXdB1r8DQPwco+w
1kt2OMU+aIotszUxPNkZTDxGWb5lFLHwuZgz4ECUZ08xt3w2V99chzoM
-----END PRIVATE KEY-----
'''
CERTIFICATE = '''-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUDYfBLp9Q/AaMFS7M/XoaaDV7aY8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDE0MDkzMloYDzIxMjYxMDMx
MTQwOTMyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASO+7MsE/RgpYCHnSXdB1r8DQPwco+w1kt2OMU+aIotszUxPNkZTDxG
Wb5lFLHwuZgz4ECUZ08xt3w2V99chzoMo28wbTAdBgNVHQ4EFgQUWD3UyzWgaFeu
VQCFekp8StB76aswHwYDVR0jBBgwFoAUWD3UyzWgaFeuVQCFekp8StB76aswDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgEbGSYrYgQlk3k7IKvaBixQshTGa/Dm9x8UrdymKIzEUCIEbl
vRAgnTvQxMXbUK2NgHNoqIhdGPnWvWzefyKxbSRi
-----END CERTIFICATE-----
'''


@pytest.fixture
def secure(tmp_path_factory):
  """A server that speaks TLS, and the file of its certificate."""
  path = tmp_path_factory.mktemp('tls') / 'server.pem'
  path.write_text(KEY + CERTIFICATE)
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  context.load_cert_chain(path)
  with Server() as running:
    running.socket = context.wrap_socket(running.socket, server_side=True)
    # A client that ends the connection is what is asked for.
    running.handle_error = lambda request, address: None
    with _serving(running):
      yield running, path


def test_an_unknown_certificate_is_refused(secure, content, tmp_path, monkeypatch):
  server, certificate = secure
  server.files['x.zip'] = content
  url = f'https://localhost:{server.server_address[1]}/x.zip'
  with pytest.raises(errors.UserError, match='CERTIFICATE_VERIFY_FAILED') as caught:
    download.fetch_file(url, tmp_path / 'x.zip')
  assert '\n' not in str(caught.value)
  assert _names(tmp_path) == set()
  assert server.requests == []
  # It is the certificate alone: known, it serves.
  monkeypatch.setenv('SSL_CERT_FILE', str(certificate))
  download.fetch_file(url, tmp_path / 'x.zip')
  assert (tmp_path / 'x.zip').read_bytes() == content


def test_a_redirection_from_https_to_http_is_refused(secure, tmp_path, monkeypatch):
  server, certificate = secure
  monkeypatch.setenv('SSL_CERT_FILE', str(certificate))
  asked = _redirect(monkeypatch, 'http://localhost:1/y.zip')
  with pytest.raises(errors.UserError, match='redirects to http://localhost:1/y.zip'):
    download.fetch_file(f'https://localhost:{server.server_address[1]}/x.zip',
                        tmp_path / 'x.zip')
  assert asked == ['/x.zip']
  assert _names(tmp_path) == set()


def _serve(server, archives, folder):
  conftest.write(folder, archives)
  server.files.update({path.name: path.read_bytes() for path in folder.iterdir()})


def test_a_split_that_the_server_lacks_is_left_out(server, archives, tmp_path, capsys):
  _serve(server, archives, tmp_path / 'official')
  data_dir = tmp_path / 'data'
  source = download.fetch('isic2017', data_dir=data_dir, base_url=server.url)
  assert source == data_dir / 'downloads' / 'isic2017'
  assert ('test: ISIC-2017_Test_v2_Data.zip is not at '
          f'{server.url} (HTTP 404)') in capsys.readouterr().out
  # One question shows that the split is absent; attribute masks are not official.
  asked = [name for name, _ in server.requests]
  assert sum('Test_v2' in name for name in asked) == 1
  assert not any('AttributeMasks' in name for name in asked)
  assert len(archives_lib.find(catalogue.DATASETS['isic2017'], 'train', source)) == 4
  assert prepare.from_archives('isic2017', source=source, data_dir=data_dir,
                               crop_ratio=0.8, resize_size=16) == {
                                   'train': 6, 'validation': 4}
  assert 'test: left out' in capsys.readouterr().out


def test_no_archive_and_no_folder_are_one_line(server, tmp_path):
  with pytest.raises(errors.UserError, match='has no archive of isic2017'):
    download.fetch('isic2017', data_dir=tmp_path, base_url=server.url)
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='choose another folder'):
    download.fetch('isic2017', data_dir=tmp_path / 'file', base_url=server.url)
