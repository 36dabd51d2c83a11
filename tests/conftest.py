"""Fixtures that all tests share; compiled steps are kept from run to run."""

from collections.abc import Callable
from collections.abc import Iterator
import itertools
import os
import pathlib

# Read when JAX starts. Most of the time of these tests is compilation, and many
# compile the same steps. A key holds the program, the versions and the flags.
os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR',
    str(pathlib.Path(__file__).resolve().parents[1] / '.pytest_cache' / 'xla'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')

import jax
import pytest

from attnmel_jax import parallel

parallel.configure_compiler()  # the kernels that the commands compute with


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
