"""What all commands share: flags, one-line errors, exit statuses.

Exit statuses: 0 done; 1 partly done; 2 a mistake in the command, its input or its
config (one line); 70 an internal error (with its traceback); 130 stopped by Ctrl-C; 141
nobody reads stdout; 143 stopped by SIGTERM.
"""

from launch import start  # noqa: F401  # first: what follows may not be installed

# isort: split

import atexit
from collections.abc import Callable
import contextlib
import errno
import functools
import glob
import os
import pathlib
import re
import signal
import sys
import traceback
from typing import Any
from typing import NoReturn

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_dict

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import progress
from launch import streams

ROOT = pathlib.Path(__file__).resolve().parents[1]
QUIET = flags.DEFINE_bool('quiet', False, 'print only results and errors')


def _stop_at_start(signum: int, frame: object) -> None:
  """Ends a command that is still importing: there is nothing to save yet."""
  del frame
  print(f'error: {_stopped(signum)}', file=sys.stderr, flush=True)
  os._exit(128 + signum)


def _stopped(signum: int) -> str:
  name = {signal.SIGINT: 'Ctrl-C', signal.SIGTERM: 'SIGTERM'}[signum]
  return f'stopped by {name}; start the same command again to finish'


# From the import of this module, which every command imports first, until `run`.
for _signum in (signal.SIGINT, signal.SIGTERM):
  signal.signal(_signum, _stop_at_start)
# Python gives SIGINT back to the system before it ends, which would then turn the
# success of a finished command into a silent failure.
atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


_CONFIG_FLAGS = ('--config', '-config')


def _absolute_config(argv: list[str]) -> list[str]:
  """Lets `--config=configs/x.py` name a file of the repository from anywhere."""
  resolved = list(argv)
  for position, argument in enumerate(argv):
    name, equals, value = argument.partition('=')
    if name not in _CONFIG_FLAGS:
      continue
    if equals:
      resolved[position] = f'{name}={_find_config(value)}'
    elif position + 1 < len(argv):
      resolved[position + 1] = _find_config(argv[position + 1])
  return resolved


def _find_config(name: str) -> str:
  return str(find_file('config', name, folder='configs'))


def _negations(argv: list[str]) -> list[str]:
  """Accepts `--no-images` for what absl spells `--noimages`."""
  known = flags.FLAGS
  return [f'--no{name}' if argument == f'--no-{name}' and name in known
          and known[name].boolean else argument
          for argument in argv for name in [argument.removeprefix('--no-')]]


def find_file(flag: str, name: str, *, folder: str) -> pathlib.Path:
  """The file that a flag names, from here or from the repository.

  Raises:
    UserError: no such file; the message lists those of the repository's `folder`.
  """
  for candidate in (path(name), ROOT / name) if name else ():
    if candidate.is_file():
      return candidate.resolve()
  known = ', '.join(sorted(
      f'{folder}/{p.name}' for p in (ROOT / folder).glob('*.py')
      if p.name not in ('__init__.py', 'common.py')))
  raise errors.UserError(f'--{flag}={name}: no such file; choose one of {known}')


def _parse(argv: list[str], *, default_config: str | None) -> list[str]:
  if default_config is not None and not any(
      argument.partition('=')[0] in _CONFIG_FLAGS for argument in argv):
    argv = [argv[0], f'--config={default_config}', *argv[1:]]
  try:
    return flags.FLAGS(_absolute_config(_negations(argv)))
  except errors.UserError as error:
    fail(str(error))
  except (SyntaxError, ImportError, NameError, OSError) as error:
    fail(f'the file of --config cannot be loaded: {type(error).__name__}: {error}')
  except flags.IllegalFlagValueError as error:
    missing = re.findall(r'flag --(\w+)=None: Flag --\1 must have', str(error))
    fail('; '.join(f'--{name} is missing: {flags.FLAGS[name].help}' for name in missing)
         or f'{_message(error)}; see --help')
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    # A config override of a wrong name or type surfaces as one of these.
    fail(f'{_message(error)}; see --help')
  except SystemExit as end:
    sys.exit(0 if end.code == 1 else end.code)  # absl ends --help with status 1


def _message(error: Exception) -> str:
  """The text of an error of the flag parsers, without quotes around quotes."""
  inner = error
  while inner.args and isinstance(inner.args[0], Exception):
    inner = inner.args[0]
  text = str(inner.args[0] if inner.args else inner)
  text = re.sub(r"\('Non-boolean argument to boolean flag', .*\)$",
                'it is a switch; give true or false', text)
  if isinstance(error, AttributeError):  # ConfigDict gives only the name
    text = f'the config has no such field: {text}'
  return text


