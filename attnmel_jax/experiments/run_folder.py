"""The folder of a run: whose it is, what is in it, and that only one writes.

config.json, environment.json, metrics.jsonl (no times: those are in timing.jsonl),
leakage.json (what its parts share), checkpoints/, predictions/, attention/ (of a U-Net
masks/) and, once the run is finished, summary.json, which holds the sha256 of those
files that others read back. Where the run divided the images
itself, or is a U-Net's, split.csv lists which image trains, validates or tests. Where
it trained on generated masks, generated_masks.json says of which U-Net.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import pathlib
import platform
import re
import subprocess
from typing import Any

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import outputs
from attnmel_jax.data import generated
from attnmel_jax.evaluation import calibration

# These bind no folder: fingerprints say which data trained a run, wherever they
# lie; summary.json says what leakage was allowed; curves show what metrics.jsonl holds.
_FREE_FIELDS = ('data_dir', 'allow_leakage', 'tensorboard')

# What a run may leave before it is bound.
_BEFORE = frozenset(('config.json', 'environment.json', 'leakage.json'))
# All that it writes by `files.replacing`, by subfolder.
_WRITTEN = {'.': re.compile(
    '(config|environment|leakage|summary|generated_masks).json|metrics.jsonl|split.csv'
)} | dict.fromkeys(
    ('predictions', 'attention', 'masks'),
    re.compile(r'(train|val|test)(_images|_submission)?\.(csv|npz|png)'))

# Fields of a summary.json that launch/evaluate.py writes, and of a run's.
_EVALUATION = {'class_names': list[str], 'threshold': (int, float, type(None)),
               'temperature': (int, float, type(None)), 'best': dict,
               'synthetic': bool, 'leakage': dict}
_AGAIN = 'delete summary.json and run the launch/main.py command of the run again'
# What a report reads besides summary.json, of a split as its files name it.
_RESULTS = ('predictions/{}.csv', 'predictions/{}_images.csv', 'attention/{}.npz')
_SUMMARY = _EVALUATION | {'fingerprints': dict, 'trained_on': dict}


def binding(config: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of a config that a run folder is bound to."""
  return {name: value for name, value in config.items() if name not in _FREE_FIELDS}


def unbound(bound: Mapping[str, Any], data_dir: str) -> dict[str, Any]:
  """The config of which a JSON file holds `binding`, with its data in `data_dir`.

  Raises:
    UserError: it is not a config.
  """
  free = {name: config_lib.FIELDS[name].default for name in _FREE_FIELDS}
  return config_lib.from_json(free | dict(bound) | {'data_dir': data_dir})


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """A JSON file of a run folder.

  Raises:
    UserError: it is missing or damaged.
  """
  try:
    return files.read_json(path)
  except FileNotFoundError:
    raise errors.UserError(
        f'{path} does not exist; name a whole run folder, as launch/main.py makes one'
    ) from None
  except (OSError, ValueError) as error:
    raise errors.UserError(f'{path} cannot be read: {error}') from None


def read_config(folder: pathlib.Path) -> dict[str, Any]:
  """The config of a run, as a plain dict with tuples.

  Raises:
    UserError: it is missing, or a field cannot be one of a run.
  """
  path = folder / 'config.json'
  try:
    return config_lib.from_json(read_json(path))
  except errors.UserError as error:
    raise errors.UserError(
        f'{path} is damaged, or of another version: {error}') from None


def read_summary(folder: pathlib.Path) -> dict[str, Any]:
  """The summary of a finished run.

  Raises:
    UserError: the run is not finished, or its summary is damaged.
  """
  read_config(folder)
  if not (folder / 'summary.json').exists():
    raise errors.UserError(
        f'{folder} is not finished: it has no summary.json; run its launch/main.py '
        'command again')
  summary = _checked_summary(folder / 'summary.json', _SUMMARY, _AGAIN)
  if (folder / 'environment.json').exists():
    bound = read_environment(folder)['fingerprints']
    for split in sorted(bound.keys() & summary['fingerprints'].keys()):
      if bound[split] != summary['fingerprints'][split]:
        raise errors.UserError(
            f'{folder}/summary.json is of other {split} data than environment.json '
            f'(fingerprints {summary["fingerprints"][split][:12]} and '
            f'{bound[split][:12]}); {_AGAIN}')
  return summary


def check_best(folder: pathlib.Path, summary: Mapping[str, Any],
               best: Mapping[str, Any]) -> None:
  """Raises UserError unless the best checkpoint is the one that a run was scored with.

  Args:
    folder: of the run.
    summary: its content of summary.json.
    best: what `Checkpoints.restore_best` found.
  """
  if best['step'] != summary['best']['step']:
    raise errors.UserError(
        f'{folder}/checkpoints holds a best state after step {best["step"]}, '
        f'summary.json scores of one after step {summary["best"]["step"]}; {_AGAIN}')


