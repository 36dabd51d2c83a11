"""Commands where something is missing: packages, streams, a locale, the system."""

import os
import subprocess
import sys

import pytest

from launch import start
from tests import commands


def _run(script, *options, **environment):
  return subprocess.run(
      [sys.executable, *options, '-c',
       f'import os, sys; sys.path[0] = {str(commands.ROOT)!r}\n{script}'],
      capture_output=True, text=True, check=False, timeout=60,
      env=os.environ | environment)


@pytest.mark.parametrize(('missing', 'words'), [
    ('sys.modules["fcntl"] = None', 'in WSL, the Windows Subsystem for Linux'),
    ('sys.version_info = (3, 8)', 'use 3.11 or later'),
    ('sys.modules["absl"] = None', 'absl is not installed for')])
def test_what_is_missing_is_one_line(missing, words):
  done = _run(f'{missing}; from launch import command')
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert words in done.stderr


def test_huge_pages_are_asked_for_where_that_has_an_effect():
  asked = 'always [madvise] never'
  assert start.huge_pages('', asked) == 'glibc.malloc.hugetlb=1'
  assert start.huge_pages('glibc.malloc.check=1', asked) == (
      'glibc.malloc.check=1:glibc.malloc.hugetlb=1')
  for tunables, enabled in (('glibc.malloc.hugetlb=0', asked), ('', ''),
                            ('', '[always] madvise never')):
    assert not start.huge_pages(tunables, enabled)


@pytest.mark.parametrize(('arguments', 'level'), [
    (['--quiet'], '3'), (['--quiet=true'], '3'), ([], None), (['--quiet=false'], None)])
def test_quiet_silences_the_log_of_xla(arguments, level):
  done = _run(f'sys.argv[1:] = {arguments}; os.environ.pop("TF_CPP_MIN_LOG_LEVEL", 0)\n'
              'from launch import start\n'
              'print(os.environ.get("TF_CPP_MIN_LOG_LEVEL"))')
  assert done.stdout == f'{level}\n', done.stderr


def test_a_fault_of_our_own_imports_keeps_its_traceback():
  done = _run('from launch import start; from launch import nothing')
  assert done.returncode == 70
  assert done.stderr.startswith('Traceback') and 'nothing' in done.stderr


def test_no_file_of_data_takes_the_place_of_a_closed_stream(tmp_path):
  done = _run(
      'os.closerange(0, 3); sys.stdout = sys.stderr = None\n'
      'from launch import start\n'
      f'file = open({str(tmp_path / "data")!r}, "w")\n'
      'os.write(2, b"of a library"); print("a result"); sys.stderr.flush()')
  assert done.returncode == 0
  assert not (tmp_path / 'data').read_bytes()


def test_names_are_utf8_whatever_the_locale(tmp_path):
  (tmp_path / 'Nävus').touch()
  done = _run('from launch import start\n'
              f'print(ascii(os.listdir({str(tmp_path)!r})), sys.stdout.encoding)',
              LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
  assert done.stdout == "['N\\xe4vus'] ascii\n", done.stderr


def test_devices_that_are_not_here_are_one_line(tmp_path):
  done = subprocess.run(
      commands.command('main', '--config=configs/isic2017.py', '--dry_run'),
      env=commands.environment(tmp_path, JAX_PLATFORMS='abacus'), cwd=tmp_path,
      capture_output=True, text=True, check=False, timeout=100)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith('error: JAX_PLATFORMS=abacus: no such device')
  assert done.stderr.count('\n') == 1
