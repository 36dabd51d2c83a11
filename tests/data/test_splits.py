"""Folds, hold-outs, the leakage check and task labels."""

import collections

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.data import splits

SETTINGS = hypothesis.settings(deadline=None, max_examples=25)
PARTS = ('train', 'validation', 'test')
OPTIONS = {'num_folds': 4, 'group_folds': True, 'validation_fraction': 0.2, 'seed': 0}


@st.composite
def data_sets(draw, mixed=False):
  """ids, labels, groups of lesions with 1-5 images; `mixed`: of several classes."""
  num_classes = draw(st.integers(2, 4))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  labels, groups = [], []
  for lesion, k in enumerate(
      list(range(num_classes)) * 6
      + draw(st.lists(st.integers(0, num_classes - 1), max_size=80))):
    size = rng.integers(1, 6)
    groups += [f'lesion{lesion}'] * size
    labels += [k] * size
    if mixed and rng.random() < 0.3:
      labels[-1] = rng.integers(num_classes)
  order = rng.permutation(len(labels))
  ids = np.array([f'image{i:04d}' for i in range(len(labels))])
  return ids, np.array(labels)[order], np.array(groups)[order]


def skewed(num_images=3000, seed=0):
  """A data set like ISIC 2018's: rare classes, lesions with up to 6 images."""
  rng = np.random.default_rng(seed)
  shares = [0.11, 0.67, 0.05, 0.03, 0.11, 0.01, 0.02]
  labels, groups = [], []
  while len(labels) < num_images:
    size = rng.choice(6, p=[0.75, 0.15, 0.05, 0.03, 0.01, 0.01]) + 1
    groups += [f'lesion{len(groups):05d}'] * size
    labels += [rng.choice(7, p=shares)] * size
  return np.array([f'im{i:05d}' for i in range(len(labels))]), np.array(
      labels), np.array(groups)


@SETTINGS
@hypothesis.given(data_sets(mixed=True), st.booleans(), st.integers(0, 9))
def test_every_fold_is_a_partition_and_every_image_is_tested_once(data, grouped, seed):
  ids, labels, groups = data
  options = OPTIONS | {'group_folds': grouped, 'seed': seed}
  tested = []
  for fold in range(4):
    split = splits.cross_validation(ids, labels, groups, fold=fold, **options)
    rows = np.concatenate([split.train, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(ids)))
    assert min(map(len, (split.train, split.validation, split.test))) > 0
    tested.append(split.test)
    if grouped:
      parts = [set(groups[getattr(split, name)]) for name in PARTS]
      assert sum(map(len, parts)) == len(set.union(*parts))
  np.testing.assert_array_equal(
      np.sort(np.concatenate(tested)), np.arange(len(ids)))


@SETTINGS
@hypothesis.given(data_sets(), st.booleans())
def test_folds_are_stratified_to_within_one_lesion_or_image(data, grouped):
  ids, labels, groups = data
  folds = splits.assign_folds(
      ids, labels, groups, num_folds=4, group_folds=grouped, seed=1)
  largest = max(collections.Counter(groups).values()) if grouped else 1
  for k in np.unique(labels):
    counts = np.bincount(folds[labels == k], minlength=4)
    assert counts.max() - counts.min() <= largest
    assert counts.min() > 0


@SETTINGS
@hypothesis.given(data_sets(mixed=True), st.randoms(use_true_random=False))
def test_split_does_not_depend_on_the_order_of_the_input(data, random):
  ids, labels, groups = data
  order = list(range(len(ids)))
  random.shuffle(order)
  plain = splits.cross_validation(ids, labels, groups, fold=1, **OPTIONS)
  shuffled = splits.cross_validation(
      ids[order], labels[order], groups[order], fold=1, **OPTIONS)
  for name in PARTS:
    np.testing.assert_array_equal(
        ids[getattr(plain, name)], ids[order][getattr(shuffled, name)])
    assert list(ids[getattr(plain, name)]) == sorted(ids[getattr(plain, name)])


def test_seed_decides_and_repeats():
  data = skewed(600)
  first, again, other = (
      splits.cross_validation(*data, fold=0, **OPTIONS | {'seed': seed})
      for seed in (3, 3, 4))
  for name in PARTS:
    np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
  assert set(first.test) != set(other.test)
  assert set(first.validation) != set(other.validation)
  held_out = [splits.hold_out(*data, fraction=0.2, group_folds=True, seed=seed)[1]
              for seed in (3, 4)]
  assert set(held_out[0]) != set(held_out[1])


