"""Kills commands with SIGKILL, starts them again, and compares bit by bit.

  python -m tests.kills --kills=50

On synthetic data of its own, in a temporary folder. Of each command one is left
alone. The others are killed at random moments, training also where a checkpoint is
just being written, and started again with the same command line until they end. All
that came of them has to be the same: parameters, state of the optimiser, BatchNorm
statistics, metrics.jsonl, predictions, attention maps and scores of a training; ids,
labels and pixels of a prepared data set; generated masks; the files of a report. Prints
a tally; exits with 1 if anything differs.
"""

import argparse
from collections.abc import Callable
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from attnmel_jax.data import storage
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import build
from attnmel_jax.experiments import run_folder
from attnmel_jax.training import checkpoint
from attnmel_jax.training import manifest
from tests import killing
from tests.commands import GRID
from tests.commands import SMALL
from tests.commands import UNET
from tests.commands import masks_folder
from tests.commands import prepare_phantom
from tests.commands import train_unet

_SETTINGS = (*SMALL, 'passes_per_epoch=1', 'checkpoint_every_steps=3',
             'log_every_steps=1')
_GEOMETRY = {'crop_ratio': 0.8, 'resize_size': 36}
_KILLS_A_ROUND = 5  # of one folder, which is left alone then


def _size(path: pathlib.Path) -> int:
  return path.stat().st_size if path.exists() else 0


def _checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
  """Folders of whole and of half-written checkpoints."""
  return [path for kind in ('latest', 'best')
          for path in (folder / 'checkpoints' / kind).glob('*')]


def _half_written(folder: pathlib.Path) -> bool:
  return any(not path.name.isdecimal() for path in _checkpoints(folder))


def _without_manifest(folder: pathlib.Path) -> bool:
  return any(path.name.isdecimal() and not (path / manifest.NAME).exists()
             for path in _checkpoints(folder))


def _moment(folder: pathlib.Path) -> str:
  """What a kill of a training interrupted, from what it left behind."""
  if not (folder / 'config.json').exists():
    return 'before the run folder'
  if _half_written(folder):
    return 'within a checkpoint'
  if _without_manifest(folder):
    return 'before the manifest of a checkpoint'
  if not _checkpoints(folder):
    return 'before the first checkpoint'
  if (folder / 'predictions').exists():
    return 'while the results were written'
  return 'elsewhere'


def train(commands: killing.Commands, kills: int, epochs: int) -> killing.Tally:
  """Kills launch/main.py; about half of the time while it saves."""
  tally, rng = killing.Tally(), commands.rng
  root = commands.home / 'train'
  root.mkdir()
  arguments = ('--config=configs/isic2017.py', '--config.roi=lesion', *(
      f'--config.{setting}' for setting in _SETTINGS if 'num_epochs' not in setting),
      f'--config.num_epochs={epochs}', '--quiet')
  commands.alone(root, 'main', *arguments, '--workdir=first')  # compiles
  seconds = commands.alone(root, 'main', *arguments, '--workdir=whole')
  tally.differences += differing_runs(root / 'first', root / 'whole')
  tally.compared += 1

  def moment(folder: pathlib.Path) -> Callable[[subprocess.Popen], None]:
    before, saved = _size(folder / 'timing.jsonl'), set(_checkpoints(folder))
    kind = rng.choice(['any', 'training', 'saving', 'manifest'], p=[.2, .35, .3, .15])
    delay = {'any': rng.uniform(0, seconds), 'training': rng.uniform(0, seconds / 2),
             'saving': rng.uniform(0, 0.1), 'manifest': 0}[kind]

    def kill(process: subprocess.Popen) -> None:
      if kind != 'any':  # after the first step
        killing.wait(process, lambda: _size(folder / 'timing.jsonl') > before)
      if kind == 'saving':
        killing.wait(process, lambda: bool(set(_checkpoints(folder)) - saved))
      if kind == 'manifest':
        killing.wait(process, lambda: _without_manifest(folder))
      deadline = time.monotonic() + delay
      killing.wait(process, lambda: time.monotonic() > deadline)
    return kill

  while tally.kills < kills:
    folder = root / f'killed{tally.compared}'
    for _ in range(_KILLS_A_ROUND):
      attempt = commands.start(root, 'main', *arguments, f'--workdir={folder.name}',
                               kill=moment(folder))
      tally.warnings += _warnings(attempt)
      if not attempt.killed:
        break  # it came to its end
      tally.moments[_moment(folder)] += 1
      if tally.kills == kills:
        break
    attempt = commands.start(
        root, 'main', *arguments, f'--workdir={folder.name}', kill=None)
    tally.warnings += _warnings(attempt)
    tally.compared += 1
    tally.differences += (
        differing_runs(root / 'whole', folder) if attempt.status == 0
        else [f'{folder}: status {attempt.status}: {attempt.log[-2000:]}'])
    print(tally.line('so far, train'), file=sys.stderr, flush=True)
  return tally


