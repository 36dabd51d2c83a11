"""The predictions of trained runs of the same images, and their scores in draws.

  system = [run_predictions.read(folder, 'test', fold=0, threshold=0.4)
            for folder in folders_of_its_seeds]
  run_predictions.check_same_images({'Mel-CNN': system, 'AttnMel-CNN': other})
  draws = run_predictions.Draws(num_draws=2000, seed=0)
  values = run_predictions.score_in_draws(system, 'auc', draws=draws)
  bootstrap.percentile_interval(values, level=0.95)

In a cross-validation each image is predicted by the one network that did not see
its fold; `pool` makes one run of the folds of a seed. Recalls count correct answers,
so those of all folds are pooled. Areas under curves compare probabilities with each
other, and networks of two folds are not on one scale: they are computed within each
fold and averaged.

The folds' training sets overlap, so the spread of a score over the folds is no
standard error, and there is no unbiased one (Bengio & Grandvalet 2004). Intervals
come from the draws of the pooled images.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import pathlib

import numpy as np

from attnmel_jax import errors
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import prediction_files

# Scores of a binary task at the threshold that was chosen on validation.
_AT_THRESHOLD = ('sensitivity', 'specificity', 'balanced_accuracy')


@dataclasses.dataclass(frozen=True)
class Run:
  """One trained network's predictions, the lesion and the scores of each image.

  Or those of the networks of a cross-validation, each on its own fold.
  """

  predictions: prediction_files.PredictionTable
  images: prediction_files.ImageTable
  folds: np.ndarray       # int [N], whose network predicted the row
  thresholds: np.ndarray  # float64 [N], that network's; nan where it has none


def read(folder: pathlib.Path, name: str, *, fold: int, threshold: float | None) -> Run:
  """Reads predictions/<name>.csv and predictions/<name>_images.csv.

  Images that the challenge does not score are left out.

  Args:
    folder: that holds predictions/.
    name: of the part, as in the names of its files.
    fold: of the network; 0 without a cross-validation.
    threshold: chosen on validation; class 1 is predicted from there on. None where
      there is none.

  Raises:
    UserError: a file is absent or damaged, or they hold other images.
  """
  path = folder / 'predictions' / f'{name}.csv'
  table = prediction_files.read_predictions(path)
  images = prediction_files.read_image_scores(path.with_name(f'{name}_images.csv'))
  if not np.array_equal(table.ids, images.ids):
    raise errors.UserError(
        f'{path} and {name}_images.csv beside it hold other images or orders; write '
        'both again with launch/evaluate.py')
  run = Run(table, images, np.full(len(table.ids), fold),
            np.full(len(table.ids), np.nan if threshold is None else threshold))
  return _rows(run, prediction_files.scored(table.ids))


def pool(runs: Sequence[Run]) -> Run:
  """The networks of a cross-validation as one run, in the order of the ids.

  Scores of images that some fold lacks are left out.

  Raises:
    UserError: an image is in two folds, or the folds have other classes.
  """
  first = runs[0]
  for run in runs:
    if run.predictions.class_names != first.predictions.class_names:
      raise errors.UserError(
          f'fold {run.folds[0]} has the classes '
          f'{", ".join(run.predictions.class_names)}, fold {first.folds[0]} '
          f'{", ".join(first.predictions.class_names)}; pool folds of one experiment')
  ids = np.concatenate([run.predictions.ids for run in runs])
  unique, counts = np.unique(ids, return_counts=True)
  if (counts > 1).any():
    raise errors.UserError(
        f'{unique[counts > 1][0]} and {np.count_nonzero(counts > 1) - 1} other images '
        'are tested in more than one fold; pool each fold of one experiment once')
  order = np.argsort(ids)

  def together(arrays):
    return np.concatenate(list(arrays))[order]

  shared = [name for name in first.images.scores
            if all(name in run.images.scores for run in runs)]
  return Run(
      prediction_files.PredictionTable(
          ids[order], together(run.predictions.labels for run in runs),
          together(run.predictions.probabilities for run in runs),
          first.predictions.class_names),
      prediction_files.ImageTable(
          ids[order], together(run.images.groups for run in runs),
          {name: together(run.images.scores[name] for run in runs)
           for name in shared}),
      together(run.folds for run in runs), together(run.thresholds for run in runs))


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
  """Names of the scores that `score_in_draws` can compute for a run."""
  names = run.predictions.class_names
  if len(names) == 2:
    decided = not np.isnan(run.thresholds).any()
    own = (*bootstrap.RANKING, *(_AT_THRESHOLD if decided else ()))
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
    """`bootstrap.resample` of strata [N] and groups [N]: uint16 [D, N]."""
    key = (tuple(strata.tolist()), tuple(groups.tolist()))
    if key not in self._made:
      self._made[key] = bootstrap.resample(
          strata, groups, num_draws=self.num_draws, seed=self.seed)
    return self._made[key]


def score_in_draws(runs: Sequence[Run], metric: str, *, draws: Draws) -> np.ndarray:
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
    float64 [1 + D], for `bootstrap.percentile_interval` and `significance`.
  """
  values = [_values(run, metric, draws) for run in runs]
  return bootstrap.average_seeds(
      np.stack(values), bootstrap.seed_draws(
          len(runs), num_draws=draws.num_draws, seed=draws.seed))


def _rows(run: Run, rows: np.ndarray) -> Run:
  """The rows of a run where bool [N] is true."""
  table, images = run.predictions, run.images
  return Run(
      prediction_files.PredictionTable(
          table.ids[rows], table.labels[rows], table.probabilities[rows],
          table.class_names),
      prediction_files.ImageTable(
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
        bootstrap.draws_mean, values=run.images.scores[metric],
        include=np.ones(len(run.folds), bool))
  else:
    function = _classification(run, metric)
  drawn = draws.of(_strata(run), run.images.groups)
  return bootstrap.values(function, draws=drawn)


def _strata(run: Run) -> np.ndarray:
  """Classes, within folds where no lesion is in two: [N]."""
  labels = run.predictions.labels
  pairs = set(zip(run.images.groups.tolist(), run.folds.tolist(), strict=True))
  if len(pairs) > len(np.unique(run.images.groups)):
    # Lesions in the same few folds would be strata of one or two, hardly resampled.
    return labels
  return labels * (run.folds.max() + 1) + run.folds


def _classification(run: Run, metric: str) -> Callable[[np.ndarray], np.ndarray]:
  """The function draws [D, N] -> [D] of a score of the predictions."""
  labels = run.predictions.labels
  probabilities, names = run.predictions.probabilities, run.predictions.class_names
  if metric in bootstrap.RANKING:
    return functools.partial(
        bootstrap.draws_fold_average, metric=bootstrap.RANKING[metric], labels=labels,
        scores=probabilities[:, 1], folds=run.folds)
  if len(names) == 2:
    predicted = (probabilities[:, 1] >= run.thresholds).astype(labels.dtype)
  else:
    predicted = probabilities.argmax(axis=1)
  if metric == 'balanced_accuracy':
    return functools.partial(
        bootstrap.draws_balanced_accuracy, labels=labels, predicted=predicted)
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
      bootstrap.draws_mean, values=predicted == labels, include=labels == k)


def _area(run: Run, k: int) -> Callable[[np.ndarray], np.ndarray]:
  """Of class k against the rest, averaged over the folds."""
  return functools.partial(
      bootstrap.draws_fold_average, metric=bootstrap.draws_auc,
      labels=run.predictions.labels == k,
      scores=run.predictions.probabilities[:, k], folds=run.folds)
