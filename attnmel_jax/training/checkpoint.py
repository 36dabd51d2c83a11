"""Latest and best checkpoint of a run (Orbax).

Two managers, because Orbax's `best_fn` with `max_to_keep` deletes the newest
step. The latest two states serve to resume, the best variables to test. Each step
has a manifest, written last, of the sha256 of its files: Orbax does not see a flipped
bit in an array, and restores it. A damaged state is left for the one before.

Arrays are saved as the host's copies, by the main process alone, which sends to the
others what it restores: a run may resume with another number of processes.
"""

from collections.abc import Iterator
import contextlib
import hashlib
import os
import pathlib
import sys
from typing import Any

from absl import logging
import jax
import numpy as np
import orbax.checkpoint as ocp

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import parallel
from attnmel_jax.training import state as state_lib

MANIFEST = 'sha256.json'  # within the folder of a step; file -> sha256 of its bytes
_ABSENT = (f'it has no {MANIFEST}: saving it was cut short, or it is from an older '
           'version')


def _manager(directory: pathlib.Path, keep: int, create: bool
             ) -> ocp.CheckpointManager:
  if create:  # Orbax does not where it runs in one process of several
    directory.mkdir(parents=True, exist_ok=True)
  main_alone = ocp.options.MultiprocessingOptions(
      primary_host=0, active_processes={0}, barrier_sync_key_prefix=directory.name)
  with _quiet():
    return ocp.CheckpointManager(
        directory.absolute(),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep if create else None, create=False,
            read_only=not create, enable_async_checkpointing=False,
            cleanup_tmp_directories=create,  # what a kill left half-written
            multiprocessing_options=main_alone),
        item_names=('tree', 'meta'))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Orbax logs what it raises, too, with pages of traces."""
  verbosity, hook = logging.get_verbosity(), sys.unraisablehook

  def quieter(unraisable):
    if str(unraisable.exc_value) != 'Event loop is closed':
      hook(unraisable)

  logging.set_verbosity(logging.FATAL)
  sys.unraisablehook = quieter
  try:
    yield
    # Not after a failure: writes still under way would report theirs as well.
    sys.unraisablehook = hook
  finally:
    logging.set_verbosity(verbosity)


def _template(tree: Any) -> Any:
  """Like `tree`, for arrays that come back in the host's memory."""
  return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)


