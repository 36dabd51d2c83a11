"""Installed by pip, it is imported and used from any folder."""

import pathlib
import shutil
import subprocess
import sys
import tomllib

import pytest

from attnmel_jax import __version__

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = '''
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import attnmel_jax
from attnmel_jax.evaluation import attention_maps, metrics
from attnmel_jax.share import predictions_page
from attnmel_jax.training import losses
import numpy as np
assert pathlib.Path(attnmel_jax.__file__).is_relative_to(sys.argv[1])
assert metrics.auc([1, 0], [.9, .1]) == 1
assert attention_maps.rescale(np.arange(4.).reshape(1, 2, 2)).max() == 1
assert losses.focal_loss(np.zeros((3, 2)), np.zeros(3, int), gamma=2.).shape == (3,)
predictions_page.write('page.html', [], [], ['a', 'b'], {'threshold': None,
    'runs': [], 'synthetic': False, 'calibrated': False, 'shared_maps': 0})
'''


def test_the_requirements_have_one_source():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  assert set(project['project']['dynamic']) == {'dependencies', 'version'}
  assert project['tool']['setuptools']['dynamic']['dependencies'] == {
      'file': ['requirements.txt']}


def test_files_that_are_no_modules_are_packed():
  packed = tomllib.loads((ROOT / 'pyproject.toml').read_text())[
      'tool']['setuptools']['package-data']
  found = set()
  for package, patterns in packed.items():
    folders = ([path.parent for path in (ROOT / 'attnmel_jax').rglob('__init__.py')]
               if package == '*' else [ROOT / package.replace('.', '/')])
    found.update(path for folder in folders for pattern in patterns
                 for path in folder.glob(pattern))
  assert found == {path for path in (ROOT / 'attnmel_jax').rglob('*')
                   if path.is_file() and path.suffix not in ('.py', '.pyc')}


@pytest.mark.slow
def test_installed_it_works_elsewhere(tmp_path):
  source, target = tmp_path / 'source', tmp_path / 'target'
  shutil.copytree(ROOT / 'attnmel_jax', source / 'attnmel_jax',
                  ignore=shutil.ignore_patterns('__pycache__'))
  for name in ('pyproject.toml', 'requirements.txt', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, source)
  subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps',
                  '--no-build-isolation', '--target', str(target), str(source)],
                 check=True, timeout=300)
  subprocess.run([sys.executable, '-I', '-c', PROGRAM, str(target)], cwd=tmp_path,
                 check=True, timeout=120)
  metadata, = target.glob('attnmel_jax-*.dist-info/METADATA')
  text = metadata.read_text()
  assert f'Version: {__version__}' in text
  for line in (ROOT / 'requirements.txt').read_text().splitlines():
    requirement = line.partition('#')[0].strip()
    if requirement:
      name, _, versions = requirement.partition('>=')
      assert f'Requires-Dist: {name}' in text
      assert f'>={versions.partition(",")[0]}' in text
