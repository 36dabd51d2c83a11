"""Fixtures that all tests share; compiled steps are kept from run to run."""

from collections.abc import Callable
from collections.abc import Iterator
import fcntl
import itertools
import os
import pathlib

# Read when JAX starts. Compilation takes most of the time of these tests, and many
# compile the same steps. A key holds the program, the versions and the flags.
os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR',
    str(pathlib.Path(__file__).resolve().parents[1] / '.pytest_cache' / 'xla'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

import jax
import pytest

from attnmel_jax import parallel
from tests import commands
from tests import two_blocks as two_blocks_lib

parallel.configure_compiler()  # the kernels that the commands compute with


@pytest.fixture(scope='session')
def built_once(tmp_path_factory
               ) -> Callable[[str, Callable[[pathlib.Path], object]], pathlib.Path]:
  """`built_once(name, build)`: a folder that all workers of this session share.

  `build(folder)` fills it in the first worker that asks for `name`; the others wait.
  Tests read from it and never write to it.
  """
  root = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    root = root.parent  # each worker has a folder in that of the session

  def built(name: str, build: Callable[[pathlib.Path], object]) -> pathlib.Path:
    folder, done = root / f'shared-{name}', root / f'shared-{name}.done'
    with (root / f'shared-{name}.lock').open('w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not done.exists():
        folder.mkdir()  # fails if an earlier build did
        build(folder)
        done.touch()
    return folder

  return built


@pytest.fixture(scope='module')
def two_blocks() -> Iterator[None]:
  """Configs may name the backbones of tests/two_blocks.py within the module."""
  with two_blocks_lib.added():
    yield


@pytest.fixture(scope='session')
def home(built_once) -> pathlib.Path:
  """The home folder of a user who typed a few commands; tests do not write to it.

  `archives` and `own` are synthetic (`own` a table with photographs), `attnmel_data`
  is prepared from the archives (40, 16 and 16 images), `run` was trained on it;
  `run.stdout` and `run.stderr` hold what the training printed.
  """
  def build(home: pathlib.Path) -> None:
    commands.prepare_phantom(home, train=40, validation=16, test=16)
    commands.check(home, 'phantom', '--photographs', '--out=own', '--train=6',
                   '--validation=6', '--test=6', '--size=60')
    trained = commands.check(home, 'main', *commands.TINY, '--workdir=run')
    (home / 'run.stdout').write_text(trained.stdout)
    (home / 'run.stderr').write_text(trained.stderr)

  return built_once('home', build)


@pytest.fixture
def getkey() -> Callable[[], jax.Array]:
  """Gives another random key at each call, the same ones in each run."""
  numbers = itertools.count()
  return lambda: jax.random.key(next(numbers))


@pytest.fixture
def float64() -> Iterator[None]:
  """JAX computes in float64 within the test."""
  with jax.enable_x64(True):
    yield
