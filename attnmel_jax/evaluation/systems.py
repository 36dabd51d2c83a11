"""Trained systems on the same images, from the files of their run folders.

  runs = {'Mel-CNN': [systems.read(folder, 'test', threshold=0.4) for folder in ...],
          'AttnMel-CNN': [...]}
  systems.check_same_images(runs)
  draws = systems.Draws(num_draws=2000, seed=0)
  values = {name: systems.bootstrap(own, 'auc', draws=draws)
            for name, own in runs.items()}
  bootstrap.percentile_interval(values['Mel-CNN'], level=0.95)
  paired.compare_with_reference(values, reference='Mel-CNN', level=0.95)

The folds of a cross-validation are pooled to one run of a seed first, by `pool`.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import pathlib

import numpy as np

from attnmel_jax import errors
from attnmel_jax.evaluation import bootstrap as bootstrap_lib
from attnmel_jax.evaluation import challenge
from attnmel_jax.evaluation import folds as folds_lib
from attnmel_jax.evaluation import image_tables
from attnmel_jax.evaluation import paired
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import score_summary as scores_lib

# Scores that rank the images of a binary task.
_RANKING = {
    'ap': bootstrap_lib.draws_average_precision,
    'auc': bootstrap_lib.draws_auc,
    'sensitivity_at_95_specificity': functools.partial(
        bootstrap_lib.draws_sensitivity_at_specificity,
        specificity=scores_lib.OPERATING_POINT),
    # The reverse: classes and sign exchanged.
    'specificity_at_95_sensitivity': lambda draws, *, labels, scores: (
        bootstrap_lib.draws_sensitivity_at_specificity(
            draws, labels=~labels, scores=-scores,
            specificity=scores_lib.OPERATING_POINT)),
}
# Scores of a binary task at the threshold that was chosen on validation.
_AT_THRESHOLD = ('sensitivity', 'specificity', 'balanced_accuracy')


@dataclasses.dataclass(frozen=True)
class Run:
  """One trained network's predictions, the lesion and the scores of each image.

  Or those of the networks of a cross-validation, each on its own fold.
  """

  predictions: prediction_files.PredictionTable
  images: image_tables.ImageTable
  folds: np.ndarray       # int [N], whose network predicted the row
  thresholds: np.ndarray  # float64 [N], that network's; nan where it has none


def read(folder: pathlib.Path, name: str, *, fold: int, threshold: float | None) -> Run:
  """Reads predictions/<name>.csv and predictions/<name>_images.csv.

  Images that the challenge does not score are left out.

  Args:
    folder: that holds predictions/.
    name: of the part, as in the names of its files.
    fold: of the network; 0 without a cross-validation.
    threshold: from which on class 1 is called, chosen on validation; None where
      there is none.

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
  run = Run(table, images, np.full(len(table.ids), fold),
            np.full(len(table.ids), np.nan if threshold is None else threshold))
  return _rows(run, challenge.scored(table.ids))


def pool(runs: Sequence[Run]) -> Run:
  """The networks of a cross-validation as one run, in the order of the ids.

  Scores of images that some fold lacks are left out.

  Raises:
    UserError: an image is in two folds, or the folds have other classes.
  """
  pooled = folds_lib.pool([run.predictions for run in runs])
  order = np.argsort(np.concatenate([run.predictions.ids for run in runs]))

  def together(arrays):
    return np.concatenate(arrays)[order]

  shared = [name for name in runs[0].images.scores
            if all(name in run.images.scores for run in runs)]
  images = image_tables.ImageTable(
      pooled.table.ids, together([run.images.groups for run in runs]),
      {name: together([run.images.scores[name] for run in runs]) for name in shared})
  return Run(pooled.table, images, together([run.folds for run in runs]),
             together([run.thresholds for run in runs]))


def check_same_images(systems: Mapping[str, Sequence[Run]]) -> None:
  """Raises UserError unless all runs have the same images, labels, lesions, folds."""
  first = next(iter(systems))
  expected = systems[first][0]
  for name, runs in systems.items():
    for run in runs:
      same = (run.predictions.class_names == expected.predictions.class_names
              and all(np.array_equal(a, b) for a, b in (
                  (run.predictions.ids, expected.predictions.ids),
                  (run.predictions.labels, expected.predictions.labels),
                  (run.images.groups, expected.images.groups),
                  (run.folds, expected.folds))))
      if not same:
        raise errors.UserError(
            f'{name} was not scored on the images, classes and lesions of {first}; '
            'compare runs on one split of one data set')


def metrics_of(run: Run) -> tuple[str, ...]:
  """Names of what `bootstrap` can work out for a run."""
  names = run.predictions.class_names
  if len(names) == 2:
    decided = not np.isnan(run.thresholds).any()
    own = (*_RANKING, *(_AT_THRESHOLD if decided else ()))
  else:
    own = ('balanced_accuracy', 'auc_mean', *(f'recall_{name}' for name in names),
           *(f'auc_{name}' for name in names))
  return *own, *run.images.scores