def test_skewed_classes_are_balanced_in_every_part():
  ids, labels, groups = skewed()
  for fold in (0, 4):
    split = splits.cross_validation(
        ids, labels, groups, num_folds=5, fold=fold, group_folds=True,
        validation_fraction=0.1, seed=0)
    total = np.bincount(labels)
    assert np.abs(np.bincount(labels[split.test]) - total / 5).max() <= 2
    assert np.abs(np.bincount(labels[split.validation]) - total * 0.08).max() <= 2
    others = np.concatenate([split.train, split.validation])
    lesions = len(set(groups[split.validation])) / len(set(groups[others]))
    assert abs(lesions - 0.1) < 0.01


@SETTINGS
@hypothesis.given(data_sets(), st.floats(0.05, 0.5), st.integers(0, 9))
def test_hold_out_takes_its_share_of_every_class(data, fraction, seed):
  ids, labels, groups = data
  rest, held_out = splits.hold_out(
      ids, labels, groups, fraction=fraction, group_folds=True, seed=seed)
  np.testing.assert_array_equal(
      np.sort(np.concatenate([rest, held_out])), np.arange(len(ids)))
  assert not set(groups[rest]) & set(groups[held_out])
  largest = max(collections.Counter(groups).values())
  for k in np.unique(labels):
    total, taken = np.sum(labels == k), np.sum(labels[held_out] == k)
    assert 0 < taken < total
    assert abs(taken - fraction * total) <= largest


def test_lesions_of_several_classes_go_where_the_rare_class_is_wanted():
  # Ten lesions with a rare and 1-20 common images, 600 with one common image.
  sizes = [20, 2, 2, 2, 1, 1, 1, 1, 1, 1]
  labels = np.array([k for size in sizes for k in [1] + [0] * size] + [0] * 600)
  groups = np.array(
      [f'mixed{i}' for i, size in enumerate(sizes) for _ in range(size + 1)]
      + [f'single{i}' for i in range(600)])
  ids = np.array([f'{i:03d}' for i in range(len(labels))])
  for seed in range(5):
    folds = splits.assign_folds(
        ids, labels, groups, num_folds=5, group_folds=True, seed=seed)
    assert np.bincount(folds[labels == 1], minlength=5).tolist() == [2] * 5
    assert np.ptp(np.bincount(folds[labels == 0], minlength=5)) <= 1


def test_rare_class_is_on_both_sides_of_a_hold_out():
  labels = np.array([0] * 50 + [1] * 3)
  ids = np.array([f'{i:02d}' for i in range(53)])
  for fraction in (0.01, 0.1, 0.99):
    for rows in splits.hold_out(ids, labels, ids, fraction=fraction,
                                group_folds=True, seed=0):
      assert set(labels[rows]) == {0, 1}


def test_options_out_of_range_are_named():
  labels = np.array([3] * 20 + [5] * 12)
  groups = np.array([f'a{i}' for i in range(20)] + [f'b{i // 2}' for i in range(12)])
  ids = np.array([f'{i:02d}' for i in range(32)])
  for changes, words in [
      ({'num_folds': 1}, 'num_folds=1 .*2 or more'),
      ({'num_folds': 7}, 'num_folds=7 .*7 lesions.*class 5.*has 6'),
      ({'validation_fraction': 0.0}, 'validation_fraction=0.0 .*between 0 and 1'),
      ({'validation_fraction': 1.0}, 'validation_fraction=1.0 ')]:
    with pytest.raises(errors.UserError, match=words):
      splits.cross_validation(ids, labels, groups, **{'fold': 0} | OPTIONS | changes)
  ids = np.array(list('abcde'))
  with pytest.raises(errors.UserError, match='2 lesions of every class, but class 1'):
    splits.hold_out(ids, np.array([0, 0, 0, 1, 1]), np.array(list('pqrss')),
                    fraction=0.5, group_folds=True, seed=0)


def test_task_labels():
  names = ('melanoma', 'seborrheic_keratosis', 'nevus')
  labels = np.array([0, 1, 2, 2, 0])
  binary, binary_names = splits.task_labels(labels, names, ('melanoma',))
  assert binary.tolist() == [1, 0, 0, 0, 1]
  assert binary.dtype == np.int32
  assert binary_names == ('other', 'melanoma')
  joined, joined_names = splits.task_labels(labels, names, ('nevus', 'melanoma'))
  assert joined.tolist() == [1, 0, 1, 1, 1]
  assert joined_names == ('other', 'nevus+melanoma')
  apart, apart_names = splits.task_labels(labels, names, ())
  assert apart.tolist() == labels.tolist()
  assert apart_names == names


  names = ('benign', 'malignant')
  with pytest.raises(errors.UserError, match="positive='melanoma' is unknown.*benign"):
    splits.task_labels(np.array([0]), names, ('melanoma',))
  with pytest.raises(errors.UserError, match='holds every class'):
    splits.task_labels(np.array([0]), names, names)
