"""The examples in docstrings, run as they stand, with the names a user would import."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# Pure functions that people call on their own arrays.
MODULES = ('images', 'models.attention', 'training.losses', 'evaluation.attention_maps',
           'evaluation.attention_scores', 'evaluation.bootstrap',
           'evaluation.calibration', 'evaluation.metrics', 'evaluation.significance')


@pytest.mark.parametrize('name', MODULES)
def test_examples_give_what_they_say(name):
  module = importlib.import_module(f'attnmel_jax.{name}')
  names = {name.rpartition('.')[2]: module, 'np': np, 'jnp': jnp, 'jax': jax}
  tests = [test for test in doctest.DocTestFinder().find(module, globs=names)
           if test.examples]
  assert tests
  runner = doctest.DocTestRunner()
  report = []
  for test in tests:
    runner.run(test, out=report.append)
  assert not runner.failures, ''.join(report)
