"""One run: config -> run folder with a trained, scored system."""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
import importlib.metadata
import json
import pathlib
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import parallel
from attnmel_jax import progress
from attnmel_jax.data import pipeline
from attnmel_jax.experiments import batches
from attnmel_jax.experiments import build
from attnmel_jax.experiments import classification
from attnmel_jax.experiments import leakage
from attnmel_jax.experiments import methods
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.training import checkpoint
from attnmel_jax.training import loop
from attnmel_jax.training import schedule as schedule_lib
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import stored_maps
from attnmel_jax.training import tensorboard

# Of a frozen backbone, by part; empty where it is trained.
Maps = Mapping[str, stored_maps.Maps]

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint',
             'tensorflow-datasets', 'grain', 'numpy', 'scikit-learn', 'pillow')


def plan(config: Mapping[str, Any]) -> list[str]:
  """What a run would do, line by line; needs the prepared data and no weights."""
  _check(config)
  task = task_lib.open_task(config)
  leakage.check_names(config, task)
  train = task.parts['train']
  rows = batches.training_batches(config, task, batches.undecoded(train))
  schedule = build.schedule(config, rows.steps_per_pass)
  shapes = build.variable_shapes(config, len(task.class_names))
  kind = ' (synthetic)' if task.synthetic else ''
  lines = [methods.of(config).title(config, train, kind)]
  for name in ('train', 'validation', 'test'):
    counts = parts_lib.describe(task.parts[name]) if name in task.parts else {}
    lines.append(f'{name}: '
                 + (', '.join(f'{k} {v}' for k, v in counts.items()) or 'none'))
    lines += parts_lib.few(name, task.parts[name]) if name in task.parts else []
  unused = task_lib.unused_splits(config, task)
  if unused:
    lines.append(f'not used: the {" and ".join(unused)} split, as this is fold '
                 f'{config["fold"]} of {config["num_folds"]} of the training images; '
                 'launch/evaluate.py scores the run with it')
  if task.generated is not None:
    known = task.generated.unet
    lines.append(f'generated masks: {task.generated.path}, of a U-Net best after step '
                 f'{known["best_step"]} on {len(known["trained_on"])} images')
  return [*lines,
          f'rows after oversampling: {rows.rows_per_pass}',
          f'steps: {schedule.total_steps} ({schedule.num_epochs} epochs of '
          f'{schedule.steps_per_epoch})',
          f'parameters: {build.count_parameters(shapes["params"])}' + _trained(
              config, shapes),
          f'devices: {jax.device_count()} x {jax.devices()[0].device_kind}'
          + (f' in {jax.process_count()} processes' if jax.process_count() > 1 else '')]


def run(config: Mapping[str, Any], folder: pathlib.Path, *, quiet: bool
        ) -> dict[str, Any]:
  """Trains, selects, predicts and scores; resumes what an earlier call left.

  Args:
    config: flat, as configs/common.py lists it.
    folder: the run folder.
    quiet: print nothing, neither progress nor notices. The log of XLA, such as its
      alarm of slow compilation, is written by C++: to silence that too, set
      TF_CPP_MIN_LOG_LEVEL=3 in the environment before JAX is imported.

  Returns:
    The content of summary.json.

  Raises:
    UserError: the config, the data, the weights or the folder are not right.
    loop.Stopped: SIGINT or SIGTERM came; the state is saved.
  """
  with progress.silence() if quiet else contextlib.nullcontext():
    return _claim_and_run(config, folder, quiet=quiet)


def _claim_and_run(config: Mapping[str, Any], folder: pathlib.Path, *, quiet: bool
                   ) -> dict[str, Any]:
  """`run`, loud or not."""
  _check(config)
  task = parallel.in_every_process(lambda: task_lib.open_task(config))
  fingerprints = {name: part.prepared.fingerprint for name, part in task.parts.items()}
  if task.generated is not None:
    fingerprints['generated'] = task.generated.fingerprint
  # The test data too: processes without it would not predict, and the others wait.
  parallel.check_equal('config or data', json.dumps(
      [run_folder.binding(config), fingerprints], sort_keys=True))
  bound = {name: value for name, value in fingerprints.items() if name != 'test'}
  with contextlib.ExitStack() as stack:

    def enter():
      stack.enter_context(run_folder.claim(folder))
      run_folder.check_bound(folder, config, bound)
      if not (folder / 'summary.json').exists():
        return None
      summary = run_folder.read_summary(folder)
      _check_scored(folder, summary, fingerprints)
      return summary

    summary = parallel.from_main(enter)
    return summary or _run(config, task, bound, folder, quiet=quiet)


