"""Grids: their files, the runs they stand for, and how these are run."""

import json
import os
import pathlib
import signal
import threading
import time

import pytest

from attnmel_jax import errors
from attnmel_jax.experiments import grid as grid_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Systems, seeds and folds of each part.
SIZES = {'table_3_1': [(4, 3, 1)], 'table_3_2': [(7, 3, 1)], 'table_3_3': [(4, 3, 1)],
         'table_3_4': [(1, 1, 1), (5, 1, 5)],
         'phantom': [(4, 1, 1), (7, 1, 1), (1, 1, 1), (5, 1, 1)]}
# In place of launch/main.py: notes that it was started, and does what its folder asks.
FAKE = '''
import pathlib, signal, sys, time
folder = pathlib.Path(*(argument.partition('=')[2] for argument in sys.argv
                        if argument.startswith(('--workdir=', '--run='))))
if any(argument.startswith('--run=') for argument in sys.argv):
  folder = folder.with_name(folder.name + '-masks')
folder.mkdir(parents=True, exist_ok=True)
with (folder / 'starts').open('a') as file:
  file.write('x')
if (folder / 'wait').exists():
  def stop(signum, _):
    (folder / 'signal').write_text(str(signum))
    sys.exit(128 + signum)
  signal.signal(signal.SIGTERM, stop)
  signal.signal(signal.SIGINT, stop)
  (folder / 'ready').touch()
  time.sleep(60)
if (folder / 'die').exists():
  signal.raise_signal(signal.SIGKILL)
sys.exit(3 if (folder / 'fail').exists() else 0)
'''


@pytest.fixture
def write_grid(tmp_path):
  """Writes a grid file with these changes; returns its path."""

  def write(*later, **changes):
    content = {'config': 'configs/isic2017.py',
               'systems': {'plain': {'model': 'mel_cnn'},
                           'gated': {'roi': 'lesion', 'dice_weights': (0.5, 1.0)}},
               'seeds': (0, 1), 'folds': (0,)} | changes
    path = tmp_path / 'grid.py'
    described = (content, *later) if later else content
    path.write_text(f'def get_grid():\n  return {described!r}\n')
    return path
  return write


@pytest.fixture
def runs(write_grid, tmp_path, monkeypatch):
  """Four runs that start a script in place of launch/main.py."""
  script = tmp_path / 'fake.py'
  script.write_text(FAKE)
  monkeypatch.setattr(grid_lib, '_MAIN', script)
  monkeypatch.setattr(grid_lib, '_GENERATE', script)
  made = grid_lib.runs(
      grid_lib.read(write_grid()), root=tmp_path / 'runs', settings=[])
  for run in made:
    run.folder.mkdir(parents=True)
  return made


def _starts(runs):
  return [len((run.folder / 'starts').read_text())
          if (run.folder / 'starts').exists() else 0 for run in runs]


def _finish_folder(run):
  run.folder.mkdir(parents=True)
  _finish(run)


def _finish(run):
  (run.folder / 'config.json').write_text(json.dumps(run.config))
  (run.folder / 'summary.json').write_text('{}')


def test_the_grids_of_the_repository_can_run(tmp_path):
  names = {path.stem for path in (ROOT / 'configs' / 'grids').glob('*.py')}
  assert names - {'__init__', 'common'} == SIZES.keys()
  made = {}
  for name, sizes in SIZES.items():
    parts = grid_lib.read(ROOT / 'configs' / 'grids' / f'{name}.py')
    assert [(len(part.systems), len(part.seeds), len(part.folds)) for part in parts
            ] == sizes
    runs = made[name] = grid_lib.runs(parts, root=tmp_path, settings=[])
    assert [run.index for run in runs] == list(range(len(runs)))
    assert sum(run.masks is None for run in runs) == sum(
        systems * seeds * folds for systems, seeds, folds in sizes)
    # What learns from masks comes after they are drawn, in the same geometry.
    for run in runs:
      if run.config['roi'] == 'generated':
        drawing, = (r for r in runs[:run.index] if r.masks is not None)
        assert drawing.masks == {'dataset': run.config['dataset'],
                                 'name': run.config['generated_masks']}
        for field in ('crop_ratio', 'resize_size', 'data_dir'):
          assert drawing.config[field] == run.config[field]
  assert {(run.config['num_folds'], run.config['fold'])
          for run in made['table_3_4'][2:]} == {(5, fold) for fold in range(5)}
  # Table 3.3 takes its runs from Table 3.2.
  second, third = ({run.folder: run.config for run in made[name]}
                   for name in ('table_3_2', 'table_3_3'))
  assert all(second[folder] == config for folder, config in third.items())


