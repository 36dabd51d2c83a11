"""Kills commands with SIGKILL, starts them again, and compares bit by bit.

  python -m tests.kills --kills=50

It works on its own synthetic data in a temporary folder. Each command runs once
undisturbed. Then it is killed at random moments, a training also while it writes a
checkpoint, and started again with the same command line until it finishes. The
results have to be the same: parameters, state of the optimiser, BatchNorm statistics,
metrics.jsonl, predictions, attention maps and scores of a training; ids, labels and
pixels of a prepared data set; generated masks; the files of a report. Prints a tally;
exits with 1 if anything differs.
"""

import argparse
import collections
from collections.abc import Callable
import dataclasses
import pathlib
import signal
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
from tests import commands

_SETTINGS = (*commands.SMALL, 'passes_per_epoch=1', 'checkpoint_every_steps=3',
             'log_every_steps=1')
_GEOMETRY = {'crop_ratio': 0.8, 'resize_size': 36}
_MASKS = 400
_KILLS_A_ROUND = 5  # of one folder, which then finishes
_POLL = 0.0005      # seconds
_TIME_LIMIT = 600   # of a command

Kill = Callable[[subprocess.Popen], None]  # returns at the moment to kill


@dataclasses.dataclass
class Attempt:
  """One start of a command, killed or not."""

  killed: bool
  status: int
  log: str


@dataclasses.dataclass
class Tally:
  """What was killed, when, and what came of it."""

  moments: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)  # what the kill left behind -> kills
  compared: int = 0  # results of a killed and restarted command
  differences: list[str] = dataclasses.field(default_factory=list)
  warnings: set[str] = dataclasses.field(default_factory=set)  # of the commands

  def line(self, name: str) -> str:
    """'train: 50 kills (...), 10 compared, 0 differences, 0 warnings'."""
    moments = ', '.join(f'{n} {what}' for what, n in self.moments.most_common())
    return (f'{name}: {self.moments.total()} kills ({moments}), {self.compared} '
            f'compared, {len(self.differences)} differences, '
            f'{len(self.warnings)} warnings')


@dataclasses.dataclass
class Case:
  """A command, whose results are told apart by a name: 'whole', 'killed0', ..."""

  start: Callable[[str, Kill | None], Attempt]
  moment: Callable[[str], Kill]  # when to kill it next
  left: Callable[[str], tuple[str, list[str]]]  # after a kill: what, and what is wrong
  differing: Callable[[str], list[str]]  # once finished, from 'whole'


def repeat(case: Case, kills: int) -> Tally:
  """Kills a command `kills` times while it runs, and lets it finish in between."""
  tally = Tally()
  while tally.moments.total() < kills:
    name = f'killed{tally.compared}'
    for _ in range(_KILLS_A_ROUND):
      attempt = case.start(name, case.moment(name))
      if not attempt.killed:
        break  # it finished first
      what, wrong = case.left(name)
      tally.moments[what] += 1
      tally.differences += wrong
      if tally.moments.total() == kills:
        break
    deadline = time.monotonic() + _TIME_LIMIT
    while 'in use by another process' in (attempt := case.start(name, None)).log:
      assert time.monotonic() < deadline, attempt.log  # a run of the killed grid
    tally.warnings |= {line for line in attempt.log.splitlines()
                       if line.startswith('warning: ')}
    tally.compared += 1
    tally.differences += (case.differing(name) if attempt.status == 0 else
                          [f'{name}: status {attempt.status}: {attempt.log[-2000:]}'])
  return tally


class Home:
  """The home folder of a user who starts commands that are killed."""

  def __init__(self, folder: pathlib.Path, seed: int):
    self.folder, self.rng = folder, np.random.default_rng(seed)

  def start(self, folder: pathlib.Path, kill: Kill | None, name: str, *arguments: str
            ) -> Attempt:
    """Runs a command in `folder`, to its end where `kill` is None."""
    log = folder / f'{name}.log'
    cache = str(self.folder / 'xla')  # a kill may leave half an entry
    with log.open('w') as file, subprocess.Popen(
        commands.command(name, *arguments), cwd=folder, stdout=file, stderr=file,
        env=commands.environment(self.folder, JAX_COMPILATION_CACHE_DIR=cache),
        process_group=0) as process:
      alive = False
      if kill is not None:
        kill(process)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
      status = process.wait(timeout=_TIME_LIMIT)
    return Attempt(alive and status == -signal.SIGKILL, status, log.read_text())

  def after(self, seconds: float) -> Kill:
    """A kill at a random moment of the first `seconds`."""
    deadline = time.monotonic() + self.rng.uniform(0, seconds)
    return lambda process: _wait(process, lambda: time.monotonic() > deadline)


