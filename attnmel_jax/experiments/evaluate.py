"""A finished run scored on data that arrived later, or on another data set."""

from collections.abc import Mapping
import contextlib
import dataclasses
import pathlib
import shutil
from typing import Any

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import outputs
from attnmel_jax import parallel
from attnmel_jax.data import catalogue
from attnmel_jax.data import pipeline
from attnmel_jax.data import splits
from attnmel_jax.experiments import batches
from attnmel_jax.experiments import build
from attnmel_jax.experiments import leakage
from attnmel_jax.experiments import methods
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.training import checkpoint


def evaluate(run: pathlib.Path, *, dataset: str, data_dir: str, split: str,
             out: pathlib.Path, allow_leakage: bool) -> dict[str, Any]:
  """Predicts and scores a prepared split with a run's best checkpoint.

  Preprocessing, classes and threshold are the run's own; the threshold was
  chosen on the run's validation set.

  Args:
    run: folder of a finished run.
    dataset: a prepared data set.
    data_dir: folder of prepared data; '' for the default one.
    split: train, validation or test.
    out: folder for predictions/, attention/ or masks/, leakage.json, summary.json;
      see `outputs.exchanged`.
    allow_leakage: score images that the run was trained on, or copies of them.

  Returns:
    The content of `out`/summary.json.

  Raises:
    UserError: the run is not finished, the split is not prepared, its classes are not
      the run's, a U-Net finds no masks in it, or the run, or the U-Net whose masks
      it was trained on, was trained on it.
  """
  own = run_folder.read_config(run)
  trained = run_folder.read_summary(run)
  config = own | {'dataset': dataset, 'data_dir': data_dir}
  build.enable_float64(config)
  parallel.check_batch_size(config['batch_size'], accumulate_steps=1)
  part = _open(config, own, split)
  class_names = part.class_names
  if list(class_names) != trained['class_names']:
    raise errors.UserError(
        f'dataset={config["dataset"]} has the classes {", ".join(class_names)}, the '
        f'run {", ".join(trained["class_names"])}; choose a data set with the same')
  method = methods.of(config)
  method.check_scored(part)
  if config['roi'] == 'generated':
    run_folder.check_unseen(
        run, part.ids, f'the {len(part.ids)} {split} images of {dataset}')
  inside = out.resolve().is_relative_to(run.resolve())  # the run may have been moved
  whose = 'the run' if inside else run.resolve()
  with outputs.exchanged(out, f'the scores of {whose} on {dataset} {split}') as staged:
    if (out / leakage.FILE).exists():
      shutil.copyfile(out / leakage.FILE, staged / leakage.FILE)
    leaks = _compare(run, own, part, staged, data_dir=data_dir, allowed=allow_leakage)
    predictions, best = _predict(run, trained, part, config)
    decided = {name: trained[name] for name in ('threshold', 'temperature')}
    summary = {
        'run': str(run.resolve()), 'dataset': config['dataset'], 'split': split,
        'fingerprint': part.prepared.fingerprint, 'best': best,
        'synthetic': part.prepared.synthetic, 'class_names': list(class_names),
        'leakage': leaks, **decided, split: method.report(
            staged, split, predictions, part, config,
            near_duplicates=leaks['near_duplicates'].get(split, ()), **decided)}
    files.write_json(staged / 'summary.json', summary)
  return summary


def _predict(run: pathlib.Path, trained: Mapping[str, Any], part: parts_lib.Part,
             config: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
  """Predictions of a part, and which checkpoint made them."""
  with checkpoint.Checkpoints(run / 'checkpoints', create=False) as checkpoints:
    variables, best = checkpoints.restore_best(
        build.state_template(config, len(part.class_names)).variables())
  run_folder.check_best(run, trained, best)
  store = batches.open_store(part.prepared, pipeline.NO_REGION, config['cache_gib'])
  predictions = methods.of(config).predict(
      config, build.prediction_step(config, len(part.class_names)), variables,
      batches.evaluation_batches(config, part, store))
  return predictions, best


def _open(config: Mapping[str, Any], own: Mapping[str, Any], split: str
          ) -> parts_lib.Part:
  """The split, which may lack classes of the data set that the run knows."""
  if methods.of(own).LEARNS_MASKS or not own['positive']:
    return task_lib.open_part(config, split)
  part = task_lib.open_part(config | {'positive': ()}, split)
  known = ()
  if own['dataset'] != catalogue.FOLDER:
    known = catalogue.DATASETS[own['dataset']].class_names
  else:
    with contextlib.suppress(errors.UserError):  # gone: its classes are not known
      known = task_lib.open_part(own | {'positive': ()}, 'train').class_names
  try:
    labels, names = splits.task_labels(
        part.prepared.labels, part.class_names, own['positive'], known)
  except errors.UserError:
    of_run = f' (of {", ".join(known)})' if known else ''
    raise errors.UserError(
        f'dataset={config["dataset"]} has the classes {", ".join(part.class_names)}, '
        f'the run tells {"+".join(own["positive"])} from the others{of_run}; choose a '
        'data set with the same, or give its classes these names and prepare it again'
    ) from None
  return dataclasses.replace(part, labels=labels, class_names=names)


def _compare(run: pathlib.Path, config: Mapping[str, Any], part: parts_lib.Part,
             out: pathlib.Path, *, data_dir: str, allowed: bool) -> dict[str, Any]:
  """`leakage.of_evaluation`, if the training images of the run are available."""
  known = run_folder.read_environment(run)['fingerprints']
  bound = {name: value for name, value in known.items()
           if name != 'generated'}  # those masks need not be here
  why = ''
  for place in (config['data_dir'], data_dir):
    try:
      # Without a prior: the split is the same.
      learnt = task_lib.open_task(config | {'data_dir': place, 'roi': 'none'})
    except errors.UserError as error:
      why = why or str(error)
      continue
    found = {name: learnt.parts[name].prepared.fingerprint
             for name in ('train', 'validation') if name in learnt.parts}
    if found == bound:
      return leakage.of_evaluation(
          learnt, part, out, unet=run_folder.unet_of_masks(run),
          pretrained_from=config['pretrained'],
          data_dirs=(config['data_dir'], data_dir), allowed=allowed)
    why = f'those in {learnt.parts["train"].prepared.path} are others'
  return leakage.not_compared(why, allowed)
