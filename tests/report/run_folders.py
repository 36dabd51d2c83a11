"""Run folders made by hand: what a report reads, from drawn numbers."""

import json
import pathlib

import numpy as np

from attnmel_jax import files
from attnmel_jax.evaluation import image_tables
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import run_folder
from attnmel_jax.report import groups
from attnmel_jax.report import run_reader
from attnmel_jax.report.tables import estimates as estimates_lib
from attnmel_jax.report.tables import sections
from configs import common
from configs import folder as own_photographs
from configs import isic2016
from configs import isic2017
from configs import isic2018
from configs import isic2018_cv

EXPERIMENTS = {'isic2016': isic2016, 'isic2017': isic2017, 'isic2018': isic2018,
               'isic2018_cv': isic2018_cv, 'folder': own_photographs}
SEVEN = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
BINARY = {'isic2016': ('other', 'malignant'), 'isic2017': ('other', 'melanoma')}
MAPS = {'attnmel_cnn': ('pool3', 'pool4'), 'vgg16_gap': ('cam', 'cam_released')}


def plan(*, reference='AttnMel-CNN', split='auto', num_draws=50, photographs=True):
  """Of a report, with few draws."""
  defaults = common.get_config().to_dict() | {'bootstrap_draws': num_draws}
  return sections.Plan(
      {name: sections.Experiment(f'configs/{name}.py', module.get_config().to_dict())
       for name, module in EXPERIMENTS.items()}, defaults, reference, split, None,
      photographs)


def config(experiment, **fields):
  """Of an experiment file, as a run folder holds it."""
  return EXPERIMENTS[experiment].get_config().to_dict() | fields


def write(folder: pathlib.Path, own, *, split='test', rows=40, skill=1.0,
          threshold=0.45, synthetic=False, per_lesion=1, fingerprint='a', leakage=(),
          classes=(), **summary):
  """A finished run whose predictions depend on its model, prior, seed and fold.

  A fold's images are those whose lesion leaves it as remainder.

  Args:
    folder: is made.
    own: config.
    split: that has scores.
    rows: images, of all folds together.
    skill: how much the true class's logit is raised.
    threshold: of two classes.
    synthetic: is written to the summary.
    per_lesion: images of each lesion.
    fingerprint: of the training data.
    leakage: lines on what flatters the scores.
    classes: names of the classes, where they are not those of the thesis.
    **summary: more scores of the split.

  Returns:
    The run.
  """
  names = classes or BINARY.get(own['dataset'], SEVEN)
  lesions = np.arange(rows) // per_lesion
  kept = lesions % own['num_folds'] == own['fold']
  labels = (lesions // own['num_folds'] % len(names)).astype(np.int32)[kept]
  ids = np.array([f'ISIC_{row:07d}' for row in range(rows)])[kept]
  system = repr((own['model'], own['roi'], own['seed'], own['fold'], skill))
  rng = np.random.default_rng(list(system.encode()))
  logits = rng.normal(size=(len(ids), len(names)))
  logits[np.arange(len(ids)), labels] += skill
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  scores = {}
  for name in MAPS.get(own['model'], ()):
    kinds = ('jaccard', *(() if name == 'cam_released' else ('mass', 'pointing')))
    scores |= {f'{kind}_{name}': rng.beta(3, 3, len(ids)) for kind in kinds}
  if scores:
    fixed = np.random.default_rng(own['fold'])
    scores |= {f'jaccard_{name}': fixed.beta(4, 3, len(ids))
               for name in ('all_ones', 'disc', 'otsu')}
  for values in scores.values():
    values[1] = np.nan  # one image without annotation
  name = {'test': 'test', 'validation': 'val'}[split]
  predictions = folder / 'predictions'
  prediction_files.write_predictions(
      predictions / f'{name}.csv', ids, labels, probabilities, names)
  image_tables.write(predictions / f'{name}_images.csv', ids,
                     [f'lesion{k}' for k in lesions[kept]], scores)
  files.write_json(folder / 'config.json', own)
  files.write_json(folder / 'environment.json', {
      'commit': 'c' * 40, 'devices': ['cpu: x'],
      'fingerprints': {'train': fingerprint}})
  files.write_json(folder / 'summary.json', {
      'best': {'step': 7}, 'synthetic': synthetic, 'class_names': list(names),
      'leakage': {'allowed': bool(leakage), 'found': list(leakage)},
      'threshold': threshold if len(names) == 2 else None, 'temperature': 1.5,
      split: {'n': len(ids), 'disc_radius': 0.4, 'n_annotated': len(ids) - 1,
              **summary}})
  return read(folder)


def read(folder):
  """A run, as the report gets it."""
  return run_reader.FinishedRun(
      folder, run_folder.read_config(folder),
      json.loads((folder / 'environment.json').read_text()),
      json.loads((folder / 'summary.json').read_text()))


def estimates(runs, *, num_draws=50):
  """Of the first group of runs."""
  defaults = common.get_config().to_dict()
  group = groups.gather(runs, split='auto', defaults=defaults).groups[0]
  return estimates_lib.Estimates(group, num_draws=num_draws, seed=0)


def texts(table):
  """Rows of a table as dictionaries of what people read."""
  return [dict(zip(table.columns, (cell.text for cell in row), strict=True))
          for row in table.rows]
