"""Trained systems on the same images, from the files of their run folders.

  systems = {'Mel-CNN': [systems.read(folder, 'test') for folder in mel_runs],
             'AttnMel-CNN': [...]}
  systems.check_same_images(runs)
  values = {name: systems.bootstrap(own, 'auc', num_draws=2000, seed=0)
            for name, own in runs.items()}
  statistics.percentile_interval(values['Mel-CNN'], level=0.95)
  comparisons.compare_with_reference(values, reference='Mel-CNN', level=0.95)
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import pathlib

import numpy as np

from attnmel_jax import errors
from attnmel_jax.evaluation import challenge
from attnmel_jax.evaluation import comparisons
from attnmel_jax.evaluation import image_tables
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import statistics


@dataclasses.dataclass(frozen=True)
class Run:
  """One trained network's predictions, the lesion and the scores of each image."""

  predictions: prediction_files.PredictionTable
  images: image_tables.ImageTable


def read(folder: pathlib.Path, name: str) -> Run:
  """Reads predictions/<name>.csv and predictions/<name>_images.csv.

  Images that the challenge does not score are left out.

  Raises:
    UserError: a file is absent or damaged, or they hold other images.
  """
  path = folder / 'predictions' / f'{name}.csv'
  table = prediction_files.read_predictions(path)
  images = image_tables.read(path.with_name(f'{name}_images.csv'))
  if not np.array_equal(table.ids, images.ids):
    raise errors.UserError(
        f'{path} and {name}_images.csv beside it hold other images or orders; write '
        'both again with launch/evaluate.py')
  rows = challenge.scored(table.ids)
  return Run(
      prediction_files.PredictionTable(
          table.ids[rows], table.labels[rows], table.probabilities[rows],
          table.class_names),
      image_tables.ImageTable(
          images.ids[rows], images.groups[rows],
          {score: values[rows] for score, values in images.scores.items()}))


def check_same_images(systems: Mapping[str, Sequence[Run]]) -> None:
  """Raises UserError unless all runs have the same images, labels and lesions."""
  first = next(iter(systems))
  expected = systems[first][0]
  for name, runs in systems.items():
    for run in runs:
      same = (run.predictions.class_names == expected.predictions.class_names
              and all(np.array_equal(a, b) for a, b in (
                  (run.predictions.ids, expected.predictions.ids),
                  (run.predictions.labels, expected.predictions.labels),
                  (run.images.groups, expected.images.groups))))
      if not same:
        raise errors.UserError(
            f'{name} was not scored on the images, classes and lesions of {first}; '
            'compare runs on one split of one data set')


def metrics_of(run: Run) -> tuple[str, ...]:
  """Names of what `bootstrap` can work out for a run."""
  names = run.predictions.class_names
  if len(names) == 2:
    own = ('ap', 'auc')
  else:
    own = ('balanced_accuracy', 'auc_mean', *(f'recall_{name}' for name in names))
  return *own, *run.images.scores


def bootstrap(
    runs: Sequence[Run], metric: str, *, num_draws: int, seed: int) -> np.ndarray:
  """A system's score, averaged over its seeds, as it is and in each draw.

  Lesions are resampled, by class; with three or more seeds the seeds too. Systems
  on the same images have the same draws.

  Args:
    runs: of one system, one for each seed, on the same images.
    metric: one of `metrics_of`; a score of single images is averaged over those
      that have it.
    num_draws: number D of draws.
    seed: of the draws; the same for all systems.

  Returns:
    float64 [1 + D], for `statistics.percentile_interval` and `comparisons`.
  """
  values = [_values(run, metric, num_draws, seed) for run in runs]
  return comparisons.average_seeds(
      np.stack(values),
      comparisons.seed_draws(len(runs), num_draws=num_draws, seed=seed))


def _values(run: Run, metric: str, num_draws: int, seed: int) -> np.ndarray:
  errors.check_choice('metric', metric, metrics_of(run))
  labels, groups = run.predictions.labels, run.images.groups
  if metric in run.images.scores:
    scores = run.images.scores[metric]
    defined = ~np.isnan(scores)
    if not defined.any():
      return np.full(1 + num_draws, np.nan)
    labels, groups, scores = labels[defined], groups[defined], scores[defined]
    function = functools.partial(
        statistics.draws_mean, values=scores, include=np.ones(len(scores), bool))
  else:
    function = _classification(run.predictions, metric)
  draws = statistics.bootstrap_draws(labels, groups, num_draws=num_draws, seed=seed)
  return statistics.bootstrap_values(function, draws=draws)


def _classification(table: prediction_files.PredictionTable, metric: str):
  """The function draws [D, N] -> [D] of a score of the predictions."""
  labels, probabilities = table.labels, table.probabilities
  predicted = probabilities.argmax(axis=1)
  if metric == 'ap':
    return functools.partial(statistics.draws_average_precision, labels=labels == 1,
                             scores=probabilities[:, 1])
  if metric == 'auc':
    return functools.partial(
        statistics.draws_auc, labels=labels == 1, scores=probabilities[:, 1])
  if metric == 'balanced_accuracy':
    return functools.partial(
        statistics.draws_balanced_accuracy, labels=labels, predicted=predicted)
  if metric == 'auc_mean':
    return lambda draws: np.mean(
        [statistics.draws_auc(draws, labels=labels == k, scores=probabilities[:, k])
         for k in np.unique(labels)], axis=0)
  k = table.class_names.index(metric.removeprefix('recall_'))
  return functools.partial(
      statistics.draws_mean, values=predicted == labels, include=labels == k)