def test_runs_hold_what_their_arguments_say(write_grid):
  runs = grid_lib.runs(grid_lib.read(write_grid(seeds=(3, 5))), root=pathlib.Path('r'),
                       settings=['image_size=96', 'pretrained='])
  assert [run.index for run in runs] == [0, 1, 2, 3]
  assert [str(run.folder) for run in runs] == [
      'r/isic2017/plain-fold0-seed3', 'r/isic2017/gated-fold0-seed3',
      'r/isic2017/plain-fold0-seed5', 'r/isic2017/gated-fold0-seed5']
  last = runs[3]
  assert [last.config[name] for name in (
      'seed', 'fold', 'roi', 'dice_weights', 'image_size', 'pretrained', 'model')
          ] == [5, 0, 'lesion', (0.5, 1.0), 96, '', 'attnmel_cnn']
  assert runs[0].config['model'] == 'mel_cnn'
  assert last.arguments == (
      f'--config={ROOT}/configs/isic2017.py', '--config.roi=lesion',
      '--config.dice_weights=(0.5, 1.0)', '--config.image_size=96',
      '--config.pretrained=', '--config.fold=0', '--config.seed=5',
      '--workdir=r/isic2017/gated-fold0-seed5')


def test_a_part_of_a_grid_is_selected(write_grid):
  grid = grid_lib.read(write_grid(config='configs/isic2018_cv.py', folds=(0, 1, 2)))
  part, = grid_lib.select(grid, systems=['gated'], seeds=['7'], folds=['2', '4'])
  assert (list(part.systems), part.seeds, part.folds) == (['gated'], (7,), (2, 4))
  assert grid_lib.select(grid, systems=None, seeds=None, folds=None) == grid


def test_a_selection_that_the_grid_lacks_is_refused(write_grid):
  none = {'systems': None, 'seeds': None, 'folds': None}
  for selection, words in (({'systems': ['gatde']}, "'gatde' .*'gated'"),
                           ({'seeds': ['one']}, '--seeds=one'),
                           ({'folds': []}, '--folds=')):
    with pytest.raises(errors.UserError, match=words):
      grid_lib.select(grid_lib.read(write_grid()), **(none | selection))


def test_a_file_that_is_no_grid_is_refused(tmp_path):
  path = tmp_path / 'grid.py'
  for text, words in (('def get_grid(:', r'SyntaxError.*get_grid\(\)'),
                      ('x = 1', 'get_grid'),
                      ('def get_grid():\n  return 3', 'dict of config'),
                      ('def get_grid():\n  return {"config": "x"}', 'systems')):
    path.write_text(text)
    with pytest.raises(errors.UserError, match=words) as caught:
      grid_lib.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('changes, settings, words', [
    ({'seeds': (0, 0)}, [], ['2 runs', 'isic2017/plain-fold0-seed0']),
    ({'systems': {'a': {'modle': 'vgg16'}}}, [], ['modle', 'Did you mean "model"']),
    ({'config': 'configs/isic2071.py'}, [], ['configs/isic2071.py']),
    ({'folds': (1,)}, [], ['fold=1', 'num_folds=1']),
    ({}, ['image_size'], ['--set=image_size', '<field>=<value>']),
    ({}, ['imgae_size=96'], ['imgae_size', 'Did you mean "image_size"']),
    ({}, ['image_size=big'], ['image_size', 'big']),
    ({}, ['image_size=97'], ['image_size=97', 'multiple of 32']),
    ({}, ['seed=3'], ['--set=seed=3', '--seeds']),
    ({}, ['roi=none'], ['--set=roi=none', 'differ in roi'])])
