"""Which rows a pass over the training images visits, and in which order.

The classes that samplers balance are the data set's, even where the task joins
several of them: the published factors are given per class of the data set.
"""

from collections.abc import Sequence

import numpy as np

from attnmel_jax import errors

SAMPLERS = ('none', 'repeat', 'inverse_frequency')


def pass_rows(
    labels: np.ndarray, *, class_names: Sequence[str], sampler: str,
    oversample_factors: Sequence[int], seed: int, pass_number: int,
) -> np.ndarray:
  """The rows of one pass in the order in which they are visited.

  A function of its arguments alone; every pass has an order of its own.

  Args:
    labels: [N] classes of the data set.
    class_names: names of the classes.
    sampler: 'none' visits every row once; 'repeat' as often as the factor of
      its class says; 'inverse_frequency' see `inverse_frequency_rows`.
    oversample_factors: one per class, for 'repeat'.
    seed: of the run.
    pass_number: 0, 1, ...

  Raises:
    UserError: unknown sampler, or factors that do not fit the classes.
  """
  errors.check_choice('sampler', sampler, SAMPLERS)
  if sampler == 'inverse_frequency':
    return inverse_frequency_rows(labels, pass_number=pass_number, seed=seed)
  if sampler == 'repeat':
    rows = repeat_rows(labels, oversample_factors, class_names=class_names)
  else:
    rows = np.arange(len(labels))
  return np.random.default_rng([seed, pass_number]).permutation(rows)


def repeat_rows(labels: np.ndarray, oversample_factors: Sequence[int], *,
                class_names: Sequence[str]) -> np.ndarray:
  """Rows 0 ... N - 1, each as often as the factor of its class says.

  ISIC 2017 with (4, 1, 1): 4 * 374 + 254 + 1372 = 3122 rows.

  Raises:
    UserError: not one whole factor of at least 1 per class.
  """
  factors = tuple(oversample_factors)
  whole = all(isinstance(factor, int) and factor >= 1 for factor in factors)
  if not whole or len(factors) != len(class_names):
    raise errors.UserError(
        f'oversample_factors={factors!r} does not fit the classes; give one whole '
        f'number of at least 1 for each of {", ".join(class_names)}, or choose '
        'sampler=none')
  return np.repeat(np.arange(len(labels)), np.asarray(factors, int)[labels])


def inverse_frequency_rows(labels: np.ndarray, *, pass_number: int,
                           seed: int) -> np.ndarray:
  """N rows drawn with replacement, so that every class is equally likely.

  A row's probability is proportional to 1 / p of its class, where p is the
  share of the class. Each pass draws anew.
  """
  classes, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
  probabilities = 1 / counts[classes] / len(counts)
  rng = np.random.default_rng([seed, pass_number])
  return rng.choice(len(labels), len(labels), p=probabilities)


def steps_per_pass(num_rows: int, batch_size: int) -> int:
  """Full batches in a pass; the last partial batch is dropped.

  Raises:
    UserError: there are fewer rows than a batch holds.
  """
  if not 1 <= batch_size <= num_rows:
    raise errors.UserError(
        f'batch_size={batch_size} does not fit the {num_rows} training rows; '
        f'choose 1 ... {num_rows}')
  return num_rows // batch_size
