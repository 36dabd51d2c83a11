"""Runs of several processes on this host, as one of several hosts would be started."""

import csv
import json
import shutil
import signal
import socket
import subprocess
import time

import jax
import numpy as np
import pytest
import safetensors.numpy

from attnmel_jax.experiments import build
from attnmel_jax.experiments import run_folder
from attnmel_jax.training import checkpoint
from tests.commands import TINY
from tests.commands import command
from tests.commands import environment
from tests.commands import prepare_phantom
from tests.training import on_devices

# Of 21 steps. With both Dice losses and BatchNorm, on a backbone that compiles in a
# moment; and VGG-16 with dropout in place of them.
CONFIG = '''
import pytest
from configs import isic2017
from tests import two_blocks

two_blocks.add(pytest.MonkeyPatch())  # for good


def get_config():
  config = isic2017.get_config()
  config.backbone = 'two_blocks_bn'
  return config
'''
_STEPS = ('--config.passes_per_epoch=1', '--config.log_every_steps=2',
          '--config.num_epochs=3')
SMALL = ['--config=small.py', *TINY[1:], *_STEPS, '--config.dtype=float64',
         '--config.learning_rate=0.001', '--config.width=1']
DROPOUT = [*TINY, *_STEPS, '--config.dtype=float64', '--config.model=vgg16',
           '--config.backbone=vgg16', '--config.roi=none', '--config.learning_rate=0.1']