def _warnings(attempt: killing.Attempt) -> list[str]:
  return [line for line in attempt.log.splitlines() if line.startswith('warning: ')]


def _restore(folder: pathlib.Path) -> dict[str, object]:
  """The last state, its meta, the best variables and theirs."""
  config = run_folder.read_config(folder)
  num_classes = len(run_folder.read_summary(folder)['class_names'])
  like = build.state_template(config, num_classes)
  with checkpoint.Checkpoints(folder / 'checkpoints', create=False) as checkpoints:
    latest = checkpoints.restore_latest(like)
    best = checkpoints.restore_best(like.variables())
  return {'latest': latest, 'best': best}


def differing_runs(whole: pathlib.Path, other: pathlib.Path) -> list[str]:
  """What differs between two finished run folders; empty if they are the same."""
  differences = []
  states = [jax.tree_util.tree_leaves_with_path(_restore(folder))
            for folder in (whole, other)]
  if [path for path, _ in states[0]] != [path for path, _ in states[1]]:
    return [f'{other}: another tree of parameters']
  for (path, first), (_, second) in zip(*states, strict=True):
    if np.asarray(first).tobytes() != np.asarray(second).tobytes():
      differences.append(f'{other}: {jax.tree_util.keystr(path)} differs')
  files = ['config.json', 'metrics.jsonl', 'summary.json']
  for kind in ('predictions', 'attention'):
    files += sorted({f'{kind}/{path.name}' for folder in (whole, other)
                     for path in (folder / kind).iterdir()})
  return differences + _differing_files(whole, other, files)


def _differing_files(whole: pathlib.Path, other: pathlib.Path, files: list[str]
                     ) -> list[str]:
  differences = []
  for name in files:
    if not (whole / name).exists() or not (other / name).exists():
      differences.append(f'{name} is in one of {whole} and {other}')
    elif name.endswith('.npz'):  # an archive holds the time too
      first, second = (prediction_files.read_attention(folder / name)
                       for folder in (whole, other))
      same = (first[0].tolist() == second[0].tolist() and first[1].keys()
              == second[1].keys() and all(first[1][key].tobytes()
                                          == second[1][key].tobytes()
                                          for key in first[1]))
      differences += [] if same else [f'{other / name} differs']
    elif (whole / name).read_bytes() != (other / name).read_bytes():
      differences.append(f'{other / name} differs')
  return differences


