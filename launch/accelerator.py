"""Measures throughput and trains a whole run on a machine that is lent for minutes.

  python launch/accelerator.py --source=DIR --weights=FILE --work=runs/accelerator

The same command goes on until it ends with status 0: every call stops by itself
after --minutes, with status 75 while something is left to do. Archives and weights
that do not fit one transfer go over one after the other:

  python launch/accelerator.py --work=runs/accelerator --steps=prepare --source=DIR
  python launch/accelerator.py --work=runs/accelerator --weights=FILE \\
      --steps=throughput,train,report
"""

import pathlib
import sys

# Python puts launch/ on the path, not the repository.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from launch import command  # first: it answers Ctrl-C while the rest loads

# isort: split

from absl import flags
from ml_collections import config_flags

from attnmel_jax.experiments import accelerator
from attnmel_jax.experiments import speed

CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'experiment file; default configs/accelerator.py',
    lock_config=True)
SOURCE = flags.DEFINE_string(
    'source', '', 'folder of the archives; may be left out once they are prepared')
WEIGHTS = flags.DEFINE_string(
    'weights', '', 'file of pretrained weights, in place of config.pretrained')
WORK = flags.DEFINE_string(
    'work', 'runs/accelerator', 'folder of prepared data, run folder and report')
STEPS = flags.DEFINE_list(
    'steps', list(accelerator.STEPS), f'some of {", ".join(accelerator.STEPS)}')
MINUTES = flags.DEFINE_float(
    'minutes', 9., 'after which to stop, to save and to end with status 75',
    lower_bound=0.)
TORCH = flags.DEFINE_bool('torch', True, 'compare the throughput with PyTorch')
MEASUREMENTS = flags.DEFINE_integer(
    'measurements', 20, 'at most so many measurements of each kind of throughput',
    lower_bound=speed.FEWEST)
SECONDS = flags.DEFINE_float(
    'seconds', 20., 'the same in seconds', lower_bound=0.)

NOT_DONE = 75  # sysexits' EX_TEMPFAIL: the same command has more to do


def main() -> None:
  """Runs the steps; what it is at goes to stderr, results to stdout."""
  config = command.require_config(CONFIG.value)
  holder = flags.FLAGS['config']
  setup = accelerator.Setup(
      config=config,
      config_file=pathlib.Path(config_flags.get_config_filename(holder)).absolute(),
      overrides=tuple(
          f'--config.{name}={value}'
          for name, value in config_flags.get_override_values(holder).items()),
      source=command.path(SOURCE.value) if SOURCE.value else None,
      weights=command.path(WEIGHTS.value) if WEIGHTS.value else None,
      work=command.path(WORK.value).absolute(), against_torch=TORCH.value,
      limits=speed.Limits(MEASUREMENTS.value, SECONDS.value))
  try:
    accelerator.run(setup, STEPS.value, minutes=MINUTES.value,
                    say=lambda text: print(text, file=sys.stderr, flush=True))
  except accelerator.TimeUp:
    print(f'{MINUTES.value:g} minutes are over; the same command goes on',
          file=sys.stderr)
    sys.exit(NOT_DONE)
  except accelerator.Failed as failed:
    sys.exit(failed.status)  # the command that failed has said why
  if 'report' in STEPS.value:
    print((setup.work / 'report.md').read_text(), end='')


if __name__ == '__main__':
  command.run(main, default_config='configs/accelerator.py')
