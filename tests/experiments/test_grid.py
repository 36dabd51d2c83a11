"""Grids: their files, the runs they stand for, and how these are run."""

import contextlib
import json
import pathlib
import signal
import types

import pytest

from attnmel_jax import errors
from attnmel_jax.experiments import grid as grid_lib
from attnmel_jax.experiments import processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Systems, seeds and folds of each part.
SIZES = {'table_3_1': [(4, 3, 1)], 'table_3_2': [(7, 3, 1)], 'table_3_3': [(4, 3, 1)],
         'table_3_4': [(1, 1, 1), (5, 1, 5)],
         'phantom': [(4, 1, 1), (7, 1, 1), (1, 1, 1), (5, 1, 1)]}

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
def runs(write_grid, tmp_path):
  """Four runs."""
  return grid_lib.runs(grid_lib.read(write_grid()), root=tmp_path / 'runs', settings=[])


@pytest.fixture
def started(monkeypatch):
  """Arguments of the commands that were started; no process is.

  `started.endings`: number of the start -> exit status, signals received meanwhile.
  """
  class Started(list):
    endings = {}

  started = Started()

  @contextlib.contextmanager
  def running(arguments):
    status, received = started.endings.get(len(started), (0, []))
    started.append(arguments)
    yield types.SimpleNamespace(wait=lambda: status), received

  monkeypatch.setattr(processes, 'running', running)
  return started


def _finish(run):
  run.folder.mkdir(parents=True)
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
  assert [(run.index, str(run.folder), run.config['model']) for run in runs] == [
      (0, 'r/isic2017/plain-fold0-seed3', 'mel_cnn'),
      (1, 'r/isic2017/gated-fold0-seed3', 'attnmel_cnn'),
      (2, 'r/isic2017/plain-fold0-seed5', 'mel_cnn'),
      (3, 'r/isic2017/gated-fold0-seed5', 'attnmel_cnn')]
  assert {'seed': 5, 'fold': 0, 'roi': 'lesion', 'dice_weights': (0.5, 1.0),
          'image_size': 96, 'pretrained': ''}.items() <= runs[3].config.items()
  assert runs[3].arguments == (
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
    run.folder.mkdir(parents=True)
    (run.folder / 'config.json').write_text(text)
  for run in runs[1:3]:
    (run.folder / 'summary.json').write_text('{}')
  assert [grid_lib.state(run) for run in runs] == [
      'begun', 'finished', 'foreign', 'foreign']


def test_it_skips_what_is_finished_and_continues_after_a_failure(runs, started):
  _finish(runs[1])
  started.endings.update({0: (3, []), 1: (-signal.SIGKILL, [])})
  said = []
  failed = grid_lib.run_all(runs, quiet=True, say=said.append)
  assert failed == {str(runs[0].folder): 'status 3',
                    str(runs[2].folder): 'ended by SIGKILL (out of memory?)'}
  assert started == [[f'{ROOT}/launch/main.py', *run.arguments, '--quiet']
                     for run in (runs[0], runs[2], runs[3])]
  assert f'run 1, {runs[1].folder}: finished' in said
  assert f'run 0, {runs[0].folder}: failed, status 3' in said


def test_a_signal_ends_the_grid(runs, started):
  started.endings[1] = (128 + signal.SIGTERM, [signal.SIGTERM])
  with pytest.raises(grid_lib.Stopped) as caught:
    grid_lib.run_all(runs, quiet=False, say=lambda _: None)
  assert caught.value.signum == signal.SIGTERM
  assert str(runs[1].folder) in str(caught.value)
  assert len(started) == 2 and '--quiet' not in started[0]


DRAWING = {'config': 'configs/isic2018_task1.py',
           'systems': {'U-Net': {'model': 'unet'}}, 'seeds': (0,), 'folds': (3,),
           'generate_masks': {'dataset': 'isic2018', 'name': 'unet'}}


@pytest.fixture
def in_parts(write_grid):
  """A U-Net, its masks, and two runs of another experiment."""
  return grid_lib.read(write_grid(DRAWING, systems={'plain': {'model': 'mel_cnn'}}))


def test_masks_follow_their_unet_and_are_drawn_by_their_own_command(
    in_parts, started, tmp_path, monkeypatch):
  root = tmp_path / 'parts'
  made = grid_lib.runs(in_parts, root=root, settings=['data_dir=/d', 'image_size=96'])
  assert [(run.index, run.title) for run in made] == [
      (0, f'{root}/isic2017/plain-fold0-seed0'),
      (1, f'{root}/isic2017/plain-fold0-seed1'),
      (2, f'{root}/isic2018_task1/U-Net-fold3-seed0'),
      (3, f'masks unet of isic2018 by {root}/isic2018_task1/U-Net-fold3-seed0')]
  assert {run.config['image_size'] for run in made} == {96}
  _finish(made[2])
  assert grid_lib.run_all(made[2:], quiet=False, say=str) == {}
  assert started == [[
      f'{ROOT}/launch/generate_masks.py', f'--run={made[2].folder}',
      '--dataset=isic2018', '--name=unet', '--data_dir=/d']]
  asked = []

  def state(config, *, dataset, name):
    asked.append((config['model'], dataset, name))
    return 'finished'

  monkeypatch.setattr(grid_lib.generate_masks, 'state', state)
  assert grid_lib.run_all([made[3]], quiet=True, say=str) == {}
  assert asked == [('unet', 'isic2018', 'unet')]
  assert len(started) == 1  # whole masks are not drawn again


def test_a_run_says_which_other_it_needs_first(write_grid, tmp_path, monkeypatch):
  path = write_grid(DRAWING, config='configs/isic2018_cv.py', seeds=(0,), systems={
      'plain': {'roi': 'none'}, 'taught': {'roi': 'generated'}})
  made = grid_lib.runs(grid_lib.read(path), root=tmp_path / 'parts', settings=[])
  plain, taught, unet, masks = made
  grid_lib.check_ready(plain, made)
  grid_lib.check_ready(unet, made)
  with pytest.raises(errors.UserError, match=r'run 3, .* needs run 2, .*--index=2 '):
    grid_lib.check_ready(masks, made)
  _finish(unet)
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