def prepare(commands: killing.Commands, kills: int) -> killing.Tally:
  """Kills launch/prepare.py; after each kill a split is whole or not there."""
  tally = killing.Tally()
  archives = commands.home / 'archives'

  def arguments(data_dir: pathlib.Path) -> tuple[str, ...]:
    return ('--dataset=isic2017', f'--source={archives}', f'--data_dir={data_dir}',
            f'--crop_ratio={_GEOMETRY["crop_ratio"]}',
            f'--resize_size={_GEOMETRY["resize_size"]}')

  whole = commands.home / 'whole-data'
  seconds = commands.alone(commands.home, 'prepare', *arguments(whole))
  expected = _prepared(whole)
  while tally.kills < kills:
    data_dir = commands.home / f'killed-data{tally.compared}'
    for _ in range(_KILLS_A_ROUND):
      attempt = commands.start(commands.home, 'prepare', *arguments(data_dir),
                               kill=commands.after(seconds))
      if not attempt.killed:
        break
      found = _prepared(data_dir)
      tally.moments[f'left {len(found)} of {len(expected)} splits'] += 1
      tally.differences += [f'{data_dir}: {split} is not whole' for split in found
                            if found[split] != expected[split]]
      if tally.kills == kills:
        break
    commands.alone(commands.home, 'prepare', *arguments(data_dir))
    tally.compared += 1
    if _prepared(data_dir) != expected:
      tally.differences.append(f'{data_dir} differs')
    tally.differences += [f'{path} is left over' for path in
                          (data_dir / 'isic2017').glob('.incomplete-*')]
  return tally


def _prepared(data_dir: pathlib.Path) -> dict[str, tuple]:
  """All that is in the prepared splits."""
  found = {}
  for split in storage.available_splits('isic2017', data_dir=data_dir, **_GEOMETRY):
    opened = storage.open_split('isic2017', split, data_dir=data_dir, **_GEOMETRY)
    found[split] = (
        opened.fingerprint, opened.ids.tolist(), opened.labels.tolist(),
        [{name: array.tobytes() for name, array in opened.load(row).items()}
         for row in range(len(opened))])
  return found


