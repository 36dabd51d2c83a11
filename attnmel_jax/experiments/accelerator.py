"""What to do on an accelerator that is lent for minutes: steps that resume.

  setup = accelerator.Setup(config, config_file, overrides=(), source=archives, ...)
  accelerator.run(setup, accelerator.STEPS, minutes=9., say=print)

prepare     archives -> <work>/data
throughput  float32 and bfloat16, against PyTorch -> <work>/throughput.json
train       a whole run -> <work>/run
report      <work>/report.md and report.json, of whatever there is by then

Every step is one of the commands in launch/, in a process of its own, and goes on
where an earlier call stopped.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import signal
import subprocess
import time
from typing import Any

from attnmel_jax import errors
from attnmel_jax.data import builders
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import benchmark
from attnmel_jax.experiments import processes
from attnmel_jax.experiments import run as run_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.experiments import speed
from attnmel_jax.training import timing

STEPS = ('prepare', 'throughput', 'train', 'report')
DTYPES = ('bfloat16', 'float32')
_LAUNCH = pathlib.Path(__file__).resolve().parents[2] / 'launch'
# Seconds to save a state in before a step that is out of time is killed.
_GRACE = 45.


class TimeUp(Exception):
  """The time is over; the same call goes on."""


class Failed(Exception):
  """A command failed and has said why."""

  def __init__(self, status: int):
    super().__init__(f'status {status}')
    self.status = status


@dataclasses.dataclass(frozen=True)
class Setup:
  """What is run, on what, and where."""

  config: Mapping[str, Any]     # of the run, flat
  config_file: pathlib.Path     # that it came from
  overrides: tuple[str, ...]    # arguments --config.<field>=<value> that it differs by
  source: pathlib.Path | None   # archives; None once they are prepared
  weights: pathlib.Path | None  # file of pretrained weights; None: the config's
  work: pathlib.Path            # folder that all results go to
  against_torch: bool
  limits: speed.Limits          # of each series of measurements of throughput

  @property
  def data_dir(self) -> pathlib.Path:
    """Folder of the prepared data."""
    return self.work / 'data'

  @property
  def run_folder(self) -> pathlib.Path:
    """Folder of the training run."""
    return self.work / 'run'

  @property
  def cells(self) -> pathlib.Path:
    """File of the measured throughput."""
    return self.work / 'throughput.json'


def commands(step: str, setup: Setup) -> Iterator[list[str]]:
  """The commands of a step that are still to be run, as arguments of Python.

  Raises:
    UserError: archives, weights or PyTorch are missing.
  """
  errors.check_choice('steps', step, STEPS)
  config = [f'--config={setup.config_file}', *setup.overrides]
  if step == 'prepare':
    yield from _prepare(setup)
  elif step == 'throughput':
    known = benchmark.read_cells(setup.cells)
    for dtype in DTYPES:
      measured = benchmark.without_data({**setup.config, 'dtype': dtype})
      if not benchmark.find_cell(known, measured, against_torch=setup.against_torch):
        yield [_script('benchmark'), *config, f'--config.dtype={dtype}',
               f'--json={setup.cells}', f'--steps={setup.limits.steps}',
               f'--seconds={setup.limits.seconds}',
               *(['--against=torch'] if setup.against_torch else [])]
  elif step == 'train':
    if setup.weights is not None:
      if not setup.weights.is_file():
        raise errors.UserError(
            f'--weights={setup.weights}: no such file; leave --weights out to train '
            'with what config.pretrained says')
      config.append(f'--config.pretrained={setup.weights.absolute()}')
    yield [_script('main'), *config, f'--config.data_dir={setup.data_dir}',
           f'--workdir={setup.run_folder}']


def _prepare(setup):
  config = setup.config
  geometry = {name: config[name] for name in ('crop_ratio', 'resize_size')}
  if setup.source is not None:
    yield [_script('prepare'), f'--dataset={config["dataset"]}',
           f'--source={setup.source}', f'--data_dir={setup.data_dir}',
           *(f'--{name}={value}' for name, value in geometry.items())]
  elif not builders.available_splits(
      config['dataset'], data_dir=setup.data_dir, **geometry):
    raise errors.UserError(
        f'nothing is prepared in {setup.data_dir}; name the folder of the archives '
        'with --source')


def _script(name):
  return str(_LAUNCH / f'{name}.py')


def run(setup: Setup, steps: Sequence[str], *, minutes: float,
        say: Callable[[str], None]) -> None:
  """Runs the steps in their order, one command after another.

  Args:
    setup: the same in every call that goes on.
    steps: of STEPS.
    minutes: after them the command that is running is told to save and to stop.
    say: told what begins.

  Raises:
    UserError: a step misses something, or is unknown.
    TimeUp: the time is over.
    Failed: a command failed.
  """
  deadline = time.monotonic() + 60 * minutes
  for step in steps:
    errors.check_choice('steps', step, STEPS)
  if setup.against_torch and 'throughput' in steps:
    benchmark.check_torch()
  setup.work.mkdir(parents=True, exist_ok=True)
  for step in sorted(steps, key=STEPS.index):
    for command in commands(step, setup):
      say(f'{step}: {" ".join(command)}')
      _run(command, deadline)
    if step == 'report':
      say(f'report: {write_report(setup)}')


def _run(command, deadline) -> None:
  """A command to its end, or to its state saved after the deadline."""
  if deadline <= time.monotonic():
    raise TimeUp
  with processes.running(command) as (process, _):
    try:
      status = process.wait(deadline - time.monotonic())
    except subprocess.TimeoutExpired:
      processes.send(process, signal.SIGTERM)
      try:
        status = process.wait(_GRACE)
      except subprocess.TimeoutExpired:
        processes.send(process, signal.SIGKILL)
        status = process.wait()
      if status:
        raise TimeUp from None
  if status:
    # A negative status is the signal that ended it; a shell says 128 + signal.
    raise Failed(status if status > 0 else 128 - status)


# --- the report ---


def write_report(setup: Setup) -> pathlib.Path:
  """report.md and report.json, of what the steps have left so far."""
  cells = benchmark.read_cells(setup.cells)
  content = {'throughput': cells, 'time': None, 'scores': None}
  lines = ['# Throughput and training on this machine', '']
  if cells:
    blocks = [benchmark.machine_lines(cells[0]), benchmark.table(cells),
              *(benchmark.lines(cell) for cell in cells)]
    for block in blocks:
      lines += ['```', *block, '```', '']
  else:
    lines += ['Throughput: not measured yet.', '']
  if (setup.run_folder / 'timing.jsonl').exists():
    content['time'] = timing.summarise(setup.run_folder / 'timing.jsonl')
    lines += _time_lines(content['time'])
  if (setup.run_folder / 'summary.json').exists():
    content['scores'] = run_folder.read_summary(setup.run_folder)
    lines += [f'- {run_lib.result_line(content["scores"], split, setup.run_folder)}'
              for split in ('validation', 'test') if split in content['scores']]
  else:
    lines += ['- the run is not finished']
  prediction_files.write_json(setup.work / 'report.json', content)
  path = setup.work / 'report.md'
  path.write_text('\n'.join(lines) + '\n')
  return path


def _time_lines(spent: Mapping[str, Any]) -> list[str]:
  """Where the time of the run went; what each step of training took in all."""
  rate = spent['images_per_second']
  steps = f'{spent["steps_seconds"]:.1f} s'
  if rate:
    steps += f' ({spent["images"]} images, {rate:.4g} images/s)'
  return [
      f'- {spent["steps"]} training steps, in {spent["starts"]} starts',
      f'- steps: {steps}',
      f'- first step of each start, its compilation included: '
      f'{spent["first_step_seconds"]:.1f} s',
      f'- validation: {spent["validation_seconds"]:.1f} s',
      f'- saving checkpoints: {spent["saving_seconds"]:.1f} s']
