"""Latest and best checkpoint of a run (Orbax).

Two managers, because Orbax's `best_fn` with `max_to_keep` deletes the newest
step. The latest two states serve to resume, the best variables to test.

Arrays are saved as the host's copies, by the main process alone, which sends to the
others what it restores: a run may go on with another number of processes.
"""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.training import state as state_lib


def _manager(directory: pathlib.Path, keep: int, create: bool
             ) -> ocp.CheckpointManager:
  if create:  # Orbax does not where it runs in one process of several
    directory.mkdir(parents=True, exist_ok=True)
  main_alone = ocp.options.MultiprocessingOptions(
      primary_host=0, active_processes={0}, barrier_sync_key_prefix=directory.name)
  return ocp.CheckpointManager(
      directory.absolute(),
      options=ocp.CheckpointManagerOptions(
          max_to_keep=keep if create else None, create=False,
          read_only=not create, enable_async_checkpointing=False,
          cleanup_tmp_directories=create,  # what a kill left half-written
          multiprocessing_options=main_alone),
      item_names=('tree', 'meta'))


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
    """Step of the newest whole checkpoint, None without one."""
    return parallel.from_main(lambda: _latest_step(self._latest))

  def save_latest(self, state: state_lib.TrainState, meta: dict[str, Any]) -> None:
    """Saves all that a run needs to go on; does nothing at a step saved before."""
    step = int(state.step)
    if parallel.is_main_process() and self._latest.latest_step() != step:
      self._save(self._latest, step, state, meta)

  def restore_latest(self, like: state_lib.TrainState
                     ) -> tuple[state_lib.TrainState, dict[str, Any]]:
    """The newest state, placed like `like`, and its `meta`."""
    return self._restore(self._latest, like)

  def save_best(self, state: state_lib.TrainState, meta: dict[str, Any]) -> None:
    """Replaces the best variables."""
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
    return self._restore(self._best, like)

  def _save(self, manager, step, tree, meta):
    saved = manager.save(step, args=ocp.args.Composite(
        tree=ocp.args.StandardSave(jax.device_get(tree)),
        meta=ocp.args.JsonSave(meta)))
    if not saved:  # Orbax says no more than this where a newer step exists
      raise RuntimeError(f'checkpoint of step {step} was not saved')

  def _restore(self, manager, like):
    template = _template(like)
    restored = {}

    def read():
      restored['tree'], meta = _read(manager, template)
      return meta

    meta = parallel.from_main(read)
    tree = parallel.broadcast(restored.get('tree', template))
    return jax.tree.map(lambda x, leaf: jax.device_put(x, leaf.sharding), tree, like
                        ), meta


def _latest_step(manager: ocp.CheckpointManager) -> int | None:
  return manager.latest_step()


def _read(manager: ocp.CheckpointManager, template: Any) -> tuple[Any, dict[str, Any]]:
  step = manager.latest_step()
  if step is None:
    raise FileNotFoundError(f'no checkpoint in {manager.directory}')
  try:
    restored = manager.restore(step, args=ocp.args.Composite(
        tree=ocp.args.StandardRestore(template), meta=ocp.args.JsonRestore()))
  except Exception as error:  # Orbax and its storage raise whatever they like
    raise errors.UserError(
        f'checkpoint {manager.directory}/{step} cannot be read '
        f'({type(error).__name__}); delete that folder and start again') from error
  return restored.tree, restored.meta
