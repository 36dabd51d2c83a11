"""What a command does before it imports anything that may be missing here.

Imported first, and without a package from outside: it makes sure of the interpreter,
the streams and their encoding. An import that fails after that ends in one line.
"""

import logging
import os
import pathlib
import re
import sys
import traceback

_COMPUTES = ('main', 'evaluate', 'generate_masks', 'predict', 'benchmark')  # commands
_HUGE_PAGES = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')
_OURS = ('attnmel_jax', 'benchmarks', 'configs', 'launch')


def _refuse(line: str) -> None:
  print(f'error: {line}', file=sys.stderr, flush=True)
  sys.exit(2)


def _open_closed_streams() -> None:
  """Opens what the shell closed (`>&-`) on nothing.

  Otherwise the next file that is opened gets the number of the stream, and a library's
  message to stderr is written into it.
  """
  number = 0
  while number <= 2:
    number = os.open(os.devnull, os.O_RDWR)
    if number <= 2:
      os.set_inheritable(number, True)
  os.close(number)
  for name in ('stdout', 'stderr'):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, 'w'))  # noqa: SIM115


def _use_utf8() -> None:
  """Starts Python again in UTF-8 mode where names of files have another encoding.

  Names outside ASCII, which tables hold in UTF-8, would not be found.
  """
  if sys.getfilesystemencoding() != 'utf-8':
    os.environ.setdefault(
        'PYTHONIOENCODING', f'{sys.stdout.encoding}:backslashreplace')
    os.execv(sys.executable, [sys.executable, '-X', 'utf8', *sys.orig_argv[1:]])


def huge_pages(tunables: str, enabled: str) -> str:
  """GLIBC_TUNABLES with which large arrays lie in huge pages; '' to leave it.

  Arrays of a training step are new memory each time, and its pages of 4 KiB cost up to
  a third of the step. Without effect outside Linux.

  Args:
    tunables: what GLIBC_TUNABLES is.
    enabled: text of /sys/kernel/mm/transparent_hugepage/enabled, '' without it.
  """
  if '[madvise]' not in enabled or 'malloc.hugetlb' in tunables:
    return ''
  return ':'.join(filter(None, [tunables, 'glibc.malloc.hugetlb=1']))


def _use_huge_pages() -> None:
  """Starts a command that computes again, as glibc reads this at the start alone."""
  script = pathlib.Path(getattr(sys.modules['__main__'], '__file__', None) or '')
  if script.parent.name != 'launch' or script.stem not in _COMPUTES:
    return
  try:
    enabled = _HUGE_PAGES.read_text()
  except OSError:
    return
  if tunables := huge_pages(os.environ.get('GLIBC_TUNABLES', ''), enabled):
    os.environ['GLIBC_TUNABLES'] = tunables
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _quieten_libraries() -> None:
  """Under --quiet keeps XLA's own log from stderr, such as its alarm of slow compiling.

  C++ writes it, which reads this at the import; what fails is raised all the same.
  """
  if any(re.fullmatch('--?quiet(=(true|t|1))?', argument) for argument in sys.argv[1:]):
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def _import_failed(kind, error, trace) -> None:
  """Takes the place of Python's hook until the command runs."""
  name = (getattr(error, 'name', None) or '').partition('.')[0]
  if issubclass(kind, ModuleNotFoundError) and name not in _OURS:
    print(f'error: {name} is not installed for {sys.executable}; activate the '
          'environment of the project, or pip install -r requirements.txt',
          file=sys.stderr, flush=True)
    os._exit(2)
  traceback.print_exception(kind, error, trace)
  os._exit(70)


_open_closed_streams()
if sys.version_info < (3, 11):  # noqa: UP036  # a checkout starts anywhere
  _refuse(f'Python {sys.version.split()[0]} is too old; use 3.11 or later')
try:
  import fcntl  # noqa: F401
except ImportError:
  _refuse('this project needs Linux or macOS; on Windows, run it in WSL, the Windows '
          'Subsystem for Linux')
_use_utf8()
_use_huge_pages()
_quieten_libraries()
sys.excepthook = _import_failed
# It warns of a home folder that is missing or cannot be written, twice, at its import.
logging.getLogger('matplotlib').setLevel(logging.ERROR)
