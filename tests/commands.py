"""The commands as a user types them: from another folder, without PYTHONPATH."""

import contextlib
import importlib
import io
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import warnings

from absl import app
from absl import flags
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A system that trains in seconds on what `prepare_phantom` leaves.
SMALL = ('resize_size=36', 'image_size=32', 'width=0.0625', 'gate_width=8',
         'pretrained=', 'batch_size=8', 'num_epochs=2', 'bootstrap_draws=100',
         'overlay_images=2')
TINY = ('--config=configs/isic2017.py', *(f'--config.{setting}' for setting in SMALL),
        '--config.passes_per_epoch=2', '--config.checkpoint_every_steps=4',
        '--config.log_every_steps=1', '--config.roi=lesion')

# Of two runs, for a file that --grid names.
GRID = '''
def get_grid():
  return {'config': 'configs/isic2017.py', 'seeds': (0,), 'folds': (0,),
          'systems': {'Mel-CNN': {'model': 'mel_cnn'},
                      'AttnMel-CNN-Lesion': {'roi': 'lesion'}}}
'''


# What commands under test inherit: without the cache each would compile anew.
_INHERITED = ('PATH', 'LANG', 'JAX_COMPILATION_CACHE_DIR',
              'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS')


def environment(home: pathlib.Path, **more: str) -> dict[str, str]:
  """Of a user whose home folder is `home`; `more` is added."""
  kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
  return kept | {'HOME': str(home)} | more


def command(name: str, *arguments: str) -> list[str]:
  """The command line of launch/<name>.py."""
  return [sys.executable, str(ROOT / 'launch' / f'{name}.py'), *arguments]


# Modules that define the flags of commands.
_DEFINE_OURS = ('absl', 'launch', 'ml_collections')


def in_process(name: str | pathlib.Path, *arguments: str
               ) -> subprocess.CompletedProcess:
  """Runs launch/<name>.py, or a script, here: without waiting for imports.

  It restores what a command changes of this process: flags, signals, path.
  """
  before = {signum: signal.getsignal(signum)
            for signum in (signal.SIGINT, signal.SIGTERM)}
  importlib.import_module('launch.command')
  app.define_help_flags()
  known = set(flags.FLAGS)
  script = str(name if isinstance(name, pathlib.Path) else
               ROOT / 'launch' / f'{name}.py')
  out, err = io.StringIO(), io.StringIO()
  with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)  # as the shell has it
    patched.setattr(sys, 'argv', [script, *arguments])
    patched.setattr(sys, 'path', [str(ROOT), *sys.path])
    try:
      with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        runpy.run_path(script, run_name='__main__')
      status = 0
    except SystemExit as end:
      status = end.code or 0
    finally:
      for signum, handler in before.items():
        signal.signal(signum, handler)
      for flag in set(flags.FLAGS) - known:
        # A library that was imported meanwhile is not imported again: its flags stay.
        module = flags.FLAGS.find_module_defining_flag(flag)
        if module not in sys.modules or module.partition('.')[0] in _DEFINE_OURS:
          delattr(flags.FLAGS, flag)
      for flag in known:
        flags.FLAGS[flag].unparse()
      flags.FLAGS.unparse_flags()
  return subprocess.CompletedProcess(
      [script, *arguments], status, out.getvalue(), err.getvalue())


def run(home: pathlib.Path, name: str, *arguments: str, cwd: pathlib.Path | None = None
        ) -> subprocess.CompletedProcess[str]:
  """Runs a command to its end, in the home folder unless `cwd` is another one."""
  return subprocess.run(command(name, *arguments), cwd=cwd or home, timeout=600,
                        env=environment(home), capture_output=True, text=True,
                        check=False)


def check(home: pathlib.Path, name: str, *arguments: str
          ) -> subprocess.CompletedProcess[str]:
  """The same; it has to succeed."""
  done = run(home, name, *arguments)
  assert done.returncode == 0, done.stderr
  return done


def prepare_phantom(home: pathlib.Path, *, train: int, validation: int, test: int
                    ) -> None:
  """Draws archives into home/archives and prepares them in the default place."""
  check(home, 'phantom', '--year=2017', '--out=archives', f'--train={train}',
        f'--validation={validation}', f'--test={test}', '--size=60')
  check(home, 'prepare', '--dataset=isic2017', '--source=archives',
        '--resize_size=36')


# A U-Net's run, of configs/isic2018_task1.py, that `train_unet` makes.
UNET = 'runs/isic2018_task1/unet-lesion-fold0-seed0'
_UNET_SETTINGS = ('resize_size=36', 'image_size=32', 'width=0.0625', 'batch_size=8',
                  'num_epochs=1', 'num_folds=4', 'bootstrap_draws=100',
                  'overlay_images=0')


def train_unet(home: pathlib.Path, *, images: int) -> str:
  """Leaves the run `UNET` in the home folder, and prepared images to draw masks of.

  Returns:
    What the training prints on stdout.
  """
  prepare = ('prepare', '--source=archives2018', '--resize_size=36', '--crop_ratio=1')
  check(home, 'phantom', '--year=2018', '--out=archives2018', f'--train={images}',
        '--validation=0', '--test=0', '--segmentation=24', '--size=48')
  check(home, *prepare, '--dataset=isic2018')
  check(home, *prepare, '--dataset=isic2018_task1')
  return check(home, 'main', '--config=configs/isic2018_task1.py', '--quiet', *(
      f'--config.{setting}' for setting in _UNET_SETTINGS)).stdout


def masks_folder(home: pathlib.Path, name: str) -> pathlib.Path:
  """Where launch/generate_masks.py leaves its masks after `train_unet`."""
  return (home / 'attnmel_data' / 'isic2018'
          / f'train-crop1.0-side36-bilinear-generated-{name}')
