"""The plan of the house, read from the source: who may import whom."""

import ast
import collections
import functools
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ('attnmel_jax', 'benchmarks', 'configs', 'launch')
    for path in (ROOT / folder).rglob('*.py'))
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / 'tests').rglob('*.py'))

# A package imports from its own level and from those before it.
ORDER = (('attnmel_jax',), ('data',), ('phantom',), ('models',), ('evaluation',),
         ('training',), ('experiments',), ('share',), ('report',), ('benchmarks',),
         ('launch',))
# The modules that lie beside the packages.
BASE = {'config', 'errors', 'files', 'images', 'outputs', 'parallel', 'progress',
        'threads'}
# Starting these may not wait for JAX.
NUMPY_ROOMS = ('data', 'phantom', 'evaluation')
USES_JAX = {'evaluation/predict.py', 'evaluation/predict_masks.py'}
JAX = {'jax', 'jaxlib', 'flax', 'optax', 'orbax'}
OURS_WITH_JAX = {'attnmel_jax.images', 'attnmel_jax.parallel',
                 'attnmel_jax.evaluation.predict',
                 'attnmel_jax.evaluation.predict_masks', 'attnmel_jax.models',
                 'attnmel_jax.training'}
# One reads .pth files; the other is what a benchmark compares with, if asked to.
USES_TORCH = {'pretrained.py', 'torch_reference.py'}
# Modules without a test module of their own, and why.
UNTESTED: dict[str, str] = {}


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
  """A module of MODULES or TESTS, parsed."""
  return ast.parse((ROOT / path).read_text())


def _imports(node: ast.AST) -> set[str]:
  """Dotted names that are imported, `from a import b` as both a and a.b."""
  names = set()
  for child in ast.walk(node):
    if isinstance(child, ast.Import):
      names |= {alias.name for alias in child.names}
    elif isinstance(child, ast.ImportFrom):
      assert child.level == 0, 'imports are absolute'
      names.add(child.module)
      names |= {f'{child.module}.{alias.name}' for alias in child.names}
  return names


def _imports_at_start(tree: ast.Module) -> set[str]:
  """What importing the module imports: nothing that waits within a function."""
  names, waiting = set(), list(tree.body)
  while waiting:
    node = waiting.pop()
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
      continue
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      names |= _imports(node)
    waiting.extend(ast.iter_child_nodes(node))
  return names


def _level(name: str) -> int | None:
  """Place in ORDER of a dotted name of ours; None for others."""
  parts = name.split('.')
  if parts[0] in ('benchmarks', 'launch'):
    return ORDER.index((parts[0],))
  if parts[0] != 'attnmel_jax':
    return None
  if len(parts) == 1 or parts[1] in BASE or parts[1].startswith('_'):
    return 0
  for level, packages in enumerate(ORDER):
    if parts[1] in packages:
      return level
  raise AssertionError(f'{name} has no place in ORDER')


def _within(names: set[str], packages: set[str]) -> set[str]:
  return {name for name in names
          if any(name == p or name.startswith(p + '.') for p in packages)}


def _wrong_imports(path: pathlib.Path) -> set[str]:
  imported = _imports(tree(path))
  if path.parts[0] == 'configs':
    allowed = {'configs'} | sys.stdlib_module_names
    return {name for name in imported - {'attnmel_jax', 'attnmel_jax.config'}
            if name.split('.')[0] not in allowed}
  own = _level('.'.join(path.with_suffix('').parts))
  upward = {n for n in imported if (level := _level(n)) is not None and level > own}
  outside = {'tests', 'configs'} if path.parts[0] == 'attnmel_jax' else {'tests'}
  return upward | _within(imported, outside)


def test_imports_run_one_way():
  wrong = {str(path): names for path in MODULES if (names := _wrong_imports(path))}
  assert not wrong


def test_data_and_evaluation_start_without_jax():
  rooms = [path for path in MODULES if path.parts[1] in NUMPY_ROOMS
           and str(path.relative_to('attnmel_jax')) not in USES_JAX]
  wrong = {str(path): names for path in rooms if (
      names := _within(_imports_at_start(tree(path)), JAX | OURS_WITH_JAX))}
  assert rooms and not wrong


def test_commands_answer_ctrl_c_before_they_load_the_rest():
  """launch/command.py comes first; that it answers is tested in test_commands.py."""
  for path in MODULES:
    if path.parts[0] == 'launch' and 'def main' in path.read_text():
      first = [node.module for node in tree(path).body
               if isinstance(node, ast.ImportFrom)][0]
      assert first == 'launch', path


def test_torch_and_tensorflow_are_never_started():
  for path in MODULES + TESTS:
    assert not _within(_imports(tree(path)), {'tensorflow'}), path
    if path.parts[0] != 'tests':
      names = _imports_at_start(tree(path))
      assert not _within(names, {'torch', 'torchvision'}), path
    if _within(_imports(tree(path)), {'torch', 'torchvision'}):
      assert path.parts[0] == 'tests' or path.name in USES_TORCH, path


def test_no_module_is_named_utils():
  assert not [p for p in MODULES + TESTS if 'util' in p.stem]


def _test_module(path: pathlib.Path) -> pathlib.Path:
  if 'phantom' in path.parts:  # parts of one drawing, looked at as a whole
    return pathlib.Path('tests/phantom/test_generate.py')
  return pathlib.Path('tests', *path.parts[1:-1], f'test_{path.stem}.py')


def test_every_module_has_a_test_module():
  # Configs and commands are thin; tests of whole runs start them.
  modules = [path for path in MODULES if path.parts[0] == 'attnmel_jax']
  modules.append(pathlib.Path('launch/command.py'))
  missing = [f'{path} -> {_test_module(path)}' for path in modules
             if path.name != '__init__.py' and str(path) not in UNTESTED
             and not (ROOT / _test_module(path)).exists()]
  assert not missing, '\n'.join(missing)
  assert not [name for name in UNTESTED if not (ROOT / name).exists()]


def test_a_room_holds_at_most_14_modules():
  """A room within a room, such as report/tables, counts on its own."""
  rooms = collections.Counter(path.parent for path in MODULES
                              if path.parts[0] == 'attnmel_jax'
                              and path.name != '__init__.py')
  assert not {room: count for room, count in rooms.items() if count > 14}


def test_modules_and_functions_are_short():
  long = [str(path) for path in MODULES
          if len((ROOT / path).read_text().splitlines()) > 500]
  long += [f'{path}: {node.name}' for path in MODULES if path.parts[0] != 'configs'
           for node in ast.walk(tree(path))
           if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
           and node.end_lineno - node.lineno + 1 > 60]
  assert not long


def test_modules_and_public_functions_have_docstrings():
  bare = []
  for path in MODULES:
    module = tree(path)
    if not ast.get_docstring(module) and path.name != '__init__.py':
      bare.append(str(path))
    scopes = [module, *(n for n in module.body if isinstance(n, ast.ClassDef))]
    bare += [f'{path}: {node.name}' for scope in scopes for node in scope.body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))
             and not node.name.startswith('_') and not ast.get_docstring(node)]
  assert not bare
