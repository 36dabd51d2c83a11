"""Lesion probability maps of a finished U-Net's run for all images of a data set.

The U-Net sees each prepared image whole, not its centre crop, so that the maps lie on
the images pixel by pixel, their borders included: it is a fully convolutional network
and was trained on crops at the same scale.
"""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
import hashlib
import pathlib
from typing import Any

import jax
import numpy as np

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax import progress
from attnmel_jax.data import generated
from attnmel_jax.data import pipeline
from attnmel_jax.data import storage
from attnmel_jax.evaluation import predict_masks
from attnmel_jax.experiments import build
from attnmel_jax.experiments import methods
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.models import unet
from attnmel_jax.training import checkpoint


def generate(run: pathlib.Path, *, dataset: str, data_dir: str, name: str, quiet: bool,
             say: Callable[[str], None]) -> None:
  """Writes what is missing of the maps `name` of every prepared split.

  Args:
    run: folder of a U-Net's finished run.
    dataset: prepared with the crop_ratio and resize_size of the run.
    data_dir: folder of prepared data; '' for the default one.
    name: of the maps; see `generated`.
    quiet: show no progress.
    say: called with a line for each split once its maps are complete.

  Raises:
    UserError: the run is none of a U-Net, or not finished; the data set is not
      prepared; the U-Net was trained on its test images; maps of another U-Net, or for
      other images, have the name.
  """
  config_lib.check_field('generated_masks', name)
  config = run_folder.read_config(run)
  method = methods.of(config)
  if not method.LEARNS_MASKS:
    raise errors.UserError(
        f'{run} is a run of model={config["model"]!r}, which draws no masks; name one '
        'of configs/isic2018_task1.py')
  summary = run_folder.read_summary(run)
  trained_on = parts_lib.read_split(run / 'split.csv')
  build.enable_float64(config)
  parallel.check_batch_size(config['batch_size'], accumulate_steps=1)
  splits = _open_splits(config, dataset, data_dir)
  with checkpoint.Checkpoints(run / 'checkpoints', create=False) as checkpoints:
    variables, best = checkpoints.restore_best(
        build.state_template(config, 0).variables())
  run_folder.check_best(run, summary, best)
  identity = {
      'config': run_folder.binding(config), 'best_step': best['step'],
      'parameters': fingerprint(variables),
      'trained_on': sorted(trained_on['train'] + trained_on['validation'])}
  for split in splits:
    if split.split == 'test':
      generated.check_unseen(
          identity, split.ids, f'the {len(split)} test images of {dataset}')
  step = predict_masks.make_whole_step(
      method.create_model(config, 0, remat=False), multiple=2**unet.DEPTH,
      input=dataclasses.replace(
          build.input_of(config), image_size=config['resize_size']),
      tta=config['tta'])
  for split in splits:
    with generated.open_writer(split, name, identity) as writer:
      if writer.is_whole():
        say(f'{split.split}: all {len(split)} masks are in {writer.path} already')
        continue
      _write(split, writer, lambda image: step(variables, image),
             batch_size=config['batch_size'], quiet=quiet)
      writer.finish()
      say(f'{split.split}: {len(split)} masks in {writer.path}')


def state(config: Mapping[str, Any], *, dataset: str, name: str) -> str:
  """How far `generate` has come with the U-Net that a run of `config` trained.

  Returns:
    As `generated.state`, over all prepared splits.
  """
  try:
    splits = _open_splits(config, dataset, config['data_dir'])
  except errors.UserError:
    return 'new'  # the command will say what is missing
  states = {generated.state(split, name, run_folder.binding(config))
            for split in splits}
  if len(states) == 1:
    return states.pop()
  return 'foreign' if 'foreign' in states else 'begun'


def fingerprint(variables: Any) -> str:
  """sha256 of the names and numbers of all parameters and batch statistics."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    digest.update(f'{name} {array.dtype} {array.shape}\0'.encode())
    digest.update(np.ascontiguousarray(array))
  return digest.hexdigest()


def _open_splits(config: Mapping[str, Any], dataset: str, data_dir: str
                 ) -> list[storage.PreparedSplit]:
  """All prepared splits in the config's geometry."""
  where = {'data_dir': storage.resolve_data_dir(data_dir),
           'crop_ratio': config['crop_ratio'], 'resize_size': config['resize_size']}
  # Without any, opening the training split says what to do.
  names = storage.available_splits(dataset, **where) or ('train',)
  return [storage.open_split(dataset, name, **where) for name in names]


def _write(split: storage.PreparedSplit, writer: generated.Writer,
           predict: Callable[[np.ndarray], np.ndarray], *, batch_size: int, quiet: bool
           ) -> None:
  """Predicts and writes the rows that have no map yet."""
  rows = writer.missing()
  if not len(rows):
    return
  batches = pipeline.evaluation_batches(
      pipeline.ImageStore(split, ('lesion',), None), rows, split.labels,
      region=pipeline.NO_REGION, batch_size=batch_size, part=slice(None))
  with contextlib.ExitStack() as stack:
    bar = None
    if not quiet:
      bar = stack.enter_context(contextlib.closing(progress.Progress(
          f'masks of {split.dataset} {split.split}', len(split), unit='images',
          done=len(split) - len(rows))))
    for batch in batches:
      probability = predict(batch['image'])
      maps = predict_masks.quantise(probability)
      for position in np.flatnonzero(batch['valid']):
        writer.write(int(batch['index'][position]), maps[position])
      if bar is not None:
        bar.advance(int(batch['valid'].sum()))