def _wait(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
  while process.poll() is None and not happened():
    time.sleep(_POLL)


def _seconds(case: Case, name: str = 'whole') -> float:
  """How long a command takes that is left alone."""
  start = time.monotonic()
  attempt = case.start(name, None)
  assert attempt.status == 0, attempt.log
  return time.monotonic() - start


def _checkpoints(folder: pathlib.Path) -> set[pathlib.Path]:
  """Folders of whole and of half-written checkpoints."""
  return {path for kind in ('latest', 'best')
          for path in (folder / 'checkpoints' / kind).glob('*')}


def _without_manifest(folder: pathlib.Path) -> bool:
  return any(path.name.isdecimal() and not (path / checkpoint.MANIFEST).exists()
             for path in _checkpoints(folder))


def _moment(folder: pathlib.Path) -> str:
  """What a kill of a training interrupted, from what it left behind."""
  if not (folder / 'config.json').exists():
    return 'before the run folder'
  if any(not path.name.isdecimal() for path in _checkpoints(folder)):
    return 'within a checkpoint'
  if _without_manifest(folder):
    return 'before the manifest of a checkpoint'
  if not _checkpoints(folder):
    return 'before the first checkpoint'
  if (folder / 'predictions').exists():
    return 'while the results were written'
  return 'elsewhere'


def train(home: Home, kills: int, epochs: int) -> Tally:
  """Kills launch/main.py; about half of the time while it saves."""
  root, rng = home.folder / 'train', home.rng
  root.mkdir()
  arguments = ('--config=configs/isic2017.py', '--config.roi=lesion', *(
      f'--config.{setting}' for setting in _SETTINGS if 'num_epochs' not in setting),
      f'--config.num_epochs={epochs}', '--quiet')

  def moment(name: str) -> Kill:
    folder = root / name
    timing, saved = folder / 'timing.jsonl', _checkpoints(folder)
    before = timing.stat().st_size if timing.exists() else 0
    kind = rng.choice(['any', 'training', 'saving', 'manifest'], p=[.2, .35, .3, .15])
    delay = {'any': rng.uniform(0, seconds), 'training': rng.uniform(0, seconds / 2),
             'saving': rng.uniform(0, 0.1), 'manifest': 0}[kind]

    def kill(process: subprocess.Popen) -> None:
      if kind != 'any':  # after the first step
        _wait(process, lambda: timing.exists() and timing.stat().st_size > before)
      if kind == 'saving':
        _wait(process, lambda: bool(_checkpoints(folder) - saved))
      if kind == 'manifest':
        _wait(process, lambda: _without_manifest(folder))
      deadline = time.monotonic() + delay
      _wait(process, lambda: time.monotonic() > deadline)
    return kill

  case = Case(
      lambda name, kill: home.start(root, kill, 'main', *arguments,
                                    f'--workdir={name}'),
      moment, lambda name: (_moment(root / name), []),
      lambda name: differing_runs(root / 'whole', root / name))
  _seconds(case, 'first')  # compiles
  seconds = _seconds(case)
  tally = repeat(case, kills)
  tally.differences += differing_runs(root / 'first', root / 'whole')
  tally.compared += 1
  return tally


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
  states = [jax.tree_util.tree_leaves_with_path(_restore(folder))
            for folder in (whole, other)]
  if [path for path, _ in states[0]] != [path for path, _ in states[1]]:
    return [f'{other}: another tree of parameters']
  differences = [f'{other}: {jax.tree_util.keystr(path)} differs'
                 for (path, first), (_, second) in zip(*states, strict=True)
                 if np.asarray(first).tobytes() != np.asarray(second).tobytes()]
  files = ['config.json', 'metrics.jsonl', 'summary.json']
  for kind in ('predictions', 'attention'):
    files += sorted({f'{kind}/{path.name}' for folder in (whole, other)
                     for path in (folder / kind).iterdir()})
  return differences + differing_files(whole, other, files)


def differing_files(whole: pathlib.Path, other: pathlib.Path, files: list[str]
                    ) -> list[str]:
  """The same of named files; of an archive its arrays, as it holds the time too."""
  differences = []
  for name in files:
    if not (whole / name).exists() or not (other / name).exists():
      differences.append(f'{name} is in one of {whole} and {other}')
      continue
    contents = [(folder / name).read_bytes() for folder in (whole, other)]
    if name.endswith('.npz'):
      contents = [[ids.tolist(), {tap: maps.tobytes() for tap, maps in by_tap.items()}]
                  for ids, by_tap in (prediction_files.read_attention(folder / name)
                                      for folder in (whole, other))]
    differences += [] if contents[0] == contents[1] else [f'{other / name} differs']
  return differences


def prepare(home: Home, kills: int) -> Tally:
  """Kills launch/prepare.py; after each kill a split is whole or missing."""
  arguments = ('--dataset=isic2017', f'--source={home.folder / "archives"}',
               *(f'--{name}={value}' for name, value in _GEOMETRY.items()))

  def left(name: str) -> tuple[str, list[str]]:
    found = _prepared(home.folder / name)
    return (f'left {len(found)} of {len(expected)} splits', [
        f'{name}: {split} is not whole' for split in found
        if found[split] != expected[split]])

  def differing(name: str) -> list[str]:
    rest = (home.folder / name / 'isic2017').glob('.incomplete-*')
    return [f'{path} is left over' for path in rest] + (
        [] if _prepared(home.folder / name) == expected else [f'{name} differs'])

  case = Case(
      lambda name, kill: home.start(home.folder, kill, 'prepare', *arguments,
                                    f'--data_dir={home.folder / name}'),
      lambda name: home.after(seconds), left, differing)
  seconds = _seconds(case)
  expected = _prepared(home.folder / 'whole')
  return repeat(case, kills)


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


def generate_masks(home: Home, kills: int) -> Tally:
  """Kills launch/generate_masks.py; mostly while it writes the masks."""
  folder = home.folder / 'unet'
  folder.mkdir()
  user = Home(folder, int(home.rng.integers(2**31)))
  commands.train_unet(folder, images=_MASKS)

  def masks(name: str) -> pathlib.Path:
    return commands.masks_folder(folder, name)

  def moment(name: str) -> Kill:
    if user.rng.random() < 0.3:
      return user.after(seconds)
    enough = len(list(masks(name).glob('*.png'))) + user.rng.integers(1, _MASKS // 2)
    return lambda process: _wait(
        process, lambda: len(list(masks(name).glob('*.png'))) >= min(enough, _MASKS))

  def left(name: str) -> tuple[str, list[str]]:
    found = _files(masks(name))
    made = len([file for file in found if file.endswith('.png')])
    wrong = [f'{name}/{file} is not whole' for file in found
             if found[file] != expected[file]]
    if 'index.json' in found and made < _MASKS:
      wrong.append(f'{name} says that all masks are there')
    amount = {0: 'no', _MASKS: 'all'}.get(made, 'some')
    return f'left {amount} masks', wrong

  case = Case(
      lambda name, kill: user.start(folder, kill, 'generate_masks',
                                    f'--run={commands.UNET}', '--dataset=isic2018',
                                    f'--name={name}'),
      moment, left, lambda name: [] if _files(masks(name)) == expected else [
          f'{masks(name)} differs'])
  seconds = _seconds(case)
  expected = _files(masks('whole'))
  return repeat(case, kills)


def _files(folder: pathlib.Path) -> dict[str, bytes]:
  """Name -> bytes of the files, without those that a kill left half-written."""
  return {str(path.relative_to(folder)): path.read_bytes()
          for path in folder.rglob('*')
          if path.is_file() and not path.name.endswith('.tmp')}


def report(home: Home, kills: int) -> Tally:
  """Kills launch/report.py; a file under its own name is whole after each kill."""
  root = home.folder / 'reports'
  root.mkdir()
  (root / 'runs').symlink_to(home.folder / 'train')

  def left(name: str) -> tuple[str, list[str]]:
    found = _files(root / name)
    return f'left {len(found)} of {len(expected)} files', [
        f'{name}: {file} is not whole' for file in found
        if found[file] != expected.get(file)]

  case = Case(
      lambda name, kill: home.start(root, kill, 'report', '--runs=runs',
                                    f'--out={name}'),
      lambda name: home.after(seconds), left,
      lambda name: [] if _files(root / name) == expected else [f'{name} differs'])
  seconds = _seconds(case)
  expected = _files(root / 'whole')
  return repeat(case, kills)


def grid(home: Home, kills: int, epochs: int) -> Tally:
  """Kills launch/grid.py; the run that it had started outlives it."""
  root = home.folder / 'grid'
  root.mkdir()
  (root / 'grid.py').write_text(commands.GRID)
  arguments = ('--grid=grid.py', '--quiet', *(
      f'--set={setting}' for setting in _SETTINGS if 'num_epochs' not in setting),
      f'--set=num_epochs={epochs}')

  def differing(name: str) -> list[str]:
    return [difference for whole in sorted((root / 'whole' / 'isic2017').iterdir())
            for difference in differing_runs(
                whole, root / name / 'isic2017' / whole.name)]

  case = Case(
      lambda name, kill: home.start(root, kill, 'grid', *arguments,
                                    f'--workdir={name}'),
      lambda name: home.after(seconds), lambda name: ('anywhere', []), differing)
  seconds = _seconds(case)
  return repeat(case, kills)


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
  with tempfile.TemporaryDirectory(prefix='kills-') as folder:
    home = Home(pathlib.Path(folder), options.seed)
    commands.prepare_phantom(home.folder, train=24, validation=12, test=12)
    for name, kill in (
        ('train', lambda: train(home, options.kills, options.epochs)),
        ('prepare', lambda: prepare(home, options.others)),
        ('generate_masks', lambda: generate_masks(home, options.others)),
        ('report', lambda: report(home, options.others)),
        ('grid', lambda: grid(home, options.others, 2))):
      tally = kill()
      print(tally.line(name), *tally.differences, *sorted(tally.warnings),
            sep='\n  ', flush=True)
      bad = bad or bool(tally.differences)
  return int(bad)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