def _check_scored(folder: pathlib.Path, summary: Mapping[str, Any],
                  fingerprints: Mapping[str, str]) -> None:
  """Raises UserError unless a finished run's scores are of these data and results."""
  before, after = summary['fingerprints'].get('test'), fingerprints.get('test')
  if before and after and before != after:
    raise errors.UserError(
        f'workdir={folder} was scored on other test data than are prepared now '
        f'(fingerprint {after[:12]}, before {before[:12]}); prepare the same data, or '
        f'score the run on these: launch/evaluate.py --run={folder}')
  for split in ('validation', 'test'):
    if split in summary:
      run_folder.check_digests(
          folder, summary[split], classification.FILE_NAMES[split])


def _run(config: Mapping[str, Any], task: task_lib.Task, bound: Mapping[str, str],
         folder: pathlib.Path, *, quiet: bool) -> dict[str, Any]:
  """`run` in a folder that is ours; `bound` are the fingerprints that bind it."""
  stores = parallel.in_every_process(lambda: batches.open_stores(config, task))

  def begin():
    # Leakage first: whoever is refused prepares other data, to run in this folder.
    leaks = leakage.of_run(config, task, stores, folder)
    run_folder.bind(folder, config, bound, _environment())
    if task_lib.is_divided(task) or methods.of(config).LEARNS_MASKS:
      parts_lib.write_split(folder / 'split.csv', task.parts)
    if task.generated is not None:
      run_folder.write_generated(folder, task.generated)
    return leaks

  leaks = parallel.from_main(begin)
  if not quiet:
    for line in leakage.lines(leaks):
      print(line, file=sys.stderr)
  method = methods.of(config)
  step = build.prediction_step(config, len(task.class_names))

  def predict_part(name: str, variables: Any, maps: Maps) -> Any:
    return method.predict(config, step, variables, batches.evaluation_batches(
        config, task.parts[name], stores[name], maps.get(name)))

  variables, best, maps = _train(config, task, stores, predict_part, folder,
                                 quiet=quiet)
  predictions = {name: predict_part(name, variables, maps)
                 for name in ('validation', 'test') if name in task.parts}

  def finish():
    decided = method.decisions(
        predictions.get('validation'), len(task.class_names))
    summary = {'best': best, 'synthetic': task.synthetic,
               'class_names': list(task.class_names),
               'trained_on': parts_lib.counts(task.parts['train']),
               'fingerprints': {name: part.prepared.fingerprint
                                for name, part in task.parts.items()},
               'leakage': leaks, **decided}
    for name, predicted in predictions.items():
      summary[name] = method.report(
          folder, name, predicted, task.parts[name], config,
          near_duplicates=leaks['near_duplicates'].get(name, ()), **decided)
    files.write_json(folder / 'summary.json', summary)
    return summary

  return parallel.from_main(finish)


def _trained(config: Mapping[str, Any], shapes: Any) -> str:
  """What the plan adds to the number of parameters where not all are trained."""
  if not config['freeze_backbone']:
    return ''
  trained = build.count_parameters(state_lib.of_head(shapes['params']))
  return f', of which {trained} are trained: the backbone is frozen'


def _check(config: Mapping[str, Any]) -> None:
  config_lib.check(config)
  build.enable_float64(config)
  parallel.check_batch_size(
      config['batch_size'], accumulate_steps=config['accumulate_steps'])


def _environment() -> dict[str, Any]:
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  devices = [f'{d.platform}: {d.device_kind}' for d in jax.devices()]
  return run_folder.environment(versions, devices)