def digests(folder: pathlib.Path, name: str) -> dict[str, str]:
  """The sha256 of the results of a split that a folder holds, by path."""
  paths = [pattern.format(name) for pattern in _RESULTS]
  return {path: files.digest(folder / path) for path in paths
          if (folder / path).exists()}


def check_digests(folder: pathlib.Path, scores: Mapping[str, Any], name: str) -> None:
  """Raises UserError where the results of a split are not those that were scored.

  Args:
    folder: that holds summary.json.
    scores: of the split, in it; those of an earlier version hold no digests.
    name: of the split, as in the names of its files.
  """
  try:
    found = digests(folder, name)
  except (OSError, errors.Unusable) as error:
    raise errors.UserError(f'results in {folder} cannot be read: {error}') from None
  for path, digest in scores.get('files', {}).items():
    if found.get(path, digest) != digest:
      raise errors.UserError(
          f'{folder / path} has changed since summary.json was written: the scores are '
          'of other content; bring it back, or delete summary.json and run the command '
          'that wrote it again')


def read_evaluation(folder: pathlib.Path) -> dict[str, Any]:
  """What launch/evaluate.py wrote of its scores, as `read_summary`."""
  return _checked_summary(folder / 'summary.json', _EVALUATION, f'delete {folder} and '
                          'score the run again with launch/evaluate.py')


def _checked_summary(path: pathlib.Path, types: dict[str, Any], remedy: str
                     ) -> dict[str, Any]:
  summary = read_json(path)
  try:
    files.check_types(summary, types)
    files.check_types(summary['best'], {'step': int})
    files.check_types(summary['leakage'], {'found': list[str]})
    if 'trained_on' in types:
      files.check_types(
          summary['trained_on'], {'n': int, 'groups': int, 'class_counts': dict})
      _check_fingerprints(summary)
    for split in ('train', 'validation', 'test'):
      if split in summary:
        _check_scores(summary[split])
    _check_decisions(summary)
  except ValueError as error:
    raise errors.UserError(f'{path} is damaged ({error}); {remedy}') from None
  return summary


def _check_fingerprints(content: Mapping[str, Any]) -> None:
  found = content['fingerprints']
  files.check_types(found, dict.fromkeys(found, str))


def _check_decisions(summary: Mapping[str, Any]) -> None:
  """Raises ValueError for decisions that no run makes, or classes in two orders."""
  _check_range('threshold', summary['threshold'], 0, 1)
  _check_range('temperature', summary['temperature'], calibration.COLDEST,
               calibration.HOTTEST)
  for part in ('trained_on', 'train', 'validation', 'test'):
    counted = summary.get(part, {}).get('class_counts')
    if counted and list(counted) != summary['class_names']:
      raise ValueError(f'class_names are {", ".join(summary["class_names"])}, the '
                       f'counts of {", ".join(map(str, counted))}')


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
  """Raises ValueError unless a number, if there is one, is in its range."""
  # A rounded bound is within.
  if value is not None and not low * (1 - 1e-6) <= value <= high * (1 + 1e-6):
    raise ValueError(f'{name}={value} is not from {low} to {high}')


def _check_scores(scores: Any) -> None:
  """Raises ValueError unless numbers stand where a table takes some, in their range."""
  files.check_types(scores, {'n': int})
  number = (int, float, type(None))
  for name, value in scores.items():
    by_class = isinstance(value, dict) and name in ('auc', 'recall') and (
        'estimate' not in value)
    for interval in value.values() if by_class else (value,):
      if by_class or isinstance(interval, dict) and 'estimate' in interval:
        bounds = ('estimate', 'low', 'high')
        files.check_types(interval, dict.fromkeys(bounds, number))
        for bound in bounds:
          _check_range(f'{name}: {bound}', interval[bound], 0, 1)
  for name in ('class_counts', 'threshold_sweep', 'files', 'calibration'):
    files.check_types({name: {}} | scores, {name: dict})
  calibrated = scores.get('calibration', {})
  for item in filter(None, (calibrated, calibrated.get('tempered'))):
    files.check_types(item, {'expected_error': number, 'log_loss': number})
  sweep = scores.get('threshold_sweep', {})
  files.check_types(sweep, {name: list[number] for name in sweep})
  if len({len(sweep.get(name, ())) for name in ('thresholds', *sweep)}) > 1:
    raise ValueError('threshold_sweep has lists of different lengths')
  recorded = scores.get('files', {})
  files.check_types(recorded, dict.fromkeys(recorded, str))
  if 'without_near_duplicates' in scores:
    _check_scores(scores['without_near_duplicates'])


def read_environment(folder: pathlib.Path) -> dict[str, Any]:
  """What `environment` said when a run began, and the fingerprints of its data.

  Raises:
    UserError: it is missing or damaged.
  """
  path = folder / 'environment.json'
  found = read_json(path)
  try:
    files.check_types(
        found, {'commit': str, 'devices': list[str], 'fingerprints': dict})
    _check_fingerprints(found)
  except ValueError as error:
    raise errors.UserError(f'{path} is damaged: {error}') from None
  return found


