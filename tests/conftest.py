"""Fixtures that all tests share."""

from collections.abc import Callable
from collections.abc import Iterator
import itertools

import jax
import pytest


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
