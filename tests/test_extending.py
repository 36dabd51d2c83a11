"""The Python of docs/extending.md runs, each section in a namespace of its own."""

import re
import sys
import textwrap

import pytest

from attnmel_jax import config as config_lib
from attnmel_jax.data import catalogue
from attnmel_jax.data import pipeline
from attnmel_jax.evaluation import attention_scores
from attnmel_jax.report.tables import published
from attnmel_jax.report.tables import sections
from tests import documentation
from tests.report import run_folders

PAGE = (documentation.ROOT / 'docs' / 'extending.md').read_text()
SECTIONS = dict(re.findall(
    r'^## (.+?)\n(.*?)(?=^## |\Z)', PAGE, re.MULTILINE | re.DOTALL))
# Lists that the examples add to.
LISTS = (config_lib.BACKBONES, catalogue.DATASETS, pipeline.REGIONS,
         attention_scores.SCORES)


def test_the_table_names_every_section():
  listed = re.findall(r'^\| \[(.+?)\]\(#(.+?)\)', PAGE, re.MULTILINE)
  assert [name.capitalize() for name, _ in listed] == list(SECTIONS)
  assert all(anchor == name.replace(' ', '-') for name, anchor in listed)


@pytest.mark.parametrize('section', SECTIONS)
def test_its_example_works(section, tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  blocks = re.findall(r'(?:<!-- file: (\S+) -->\n)?```python\n(.*?)^```',
                      SECTIONS[section], re.MULTILINE | re.DOTALL)
  assert blocks
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


def test_the_table_appears_in_the_section_of_its_task(tmp_path, monkeypatch):
  block, = documentation.blocks(SECTIONS['A table'], 'python')
  namespace = {'__name__': 'example'}
  exec(block, namespace)  # noqa: S102  our own page
  monkeypatch.setattr(sections, '_TABLES', (*sections._TABLES, namespace['balance']))
  run = run_folders.write(tmp_path / 'run', run_folders.config('isic2017'))
  section = next(iter(sections.of_task(
      published.TABLE_3_2, [run_folders.group([run])], run_folders.plan())))
  row, = run_folders.texts(section.tables[-1])
  assert section.tables[-1].head.name == 'table_3_2_balance'
  assert row['system'] == 'AttnMel-CNN' and row['balanced accuracy'].startswith('0.8')