class Checkpoints:
  """The checkpoint folder of one run; a context manager."""

  def __init__(self, directory: pathlib.Path, *, create: bool):
    """Opens `directory`.

    Args:
      directory: of the run's checkpoints.
      create: make it, and allow saving; otherwise nothing is written.

    Raises:
      UserError: it does not exist and is not to be made.
    """
    if not create and not (directory / 'best').is_dir():
      raise errors.UserError(
          f'{directory} holds no best checkpoint; run the launch/main.py command of '
          'the run again in a new --workdir')
    self._create = create
    self._latest = self._best = None  # where another process holds them
    if parallel.is_main_process():
      self._latest = _manager(directory / 'latest', 2, create)
      self._best = _manager(directory / 'best', 1, create)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception: object) -> None:
    if parallel.is_main_process():
      self._latest.close()
      self._best.close()

  def latest_step(self) -> int | None:
    """Step of the newest whole state, None without one.

    Damaged ones that are newer are named on stderr, and deleted.

    Raises:
      UserError: there are states, and all are damaged.
    """
    return parallel.from_main(lambda: self._newest_whole(self._latest))

  def save_latest(self, state: state_lib.TrainState, meta: dict[str, Any]) -> None:
    """Saves all that a run needs to resume; does nothing at a step saved before.

    Raises:
      UserError: it cannot be written.
    """
    step = int(state.step)
    if parallel.is_main_process() and self._latest.latest_step() != step:
      self._save(self._latest, step, state, meta)

  def restore_latest(self, like: state_lib.TrainState
                     ) -> tuple[state_lib.TrainState, dict[str, Any]]:
    """The newest whole state, placed like `like`, and its `meta`.

    Raises:
      FileNotFoundError: nothing was saved.
      UserError: all states are damaged, or the best variables up to this step.
    """
    state, meta = self._restore(self._latest, like, self._newest_whole)
    # Now, not after the steps that are left. Later ones will be replaced.
    parallel.from_main(lambda: _check_best(self._best, up_to=int(state.step)))
    return state, meta

  def save_best(self, state: state_lib.TrainState, meta: dict[str, Any]) -> None:
    """Replaces the best variables; raises UserError if they cannot be written."""
    if not parallel.is_main_process():
      return
    step = int(state.step)
    for saved in self._best.all_steps():
      if saved >= step:  # from before a kill, after the state that was resumed
        self._best.delete(saved)
    self._save(self._best, step, state.variables(), meta)

  def restore_best(self, like: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best variables, placed like `like`, and their `meta`.

    Raises:
      FileNotFoundError: nothing was saved.
      UserError: the files are damaged.
    """
    return self._restore(self._best, like, _check_best)

  def _newest_whole(self, manager):
    return _newest_whole(manager, delete=self._create)

  def _save(self, manager, step, tree, meta):
    args = ocp.args.Composite(tree=ocp.args.StandardSave(jax.device_get(tree)),
                              meta=ocp.args.JsonSave(meta))
    try:
      with _quiet():
        saved = manager.save(step, args=args)
      if saved:
        _write_manifest(_folder(manager, step))
    except Exception as error:  # Orbax and its storage raise whatever they like
      reason = _unwritable(error)
      if not reason:
        raise
      raise errors.UserError(
          f'checkpoint {_folder(manager, step)} cannot be written ({reason}); free '
          'some space or make the folder writable: the same command then resumes from '
          'the previous checkpoint') from error
    if not saved:  # Orbax says no more than this where a newer step exists
      raise RuntimeError(f'checkpoint of step {step} was not saved')

  def _restore(self, manager, like, find_step):
    template = _template(like)
    restored = {}

    def read():
      restored['tree'], meta = _read(manager, template, find_step(manager))
      return meta

    meta = parallel.from_main(read)
    tree = parallel.broadcast(restored.get('tree', template))
    return jax.tree.map(lambda x, leaf: jax.device_put(x, leaf.sharding), tree, like
                        ), meta


def _folder(manager: ocp.CheckpointManager, step: int) -> pathlib.Path:
  return pathlib.Path(manager.directory) / str(step)


def _unwritable(error: Exception) -> str:
  """What the system said of a place that cannot be written, '' if it did not.

  Storage wraps it in pages of its own.
  """
  reasons = (os.strerror(number) for number in sorted(errors.UNWRITABLE))
  return next((text for text in reasons if text in str(error)), '')


def _newest_whole(manager: ocp.CheckpointManager, *, delete: bool) -> int | None:
  """The newest step without a fault; see `Checkpoints.latest_step`."""
  steps = sorted(manager.all_steps(), reverse=True)
  faults = {}
  for step in steps:
    faults[step] = _fault(_folder(manager, step))
    if not faults[step]:
      break
  # Where no step is whole, one without a manifest may be: it is all that there is.
  chosen = next((step for wanted in ('', _ABSENT) for step in faults
                 if faults[step] == wanted), None)
  if steps and chosen is None:
    raise errors.UserError(
        f'all checkpoints in {manager.directory} are damaged (' + '; '.join(
            f'{step}: {faults[step]}' for step in faults) + '); delete '
        f'{pathlib.Path(manager.directory).parent} and the same command starts over')
  for step in steps:
    if chosen is not None and step > chosen:
      _say(f'checkpoint {_folder(manager, step)} is not whole ({faults[step]}); '
           f'resuming from step {chosen}')
      if delete:
        manager.delete(step)  # Orbax would not save it again
  return chosen


def _check_best(manager: ocp.CheckpointManager, up_to: int | None = None
                ) -> int | None:
  """The best step, None without one or if it is beyond `up_to`.

  Raises:
    UserError: it is damaged.
  """
  step = manager.latest_step()
  if step is None or (up_to is not None and step > up_to):
    return None
  folder = _folder(manager, step)
  fault = _fault(folder)
  if fault not in ('', _ABSENT):
    raise errors.UserError(
        f'the best checkpoint {folder} is damaged ({fault}) and there is no other; '
        f'delete {folder.parents[1]} and the summary.json beside it, and the '
        'launch/main.py command of the run trains again')
  return step


def _say(text: str) -> None:
  print(f'warning: {text}', file=sys.stderr, flush=True)


def _read(manager: ocp.CheckpointManager, template: Any, step: int | None
          ) -> tuple[Any, dict[str, Any]]:
  if step is None:
    raise FileNotFoundError(f'no checkpoint in {manager.directory}')
  folder = _folder(manager, step)
  if not (folder / MANIFEST).exists():
    _say(f'checkpoint {folder} is taken unverified: {_ABSENT}')
  try:
    restored = manager.restore(step, args=ocp.args.Composite(
        tree=ocp.args.StandardRestore(template), meta=ocp.args.JsonRestore()))
  except Exception as error:  # Orbax and its storage raise whatever they like
    raise errors.UserError(
        f'checkpoint {folder} cannot be read ({type(error).__name__}); delete that '
        'folder and start again') from error
  _check_shapes(folder, template, restored.tree)
  return restored.tree, restored.meta


def _check_shapes(folder: pathlib.Path, template: Any, tree: Any) -> None:
  """Raises UserError for a parameter of another shape, which Orbax lets pass."""
  for (path, expected), found in zip(
      jax.tree_util.tree_leaves_with_path(template), jax.tree.leaves(tree),
      strict=True):
    if np.shape(found) != np.shape(expected):
      raise errors.UserError(
          f'checkpoint {folder} is of another network than the config: '
          f'{jax.tree_util.keystr(path)} is {np.shape(found)} instead of '
          f'{np.shape(expected)}; put back the config.json and summary.json of its run')


def _write_manifest(folder: pathlib.Path) -> None:
  """Writes the manifest of all files in `folder`, whole or not at all."""
  files.write_json(folder / MANIFEST, _digests(folder))


def _fault(folder: pathlib.Path) -> str:
  """What is wrong with `folder`: '' nothing, _ABSENT, or how it was damaged."""
  try:
    expected = files.read_json(folder / MANIFEST)
  except FileNotFoundError:
    return _ABSENT
  except (OSError, ValueError):
    return f'{MANIFEST} cannot be read'
  try:
    found = _digests(folder)
  except OSError as error:
    return f'{error.filename} cannot be read: {error.strerror}'
  return next((what.format(name) for what, names in (
      ('{} is missing', expected.keys() - found.keys()),
      ('{} was added', found.keys() - expected.keys()),
      ('{} has another sha256', [name for name in found
                                 if found[name] != expected.get(name)]))
      for name in sorted(names)), '')


def _digests(folder: pathlib.Path) -> dict[str, str]:
  digests = {}
  for path in sorted(folder.rglob('*')):
    # The manifest is not its own, nor is one that a kill left half-written.
    if path.is_file() and MANIFEST not in path.name:
      with path.open('rb') as file:
        digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(
            file, 'sha256').hexdigest()
  return digests
