"""Fetches official archives over HTTPS: resumed, checked, recorded.

A file is complete if and only if it has its final name; until then it is
`<name>.part`. Beside it lies `<name>.json` with its size, sha256 and address.
"""

import contextlib
import errno
import hashlib
import http
import http.client
import pathlib
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import progress
from attnmel_jax.data import archives
from attnmel_jax.data import catalogue

_ATTEMPTS = 4       # in a row without a single new byte
_TIMEOUT = 30       # seconds without an answer
_CHUNK = 1 << 20    # bytes
_ABSENT = (403, 404)  # S3 answers 403 for a name that it does not have

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_LOCAL = ('localhost', '127.0.0.1', '::1')  # may be reached by plain http


def fetch(dataset: str, *, data_dir: pathlib.Path, base_url: str | None
          ) -> pathlib.Path:
  """Fetches all published archives into `data_dir`/downloads/`dataset`.

  A split whose archives the server lacks is named and left out.

  Args:
    dataset: a name in catalogue.DATASETS.
    data_dir: folder of prepared data sets.
    base_url: where the archives lie; None: where the publisher keeps them.
      https, or http on this machine.

  Returns:
    The folder with the archives.

  Raises:
    UserError: a bad address, no connection, no space, or a broken archive.
  """
  errors.check_choice('dataset', dataset, catalogue.DATASETS)
  spec = catalogue.DATASETS[dataset]
  base_url = _check_url(spec.base_url if base_url is None else base_url)
  folder = data_dir / 'downloads' / dataset
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.UserError(f'{folder} cannot be created ({error.strerror}); choose '
                           'another folder with --data_dir') from error
  for split in spec.splits:
    for role in [role for role in spec.published if role in spec.roles(split)]:
      name = spec.file(role, split)
      try:
        fetch_file(urllib.parse.urljoin(base_url, name), folder / name)
      except FileNotFoundError as error:
        print(f'{split}: {name} is not at {base_url} ({error})')
        if role in spec.required:
          break  # the split will be left out; skip its other archives
  for role in spec.elsewhere:
    print(f'{spec.files[role]} is not fetched{spec.places([role])}; put it into '
          f'{folder}')
  if not any(archives.find(spec, split, folder) for split in spec.splits):
    raise errors.UserError(f'{base_url} has no archive of {dataset}; check --base_url')
  return folder


def _check_url(base_url: str) -> str:
  """Adds a final slash; raises UserError if neither https nor this machine."""
  try:
    url = urllib.parse.urlsplit(base_url)
    schemes = ('http', 'https') if url.hostname in _LOCAL else ('https',)
    safe = bool(url.hostname) and url.scheme in schemes
  except ValueError:  # unbalanced brackets
    safe = False
  if not safe:
    raise errors.UserError(f'{base_url} is not safe to download from; give --base_url '
                           'an https:// address (http:// only for localhost)')
  return base_url.rstrip('/') + '/'


def fetch_file(url: str, path: pathlib.Path) -> None:
  """Fetches one file, from where an earlier attempt stopped.

  Raises:
    FileNotFoundError: the server has no such file.
    UserError: no connection, no space, or not a complete zip.
  """
  if path.exists():
    if _recorded_size(path) == path.stat().st_size:
      print(f'{path.name}: already downloaded')
      return
    path.rename(_part(path))  # not ours, or changed: compare with the server
  failures = 0
  while True:
    before = _size(_part(path))
    try:
      _receive(url, _part(path))
      break
    except urllib.error.HTTPError as error:
      if error.code in _ABSENT:
        raise FileNotFoundError(f'HTTP {error.code}') from error
      reason = error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
      if getattr(error, 'errno', None) in _DISK_ERRORS:
        raise errors.UserError(
            f'{path} cannot be written ({error.strerror}); make room and run the '
            'same command again, it resumes where it stopped') from error
      reason = error
    failures = 0 if _size(_part(path)) > before else failures + 1
    if failures == _ATTEMPTS:
      raise errors.UserError(
          f'{url} cannot be fetched ({reason}); check the connection and run the '
          'same command again, it resumes where it stopped') from reason
    time.sleep(failures)
  _check_zip(url, _part(path))
  with _part(path).open('rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  files.write_json(_record(path), {
      'url': url, 'size': _size(_part(path)), 'sha256': digest})
  _part(path).rename(path)