def test_a_mistake_is_reported_before_anything_runs(
    write_grid, changes, settings, words):
  with pytest.raises(errors.UserError) as caught:
    grid_lib.runs(grid_lib.read(write_grid(**changes)), root=pathlib.Path('r'),
                  settings=settings)
  for word in words:
    assert word in str(caught.value)


def test_states_of_run_folders(runs):
  assert [grid_lib.state(run) for run in runs] == ['new'] * 4
  moved = {**runs[1].config, 'data_dir': '/elsewhere'}
  other = {**runs[2].config, 'image_size': 96}
  for run, text in zip(runs, (json.dumps(runs[0].config), json.dumps(moved),
                              json.dumps(other), '{'), strict=True):
    (run.folder / 'config.json').write_text(text)
  (runs[1].folder / 'summary.json').write_text('{}')
  (runs[2].folder / 'summary.json').write_text('{}')
  assert [grid_lib.state(run) for run in runs] == [
      'begun', 'finished', 'foreign', 'foreign']


def test_it_skips_what_is_finished_and_continues_after_a_failure(runs):
  _finish(runs[1])
  (runs[0].folder / 'fail').touch()
  (runs[2].folder / 'die').touch()
  said = []
  failed = grid_lib.run_all(runs, quiet=True, say=said.append)
  assert failed == {str(runs[0].folder): 'status 3',
                    str(runs[2].folder): 'ended by SIGKILL (out of memory?)'}
  assert _starts(runs) == [1, 0, 1, 1]
  assert f'run 1, {runs[1].folder}: finished' in said
  assert f'run 0, {runs[0].folder}: failed, status 3' in said


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_ends_the_grid(runs, signum):
  (runs[1].folder / 'wait').touch()

  def interrupt():
    deadline = time.monotonic() + 30
    while not (runs[1].folder / 'ready').exists() and time.monotonic() < deadline:
      time.sleep(0.02)
    os.kill(os.getpid(), signum)

  before = signal.getsignal(signum)
  thread = threading.Thread(target=interrupt)
  thread.start()
  with pytest.raises(grid_lib.Stopped) as caught:
    grid_lib.run_all(runs, quiet=False, say=lambda _: None)
  thread.join()
  assert caught.value.signum == signum
  assert str(runs[1].folder) in str(caught.value)
  assert (runs[1].folder / 'signal').read_text() == str(int(signum))
  assert _starts(runs) == [1, 1, 0, 0]
  assert signal.getsignal(signum) is before


DRAWING = {'config': 'configs/isic2018_task1.py',
           'systems': {'U-Net': {'model': 'unet'}}, 'seeds': (0,), 'folds': (3,),
           'generate_masks': {'dataset': 'isic2018', 'name': 'unet'}}


@pytest.fixture
def in_parts(write_grid, runs, tmp_path):
  """A U-Net, its masks, and two runs of another experiment; the fake commands."""
  del runs  # the fake commands are in place
  path = write_grid(DRAWING, systems={'plain': {'model': 'mel_cnn'}})
  return grid_lib.read(path)


def test_parts_run_in_order_and_masks_follow_their_unet(in_parts, tmp_path):
  root = tmp_path / 'parts'
  made = grid_lib.runs(in_parts, root=root, settings=['data_dir=/d', 'image_size=96'])
  assert [(run.index, run.title) for run in made] == [
      (0, f'{root}/isic2017/plain-fold0-seed0'),
      (1, f'{root}/isic2017/plain-fold0-seed1'),
      (2, f'{root}/isic2018_task1/U-Net-fold3-seed0'),
      (3, f'masks unet of isic2018 by {root}/isic2018_task1/U-Net-fold3-seed0')]
  assert made[3].arguments == (
      f'--run={root}/isic2018_task1/U-Net-fold3-seed0', '--dataset=isic2018',
      '--name=unet', '--data_dir=/d')
  assert {run.config['image_size'] for run in made} == {96}