class Draws:
  """Draws of images, made once for all systems and scores on the same images."""

  def __init__(self, *, num_draws: int, seed: int):
    self.num_draws, self.seed = num_draws, seed
    self._made: dict[tuple, np.ndarray] = {}

  def of(self, strata: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """`bootstrap_lib.bootstrap_draws` of strata [N] and groups [N]: uint16 [D, N]."""
    key = (tuple(strata.tolist()), tuple(groups.tolist()))
    if key not in self._made:
      self._made[key] = bootstrap_lib.bootstrap_draws(
          strata, groups, num_draws=self.num_draws, seed=self.seed)
    return self._made[key]


def bootstrap(runs: Sequence[Run], metric: str, *, draws: Draws) -> np.ndarray:
  """A system's score, averaged over its seeds, as it is and in each draw.

  Lesions are resampled, by class, and by fold where no lesion is in two; with three
  or more seeds the seeds too. Systems on the same images have the same draws. Shares
  of images (recalls, scores of single images) are those of all folds together; scores
  that rank images are averaged over the folds.

  Args:
    runs: of one system, one for each seed, on the same images.
    metric: one of `metrics_of`; a score of single images is averaged over those
      that have it.
    draws: the same for all systems.

  Returns:
    float64 [1 + D], for `bootstrap.percentile_interval` and `comparisons`.
  """
  values = [_values(run, metric, draws) for run in runs]
  return paired.average_seeds(
      np.stack(values), paired.seed_draws(
          len(runs), num_draws=draws.num_draws, seed=draws.seed))


def _rows(run: Run, rows: np.ndarray) -> Run:
  """The rows of a run where bool [N] is true."""
  table, images = run.predictions, run.images
  return Run(
      prediction_files.PredictionTable(
          table.ids[rows], table.labels[rows], table.probabilities[rows],
          table.class_names),
      image_tables.ImageTable(
          images.ids[rows], images.groups[rows],
          {name: values[rows] for name, values in images.scores.items()}),
      run.folds[rows], run.thresholds[rows])


def _values(run: Run, metric: str, draws: Draws) -> np.ndarray:
  errors.check_choice('metric', metric, metrics_of(run))
  if metric in run.images.scores:
    run = _rows(run, ~np.isnan(run.images.scores[metric]))
    if not len(run.folds):
      return np.full(1 + draws.num_draws, np.nan)
    function = functools.partial(
        bootstrap_lib.draws_mean, values=run.images.scores[metric],
        include=np.ones(len(run.folds), bool))
  else:
    function = _classification(run, metric)
  drawn = draws.of(_strata(run), run.images.groups)
  return bootstrap_lib.bootstrap_values(function, draws=drawn)


def _strata(run: Run) -> np.ndarray:
  """Classes, within folds where no lesion is in two: [N]."""
  labels = run.predictions.labels
  pairs = set(zip(run.images.groups.tolist(), run.folds.tolist(), strict=True))
  if len(pairs) > len(np.unique(run.images.groups)):
    # Lesions in the same few folds would be strata of one or two, hardly resampled.
    return labels
  return folds_lib.strata(labels, run.folds)


def _classification(run: Run, metric: str) -> Callable[[np.ndarray], np.ndarray]:
  """The function draws [D, N] -> [D] of a score of the predictions."""
  labels = run.predictions.labels
  probabilities, names = run.predictions.probabilities, run.predictions.class_names
  if metric in _RANKING:
    return functools.partial(
        folds_lib.draws_average, metric=_RANKING[metric], labels=labels,
        scores=probabilities[:, 1], folds=run.folds)
  if len(names) == 2:
    predicted = (probabilities[:, 1] >= run.thresholds).astype(labels.dtype)
  else:
    predicted = probabilities.argmax(axis=1)
  if metric == 'balanced_accuracy':
    return functools.partial(
        bootstrap_lib.draws_balanced_accuracy, labels=labels, predicted=predicted)
  if metric == 'auc_mean':
    areas = [_area(run, k) for k in np.unique(labels)]
    return lambda drawn: np.mean([area(drawn) for area in areas], axis=0)
  if metric.startswith('auc_'):
    return _area(run, names.index(metric.removeprefix('auc_')))
  if metric in _AT_THRESHOLD:
    k = int(metric == 'sensitivity')
  else:
    k = names.index(metric.removeprefix('recall_'))
  return functools.partial(
      bootstrap_lib.draws_mean, values=predicted == labels, include=labels == k)


def _area(run: Run, k: int) -> Callable[[np.ndarray], np.ndarray]:
  """Of class k against the rest, averaged over the folds."""
  return functools.partial(
      folds_lib.draws_average, metric=bootstrap_lib.draws_auc,
      labels=run.predictions.labels == k,
      scores=run.predictions.probabilities[:, k], folds=run.folds)