def write_generated(folder: pathlib.Path, maps: generated.Maps) -> None:
  """Notes which generated masks a run trains on, and of which U-Net they are."""
  files.write_json(folder / 'generated_masks.json', {
      'path': str(maps.path), 'fingerprint': maps.fingerprint, 'unet': maps.unet})


def unet_of_masks(folder: pathlib.Path) -> generated.Identity | None:
  """The U-Net whose masks a run was trained on; None without such masks."""
  path = folder / 'generated_masks.json'
  if not path.exists():
    return None
  unet = read_json(path).get('unet')
  try:
    generated.check_identity(unet)
  except ValueError as error:
    raise errors.UserError(f'{path} is damaged: {error}') from None
  return unet


def check_unseen(folder: pathlib.Path, ids: Sequence[str], tested: str) -> None:
  """`generated.check_unseen` of the U-Net, if any, whose masks trained a run."""
  unet = unet_of_masks(folder)
  if unet is not None:
    generated.check_unseen(unet, ids, tested)


@contextlib.contextmanager
def claim(folder: pathlib.Path) -> Iterator[None]:
  """Makes the folder and holds its lock, which even a SIGKILL releases.

  Raises:
    UserError: another process holds it, the folder holds something other than a run,
      or it cannot be written, now or in the block.
  """
  check_own(folder)
  with files.locked(
      folder, name=f'workdir={folder}', remedy='name another with --workdir'):
    try:
      for sub, names in _WRITTEN.items():  # what a kill left half-written
        files.sweep(folder / sub, lambda name, names=names: bool(names.fullmatch(name)))
      yield
    except OSError as error:
      if error.errno not in errors.UNWRITABLE or not _is_within(folder, error.filename):
        raise
      raise errors.UserError(
          f'workdir={folder} cannot be written ({error.strerror}); free some space or '
          'make it writable, and the same command resumes from the last checkpoint'
      ) from error


def check_own(folder: pathlib.Path) -> None:
  """Raises UserError unless the folder is new, empty or a run's; writes nothing."""
  if (folder / 'config.json').exists():
    read_config(folder)
    return
  outputs.check_empty(folder, f'workdir={folder}', 'a run', but=_BEFORE,
                      remedy='name another with --workdir')


def _is_within(folder: pathlib.Path, name: str | None) -> bool:
  """Whether a file is in the folder, or nameless as that of a failed write."""
  return name is None or pathlib.Path(name).absolute().is_relative_to(folder.absolute())


def bind(folder: pathlib.Path, config: Mapping[str, Any],
         fingerprints: Mapping[str, str], environment: Mapping[str, Any]) -> None:
  """Binds the folder to a config and to its training and validation data.

  A new folder takes them; one that is bound already has to agree.

  Raises:
    UserError: the folder belongs to another config, or its data were prepared
      again and differ, are missing or are new.
  """
  check_bound(folder, config, fingerprints)
  path = folder / 'config.json'
  if not path.exists():
    files.write_json(folder / 'environment.json',
                     {**environment, 'fingerprints': dict(fingerprints)})
    files.write_json(path, dict(config))


def check_bound(folder: pathlib.Path, config: Mapping[str, Any],
                fingerprints: Mapping[str, str]) -> None:
  """Raises UserError if the folder is bound to something else; see `bind`."""
  if not (folder / 'config.json').exists():
    return
  before, after = binding(read_config(folder)), binding(config)
  differing = [f'{name}: {before.get(name)!r} -> {after.get(name)!r}'
               for name in sorted(before.keys() | after.keys())
               if before.get(name) != after.get(name)]
  if differing:
    raise errors.UserError(
        f'workdir={folder} holds a run of another config ({"; ".join(differing)}); '
        'name another with --workdir')
  bound = read_environment(folder)['fingerprints']
  for split in sorted(bound.keys() | fingerprints.keys()):
    before, after = (str(found.get(split, 'none'))[:12]
                     for found in (bound, fingerprints))
    if bound.get(split) != fingerprints.get(split):
      raise errors.UserError(
          f'the {split} data are not those that workdir={folder} began with '
          f'(fingerprint {after}, before {before}); prepare the same data, or name '
          'another --workdir')


def environment(versions: Mapping[str, str], devices: list[str]) -> dict[str, Any]:
  """What a reader needs to know of the machine and the code."""
  root = pathlib.Path(__file__).resolve().parents[2]
  try:
    commit = subprocess.run(
        ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=40'],
        capture_output=True, text=True, check=True, timeout=10).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    commit = 'unknown'
  return {'python': platform.python_version(), 'platform': platform.platform(),
          'versions': dict(versions), 'devices': devices, 'commit': commit}
