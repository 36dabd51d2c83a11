"""Scores of the systems of one group, with intervals from the same draws."""

from collections.abc import Sequence

import numpy as np

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import metrics
from attnmel_jax.evaluation import paired
from attnmel_jax.evaluation import score_summary
from attnmel_jax.evaluation import systems
from attnmel_jax.report import groups


class Estimates:
  """What a group's tables ask for; each score is worked out once."""

  def __init__(self, group: groups.Group, *, num_draws: int, seed: int):
    """Args: the group; number and seed of the draws of the bootstrap."""
    self.group = group
    self.draws = systems.Draws(num_draws=num_draws, seed=seed)
    self._values: dict[tuple[str, str], np.ndarray] = {}

  def has(self, system: str, metric: str) -> bool:
    """Whether all runs of a system of the group have the score."""
    return system in self.group.units and all(
        metric in systems.metrics_of(unit.run) for unit in self.group.units[system])

  def values(self, system: str, metric: str) -> np.ndarray:
    """The score, averaged over the seeds, as it is and in each draw: [1 + D]."""
    key = (system, metric)
    if key not in self._values:
      if metric == 'auc_mean':
        # The areas of the classes are asked for anyway, and take the time.
        table = self.group.example.predictions
        found = np.mean([self.values(system, f'auc_{table.class_names[k]}')
                         for k in np.unique(table.labels)], axis=0)
      else:
        found = systems.bootstrap([unit.run for unit in self.group.units[system]],
                                  metric, draws=self.draws)
      self._values[key] = found
    return self._values[key]

  def interval(self, system: str, metric: str) -> bootstrap.Interval:
    """The score with its interval."""
    return bootstrap.percentile_interval(
        self.values(system, metric), level=score_summary.LEVEL)

  def error_source(self, system: str) -> str:
    """What the interval of a system holds."""
    return paired.error_source(len(self.group.units[system]))


def fold_areas(units: Sequence[groups.Unit]) -> np.ndarray:
  """Areas under the ROC curve of each fold and class, averaged over the seeds.

  Args:
    units: of one system, on the same images.

  Returns:
    float64 [F, K]; nan where the fold lacks the class or holds no other.
  """
  areas = []
  for unit in units:
    table, folds = unit.run.predictions, unit.run.folds
    areas.append([
        metrics.one_vs_rest_auc(table.labels[rows], table.probabilities[rows])
        for rows in (folds == fold for fold in np.unique(folds))])
  return np.mean(areas, axis=0)


