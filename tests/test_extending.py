"""The Python of docs/extending.md runs, each section in a namespace of its own."""

import re
import sys
import textwrap

import pytest

from attnmel_jax import config as config_lib
from attnmel_jax.data import catalogue
from attnmel_jax.data import pipeline
from tests import documentation

PAGE = (documentation.ROOT / 'docs' / 'extending.md').read_text()
SECTIONS = dict(re.findall(
    r'^## (.+?)\n(.*?)(?=^## |\Z)', PAGE, re.MULTILINE | re.DOTALL))
# Lists that the examples add to.
LISTS = (config_lib.BACKBONES, catalogue.DATASETS, pipeline.REGIONS)


def test_the_table_names_every_section():
  listed = re.findall(r'^\| \[(.+?)\]\(#(.+?)\)', PAGE, re.MULTILINE)
  assert [name.capitalize() for name, _ in listed] == list(SECTIONS)
  assert all(anchor == name.replace(' ', '-') for name, anchor in listed)


@pytest.mark.parametrize('section', SECTIONS)
def test_its_example_works(section, tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  blocks = re.findall(r'(?:<!-- file: (\S+) -->\n)?```python\n(.*?)^```',
                      SECTIONS[section], re.MULTILINE | re.DOTALL)
  assert any('assert' in block for _, block in blocks)
  kept = [dict(known) for known in LISTS]
  namespace = {'__name__': 'example'}
  try:
    for file, block in blocks:
      if file:
        (tmp_path / file).write_text(block)
      else:
        exec(textwrap.dedent(block), namespace)  # noqa: S102  our own page
  finally:
    for known, before in zip(LISTS, kept, strict=True):
      known.clear()
      known.update(before)
    for file, _ in blocks:
      sys.modules.pop(file.removesuffix('.py'), None)