def _start(home, arguments, *, devices=1, cwd=None):
  flags = f'--xla_force_host_platform_device_count={devices}'
  return subprocess.Popen(
      command('main', *arguments), cwd=cwd or home, text=True,
      # XLA says on stderr, too, that a busy machine compiles slowly.
      env=environment(home, JAX_PLATFORMS='cpu', XLA_FLAGS=flags,
                      TF_CPP_MIN_LOG_LEVEL='3'),
      stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _start_two(home, arguments, *own, devices=1, cwds=(None, None)):
  """Starts both; `own` are the arguments of each alone, if given."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    address = f'localhost:{probe.getsockname()[1]}'
  return [_start(home, [*arguments, *extra, f'--coordinator={address}',
                        '--num_processes=2', f'--process_id={number}'],
                 devices=devices, cwd=cwds[number])
          for number, extra in enumerate(own or ([], []))]


def _finish(*processes):
  outputs = []
  for process in processes:
    outputs.append(process.communicate(timeout=600))
    assert process.returncode == 0, outputs[-1][1]
  return outputs


def _wait_for(path, lines, *processes):
  """Returns when a file of the running processes has more than so many lines."""
  deadline = time.time() + 300
  while not (path.exists() and path.read_text().count('\n') > lines):
    assert time.time() < deadline
    assert all(process.poll() is None for process in processes)
    time.sleep(0.02)


def _assert_ended(status, words, *processes):
  """Each with this status, and its own words in its last line."""
  for process, expected in zip(processes, words, strict=True):
    _, messages = process.communicate(timeout=300)
    assert process.returncode == status, messages
    assert expected in messages.splitlines()[-1]


@pytest.fixture(scope='module')
def home(tmp_path_factory, two_blocks):
  """A home folder with prepared phantom data, and a run of one process on it."""
  home = tmp_path_factory.mktemp('home')
  (home / 'small.py').write_text(CONFIG)
  prepare_phantom(home, train=40, validation=13, test=11)
  _finish(_start(home, [*SMALL, '--workdir=one']))
  return home


def _assert_same_run(home, name, of='one'):
  """Folder `name` holds what the run `of` one process wrote, up to rounding.

  In float64 that is 1e-15 a step, and 1e-11 after all: 1e-9 leaves nothing else.
  """
  files = [{path.relative_to(home / run) for path in (home / run).rglob('*')
            if path.is_file() and 'checkpoints' not in path.parts}
           for run in (of, name)]
  assert files[0] == files[1]
  lines = [[json.loads(line) for line in
            (home / run / 'metrics.jsonl').read_text().splitlines()]
           for run in (of, name)]
  assert len(lines[0]) == len(lines[1])
  for want, got in zip(*lines, strict=True):
    assert got == pytest.approx(want, rel=1e-9)
  for split in ('val', 'test'):
    tables = []
    for run in (of, name):
      with (home / run / f'predictions/{split}.csv').open() as file:
        tables.append(list(csv.reader(file)))
    assert [row[:2] for row in tables[0]] == [row[:2] for row in tables[1]]
    values = [np.array([row[2:] for row in table[1:]], float) for table in tables]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-9)
  _assert_same_checkpoints(home / name, home / of)


def _assert_same_checkpoints(got, want):
  """Every leaf to 1e-9 of its largest value: see `on_devices.assert_alike`."""
  config = run_folder.read_config(want)
  restored = []
  with jax.enable_x64(True):
    like = build.state_template(config, 2)
    for run in (got, want):
      with checkpoint.Checkpoints(run / 'checkpoints', create=False) as checkpoints:
        restored.append((checkpoints.restore_latest(like),
                         checkpoints.restore_best(like.variables())))
  (latest, best), (want_latest, want_best) = restored
  kinds = {str(path[0]) for path, _ in
           jax.tree_util.tree_leaves_with_path(want_latest[0])}
  assert kinds >= {'.step', '.params', '.momentum'}
  assert ('.batch_stats' in kinds) == config['backbone'].endswith('bn')
  for (tree, meta), (want_tree, want_meta) in (
      (latest, want_latest), (best, want_best)):
    on_devices.assert_alike(on_devices.leaves('', tree),
                            on_devices.leaves('', want_tree), rounding=1e-9)
    assert meta == pytest.approx(want_meta, rel=1e-9)


@pytest.mark.parametrize(('devices', 'arguments', 'one'), [
    pytest.param(1, SMALL, 'one', marks=pytest.mark.slow),
    pytest.param(2, DROPOUT, 'one-dropout', marks=pytest.mark.matrix)])
def test_two_processes_write_the_run_of_one(home, devices, arguments, one):
  if not (home / one).exists():
    _finish(_start(home, [*arguments, f'--workdir={one}']))
  name = f'two-{devices}'
  first, second = _finish(
      *_start_two(home, [*arguments, f'--workdir={name}'], devices=devices))
  assert f'{name}: test (11 synthetic images)' in first[0]
  assert f'devices: {2 * devices} x cpu in 2 processes' in first[1]
  # The main process alone speaks, but for Gloo's greeting on stdout.
  assert second[1] == '' and 'synthetic' not in second[0]
  _assert_same_run(home, name, one)


@pytest.mark.matrix
@pytest.mark.parametrize(('count', 'asked'), [(2, 0), (2, 1), (1, 0)])
def test_what_one_signal_stops_is_resumed_by_another_number_of_processes(
    home, count, asked):
  name = f'stopped-{count}-{asked}'
  arguments = [*SMALL, f'--workdir={name}']

  def start(count):
    return [_start(home, arguments)] if count == 1 else _start_two(home, arguments)

  processes = start(count)
  # Long before the end: between lies at least the first validation's compilation.
  _wait_for(home / name / 'metrics.jsonl', 1, *processes)
  processes[asked].send_signal(signal.SIGTERM)
  _assert_ended(143, ['the same command resumes'] * count, *processes)
  saved = json.loads((home / name / 'metrics.jsonl').read_text().splitlines()[-1])
  outputs = _finish(*start(3 - count))
  assert f'resumed after step {saved["step"]} of 21' in outputs[0][1]
  _assert_same_run(home, name)


@pytest.mark.matrix
@pytest.mark.parametrize('damaged', [1, 2])
def test_two_processes_leave_a_damaged_state_for_the_same_one(home, damaged):
  name = f'damaged-{damaged}'
  shutil.copytree(home / 'one', home / name)
  (home / name / 'summary.json').unlink()
  states = sorted((home / name / 'checkpoints' / 'latest').iterdir(),
                  key=lambda path: -int(path.name))
  for state in states[:damaged]:
    arrays = max((path for path in (state / 'tree').rglob('*') if path.is_file()),
                 key=lambda path: path.stat().st_size)
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
  processes = _start_two(home, [*SMALL, f'--workdir={name}'])
  if damaged == 2:
    _assert_ended(2, ['latest are damaged'] * 2, *processes)
    return
  first, second = _finish(*processes)
  assert f'latest/{states[0].name} is not whole' in first[1]
  assert f'resumed after step {states[1].name} of' in first[1]
  assert second[1] == ''
  _assert_same_run(home, name)


@pytest.mark.matrix
def test_a_mistake_of_the_folder_ends_both_processes_in_one_line(home):
  _assert_ended(2, ['holds a run of another config (seed: 0 -> 5)'] * 2, *_start_two(
      home, [*SMALL, '--workdir=one', '--config.seed=5']))


@pytest.mark.matrix
@pytest.mark.parametrize(('missing', 'words'), [
    ('test', ['config or data differ between the 2 processes'] * 2),
    ('train', ['another process of the run cannot start',
               "split 'train' of isic2017 is not"])])
def test_a_split_that_one_process_lacks_ends_both(home, tmp_path, missing, words):
  data = tmp_path / 'data'
  shutil.copytree(home / 'attnmel_data', data)
  for folder in (data / 'isic2017').glob(f'{missing}-*'):
    shutil.rmtree(folder)
  # The last --config.data_dir is that of process 1 alone.
  _assert_ended(2, words, *_start_two(
      home, [*SMALL, f'--workdir=without-{missing}'], [],
      [f'--config.data_dir={data}']))


@pytest.mark.matrix
def test_weights_that_one_process_lacks_end_both(home, tmp_path):
  weights, channels, index = {}, 3, 0
  for layers, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
    for _ in range(layers):
      weights[f'features.{index}.weight'] = np.full(
          (width, channels, 3, 3), 0.01, np.float16)
      weights[f'features.{index}.bias'] = np.zeros(width, np.float16)
      channels, index = width, index + 2
    index += 1
  safetensors.numpy.save_file(weights, home / 'own.safetensors')
  _assert_ended(
      2, ['another process of the run cannot start', 'own.safetensors'], *_start_two(
          home, [*TINY, *_STEPS, '--workdir=weightless', '--config.width=1.0',
                 '--config.backbone=vgg16', '--config.pretrained=own.safetensors'],
          cwds=(home, tmp_path)))


@pytest.mark.matrix
def test_a_signal_before_the_first_step_is_not_lost(home):
  processes = _start_two(
      home, [*SMALL, '--workdir=stopped-early', '--config.num_epochs=1000'])
  _wait_for(home / 'stopped-early' / 'config.json', 0, *processes)  # they have met
  for process in processes:
    process.send_signal(signal.SIGTERM)
  _assert_ended(143, [''] * 2, *processes)


@pytest.mark.slow
def test_a_frozen_backbone_is_computed_once_for_all_processes(home):
  arguments = [*SMALL, '--config.freeze_backbone=True', '--config.random_crop=False']
  _finish(*_start_two(home, [*arguments, '--workdir=frozen_two']))
  views = list(home.glob('attnmel_data/isic2017/*-maps-*/view*'))
  assert len(views) == 8 + 1 + 1 and not [p for p in views if p.suffix]
  _finish(_start(home, [*arguments, '--workdir=frozen_one']))
  _assert_same_run(home, 'frozen_two', of='frozen_one')