def generate_masks(commands: killing.Commands, kills: int) -> killing.Tally:
  """Kills launch/generate_masks.py; mostly while it writes the masks."""
  tally, images = killing.Tally(), 400
  home = commands.home / 'unet'
  home.mkdir()
  unet = killing.Commands(home, int(commands.rng.integers(2**31)))
  train_unet(home, images=images)

  def arguments(name: str) -> tuple[str, ...]:
    return (f'--run={UNET}', '--dataset=isic2018', f'--name={name}')

  def moment(folder: pathlib.Path) -> Callable[[subprocess.Popen], None]:
    if unet.rng.random() < 0.3:
      return unet.after(seconds)
    enough = len(list(folder.glob('*.png'))) + unet.rng.integers(1, images // 2)
    return lambda process: killing.wait(
        process, lambda: len(list(folder.glob('*.png'))) >= min(enough, images))

  seconds = unet.alone(home, 'generate_masks', *arguments('whole'))
  expected = _files(masks_folder(home, 'whole'))
  while tally.kills < kills:
    name = f'killed{tally.compared}'
    folder = masks_folder(home, name)
    for _ in range(_KILLS_A_ROUND):
      attempt = unet.start(home, 'generate_masks', *arguments(name),
                           kill=moment(folder))
      if not attempt.killed:
        break
      found = _files(folder)
      left = len([file for file in found if file.endswith('.png')])
      tally.moments['left all masks' if left == images else 'left some masks' if left
                    else 'left no masks'] += 1
      tally.differences += [f'{folder / file} is not whole' for file in found
                            if found[file] != expected[file]]
      if 'index.json' in found and left < images:
        tally.differences.append(f'{folder} says that all masks are there')
      if tally.kills == kills:
        break
    unet.alone(home, 'generate_masks', *arguments(name))
    tally.compared += 1
    if _files(folder) != expected:
      tally.differences.append(f'{folder} differs')
  return tally


def report(commands: killing.Commands, kills: int) -> killing.Tally:
  """Kills launch/report.py; a file under its own name is whole after each kill."""
  tally = killing.Tally()

  def folder(name: str) -> pathlib.Path:
    made = commands.home / name
    made.mkdir()
    (made / 'runs').symlink_to(commands.home / 'train')
    return made

  whole = folder('whole-report')
  seconds = commands.alone(whole, 'report', '--runs=runs', '--out=report')
  expected = _files(whole / 'report')
  while tally.kills < kills:
    other = folder(f'killed-report{tally.compared}')
    for _ in range(_KILLS_A_ROUND):
      attempt = commands.start(other, 'report', '--runs=runs', '--out=report',
                               kill=commands.after(seconds))
      if not attempt.killed:
        break
      found = _files(other / 'report')
      tally.moments[f'left {len(found)} of {len(expected)} files'] += 1
      tally.differences += [f'{other}: {name} is not whole' for name in found
                            if found[name] != expected.get(name)]
      if tally.kills == kills:
        break
    commands.alone(other, 'report', '--runs=runs', '--out=report')
    tally.compared += 1
    if _files(other / 'report') != expected:
      tally.differences.append(f'{other} differs')
  return tally


def _files(folder: pathlib.Path) -> dict[str, bytes]:
  """Name -> bytes of the files, without those that a kill left half-written."""
  return {str(path.relative_to(folder)): path.read_bytes()
          for path in folder.rglob('*')
          if path.is_file() and not path.name.endswith('.tmp')}


def grid(commands: killing.Commands, kills: int, epochs: int) -> killing.Tally:
  """Kills launch/grid.py; the run that it had started lives on, which it is told of."""
  tally = killing.Tally()
  root = commands.home / 'grid'
  root.mkdir()
  (root / 'grid.py').write_text(GRID)
  arguments = ['--grid=grid.py', '--quiet', *(
      f'--set={setting}' for setting in _SETTINGS if 'num_epochs' not in setting),
      f'--set=num_epochs={epochs}']
  seconds = commands.alone(root, 'grid', *arguments, '--workdir=whole')
  while tally.kills < kills:
    workdir = f'--workdir=killed{tally.compared}'
    for _ in range(_KILLS_A_ROUND):
      attempt = commands.start(root, 'grid', *arguments, workdir,
                               kill=commands.after(seconds))
      if not attempt.killed:
        break
      tally.moments['anywhere'] += 1
      if tally.kills == kills:
        break
    deadline = time.monotonic() + killing.TIME_LIMIT
    while (attempt := commands.start(root, 'grid', *arguments, workdir, kill=None)
           ).status == 1 and 'in use by another process' in attempt.log:
      assert time.monotonic() < deadline, attempt.log
    tally.compared += 1
    if attempt.status:
      tally.differences.append(f'{workdir}: {attempt.log[-2000:]}')
      continue
    for whole in sorted((root / 'whole' / 'isic2017').iterdir()):
      tally.differences += differing_runs(
          whole, root / workdir.partition('=')[2] / 'isic2017' / whole.name)
  return tally


def main(argv: list[str]) -> int:
  """Runs all; prints the tally; 0 if nothing differs."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--kills', type=int, default=50, help='of training')
  parser.add_argument('--others', type=int, default=10,
                      help='of each of prepare, generate_masks, report and grid')
  parser.add_argument('--epochs', type=int, default=12, help='of each training')
  parser.add_argument('--seed', type=int, default=0, help='of the moments')
  options = parser.parse_args(argv)
  bad = False
  with tempfile.TemporaryDirectory(prefix='kills-') as home:
    commands = killing.Commands(pathlib.Path(home), options.seed)
    prepare_phantom(commands.home, train=24, validation=12, test=12)
    for name, kill in (
        ('train', lambda: train(commands, options.kills, options.epochs)),
        ('prepare', lambda: prepare(commands, options.others)),
        ('generate_masks', lambda: generate_masks(commands, options.others)),
        ('report', lambda: report(commands, options.others)),
        ('grid', lambda: grid(commands, options.others, 2))):
      tally = kill()
      print(tally.line(name), *tally.differences, *sorted(set(tally.warnings)),
            sep='\n  ', flush=True)
      bad = bad or bool(tally.differences)
  return int(bad)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
