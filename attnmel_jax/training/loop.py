"""The training loop: steps, epochs, selection of the checkpoint, stopping."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import math
import pathlib
import signal
from typing import Any

import jax
import numpy as np

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax import progress
from attnmel_jax.training import checkpoint
from attnmel_jax.training import metrics_file as metrics_file_lib
from attnmel_jax.training import schedule as schedule_lib
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import tensorboard
from attnmel_jax.training import timing as timing_lib


class Stopped(Exception):
  """Training was asked to stop and has saved its state."""

  def __init__(self, step: int, signum: int):
    super().__init__(f'stopped after step {step}')
    self.step, self.signum = step, signum


@contextlib.contextmanager
def stop_signal() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM; a second SIGINT ends the process at once."""
  received: list[int] = []

  def handler(signum, frame):
    received.append(signum)
    signal.signal(signal.SIGINT, signal.SIG_DFL)

  previous = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield received
  finally:
    for signum, old in previous.items():
      signal.signal(signum, old)


# The last state and the best score.
Trained = tuple[state_lib.TrainState, float]


def train(state: state_lib.TrainState, best_score: float, *,
          update: Callable[..., Any],
          batches: Iterator[tuple[int, dict[str, np.ndarray]]],
          hyper: dict[str, Any], schedule: schedule_lib.Schedule,
          validate: Callable[[state_lib.TrainState], dict[str, float]] | None,
          checkpoints: checkpoint.Checkpoints, folder: pathlib.Path,
          events: tensorboard.Events | None, quiet: bool) -> Trained:
  """Trains from `state` to the end; returns the last state and the best score.

  Args:
    state: on all devices, at the step where `batches` start.
    best_score: validation score to beat strictly; -inf at the start.
    update: `parallel.update` of a step.
    batches: (t, batch of step t) for t = state.step ... total_steps - 1.
    hyper: inputs of the step without learning_rate, which is like weight_decay.
    schedule: how long, how fast, and when to save.
    validate: state -> scores, of which 'score' selects; None: the last epoch is best.
    checkpoints: where states go.
    folder: run folder of metrics.jsonl and timing.jsonl.
    events: of TensorBoard, which get the metrics too; None for none.
    quiet: print nothing.

  Raises:
    Stopped: SIGINT or SIGTERM came; the state is saved.
    UserError: the loss is not finite.
  """
  start = int(state.step)
  metrics_file = metrics_file_lib.MetricsFile(folder / 'metrics.jsonl', start, events)
  bar = progress.Progress('train', schedule.total_steps, unit='steps', done=start,
                          often=True, quiet=quiet)
  timing = timing_lib.Timing(folder / 'timing.jsonl', start)
  pending: list[tuple[int, Any]] = []
  with (contextlib.closing(metrics_file), contextlib.closing(timing),
        contextlib.closing(bar), stop_signal() as stop):
    for done, batch in batches:
      state, metrics = update(state, parallel.shard(batch),
                              _with_learning_rate(hyper, schedule, done))
      step = done + 1
      pending.append((step, metrics))
      if done == start:  # it waits for the compilation: timed by itself
        timing.first_step(step, len(batch['label']), metrics)
      # Read once: a later signal waits for the next step, as this may go unsaved.
      stopping = _is_stopping(stop, step, schedule)
      due = schedule.is_due(step) or stopping
      if due or schedule.is_reported(step):
        _report(pending, len(batch['label']), metrics_file, timing, bar)
      if schedule.ends_epoch(step):
        best_score = _end_epoch(
            state, best_score, validate, checkpoints, metrics_file, timing, bar)
      if due:
        metrics_file.sync()
        checkpoints.save_latest(state, {'best_score': best_score})
        timing.lap('saving', step)
      if stopping:
        break
    if parallel.any_process(bool(stop)):
      raise Stopped(int(state.step), stop[0] if stop else signal.SIGTERM)
  return state, best_score


def _with_learning_rate(hyper: dict[str, Any], schedule: schedule_lib.Schedule,
                        done: int) -> dict[str, Any]:
  """Inputs of the step that follows `done` steps."""
  rate = np.asarray(schedule.learning_rate_at(done), hyper['weight_decay'].dtype)
  return hyper | {'learning_rate': rate}


def _is_stopping(stop: list[int], step: int, schedule: schedule_lib.Schedule) -> bool:
  """Whether to save and end after `step` because a signal came to any process."""
  if jax.process_count() == 1:
    return bool(stop)
  # Processes wait for each other to answer, and the metrics wait anyway.
  asked = schedule.is_due(step) or schedule.is_reported(step)
  return asked and parallel.any_process(bool(stop))


def _report(pending, batch_size, metrics_file, timing, bar) -> None:
  """Writes and shows the metrics of the pending steps, and clears them."""
  mean = _flush(pending, metrics_file)
  step = pending[-1][0]
  timing.steps(step, batch_size)
  # A Dice loss of exactly 0 is that of images without a map to compare: see
  # `losses.dice_of_sums`. Shown, it would read as perfect.
  losses = ' '.join(f'{name} {value:.4f}' for name, value in mean.items()
                    if value or not name.startswith('dice_loss'))
  bar.advance(len(pending), f'{losses}, {timing.images_per_second:.1f} images/s')
  metrics_file.flush_events()
  pending.clear()


def _flush(pending: list[tuple[int, Any]], metrics_file: metrics_file_lib.MetricsFile
           ) -> dict[str, float]:
  """Writes the metrics of pending steps; their mean. Waits for the device."""
  # In one go: the copies of all rows are under way before the first is waited for.
  rows = jax.device_get([row for _, row in pending])
  values = [{k: float(v) for k, v in row.items()} for row in rows]
  for (step, _), row in zip(pending, values, strict=True):
    if not all(map(math.isfinite, row.values())):
      raise errors.UserError(
          f'the loss is not finite in step {step} (steps {pending[0][0]} to '
          f'{pending[-1][0]}); lower learning_rate, or with a plain vgg16 set '
          'rescale_pretrained=True, and start in a new workdir')
    metrics_file.write(step, row)
  return {k: float(np.mean([row[k] for row in values])) for k in values[0]}


def _end_epoch(state, best_score, validate, checkpoints, metrics_file, timing, bar
               ) -> float:
  """Validates, and keeps the state where its score strictly improves."""
  step = int(state.step)
  if validate is None:
    checkpoints.save_best(state, {'step': step})
    timing.lap('saving', step)
    return best_score
  scores = validate(state)
  timing.lap('validation', step)
  metrics_file.write(step, {f'validation_{k}': v for k, v in scores.items()})
  metrics_file.flush_events()
  improved = scores['score'] > best_score
  bar.note(f'step {step}: validation '
           + ' '.join(f'{k} {v:.4f}' for k, v in scores.items())
           + (' (best so far)' if improved else ''))
  if improved:
    checkpoints.save_best(state, {'step': step, **scores})
    timing.lap('saving', step)
    return scores['score']
  return best_score
