"""Stores, the batch of step t, padded evaluation batches, threads."""

import dataclasses
import functools
import os
import threading
import time

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.data import pipeline

SIDE = 4
ATTRIBUTES = ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks',
              'globules')
SELECTED = ('pigment_network', 'streaks')  # bits 1 and 8


@dataclasses.dataclass
class FakeSplit:
  """Stands for storage.PreparedSplit: 23 images, of which some lack maps."""

  num_images: int = 23
  dataset: str = 'fake'
  split: str = 'train'
  side: int = SIDE
  class_names: tuple = ('melanoma', 'nevus')
  dermo_attributes: tuple = ATTRIBUTES

  def __post_init__(self):
    rng = np.random.default_rng(0)
    n, shape = self.num_images, (self.num_images, SIDE, SIDE)
    self.labels = (np.arange(n) % 3 > 0).astype(np.int32)
    self.has_lesion = np.arange(n) % 4 != 1
    self.has_dermo = np.arange(n) % 5 != 2
    self.images = rng.integers(0, 256, (*shape, 3), np.uint8)
    self.lesions = rng.choice(np.array([0, 255], np.uint8), shape)
    self.dermos = rng.integers(0, 32, shape, np.uint8)
    self.lesions[~self.has_lesion] = 0
    self.dermos[~self.has_dermo] = 0
    self.generated = rng.integers(0, 256, shape, np.uint8)
    self.has_generated = np.ones(n, bool)
    self.loaded = []

  def __len__(self):
    return self.num_images

  def load(self, row):
    self.loaded.append(row)
    return {'image': self.images[row], 'lesion': self.lesions[row],
            'dermo': self.dermos[row], 'generated': self.generated[row]}


def find_region(roi):
  return pipeline.find_region(roi, dermo_attributes=SELECTED, available=ATTRIBUTES)


def training_batches(split, *, roi='lesion', cache_gib=1.0, **changes):
  region = find_region(roi)
  store = pipeline.open_store(
      split, maps=pipeline.needed_maps(region, evaluation=False), cache_gib=cache_gib)
  options = {'batch_size': 4, 'sampler': 'repeat', 'oversample_factors': (3, 1),
             'seed': 7, 'part': slice(None)}
  return pipeline.TrainingBatches(
      store, np.arange(2, 23), split.labels, region=region, **options | changes)


def evaluate(split, rows, *, roi='none', cache_gib=1.0, batch_size=4,
             part=slice(None)):
  region = find_region(roi)
  store = pipeline.open_store(
      split, maps=pipeline.needed_maps(region, evaluation=True), cache_gib=cache_gib)
  return list(pipeline.evaluation_batches(
      store, rows, split.labels, region=region, batch_size=batch_size, part=part))


def assert_same(first, second):
  assert first.keys() == second.keys()
  for key, value in first.items():
    np.testing.assert_array_equal(value, second[key], err_msg=key)


def wait_for_threads(expected):
  """True once the running threads are `expected` again; waits up to 5 s."""
  for _ in range(500):
    if set(threading.enumerate()) <= expected:
      return True
    time.sleep(0.01)
  return False


def test_batch_has_the_stated_arrays_and_the_rows_it_names():
  split = FakeSplit()
  batch = training_batches(split).batch_at(3)
  assert {key: (value.dtype.name, value.shape) for key, value in batch.items()} == {
      'image': ('uint8', (4, SIDE, SIDE, 3)), 'roi': ('uint8', (4, SIDE, SIDE)),
      'has_roi': ('bool', (4,)), 'label': ('int32', (4,)), 'index': ('int32', (4,)),
      'valid': ('bool', (4,))}
  rows = batch['index']
  assert rows.min() >= 2
  np.testing.assert_array_equal(batch['image'], split.images[rows])
  np.testing.assert_array_equal(batch['roi'], split.lesions[rows])
  np.testing.assert_array_equal(batch['has_roi'], split.has_lesion[rows])
  np.testing.assert_array_equal(batch['label'], split.labels[rows])
  assert batch['valid'].all()
  batch = training_batches(split, roi='generated').batch_at(1)  # probabilities
  np.testing.assert_array_equal(batch['roi'], split.generated[batch['index']])
  assert batch['has_roi'].all()


