"""Every command of the documentation is run here, or says what it needs."""

import importlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from configs import common
from tests import commands
from tests import documentation

COMMANDS = [(page, shown) for page in documentation.PAGES
            for shown in documentation.commands(page.read_text())]
_NEEDS = re.compile(
    r'needs .*\b(download|GPU|TPU|cluster|PyTorch|TensorBoard|hosts|'
    r'minutes)\b')


PAGE = """Text.
1. One:
   <!-- needs hosts -->
   ```
   python 1.py  # a comment
   ```
<!-- needs a TPU -->
```
python b.py \\
  --c

for x in 1 2; do
  python d.py --x=$x
done
ssh host --command='
  cd there'
```
```csv
python no.py
```
```
#!/bin/bash
srun python e.py
```
"""


def test_commands_are_found_with_all_their_lines():
  assert documentation.commands(PAGE) == [
      documentation.Command(text, needs) for text, needs in (
          ('python 1.py\n', 'needs hosts'), ('python b.py \\\n  --c\n', 'needs a TPU'),
          ('for x in 1 2; do\n  python d.py --x=$x\ndone\n', 'needs a TPU'),
          ("ssh host --command='\n  cd there'\n", 'needs a TPU'),
          ('#!/bin/bash\nsrun python e.py\n', ''))]


def _unknown_flags(shown):
  for name, arguments in re.findall(
      r'python launch/(\w+)\.py((?:\\\n|[^\n;|])*)', shown.text):
    source = (documentation.ROOT / 'launch' / f'{name}.py').read_text()
    source += (documentation.ROOT / 'launch' / 'command.py').read_text()
    for flag, field in re.findall(r'--(\w[\w-]*)(?:\.(\w+))?', arguments):
      known = (f"'{flag}'", f"'{flag.removeprefix('no').removeprefix('-')}'")
      if flag != 'help' and not any(name in source for name in known):
        yield flag
      if field and field not in common.get_config():
        yield field


def test_what_is_not_run_says_why_and_has_flags_that_exist():
  for page, shown in COMMANDS:
    right = (_NEEDS.match(shown.needs) if shown.needs
             else re.match(r'python launch/\w+\.py', shown.text))
    assert right, f'{page.name}: {shown}'
    assert not list(_unknown_flags(shown)), f'{page.name}: {shown}'


def test_the_python_of_the_documentation_runs():  # but for that of test_extending.py
  found = [block for page in documentation.PAGES if page.name != 'extending.md'
           for block in documentation.blocks(page.read_text(), 'python')]
  assert found
  for block in found:
    exec(block, {})  # warnings are errors here, too


def test_the_tests_that_reliability_names_exist():
  text = (documentation.ROOT / 'docs' / 'reliability.md').read_text()
  absent, source = [], ''
  for path, name in re.findall(r'`([\w/]+\.py)?(?:::(test_\w+))?`', text):
    if path and path.rpartition('/')[2].startswith('test_'):
      file = documentation.ROOT / 'tests' / path
      source = file.read_text() if file.exists() else ''
      absent += [] if source else [path]
    if name and f'def {name}(' not in source:  # without a path: of the one before
      absent.append(name)
  assert not absent


def test_help_and_the_table_of_commands_say_the_same():
  text = (documentation.ROOT / 'docs' / 'commands.md').read_text()
  section = re.search(r'^## Commands\n(.*?)(?=^## )', text, re.MULTILINE | re.DOTALL)[1]
  table = dict(re.findall(r'^\| `([^`]+)` \| (.*?) \|$', section, re.MULTILINE))
  sources = {path.stem: path.read_text()
             for path in (documentation.ROOT / 'launch').glob('[!_]*.py')}
  assert table == {  # --help begins with the first line
      name: source.removeprefix('"""').partition('\n')[0].removesuffix('.')
      for name, source in sources.items() if '\n  command.run(main' in source}


def test_links_lead_somewhere():
  for page in documentation.PAGES:
    text = page.read_text()
    named = re.findall(r'`((?:docs|configs|tests|launch)/[\w/.]+\.\w+)`', text)
    named += re.findall(r'\]\((?!http)([^)#]+)', text)
    for name in named:
      assert any((folder / name).exists()
                 for folder in (documentation.ROOT, page.parent)), (page.name, name)


@pytest.fixture
def desk(home, tmp_path):
  """A folder where what the documentation names is there: DIR, RUN, photos, a.jpg."""
  (tmp_path / 'launch').symlink_to(documentation.ROOT / 'launch')
  shutil.copytree(home / 'archives', tmp_path / 'DIR')
  shutil.copytree(home / 'own', tmp_path / 'DIR', dirs_exist_ok=True)
  shutil.copytree(home / 'own' / 'photos', tmp_path / 'photos')
  shutil.copytree(home / 'attnmel_data', tmp_path / 'home' / 'attnmel_data')
  for name in ('RUN', 'RUN1', 'RUN2', 'RUN3',
               'runs/isic2017/attnmel_cnn-lesion-fold0-seed0'):
    shutil.copytree(home / 'run', tmp_path / name)
  photographs = sorted((tmp_path / 'photos').iterdir())
  for name, path in zip(('a.jpg', 'b.jpg'), photographs, strict=False):
    shutil.copy(path, tmp_path / name)
  (tmp_path / 'bin').mkdir()
  python = tmp_path / 'bin' / 'python'
  python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
  python.chmod(0o755)
  return tmp_path


# A command that several pages show is run for the last of them.
RUN = {shown.text: page for page, shown in COMMANDS if not shown.needs}


@pytest.mark.slow
@pytest.mark.parametrize('page', sorted(set(RUN.values())), ids=lambda page: page.name)
def test_the_commands_of_a_page_run_one_after_the_other(page, desk):
  user = commands.environment(desk / 'home')
  user['PATH'] = f'{desk / "bin"}{os.pathsep}{user["PATH"]}'
  for text in [text for text, of in RUN.items() if of == page]:
    done = subprocess.run(['bash', '-e', '-c', text], cwd=desk, env=user,
                          capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f'{text}{done.stderr}'
    assert '\x1b' not in done.stdout + done.stderr  # no colours in a file


def test_configs_of_the_documentation_exist():
  for _, shown in COMMANDS:
    for name in re.findall(r'--config=configs/(\w+)\.py', shown.text):
      assert importlib.import_module(f'configs.{name}').get_config()
