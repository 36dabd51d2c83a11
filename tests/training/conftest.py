"""A compiled step that the tests of a session share."""

import pytest

from attnmel_jax import parallel
from tests.training import tiny


@pytest.fixture(scope='session')
def tiny_update():
  """`parallel.update` with the small model in float32."""
  return parallel.update(tiny.step('small', '', 'float32'))
