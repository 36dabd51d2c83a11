"""Run folders made by hand: what a report reads, from drawn numbers."""

import pathlib

import numpy as np

from attnmel_jax import files
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import run_folder
from attnmel_jax.report import groups
from attnmel_jax.report import run_reader
from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import published
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


def plan(*, reference='AttnMel-CNN', split='auto', num_draws=50, data_dir=None,
         photographs=True):
  """Of a report, with few draws."""
  defaults = common.get_config().to_dict() | {'bootstrap_draws': num_draws}
  return sections.Plan(
      {name: sections.Experiment(f'configs/{name}.py', module.get_config().to_dict())
       for name, module in EXPERIMENTS.items()}, defaults, reference, split, data_dir,
      photographs)


def config(experiment, **fields):
  """Of an experiment file, as a run folder holds it."""
  return EXPERIMENTS[experiment].get_config().to_dict() | fields


def drawn(own, names, *, rows=40, skill=1.0, per_lesion=1):
  """Ids, labels, probabilities and lesions that a run's config decides."""
  lesions = np.arange(rows) // per_lesion
  # A fold's images are those whose lesion leaves it as remainder.
  kept = lesions % own['num_folds'] == own['fold']
  labels = (lesions // own['num_folds'] % len(names)).astype(np.int32)[kept]
  ids = np.array([f'ISIC_{row:07d}' for row in range(rows)])[kept]
  system = repr((own['model'], own['roi'], own['seed'], own['fold'], skill))
  logits = np.random.default_rng(list(system.encode())).normal(
      size=(len(ids), len(names)))
  logits[np.arange(len(ids)), labels] += skill
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  return ids, labels, probabilities, [f'lesion{k}' for k in lesions[kept]]


def write(folder: pathlib.Path, own, *, split='test',
          predictions=None,   # ids, labels, probabilities, lesions; None draws some
          classes=(),         # where they are not those of the thesis
          maps=None,          # attention maps by name, [N, h, w]
          scored=None,        # names of the maps that have scores of each image
          threshold=0.45, synthetic=False, fingerprints=None, leakage=(),
          summary=None,       # more scores of the split
          **options):         # of `drawn`
  """A finished run as launch/main.py leaves it, but for its checkpoints."""
  if own['model'] == 'unet':
    own = own | {'pretrained': '', 'roi': 'lesion'}
  names = classes or BINARY.get(own['dataset'], SEVEN)
  ids, labels, probabilities, lesions = predictions or drawn(own, names, **options)
  scores = {}
  rng = np.random.default_rng([own['seed'], len(own['model']), len(own['roi'])])
  for name in MAPS.get(own['model'], ()) if scored is None else scored:
    kinds = ('jaccard', *(() if name == 'cam_released' else ('mass', 'pointing')))
    scores |= {f'{kind}_{name}': rng.beta(3, 3, len(ids)) for kind in kinds}
  if scores:
    fixed = np.random.default_rng(own['fold'])
    scores |= {f'jaccard_{name}': fixed.beta(4, 3, len(ids))
               for name in ('all_ones', 'disc', 'otsu')}
  for values in scores.values():
    values[1] = np.nan  # one image without annotation
  name = {'test': 'test', 'validation': 'val'}[split]
  tables = folder / 'predictions'
  prediction_files.write_predictions(
      tables / f'{name}.csv', ids, labels, probabilities, names)
  prediction_files.write_image_scores(
      tables / f'{name}_images.csv', ids, lesions, scores)
  if maps:
    prediction_files.write_attention(folder / 'attention' / f'{name}.npz', ids, maps)
  files.write_json(folder / 'config.json', own)
  files.write_json(folder / 'environment.json', {
      'commit': 'c' * 40, 'devices': ['cpu: x'],
      'fingerprints': {'train': 'a'} if fingerprints is None else fingerprints})
  files.write_json(folder / 'summary.json', {
      'best': {'step': 7}, 'synthetic': synthetic, 'class_names': list(names),
      'leakage': {'allowed': bool(leakage), 'found': list(leakage)},
      'threshold': threshold if len(names) == 2 else None, 'temperature': 1.5,
      'fingerprints': {}, 'trained_on': {'n': 1, 'groups': 1, 'class_counts': {}},
      split: {'n': len(ids), 'disc_radius': 0.4, 'n_annotated': len(ids) - 1,
              **(summary or {})}})
  return read(folder)


def change(folder, name, **fields):
  """Changes fields of a JSON file of a run; returns the run as it is then."""
  path = folder / f'{name}.json'
  files.write_json(path, files.read_json(path) | fields)
  return read(folder)


def read(folder):
  """A run, as the report gets it."""
  return run_reader.FinishedRun(
      folder, run_folder.read_config(folder), run_folder.read_environment(folder),
      run_folder.read_summary(folder))


def group(runs, *, num_draws=50, split='auto'):
  """The first group of runs."""
  defaults = plan(num_draws=num_draws).defaults
  return groups.gather(runs, split=split, defaults=defaults).groups[0]


def context(runs, task=published.TABLE_3_2, *, number=1, reference='AttnMel-CNN',
            **options):
  """What a table is made from; without runs of what the thesis has alone."""
  own = group(runs, **options) if runs else None
  if number > 1:
    own = own.__class__(own.split, own.settings, own.units, own.draws, number, 'x')
  return captions.Context(task, own, reference, ())


def texts(table):
  """Rows of a table as dictionaries of what people read."""
  return [dict(zip(table.columns, (cell.text for cell in row), strict=True))
          for row in table.rows]


def floats(text):
  """The numbers of a cell as a list: '−0.1 [−0.2, +0.3]' -> [-0.1, -0.2, 0.3]."""
  plain = text.replace('−', '-').replace('[', '').replace(']', '').replace(',', '')
  return [float(word) for word in plain.split()]