def test_masks_are_drawn_by_their_own_command(in_parts, tmp_path, monkeypatch):
  made = grid_lib.runs(in_parts, root=tmp_path / 'parts',
                       settings=[f'data_dir={tmp_path}'])
  _finish_folder(made[2])
  masks = made[3].folder.with_name(made[3].folder.name + '-masks')
  masks.mkdir(parents=True)
  (masks / 'fail').touch()
  said = []
  failed = grid_lib.run_all(made, quiet=True, say=said.append)
  assert failed == {made[3].title: 'status 3'}
  assert (masks / 'starts').read_text() == 'x'
  assert not (made[2].folder / 'starts').exists()
  (masks / 'fail').unlink()
  assert grid_lib.run_all([made[3]], quiet=True, say=said.append) == {}
  assert (masks / 'starts').read_text() == 'xx'
  asked = []

  def state(config, *, dataset, name):
    asked.append((config['model'], dataset, name))
    return 'finished'

  monkeypatch.setattr(grid_lib.generate_masks, 'state', state)
  assert grid_lib.run_all([made[3]], quiet=True, say=said.append) == {}
  assert asked == [('unet', 'isic2018', 'unet')]
  assert (masks / 'starts').read_text() == 'xx'  # whole masks are not drawn again


def test_a_run_says_which_other_it_needs_first(write_grid, tmp_path, monkeypatch):
  path = write_grid(DRAWING, config='configs/isic2018_cv.py', seeds=(0,), systems={
      'plain': {'roi': 'none'}, 'taught': {'roi': 'generated'}})
  made = grid_lib.runs(grid_lib.read(path), root=tmp_path / 'parts', settings=[])
  plain, taught, unet, masks = made
  grid_lib.check_ready(plain, made)
  grid_lib.check_ready(unet, made)
  with pytest.raises(errors.UserError, match=r'run 3, .* needs run 2, .*--index=2 '):
    grid_lib.check_ready(masks, made)
  _finish_folder(unet)
  grid_lib.check_ready(masks, made)
  states = ['begun', 'finished', 'foreign']
  monkeypatch.setattr(grid_lib.generate_masks, 'state', lambda *_, **__: states.pop(0))
  with pytest.raises(errors.UserError, match=r'run 1, .* needs run 3, .*--index=3 '):
    grid_lib.check_ready(taught, made)
  grid_lib.check_ready(taught, made)
  grid_lib.check_ready(taught, made)  # of foreign masks the run itself judges
  grid_lib.check_ready(taught, made[:2])  # drawn by someone else


def test_selecting_leaves_the_unet_its_seed_and_fold(in_parts):
  parts = grid_lib.select(in_parts, systems=None, seeds=['5'], folds=['0'])
  assert [(part.seeds, part.folds) for part in parts] == [((5,), (0,)), ((0,), (3,))]
  alone, = grid_lib.select(in_parts, systems=['U-Net'], seeds=None, folds=None)
  assert alone.generate_masks == {'dataset': 'isic2018', 'name': 'unet'}


def test_a_setting_that_differs_between_parts_is_for_one_of_them(in_parts):
  with pytest.raises(errors.UserError) as caught:
    grid_lib.runs(in_parts, root=pathlib.Path('r'), settings=['num_epochs=1'])
  for word in ('--set=num_epochs=1', 'isic2017.py', 'isic2018_task1.py', '--systems'):
    assert word in str(caught.value)
  alone = grid_lib.select(in_parts, systems=['plain'], seeds=None, folds=None)
  runs = grid_lib.runs(alone, root=pathlib.Path('r'), settings=['num_epochs=1'])
  assert {run.config['num_epochs'] for run in runs} == {1}
