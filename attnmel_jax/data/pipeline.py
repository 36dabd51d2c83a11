"""Prepared images + rows -> the batch of step t; padded evaluation batches.

  region = pipeline.find_region(
      'lesion', dermo_attributes=(), available=split.dermo_attributes)
  store = pipeline.open_store(
      split, maps=pipeline.needed_maps(region, evaluation=True), cache_gib=4.0)
  batches = pipeline.TrainingBatches(store, rows, labels, region=region, ...)
  for step, batch in batches.iterate(start_step=0, num_steps=9700):
    ...

A batch is a dict of numpy arrays; S is the side of the prepared images:
  image      uint8 [B, S, S, 3]
  roi        uint8 [B, S, S], 0-255; zeros where not annotated
  has_roi    bool  [B]
  label      int32 [B], class of the task
  index      int32 [B], row in the prepared split
  valid      bool  [B], False for the padding of the last evaluation batch
  features   {map: float16 [B, h, w, C]}, instead of the image, with a frozen backbone;
             roi is then turned and cropped like them
and in evaluation batches, whatever region trains,
  lesion     uint8 [B, S, S]
  has_lesion bool  [B]
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import concurrent.futures
import contextlib
import dataclasses
import functools
import os
from typing import Any
from typing import NamedTuple

import grain
import numpy as np

from attnmel_jax import errors
from attnmel_jax import progress

Batch = dict[str, Any]
# (step, its batch) -> the batch as it is handed out.
Finish = Callable[[int, Batch], Batch]


class Prior(NamedTuple):
  """How a region is made from maps of the prepared data."""

  map: str  # 'lesion', 'dermo' or 'generated'
  # (maps uint8 [B, S, S], bits of the dermo map that count) -> uint8 [B, S, S],
  # 0 to 255; it may be the same array.
  paint: Callable[[np.ndarray, int], np.ndarray]


def _as_stored(maps, bits):
  del bits
  return maps


def _outside(maps, bits):
  del bits
  return 255 - maps


def _any_attribute(maps, bits):
  # 0 - True wraps around to 255.
  return np.negative((maps & np.uint8(bits) != 0).view(np.uint8))


# Region that the attention is pulled to. Another one is a function and a line here,
# and its name in `config.ROIS`.
REGIONS = {
    'none': None,
    'lesion': Prior('lesion', _as_stored),
    'dermo': Prior('dermo', _any_attribute),
    'background': Prior('lesion', _outside),
    'generated': Prior('generated', _as_stored),
}

# Batches ready ahead of the consumer, besides those being assembled.
_PREFETCH = 3
# More than these would only hold memory: each assembles a whole batch.
_MAX_THREADS = 16


@dataclasses.dataclass(frozen=True)
class Region:
  """Where the attention is pulled to."""

  name: str          # a key of REGIONS
  map: str | None    # 'lesion', 'dermo', 'generated' or None
  bits: int          # of the dermo map's attributes whose union counts


# Of evaluation: scores are against the lesion, whatever region trained.
NO_REGION = Region('none', None, 0)


def find_region(roi: str, *, dermo_attributes: Sequence[str],
                available: Sequence[str]) -> Region:
  """The region of `config.roi` and `config.dermo_attributes`.

  Args:
    roi: a key of REGIONS.
    dermo_attributes: whose union is the region, where `roi` is 'dermo'.
    available: the prepared data set's attributes in the order of their bits.

  Raises:
    UserError: an attribute is unknown, or there is none.
  """
  bits = 0
  if roi == 'dermo':
    if not available or not dermo_attributes:
      raise errors.UserError(
          f'roi=dermo with dermo_attributes={tuple(dermo_attributes)!r}: the data '
          f'set offers {", ".join(available) or "none"}; choose some or another roi')
    for name in dermo_attributes:
      errors.check_choice('dermo_attributes', name, available)
      bits |= 1 << list(available).index(name)
  return Region(roi, REGIONS[roi] and REGIONS[roi].map, bits)


def needed_maps(region: Region, *, evaluation: bool) -> tuple[str, ...]:
  """The maps a store has to hold for training on `region` and evaluation."""
  maps = ('lesion',) if evaluation else ()
  if region.map and region.map not in maps:
    maps += (region.map,)
  return maps


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStore:
  """The images of a prepared split; see `open_store`."""

  split: Any                            # a storage.PreparedSplit
  maps: tuple[str, ...]                 # 'lesion', 'dermo', 'generated'
  arrays: dict[str, np.ndarray] | None  # [N, S, S, ...]; None: streamed

  @property
  def nbytes(self) -> int:
    """Bytes of images in memory; 0 if they are streamed."""
    return sum(array.nbytes for array in (self.arrays or {}).values())

  def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    """'image' uint8 [B, S, S, 3] and each of the maps uint8 [B, S, S]."""
    if self.arrays is not None:
      return {key: array.take(rows, axis=0) for key, array in self.arrays.items()}
    arrays = _allocate(len(rows), self.split.side, self.maps)
    for position, row in enumerate(rows):
      _load(self.split, int(row), arrays, position)
    return arrays


def open_store(split: Any, *, maps: Sequence[str], cache_gib: float) -> ImageStore:
  """Decodes all images into memory if they fit, else leaves them to be streamed.

  Either way the batches are the same.

  Args:
    split: a storage.PreparedSplit.
    maps: which maps are read besides the image; see `needed_maps`.
    cache_gib: memory for this store's images and maps, in GiB.
  """
  maps = tuple(maps)
  needed = len(split) * split.side ** 2 * (3 + len(maps))
  if needed > cache_gib * 2 ** 30:
    return ImageStore(split, maps, None)
  arrays = _allocate(len(split), split.side, maps)
  executor = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
  label = f'decode {split.dataset} {split.split}'
  try:
    rows = range(len(split))
    bar = progress.Progress(label, len(split), unit='images')
    with contextlib.closing(bar):
      for _ in executor.map(lambda row: _load(split, row, arrays, row), rows):
        bar.advance(1)
  finally:
    executor.shutdown(cancel_futures=True)
  return ImageStore(split, maps, arrays)


def as_it_is(step: int, batch: Batch) -> Batch:
  """The `Finish` of batches of photographs."""
  del step
  return batch


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingBatches:
  """The batch of every step: a function of these fields and the step alone.

  Attributes:
    store: of the split the rows belong to.
    rows: [M] training rows of the split.
    labels: int32 [N] class of the task, of every image of the split.
    region: where the attention is pulled to.
    batch_size: images in a batch.
    sampler: see `pass_rows`; it balances the data set's classes.
    oversample_factors: one per class, for the sampler 'repeat'.
    seed: of the order.
    part: which positions of each batch to load; slice(None) for all.
    finish: applied to the batch of every step.

  Raises:
    UserError: an option is out of range, fewer rows than a batch, or no
      training image is annotated with the region.
  """

  store: ImageStore
  rows: np.ndarray
  labels: np.ndarray
  _: dataclasses.KW_ONLY
  region: Region
  batch_size: int
  sampler: str
  oversample_factors: Sequence[int]
  seed: int
  part: slice
  finish: Finish = as_it_is

  def __post_init__(self):
    steps_per_pass(self.rows_per_pass, self.batch_size)
    annotated = _annotated(self.store.split, self.region, self.rows)
    if self.region.map and not annotated.any():
      raise errors.UserError(
          f'roi={self.region.name} asks for {self.region.map} maps, but no training '
          'image has one; prepare the data set with its masks or choose roi=none')

  @functools.cached_property
  def rows_per_pass(self) -> int:
    """Rows in a pass, repetitions included."""
    return len(self._pass_rows(0))

  @property
  def steps_per_pass(self) -> int:
    """Batches in a pass; a batch never mixes passes."""
    return steps_per_pass(self.rows_per_pass, self.batch_size)

  def batch_at(self, step: int) -> Batch:
    """The `part` of the batch of step `step` = 0, 1, ..."""
    rows = self._rows_at(step)
    return self.finish(step, _assemble(self.store, rows, self.labels, self.region)[0])

  def iterate(self, *, start_step: int, num_steps: int) -> Iterator[tuple[int, Batch]]:
    """Yields (step, batch) from `start_step` up to `num_steps`, prefetched.

    Args:
      start_step: first step; resuming needs no more.
      num_steps: of the whole run, so the last step is `num_steps - 1`.
    """
    return _prefetch(lambda step: (step, self.batch_at(step)),
                     range(start_step, num_steps), self.store)

  def _pass_rows(self, pass_number: int) -> np.ndarray:
    split = self.store.split
    return self.rows[pass_rows(
        split.labels[self.rows], class_names=split.class_names, sampler=self.sampler,
        oversample_factors=self.oversample_factors, seed=self.seed,
        pass_number=pass_number)]

  def _rows_at(self, step: int) -> np.ndarray:
    pass_number, position = divmod(step, self.steps_per_pass)
    start = position * self.batch_size
    return self._pass_rows(pass_number)[start:start + self.batch_size][self.part]


def evaluation_batches(
    store: ImageStore, rows: np.ndarray, labels: np.ndarray, *, region: Region,
    batch_size: int, part: slice, finish: Finish = as_it_is,
) -> Iterator[Batch]:
  """Yields batches that hold each of `rows` once, in order, prefetched.

  The last one is padded to `batch_size`: valid False, index -1, and zeros for
  all else. `store` must hold the 'lesion' map; `labels`, `part` and `finish` as in
  TrainingBatches.
  """
  size = len(range(batch_size)[part])

  def batch_at(number: int) -> Batch:
    chosen = rows[number * batch_size:(number + 1) * batch_size][part]
    batch, maps = _assemble(store, chosen, labels, region)
    batch['lesion'] = maps['lesion']
    batch['has_lesion'] = store.split.has_lesion[chosen]
    padding = size - len(chosen)
    if padding:
      batch = {key: np.concatenate([value, np.zeros_like(value, shape=(
          padding, *value.shape[1:]))]) for key, value in batch.items()}
      batch['index'][-padding:] = -1
    return finish(number, batch)

  return _prefetch(batch_at, range(-(-len(rows) // batch_size)), store)


def _assemble(store, rows, labels, region):
  """-> the training batch of `rows`, and the maps it was made from."""
  arrays = store.read(rows)
  image = arrays.pop('image')
  annotated = _annotated(store.split, region, rows)
  if region.map is None:
    roi = np.zeros(image.shape[:3], np.uint8)
  else:
    roi = REGIONS[region.name].paint(arrays[region.map], region.bits)
    if not annotated.all():
      roi[~annotated] = 0
  batch = {
      'image': image, 'roi': roi, 'has_roi': annotated,
      'label': labels[rows].astype(np.int32), 'index': rows.astype(np.int32),
      'valid': np.ones(len(rows), bool),
  }
  return batch, arrays


def _annotated(split, region, rows):
  """bool [B]: whether the rows have the map that the region is made from."""
  if region.map is None:
    return np.zeros(len(rows), bool)
  return getattr(split, f'has_{region.map}')[rows]


def _allocate(num_images, side, maps):
  shape = (num_images, side, side)
  return {'image': np.empty((*shape, 3), np.uint8),
          **{key: np.empty(shape, np.uint8) for key in maps}}


def _load(split, row, arrays, position):
  """Writes image and maps of a row into position `position` of the arrays."""
  record = split.load(row)
  for key, array in arrays.items():
    array[position] = record[key]


def _prefetch(get: Callable[[int], Any], numbers: range,
              store: ImageStore) -> Iterator[Any]:
  """Yields get(number) of all numbers, each made ahead in background threads.

  However the iteration ends, the threads stop after their current batch.
  """
  # Gathering from memory keeps up with one thread; decoding takes them all.
  threads = 1 if store.arrays is not None else min(os.cpu_count(), _MAX_THREADS)
  dataset = grain.MapDataset.source(numbers).map(get).to_iter_dataset(
      grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + _PREFETCH))
  items = iter(dataset)
  try:
    yield from items
  finally:
    items.close()


SAMPLERS = ('none', 'repeat', 'inverse_frequency')


def pass_rows(
    labels: np.ndarray, *, class_names: Sequence[str], sampler: str,
    oversample_factors: Sequence[int], seed: int, pass_number: int,
) -> np.ndarray:
  """The rows of one pass in the order in which they are visited.

  A function of its arguments alone; every pass has another order. Samplers balance
  the classes of the data set, even where the task joins several of them, because the
  published factors are given per class of the data set.

  Args:
    labels: [N] classes of the data set.
    class_names: names of the classes.
    sampler: 'none' visits every row once; 'repeat' as often as the factor of
      its class says; 'inverse_frequency' see `inverse_frequency_rows`.
    oversample_factors: one per class, for 'repeat'.
    seed: of the run.
    pass_number: 0, 1, ...

  Raises:
    UserError: factors that do not fit the classes.
  """
  if sampler == 'inverse_frequency':
    return inverse_frequency_rows(labels, pass_number=pass_number, seed=seed)
  if sampler == 'repeat':
    rows = repeat_rows(labels, oversample_factors, class_names=class_names)
  elif sampler == 'none':
    rows = np.arange(len(labels))
  else:
    raise ValueError(sampler)
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
        f'choose 1 to {num_rows}')
  return num_rows // batch_size