def test_random_access_equals_the_sequence_and_resuming_its_tail():
  batches = training_batches(FakeSplit())
  num_steps = 3 * batches.steps_per_pass + 1
  whole = list(batches.iterate(start_step=0, num_steps=num_steps))
  assert [step for step, _ in whole] == list(range(num_steps))
  for step in (num_steps - 1, 0, 7):
    assert_same(batches.batch_at(step), whole[step][1])
  tail = list(training_batches(FakeSplit()).iterate(
      start_step=8, num_steps=num_steps))
  assert [step for step, _ in tail] == list(range(8, num_steps))
  for (_, first), (_, second) in zip(tail, whole[8:], strict=True):
    assert_same(first, second)
  assert list(batches.iterate(start_step=num_steps, num_steps=num_steps)) == []


def test_passes_are_reshuffled_and_never_mixed_in_a_batch():
  split = FakeSplit()
  batches = training_batches(split)
  # Rows 2 ... 22 hold 7 melanomas (3, 6, ... 21), repeated 3 times, and 14 nevi.
  assert batches.rows_per_pass == 35
  assert batches.steps_per_pass == 8
  passes = [
      np.concatenate([batches.batch_at(8 * p + i)['index'] for i in range(8)])
      for p in range(3)]
  for rows in passes:
    counts = np.bincount(rows, minlength=23)
    assert (counts <= np.where(split.labels == 0, 3, 1)).all()
  assert len({tuple(rows) for rows in passes}) == 3
  assert [pipeline.steps_per_pass(rows, 32) for rows in (3122, 1419, 32)] == [
      97, 44, 1]


def test_streamed_batches_equal_those_in_memory():
  for roi in pipeline.REGIONS:
    in_memory, streamed = FakeSplit(), FakeSplit()
    kept = training_batches(in_memory, roi=roi)
    read = training_batches(streamed, roi=roi, cache_gib=0.0)
    assert sorted(in_memory.loaded) == list(range(23))
    assert streamed.loaded == []
    assert read.store.nbytes == 0
    for (_, first), (_, second) in zip(
        kept.iterate(start_step=0, num_steps=20),
        read.iterate(start_step=0, num_steps=20), strict=True):
      assert_same(first, second)
    assert (len(in_memory.loaded), len(streamed.loaded)) == (23, 80)
    rows = np.arange(23)
    for first, second in zip(evaluate(in_memory, rows, roi=roi),
                             evaluate(streamed, rows, roi=roi, cache_gib=0.0),
                             strict=True):
      assert_same(first, second)


def test_threads_load_side_by_side_and_in_order(monkeypatch):
  class Slow(FakeSplit):
    def load(self, row):
      threads.add(threading.get_ident())
      time.sleep(0.004 * (row % 3 == 0))
      return super().load(row)

  monkeypatch.setattr(os, 'cpu_count', lambda: 4)
  for cache_gib in (1.0, 0.0):
    threads: set[int] = set()
    rows = np.arange(22, -1, -1)
    found = evaluate(Slow(), rows, roi='lesion', cache_gib=cache_gib)
    assert len(threads) > 1
    for first, second in zip(
        found, evaluate(FakeSplit(), rows, roi='lesion'), strict=True):
      assert_same(first, second)


def test_store_keeps_only_what_fits_and_is_needed():
  split = FakeSplit()
  image_only = 23 * SIDE * SIDE * 3
  store = pipeline.open_store(split, maps=(), cache_gib=image_only / 2**30)
  assert store.nbytes == image_only
  assert set(store.arrays) == {'image'}
  store = pipeline.open_store(
      split, maps=('lesion',), cache_gib=image_only / 2**30)
  assert store.arrays is None


def test_evaluation_covers_each_row_once_and_pads_the_last_batch():
  split = FakeSplit()
  assert len(evaluate(split, np.arange(8))) == 2
  rows = np.arange(22, 13, -1)
  batches = evaluate(split, rows)
  assert [batch['valid'].sum() for batch in batches] == [4, 4, 1]
  index = np.concatenate([batch['index'] for batch in batches])
  valid = np.concatenate([batch['valid'] for batch in batches])
  np.testing.assert_array_equal(index[valid], rows)
  assert (index[~valid] == -1).all()
  for batch in batches:
    assert batch['image'].shape == (4, SIDE, SIDE, 3)
    assert batch['label'].dtype == batch['index'].dtype == np.int32
    valid = batch['valid']
    chosen = batch['index'][valid]
    for key, expected in [('image', split.images), ('lesion', split.lesions),
                          ('has_lesion', split.has_lesion), ('label', split.labels)]:
      np.testing.assert_array_equal(batch[key][valid], expected[chosen])
    for key in ('image', 'roi', 'has_roi', 'label', 'lesion', 'has_lesion'):
      assert not batch[key][~valid].any()


