"""Scores of a cross-validation: what is pooled, and what is averaged.

Each image is predicted by the one network that did not see its fold. Recalls
count right answers, so those of all folds are pooled. Areas under curves compare
probabilities with each other, and networks of two folds are not on one scale: they
are worked out within each fold and averaged.

The folds' training sets overlap, so the spread of a score over the folds is no
standard error, and no unbiased one can be had from it (Bengio & Grandvalet 2004).
Intervals come from the draws of the pooled images.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnmel_jax import errors
from attnmel_jax.evaluation import prediction_files


class Pooled(NamedTuple):
  """Out-of-fold predictions of all folds, in the order of the ids."""

  table: prediction_files.PredictionTable
  folds: np.ndarray  # int [N], of each row


class FoldAverage(NamedTuple):
  """A score over the folds. The spread describes them; it is no standard error."""

  mean: float
  spread_over_folds: float  # standard deviation, n - 1; nan for one fold
  lowest: float
  highest: float
  num_folds: int


def pool(tables: Sequence[prediction_files.PredictionTable]) -> Pooled:
  """Puts the test predictions of the folds together.

  Args:
    tables: fold k's at position k.

  Raises:
    UserError: an image is in two folds, or the folds have other classes.
  """
  if not tables:
    raise ValueError('there are no folds')
  names = tables[0].class_names
  for fold, table in enumerate(tables):
    if table.class_names != names:
      raise errors.UserError(
          f'fold {fold} has the classes {", ".join(table.class_names)}, fold 0 '
          f'{", ".join(names)}; pool folds of one experiment')
  ids = np.concatenate([table.ids for table in tables])
  unique, counts = np.unique(ids, return_counts=True)
  if (counts > 1).any():
    raise errors.UserError(
        f'{unique[counts > 1][0]} and {np.count_nonzero(counts > 1) - 1} other images '
        'are tested in more than one fold; pool each fold of one experiment once')
  order = np.argsort(ids)
  folds = np.repeat(np.arange(len(tables)), [len(table.ids) for table in tables])
  return Pooled(
      prediction_files.PredictionTable(
          ids[order], np.concatenate([t.labels for t in tables])[order],
          np.concatenate([t.probabilities for t in tables])[order], names),
      folds[order])


def strata(labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
  """[N] of one value for each class of each fold, for `statistics.bootstrap_draws`:
  every draw then holds every class in every fold."""
  return np.asarray(labels) * (np.max(folds) + 1) + folds


def draws_average(
    draws: np.ndarray, *, metric: Callable[..., np.ndarray], labels: np.ndarray,
    scores: np.ndarray, folds: np.ndarray) -> np.ndarray:
  """Mean over the folds of a score that ranks rows, in each of the draws [D, N] -> [D].

  A fold without one of the two classes has no such score and takes no part.

  Args:
    draws: [D, N].
    metric: one such as `statistics.draws_auc`, of keywords labels and scores.
    labels: [N] of 0 and 1, or bool.
    scores: [N], on a scale of each fold's own.
    folds: int [N].
  """
  labels = np.asarray(labels).astype(bool)
  values = [
      metric(draws[:, rows], labels=labels[rows], scores=scores[rows])
      for rows in (folds == fold for fold in np.unique(folds))
      if labels[rows].any() and not labels[rows].all()]
  return np.mean(values, axis=0) if values else np.full(len(draws), np.nan)


def average(values: Sequence[float]) -> FoldAverage:
  """Mean and spread of one score per fold; folds where it is nan take no part."""
  values = np.asarray(values, np.float64)
  values = values[~np.isnan(values)]
  if not len(values):
    return FoldAverage(*[float('nan')] * 4, 0)
  spread = values.std(ddof=1) if len(values) > 1 else np.nan
  return FoldAverage(*map(float, (values.mean(), spread, values.min(), values.max())),
                     len(values))