def _train(config: Mapping[str, Any], task: task_lib.Task,
           stores: Mapping[str, pipeline.ImageStore],
           predict_part: Callable[[str, Any, Maps], Any], folder: pathlib.Path, *,
           quiet: bool) -> tuple[Any, dict[str, Any], Maps]:
  """The best variables, at which step and score they were best, and the maps."""
  num_classes = len(task.class_names)
  train_batches = batches.training_batches(config, task, stores['train'])
  schedule = build.schedule(config, train_batches.steps_per_pass)

  def validate(state):
    predictions = predict_part('validation', state.variables(), maps)
    if events is not None:
      _add_picture(events, int(state.step), config, predictions,
                   task.parts['validation'])
    name, value = methods.of(config).selection_score(predictions)
    return {name: value, 'score': value}

  with (checkpoint.Checkpoints(folder / 'checkpoints', create=True) as checkpoints,
        contextlib.ExitStack() as stack):
    # In this order: 1. the latest checkpoint of this folder, 2. pretrained
    # weights, 3. random ones.
    if checkpoints.latest_step() is None:
      # A weights file may be missing on one host alone.
      variables, notes = parallel.in_every_process(lambda: build.initial_variables(
          config, num_classes, lambda: _first_images(train_batches)))
      state, best_score = build.initial_state(config, variables), -np.inf
    else:
      state, meta = checkpoints.restore_latest(
          build.state_template(config, num_classes))
      best_score = meta['best_score']
      notes = [f'resumed after step {int(state.step)} of {schedule.total_steps}']
    if not quiet:
      print(*notes, sep='\n', file=sys.stderr)
    maps = batches.open_maps(config, task, stores, state.variables(), quiet=quiet)
    train_batches = batches.with_maps(config, train_batches, maps.get('train'),
                                      num_steps=schedule.total_steps)
    events = _open_events(config, folder, int(state.step), schedule, stack)
    state, _ = loop.train(
        state, best_score,
        update=parallel.update(build.training_step(config, num_classes)),
        batches=train_batches.iterate(start_step=int(state.step),
                                      num_steps=schedule.total_steps),
        hyper=build.hyperparameters(config), schedule=schedule,
        validate=validate if 'validation' in task.parts else None,
        checkpoints=checkpoints, folder=folder, events=events, quiet=quiet)
    return *checkpoints.restore_best(state.variables()), maps


def _open_events(config: Mapping[str, Any], folder: pathlib.Path, step: int,
                 schedule: schedule_lib.Schedule, stack: contextlib.ExitStack
                 ) -> tensorboard.Events | None:
  """The run's event file, where it is wanted and in the process that writes."""
  if not (config['tensorboard'] and parallel.is_main_process()):
    return None
  return stack.enter_context(contextlib.closing(tensorboard.Events(
      folder / 'tensorboard', step, learning_rate_at=schedule.learning_rate_at)))


def _add_picture(events: tensorboard.Events, step: int, config: Mapping[str, Any],
                 predictions: Any, part: parts_lib.Part) -> None:
  """Adds what the maps of validation images look like, where there are any."""
  with tempfile.TemporaryDirectory() as scratch:
    path = pathlib.Path(scratch, 'maps.png')
    methods.of(config).draw(path, 'validation', predictions, part, config)
    if path.exists():
      events.image(step, 'maps/validation', path.read_bytes())


def _first_images(batches: pipeline.TrainingBatches) -> np.ndarray:
  """The images of the whole first batch, not of this process's part alone."""
  return dataclasses.replace(batches, part=slice(None)).batch_at(0)['image']


def result_line(summary: Mapping[str, Any], split: str, folder: pathlib.Path) -> str:
  """One line that says how a finished run scored on a split."""
  scores = summary[split]
  images = 'synthetic images' if summary['synthetic'] else 'images'
  line = f'{folder}: {split} ({scores["n"]} {images}) {_shown(scores)}'
  if 'without_near_duplicates' in scores:
    rest = scores['without_near_duplicates']
    line += f'; without near-duplicates ({rest["n"]} {images}) {_shown(rest)}'
  found = summary['leakage']['found']
  return line + (f'; leakage: {"; ".join(found)}' if found else '')


def _shown(scores: Mapping[str, Any]) -> str:
  taps = sorted(name for name in scores if name.startswith('jaccard_pool'))
  return ', '.join(
      f'{metric} {_interval(scores[metric])}'
      for metric in ('ap', 'auc', 'balanced_accuracy', 'sensitivity', 'specificity',
                     *taps, 'jaccard', 'thresholded_jaccard')
      if isinstance(scores.get(metric), dict) and 'estimate' in scores[metric])


def _interval(score: Mapping[str, float | None]) -> str:
  if score['estimate'] is None:
    return 'undefined'
  return f'{score["estimate"]:.3f} [{score["low"]:.3f}, {score["high"]:.3f}]'
