"""The list of `python -m tests.mutants`, which itself takes too long for a test."""

import ast

from tests import mutants


def test_each_text_occurs_once_and_leaves_python():
  assert not mutants.misplaced()
  assert len({mutation.name for mutation in mutants.MUTATIONS}) == len(
      mutants.MUTATIONS) >= 30
  for mutation in mutants.MUTATIONS:
    assert (mutants.ROOT / mutation.tests).is_file(), mutation.name
    source = (mutants.ROOT / mutation.module).read_text()
    ast.parse(source.replace(mutation.old, mutation.new))