def require_config(config: config_dict.ConfigDict | None, **fixed) -> dict[str, Any]:
  """The value of --config with the `fixed` fields, checked, as a plain dict.

  Raises:
    UserError: --config is not on the command line, or is not a config.
  """
  if config is None:
    raise errors.UserError(
        '--config is missing; name an experiment, as --config=configs/isic2017.py')
  if not isinstance(config, config_dict.ConfigDict):
    raise errors.UserError(
        f'get_config() of --config returns a {type(config).__name__}; it has to return '
        'an ml_collections.ConfigDict, as configs/common.py does')
  fields = config.to_dict() | fixed
  config_lib.check(fields)
  return fields


def path(text: str) -> pathlib.Path:
  """A path of the command line; ~ is the home folder.

  Raises:
    UserError: it is empty, as an unset shell variable leaves it, which would name the
      current folder; or ~ is of a user who does not exist.
  """
  if not text.strip():
    empty = [f'--{name}=' for name in flags.FLAGS
             if flags.FLAGS[name].present and flags.FLAGS[name].value == text]
    which = empty[0] if len(empty) == 1 else 'a path'
    raise errors.UserError(f'{which} is empty; name a path')
  return errors.expanded(text)


def paths(text: str) -> list[pathlib.Path]:
  """One path, or several separated by commas; `*`, `?` and `**` are expanded.

  A path that exists is taken as it is, whatever its name.
  """
  if path(text).exists():
    return [path(text)]
  found = []
  for part in filter(None, (part.strip() for part in text.split(','))):
    named = path(part)
    matches = [] if named.exists() else sorted(glob.glob(str(named), recursive=True))
    found += map(pathlib.Path, matches) if matches else [named]
  return found


def fail(message: str, status: int = 2) -> NoReturn:
  """Prints one line and ends the process."""
  complain(f'error: {" ".join(message.split())}')
  sys.exit(status)


def complain(line: str) -> None:
  """Prints a line on stderr, even under --quiet."""
  print(line, file=progress.stderr(), flush=True)


def run(main: Callable[[], None], *, default_config: str | None = None) -> None:
  """Runs `main()` after the flags are parsed; ends the process on an error.

  Args:
    main: the command.
    default_config: value of --config where it is not on the command line. The flag's
      own default would be loaded before anything could catch its errors, and a
      misspelt override would end in a traceback.
  """

  def guarded(argv: list[str]) -> None:
    if len(argv) > 1:
      fail(f'unexpected argument {argv[1]!r}; write options as --name=value')
    logging.set_verbosity(logging.ERROR)  # libraries are quiet; we print
    signal.signal(signal.SIGINT, signal.default_int_handler)
    quiet = progress.silence() if QUIET.value else contextlib.nullcontext()
    try:
      with quiet:
        main()
    except errors.UserError as error:
      fail(str(error) + f'; {_NOWHERE}' * _is_nowhere())
    except OSError as error:
      if _is_nowhere():
        fail(_NOWHERE)
      if error.filename is None and error.errno not in errors.UNWRITABLE:
        raise  # no path of the user's
      fail(f'{error.filename or "the output"}: {error.strerror}; check the path, its '
           'permissions and the space left')
    except KeyboardInterrupt:
      fail(_stopped(signal.SIGINT), 128 + signal.SIGINT)
    finally:
      signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left but to exit

  # --help lists only key flags: those of the command's own file, and this one.
  flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[QUIET.name])
  sys.excepthook = sys.__excepthook__
  with streams.safe(_output_failed):
    try:
      app.run(guarded, flags_parser=functools.partial(
          _parse, default_config=default_config))
    except SystemExit as end:
      # Here, where it can be answered; a failure keeps its own status.
      with contextlib.suppress(*[SystemExit] * bool(end.code)):
        sys.stdout.flush()
      raise
    except Exception as error:
      if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error):
        fail(f'out of memory ({error}); choose a smaller --config.batch_size or '
             '--config.image_size, or stop what else uses the memory')
      traceback.print_exc()
      fail('this is a fault of the program; please report it with the lines above', 70)


_NOWHERE = 'the current folder no longer exists; change to another one'


def _is_nowhere() -> bool:
  try:
    os.getcwd()
  except OSError:
    return True
  return False


def _output_failed(error: OSError) -> NoReturn:
  """Ends a command whose results have nowhere to go."""
  if error.errno == errno.EPIPE:
    sys.exit(128 + signal.SIGPIPE)  # as of programs that the signal ends: `| head`
  fail(f'stdout cannot be written ({error.strerror}); redirect it to another place')
