"""Ids, labels and lesion groups -> rows of train, validation and test.

  split = splits.cross_validation(
      ids, labels, groups, num_folds=5, fold=3, group_folds=True,
      validation_fraction=0.1, seed=0)
  images[split.test]

Everything here is a pure function of the sorted ids with their labels and
groups, and of the seed: the order of the input changes nothing but the row
numbers. Rows are returned in the order of their ids.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from attnmel_jax import errors

# Independent random streams of one seed.
_FOLDS, _HOLD_OUT = 0, 1


@dataclasses.dataclass(frozen=True)
class Split:
  """Disjoint rows (int64 arrays) of the input that together cover it."""

  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray


def cross_validation(
    ids: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, num_folds: int,
    fold: int, group_folds: bool, validation_fraction: float, seed: int,
    class_names: Sequence[str] = (),
) -> Split:
  """Fold `fold` tests, a share of the other lesions validates, the rest trains.

  Args:
    ids: [N] unique names of the images.
    labels: [N] classes, over which folds and validation are stratified.
    groups: [N] lesion of each image.
    num_folds: number of folds; every image is in the test set of just one.
    fold: which fold tests, 0 ... num_folds - 1.
    group_folds: keep all images of a lesion together. False splits by image,
      so that images of one lesion may train and test (the thesis's split).
    validation_fraction: share of the remaining lesions (images, when not
      grouped) of every class that chooses the checkpoint.
    seed: of the assignment; all folds of a seed belong to one partition.
    class_names: of labels 0, 1, ..., for messages; () shows the labels.

  Raises:
    UserError: too few folds, a fraction outside (0, 1), or a class that has fewer
      lesions than there are folds.
  """
  ids, labels, groups = map(np.asarray, (ids, labels, groups))
  folds = assign_folds(ids, labels, groups, num_folds=num_folds,
                       group_folds=group_folds, seed=seed, class_names=class_names)
  order = np.argsort(ids.astype(str))
  test, others = order[folds[order] == fold], order[folds[order] != fold]
  rest, held_out = hold_out(
      ids[others], labels[others], groups[others], fraction=validation_fraction,
      group_folds=group_folds, seed=seed, class_names=class_names)
  return Split(train=others[rest], validation=others[held_out], test=test)


def assign_folds(
    ids: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, num_folds: int,
    group_folds: bool, seed: int, class_names: Sequence[str] = (),
) -> np.ndarray:
  """[N] the fold of each image, 0 ... num_folds - 1; see `cross_validation`."""
  order, units, classes = _sorted_units(ids, labels, groups, group_folds)
  counts = _counts(units, classes)
  unit = 'lesions' if group_folds else 'images'
  if num_folds < 2:
    raise errors.UserError(f'num_folds={num_folds} is not a number of folds; '
                           'choose 2 or more')
  _check_units(counts, _names(labels, class_names), num_folds,
               f'num_folds={num_folds}', unit)
  bins = _assign(counts, np.full(num_folds, 1 / num_folds),
                 np.random.default_rng([seed, _FOLDS]))
  folds = np.empty(len(order), np.int64)
  folds[order] = bins[units]
  return folds


def hold_out(
    ids: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, fraction: float,
    group_folds: bool, seed: int, class_names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
  """Rows (rest, held out): a share of the lesions of every class is held out.

  A class too rare for its share still has a lesion on either side. Arguments as
  in `cross_validation`; `fraction` is `config.validation_fraction`.

  Raises:
    UserError: `fraction` is not inside (0, 1), or a class has a single lesion.
  """
  if not 0 < fraction < 1:
    raise errors.UserError(f'validation_fraction={fraction} is out of range; '
                           'choose a share between 0 and 1, such as 0.1')
  order, units, classes = _sorted_units(ids, labels, groups, group_folds)
  counts = _counts(units, classes)
  unit = 'lesions' if group_folds else 'images'
  _check_units(counts, _names(labels, class_names), 2, 'training and validation', unit)
  bins = _assign(counts, np.array([1 - fraction, fraction]),
                 np.random.default_rng([seed, _HOLD_OUT]))
  held_out = bins[units] == 1
  return order[~held_out], order[held_out]


def shared_groups(a: Sequence[str], b: Sequence[str]) -> list[str]:
  """The ids or lesion groups that are in both, sorted."""
  return sorted({str(x) for x in a} & {str(x) for x in b})


def task_labels(
    labels: np.ndarray, class_names: Sequence[str], positive: Sequence[str],
    known: Sequence[str] = (),
) -> tuple[np.ndarray, tuple[str, ...]]:
  """Classes of the data set -> labels and class names of the task.

  Args:
    labels: [N] index into `class_names`.
    class_names: the data set's classes.
    positive: classes that count as 1 against 0, named 'other'; () keeps all
      classes apart.
    known: classes of another data set, of which this one may lack some.

  Returns:
    int32 [N], and the names: ('other', 'melanoma'), ('other', 'a+b') or
    `class_names`.

  Raises:
    UserError: a positive class is unknown, or no class is left for 'other'.
  """
  labels = np.asarray(labels, np.int32)
  if not positive:
    return labels, tuple(class_names)
  choices = known if set(class_names) <= set(known) else class_names
  for name in positive:
    errors.check_choice('positive', name, choices)
  if set(positive) == set(choices):
    raise errors.UserError(
        f'positive={tuple(positive)!r} holds every class; leave one out, or '
        'choose () for one class each')
  indices = [k for k, name in enumerate(class_names) if name in positive]
  return np.isin(labels, indices).astype(np.int32), ('other', '+'.join(positive))


def _sorted_units(ids, labels, groups, group_folds):
  """-> order [N] by id, and unit and class (both 0, 1, ...) in that order."""
  ids = np.asarray(ids, str)
  order = np.argsort(ids)
  names = np.asarray(groups, str)[order] if group_folds else ids[order]
  units = np.unique(names, return_inverse=True)[1]
  classes = np.unique(np.asarray(labels)[order], return_inverse=True)[1]
  return order, units, classes


def _counts(units: np.ndarray, classes: np.ndarray) -> np.ndarray:
  """[U, K] images of each class in each unit."""
  counts = np.zeros((units.max() + 1, classes.max() + 1), np.int64)
  np.add.at(counts, (units, classes), 1)
  return counts


def _names(labels, class_names: Sequence[str]) -> list:
  """A name for each class that there is."""
  found = np.unique(labels).tolist()
  return [class_names[label] for label in found] if class_names else found


def _check_units(counts, names, required, purpose, unit) -> None:
  """Raises UserError unless every class is in `required` units."""
  available = (counts > 0).sum(axis=0)
  rarest = available.argmin()
  if available[rarest] < required:
    raise errors.UserError(
        f'{purpose} needs at least {required} {unit} of every class, but '
        f'class {names[rarest]} has {available[rarest]}; choose fewer folds or '
        'add images')


def _assign(counts: np.ndarray, shares: np.ndarray,
            rng: np.random.Generator) -> np.ndarray:
  """Assigns units to bins so that each bin gets its share of every class.

  Greedy, in random order but with the largest units first: a unit goes where
  it adds least to sum_{f,k} n_fk^2 / (share_f N_k), n_fk the images of class k
  in bin f. That sum is least where all bins hold their share; dividing by
  the size N_k of the class lets the rare classes decide for mixed units.

  Args:
    counts: [U, K] images of each class in each unit.
    shares: [F] of the bins; their sum is 1.

  Returns:
    [U] bin of each unit.
  """
  order = rng.permutation(len(counts))
  order = order[np.argsort(-counts.sum(axis=1)[order], kind='stable')]
  weights = counts / counts.sum(axis=0)
  loads = np.zeros((len(shares), counts.shape[1]), np.int64)
  bins = np.empty(len(counts), np.int64)
  for unit in order:
    cost = (2 * loads + counts[unit]) @ weights[unit] / shares
    # Of equally good bins the one with fewest images, then the first.
    bins[unit] = np.lexsort((loads.sum(axis=1) / shares, cost.round(9)))[0]
    loads[bins[unit]] += counts[unit]
  _fill_empty(bins, counts, loads)
  return bins


def _fill_empty(bins, counts, loads) -> None:
  """Moves the smallest unit of a class to a bin that has none of the class.

  Only small shares of rare classes are rounded down to nothing. In place.
  """
  for target, k in np.argwhere(loads == 0):
    candidates = np.flatnonzero(counts[:, k])
    # A bin that would be left without the class gives none away.
    held = np.bincount(bins[candidates], minlength=len(loads))
    candidates = candidates[held[bins[candidates]] > 1]
    if not len(candidates):
      continue
    unit = candidates[np.argmin(counts[candidates].sum(axis=1))]
    bins[unit] = target
