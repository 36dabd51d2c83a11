"""What no module may do with a file from outside, read from the source."""

import ast

from tests import test_house

# They run code that a file names, or write where a file says.
MODULES_FORBIDDEN = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'marshal',
                     'shelve', 'tarfile', 'runpy', 'code', 'xmlrpc', 'pty'}
CALLS_FORBIDDEN = {
    'eval', 'exec', 'compile', '__import__', 'extract', 'extractall', 'unpack_archive',
    'system', 'popen', 'read_pickle', 'urlopen', 'urlretrieve',
    '_create_unverified_context', 'create_unverified_context'}
# The name of a module that is imported comes from these alone.
# Names from lists in the code: configs.<dataset>, and the modules of BACKBONES.
IMPORTS_BY_NAME = {'launch/prepare.py', 'attnmel_jax/models/backbones.py'}
# A grid is a Python file that the user names, like a config.
ALLOWED = {'attnmel_jax/experiments/grid.py': {'runpy'}}
JAX_LOWERING = {'compile'}  # of a lowered function, not of text


def _calls(path):
  """(name, node, whether it is a method) of every call in a module."""
  for node in ast.walk(test_house.tree(path)):
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


def _imported(path) -> set[str]:
  """Top names of what a module imports."""
  found = set()
  for node in ast.walk(test_house.tree(path)):
    if isinstance(node, ast.Import):
      found |= {alias.name.split('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      found.add(node.module.split('.')[0])
  return found


def _is_unsafe(path: str, name: str, node: ast.Call, is_method: bool) -> bool:
  keywords, owner = _keywords(node), _owner(node)
  return (
      name in CALLS_FORBIDDEN and not (is_method and name in JAX_LOWERING)
      or name == 'import_module' and path not in IMPORTS_BY_NAME
      or keywords.get('shell') is True
      or keywords.get('allow_pickle', False) is not False
      or (owner, name) == ('torch', 'load') and keywords.get('weights_only') is not True
      # PostScript would be run.
      or (owner, name) == ('Image', 'open') and 'formats' not in keywords
      or (owner, name) == ('np', 'load') and 'allow_pickle' not in keywords)


def test_no_module_runs_or_unpacks_what_a_file_says():
  for path in test_house.MODULES:
    forbidden = MODULES_FORBIDDEN - ALLOWED.get(str(path), set())
    assert not _imported(path) & forbidden, path
  unsafe = [f'{path}:{node.lineno} {name}' for path in test_house.MODULES
            for name, node, is_method in _calls(path)
            if _is_unsafe(str(path), name, node, is_method)]
  assert not unsafe


def test_unsafe_calls_are_found():
  for code in ('eval(x)', 'zip.extractall()', 'subprocess.run(x, shell=True)',
               'torch.load(x)', 'torch.load(x, weights_only=False)', 'np.load(x)',
               'np.load(x, allow_pickle=True)', 'Image.open(x)',
               'importlib.import_module(x)'):
    node = ast.parse(code).body[0].value
    is_method = isinstance(node.func, ast.Attribute)
    name = node.func.attr if is_method else node.func.id
    assert _is_unsafe('attnmel_jax/a.py', name, node, is_method), code


def test_the_network_is_reached_from_one_module():
  network = {'urllib.request', 'http.client', 'socket', 'ssl', 'requests'}
  assert [str(path) for path in test_house.MODULES if any(
      isinstance(node, ast.Import) and network & {alias.name for alias in node.names}
      for node in ast.walk(test_house.tree(path)))] == [
          'attnmel_jax/data/download.py']