def region_split():
  """Image 0: all maps; image 1: annotated and empty; image 2: not annotated."""
  split = FakeSplit(num_images=3)
  split.has_lesion = split.has_dermo = np.array([True, True, False])
  split.lesions[:] = 0
  split.dermos[:] = 0
  split.lesions[0, 1:3, 1:3] = 255
  split.lesions[0, 3, 3] = 100  # a probability
  # Bits: 1 pigment network, 2 negative network, 8 streaks, 16 globules.
  split.dermos[0, 0] = [1, 2, 8, 16]
  split.dermos[0, 1] = [3, 9, 18, 0]
  return split


LESION = np.array(
    [[0, 0, 0, 0], [0, 255, 255, 0], [0, 255, 255, 0], [0, 0, 0, 100]], np.uint8)
DERMO = np.array(
    [[255, 0, 255, 0], [255, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.uint8)


def test_region_of_hand_made_masks():
  for roi, full, empty, annotated in [
      ('none', 0 * LESION, 0, [False, False, False]),
      ('lesion', LESION, 0, [True, True, False]),
      ('dermo', DERMO, 0, [True, True, False]),
      ('background', 255 - LESION, 255, [True, True, False])]:
    batch, = evaluate(region_split(), np.arange(3), roi=roi, batch_size=3)
    np.testing.assert_array_equal(batch['roi'][0], full, roi)
    assert (batch['roi'][1] == empty).all()
    assert not batch['roi'][2].any()
    assert batch['has_roi'].tolist() == annotated
    # Scored against the lesion whatever region trains.
    np.testing.assert_array_equal(batch['lesion'][0], LESION)
    assert batch['has_lesion'].tolist() == [True, True, False]


def test_region_leaves_the_store_as_it_was():
  batches = training_batches(FakeSplit(), roi='background')
  before = batches.store.arrays['lesion'].copy()
  batches.batch_at(0)['roi'][:] = 9
  np.testing.assert_array_equal(batches.store.arrays['lesion'], before)


def test_wrong_regions_are_refused():
  with pytest.raises(errors.UserError, match="dermo_attributes='dots'.*'globules'"):
    pipeline.find_region('dermo', dermo_attributes=('dots',), available=ATTRIBUTES)
  with pytest.raises(errors.UserError, match='offers none'):
    pipeline.find_region('dermo', dermo_attributes=SELECTED, available=())
  with pytest.raises(errors.UserError, match=r'dermo_attributes=\(\).*globules'):
    pipeline.find_region('dermo', dermo_attributes=(), available=ATTRIBUTES)
  # Attributes that a data set lacks matter only where they are used.
  pipeline.find_region('lesion', dermo_attributes=SELECTED, available=())


def test_wrong_options_are_refused_before_training():
  with pytest.raises(errors.UserError, match='batch_size=36 does not fit the 35'):
    training_batches(FakeSplit(), batch_size=36)
  split = FakeSplit()
  split.has_lesion[2:] = False
  with pytest.raises(errors.UserError, match='roi=lesion.*no training image has one'):
    training_batches(split)


def test_no_thread_outlives_the_iteration():
  batches = training_batches(FakeSplit(), cache_gib=0.0)
  before = set(threading.enumerate())
  iterator = batches.iterate(start_step=0, num_steps=1000)
  next(iterator)
  assert set(threading.enumerate()) - before
  iterator.close()
  assert wait_for_threads(before)
  list(batches.iterate(start_step=0, num_steps=20))
  assert wait_for_threads(before)


def test_a_record_that_cannot_be_read_reaches_the_consumer():
  class Broken(FakeSplit):
    def load(self, row):
      if row == 20:
        raise OSError('row 20 is unreadable')
      return super().load(row)

  before = set(threading.enumerate())
  with pytest.raises(OSError, match='row 20'):
    training_batches(Broken())
  streamed = training_batches(Broken(), cache_gib=0.0)
  with pytest.raises(OSError, match='row 20'):
    list(streamed.iterate(start_step=0, num_steps=100))
  assert wait_for_threads(before)


def test_prefetching_stays_bounded():
  split = FakeSplit()
  batches = training_batches(split, cache_gib=0.0)
  iterator = batches.iterate(start_step=0, num_steps=10_000)
  next(iterator)
  time.sleep(0.3)
  # At most 16 threads, each at a batch of 4, and a few batches ready.
  assert len(split.loaded) <= 4 * (1 + 2 * 16 + 3)
  iterator.close()


def test_parts_of_a_batch_are_the_whole():
  split = FakeSplit()
  whole = training_batches(split)
  parts = [training_batches(split, part=part)
           for part in (slice(0, 1), slice(1, 4))]
  for step in (0, 3):
    joined = [part.batch_at(step) for part in parts]
    assert len(joined[0]['label']) == 1
    assert_same(whole.batch_at(step), {
        key: np.concatenate([batch[key] for batch in joined]) for key in joined[0]})


def test_parts_of_evaluation_batches_are_padded_alike():
  split = FakeSplit()
  rows = np.arange(3, 8)  # five rows: the second batch holds one
  whole = evaluate(split, rows)
  parts = [evaluate(split, rows, part=part) for part in (slice(0, 2), slice(2, 4))]
  assert [len(part) for part in parts] == [2, 2]
  for number, batch in enumerate(whole):
    assert_same(batch, {key: np.concatenate([part[number][key] for part in parts])
                        for key in batch})


ISIC2017 = np.repeat(np.arange(3), [374, 254, 1372])
ISIC2018 = np.repeat(np.arange(7), [1113, 6705, 514, 327, 1099, 115, 142])


def test_repetition_gives_the_published_numbers_of_rows():
  for labels, factors, expected in [
      (np.repeat(np.arange(2), [727, 173]), (1, 4), 1419), (ISIC2017, (4, 1, 1), 3122),
      (ISIC2018, (6, 1, 13, 20, 6, 58, 47), 46543)]:
    names = [str(k) for k in range(len(factors))]
    rows = pipeline.repeat_rows(labels, factors, class_names=names)
    assert len(rows) == expected
    np.testing.assert_array_equal(np.bincount(rows), np.array(factors)[labels])
  for factors in [(4, 1), (4, 1, 1, 1), (4, 0, 1), (4, 1.5, 1), ()]:
    with pytest.raises(errors.UserError, match='oversample_factors=.* a, b, c'):
      pipeline.repeat_rows(ISIC2017, factors, class_names=('a', 'b', 'c'))


def test_inverse_frequency_draws_classes_and_their_rows_equally_often():
  drawn = np.concatenate([
      pipeline.inverse_frequency_rows(ISIC2018, pass_number=p, seed=0)
      for p in range(8)])
  assert len(drawn) == 8 * len(ISIC2018)
  # Six standard errors of a binomial share 1/7 over 80,120 draws.
  shares = np.bincount(ISIC2018[drawn]) / len(drawn)
  assert np.abs(shares - 1 / 7).max() < 6 * np.sqrt(1 / 7 * 6 / 7 / len(drawn))
  drawn = np.concatenate([
      pipeline.inverse_frequency_rows(
          np.array([0] * 8 + [1] * 2), pass_number=p, seed=1)
      for p in range(500)])
  np.testing.assert_allclose(np.bincount(drawn, minlength=10) / len(drawn),
                             [1 / 16] * 8 + [1 / 4] * 2, atol=0.02)


def test_a_pass_is_a_function_of_seed_and_number():
  for sampler in pipeline.SAMPLERS:
    draw = functools.partial(
        pipeline.pass_rows, ISIC2017, class_names='abc', sampler=sampler,
        oversample_factors=(4, 1, 1))
    orders = {tuple(draw(seed=seed, pass_number=number))
              for seed in (0, 1, 2) for number in (0, 1, 2)}
    assert len(orders) == 9
    assert tuple(draw(seed=2, pass_number=1)) in orders
    if sampler != 'inverse_frequency':
      counts = {'none': 1, 'repeat': np.where(ISIC2017 == 0, 4, 1)}[sampler]
      assert (np.bincount(draw(seed=0, pass_number=5)) == counts).all()
