"""What no module may do with a file from outside, read from the source."""

import ast

import pytest

from tests.test_house import MODULES
from tests.test_house import ROOT

# They run code that a file names, or write where a file says.
MODULES_FORBIDDEN = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'marshal',
                     'shelve', 'tarfile', 'runpy', 'code', 'xmlrpc', 'pty'}
CALLS_FORBIDDEN = {
    'eval', 'exec', 'compile', '__import__', 'extract', 'extractall', 'unpack_archive',
    'system', 'popen', 'read_pickle', 'urlopen', 'urlretrieve',
    '_create_unverified_context', 'create_unverified_context'}
# The name of a module that is imported comes from these alone.
IMPORTS_BY_NAME = {'launch/prepare.py'}  # configs.<dataset>, of a fixed list
# A grid is a Python file that the user names, like a config.
ALLOWED = {'attnmel_jax/experiments/grid.py': {'runpy'}}
JAX_LOWERING = {'compile'}  # of a lowered function, not of text


def _calls(path):
  """(name, node, whether it is a method) of every call in a module."""
  for node in ast.walk(ast.parse((ROOT / path).read_text())):
    if isinstance(node, ast.Call):
      if isinstance(node.func, ast.Attribute):
        yield node.func.attr, node, True
      elif isinstance(node.func, ast.Name):
        yield node.func.id, node, False


def _owner(node: ast.Call) -> str:
  """'re' of re.compile(...); '' where it is no plain name."""
  value = node.func.value if isinstance(node.func, ast.Attribute) else None
  return value.id if isinstance(value, ast.Name) else ''


def _keywords(node: ast.Call) -> dict[str, object]:
  return {k.arg: getattr(k.value, 'value', None) for k in node.keywords}


@pytest.mark.parametrize('path', MODULES, ids=str)
def test_no_module_runs_or_unpacks_what_a_file_says(path):
  tree = ast.parse((ROOT / path).read_text())
  imported = {alias.name.split('.')[0] for node in ast.walk(tree)
              if isinstance(node, ast.Import) for alias in node.names}
  imported |= {node.module.split('.')[0] for node in ast.walk(tree)
               if isinstance(node, ast.ImportFrom)}
  assert not imported & MODULES_FORBIDDEN - ALLOWED.get(str(path), set())
  for name, node, is_method in _calls(path):
    if is_method and name in JAX_LOWERING:
      continue
    assert name not in CALLS_FORBIDDEN, f'{path}:{node.lineno} calls {name}'
    if name == 'import_module':
      assert str(path) in IMPORTS_BY_NAME, f'{path}:{node.lineno}'
    keywords = _keywords(node)
    assert keywords.get('shell') is not True, f'{path}:{node.lineno}'
    assert keywords.get('allow_pickle', False) is False, f'{path}:{node.lineno}'
    if name == 'load' and _owner(node) == 'torch':
      assert keywords['weights_only'] is True, f'{path}:{node.lineno}'
    if name == 'open' and _owner(node) == 'Image':  # PostScript would be run
      assert 'formats' in keywords, f'{path}:{node.lineno}'
    if name == 'load' and _owner(node) == 'np':
      assert keywords['allow_pickle'] is False, f'{path}:{node.lineno}'


def test_the_network_is_reached_from_one_module():
  reached = set()
  for path in MODULES:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
      names = {alias.name for alias in node.names} if isinstance(
          node, ast.Import) else set()
      if names & {'urllib.request', 'http.client', 'socket', 'ssl', 'requests'}:
        reached.add(str(path))
  assert reached == {'attnmel_jax/data/download.py'}