def _receive(url: str, part: pathlib.Path) -> None:
  """Appends to `part` until it is complete; raises where the connection ends."""
  offset = _size(part)
  request = urllib.request.Request(url)
  tag = part.with_name(part.name + '.tag')  # what the server calls this content
  if offset:
    request.add_header('Range', f'bytes={offset}-')
    if tag.exists():
      request.add_header('If-Range', tag.read_text())
  try:
    response = _open(request)
  except urllib.error.HTTPError as error:
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
      if error.headers.get('Content-Range') == f'bytes */{offset}':
        return  # nothing was missing
      part.unlink()
    raise
  with response:
    total = _total(response, offset)
    if total is None or response.status != http.HTTPStatus.PARTIAL_CONTENT:
      offset = 0  # the whole file again: the server's content changed
    if response.headers.get('ETag', 'W/').startswith('"'):  # W/: no use here
      tag.write_text(response.headers['ETag'])
    bar = progress.Progress(part.stem, total or 0, unit='B', done=offset)
    with part.open('r+b' if offset else 'wb') as file, contextlib.closing(bar):
      file.seek(offset)
      while chunk := response.read(_CHUNK):
        file.write(chunk)
        bar.advance(len(chunk))
  if total is not None and _size(part) != total:
    raise ConnectionError(f'{_size(part)} of {total} bytes came')
  tag.unlink(missing_ok=True)


def _total(response: http.client.HTTPResponse, offset: int) -> int | None:
  """Size of the whole file in bytes, where the server reports it."""
  if response.status == http.HTTPStatus.PARTIAL_CONTENT:
    match = re.fullmatch(r'bytes (\d+)-\d+/(\d+)',
                         response.headers.get('Content-Range', ''))
    if not match or int(match[1]) != offset:
      raise http.client.HTTPException('the server sent another part of the file')
    return int(match[2])
  length = response.headers.get('Content-Length')
  return None if length is None else int(length)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
  # A proxy cannot reach this machine's own servers.
  local = urllib.parse.urlsplit(request.full_url).hostname in _LOCAL
  handlers = [_Redirections(), *([urllib.request.ProxyHandler({})] if local else [])]
  try:
    return urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT)
  except urllib.error.HTTPError as error:
    error.close()  # it holds the connection
    raise


class _Redirections(urllib.request.HTTPRedirectHandler):
  """Follows a redirection only where the address could have been given itself."""

  def redirect_request(self, req, fp, code, msg, headers, newurl):
    """The next request; UserError, before it is made, if it is not safe."""
    try:
      _check_url(newurl)
      if req.type == 'https' and not newurl.lower().startswith('https:'):
        raise errors.UserError(f'{req.full_url} redirects to {newurl}, which is not '
                               'safe to download from; choose another --base_url')
    except errors.UserError:
      fp.close()  # it holds the connection
      raise
    return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_zip(url: str, part: pathlib.Path) -> None:
  """Raises UserError, and removes the file, if it should be a zip and is not."""
  if not url.endswith('.zip'):
    return
  try:
    with zipfile.ZipFile(part) as archive:
      broken = archive.testzip()
  except archives.READ_ERRORS as error:
    broken = str(error)
  if broken is not None:
    part.unlink()
    raise errors.UserError(f'{url} is not a complete zip ({broken}) and was removed; '
                           'run the same command again, or choose another --base_url')


def _part(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(path.name + '.part')


def _record(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(path.name + '.json')


def _size(path: pathlib.Path) -> int:
  return path.stat().st_size if path.exists() else 0


def _recorded_size(path: pathlib.Path) -> int | None:
  try:
    return files.read_json(_record(path))['size']
  except (OSError, ValueError, KeyError):
    return None
