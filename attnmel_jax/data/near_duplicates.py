"""Images that two sets have in common: by id, by lesion, and by sight.

  train = near_duplicates.look(
      ids, groups, (split.load(row)['image'] for row in rows))
  test = near_duplicates.look(...)
  common = near_duplicates.compare(
      train, test, min_correlation=near_duplicates.MIN_CORRELATION)
  if common:
    print(common.line('train', 'test'))

The comparison is in grey and, within limits, sees through a cast of colour, another
brightness or contrast, size or compression, a flip, a quarter turn and another crop.
It misses turns by other angles, much smaller crops and heavy edits.

Every pair is compared, in eight orientations, at 16 pixels. What looks a little alike
is decided by Pearson's correlation at 64 pixels: as they are, or after one was moved
and stretched over the other (see `alignment`). A perceptual hash of 64 bits would be no
faster than the matrix product, and less sure: it differs in up to 16 bits between the
images of the true pairs of ISIC 2017, and in fewer between many that are unlike. What
is fine has to agree as well: two dark oval lesions on plain skin reach 0.98.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses

import numpy as np
from PIL import Image

from attnmel_jax.data import alignment

MIN_CORRELATION = 0.98

_SIDE = 64       # of the small images
_ORIENTATIONS = 8  # a square's flips and quarter turns
# Sides and correlations of the sieves, and the last one's fine detail. The first has
# two: as they are, and after the best small shift and stretch, to first order. Measured
# on the 300,000 pairs of ISIC 2017's training and validation images, 4 of which are
# true (they have at least 0.93, 0.98, 0.996, 0.997 and detail of 0.90; the best false
# one 0.980 and 0.57), and on the 50 million of ISIC 2018's training images.
_FIRST, _MIN_FIRST, _MIN_NEAR = 16, 0.88, 0.965
_SECOND, _MIN_SECOND = 32, 0.97
_MIN_DETAIL = 0.8
# Where nothing had to be moved to agree, less fine detail is enough: true pairs of
# ISIC 2018 have at least 0.75, the one false pair of all these sets 0.53.
_MIN_DETAIL_UNMOVED = 0.65
# What a result depends on besides the images.
SETTINGS = (MIN_CORRELATION, _SIDE, _ORIENTATIONS, _FIRST, _MIN_FIRST, _MIN_NEAR,
            _SECOND, _MIN_SECOND, _MIN_DETAIL, _MIN_DETAIL_UNMOVED)
_BLOCK = 1 << 22  # numbers of a kind in memory at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """What is compared of a set of images; see `look`."""

  ids: np.ndarray     # str [N]
  groups: np.ndarray  # str [N], lesions; the id itself where they are not known
  small: np.ndarray   # uint8 [N, 64, 64], grey


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two images that look the same."""

  first: str          # id
  second: str         # id in the other set
  correlation: float  # Pearson's, of 64 x 64 grey pixels
  turned: bool        # after a flip or a quarter turn
  moved: bool         # after one was moved and stretched over the other


@dataclasses.dataclass(frozen=True)
class Common:
  """What two sets have in common; false if that is nothing."""

  ids: tuple[str, ...]
  groups: tuple[str, ...]   # of images with different ids
  pairs: tuple[Pair, ...]   # of different ids; the highest correlation first

  def __bool__(self) -> bool:
    return bool(self.ids or self.groups or self.pairs)

  def line(self, first: str, second: str) -> str:
    """One line, for example for an error, on the sets of these names."""
    parts = []
    if self.ids:
      parts.append(_some(f'{len(self.ids)} images', self.ids))
    if self.groups:
      parts.append(_some(f'{len(self.groups)} lesions', self.groups))
    if self.pairs:
      parts.append(_some(f'{len(self.pairs)} near-duplicate pairs', [
          f'{pair.first} = {pair.second} (correlation {pair.correlation:.3f}'
          + ', turned' * pair.turned + ', another crop' * pair.moved + ')'
          for pair in self.pairs]))
    return f'{first} and {second} share ' + ('; '.join(parts) or 'nothing')


def _some(what: str, names: Sequence[str]) -> str:
  shown = ', '.join(names[:3])
  return f'{what}: {shown}' + (', ...' if len(names) > 3 else '')


def look(ids: Sequence[str], groups: Sequence[str], images: Iterable[np.ndarray]
         ) -> Images:
  """Shrinks each image, once.

  Args:
    ids: [N] names of the images.
    groups: [N] their lesions.
    images: N arrays uint8 [S, S, 3] or [S, S], in the order of the ids.
  """
  small = np.empty((len(ids), _SIDE, _SIDE), np.uint8)
  for row, image in zip(range(len(ids)), images, strict=True):
    grey = Image.fromarray(image).convert('L')
    small[row] = grey.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
  return Images(np.asarray(ids, str), np.asarray(groups, str), small)


def _orient(small: np.ndarray, orientation: int) -> np.ndarray:
  """[..., 64, 64] transposed (4), flipped top to bottom (2), left to right (1)."""
  if orientation & 4:
    small = small.swapaxes(-1, -2)
  if orientation & 2:
    small = small[..., ::-1, :]
  return small[..., ::-1] if orientation & 1 else small


def compare(first: Images, second: Images, *, min_correlation: float) -> Common:
  """Shared ids, shared lesions, and near-duplicates of different ids.

  Args:
    first: a set of images.
    second: another one; the same image may be in both.
    min_correlation: of near-duplicates.
  """
  pairs = [Pair(str(first.ids[row]), str(second.ids[column]), correlation,
                orientation > 0, moved)
           for (row, column), (correlation, orientation, moved) in near_duplicates(
               first, second, min_correlation=min_correlation).items()
           if first.ids[row] != second.ids[column]]
  pairs.sort(key=lambda pair: (-pair.correlation, pair.first, pair.second))
  named = shared_names(first.ids, first.groups, second.ids, second.groups)
  return dataclasses.replace(named, pairs=tuple(pairs))


def shared_names(first_ids: np.ndarray, first_groups: np.ndarray,
                 second_ids: np.ndarray, second_groups: np.ndarray) -> Common:
  """Shared ids and shared lesions alone, which need no image."""
  ids = np.intersect1d(first_ids, second_ids)
  # The lesion of an image that both hold says no more than the image.
  groups = np.union1d(
      np.intersect1d(first_groups[~np.isin(first_ids, ids)], second_groups),
      np.intersect1d(first_groups, second_groups[~np.isin(second_ids, ids)]))
  return Common(tuple(ids.tolist()), tuple(groups.tolist()), ())


def near_duplicates(first: Images, second: Images, *, min_correlation: float
                    ) -> dict[tuple[int, int], tuple[float, int, bool]]:
  """Rows of `first` and `second` that look the same.

  Returns:
    (row of first, row of second) -> (correlation, orientation 0 ... 7 of the second
    image in which it is highest, whether that is after moving it), for correlations
    of `min_correlation` or more. An image of one grey is like no other.
  """
  found: dict[tuple[int, int], tuple[float, int, bool]] = {}
  for orientation in range(_ORIENTATIONS):
    turned = _orient(second.small, orientation)
    rows, columns = _candidates(first.small, turned)
    for part in _parts(len(rows), _SIDE**2):
      values, moved = _look_closely(
          first.small[rows[part]], turned[columns[part]], min_correlation)
      for at in np.flatnonzero(values >= min_correlation):
        key = int(rows[part][at]), int(columns[part][at])
        # The first orientation stands where a symmetric image has several.
        if values[at] > found.get(key, (-1.,))[0]:
          found[key] = float(values[at]), orientation, bool(moved[at])
  return found


def _candidates(first: np.ndarray, second: np.ndarray
                ) -> tuple[np.ndarray, np.ndarray]:
  """Rows of the pairs that look a little alike, more so if one is moved a little."""
  first, second = _shrink(first, _FIRST), _shrink(second, _FIRST)
  spans = _span(first), _span(second)
  first, second = _normalise(first), _normalise(second)
  rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
  for part in _parts(len(first), max(1, len(second))):
    row, column = np.nonzero(first[part] @ second.T >= _MIN_FIRST)
    row += part.start
    near = np.empty(len(row), bool)
    for some in _parts(len(row), spans[0][0].size):
      near[some] = np.maximum(_within(spans[0][row[some]], second[column[some]]),
                              _within(spans[1][column[some]], first[row[some]])
                              ) >= _MIN_NEAR
    rows.append(row[near])
    columns.append(column[near])
  return np.concatenate(rows), np.concatenate(columns)


def _span(images: np.ndarray) -> np.ndarray:
  """What small shifts and stretches make of images [N, S, S]: bases [N, S * S, 5]."""
  number, side = images.shape[:2]
  images = _normalise(images).reshape(images.shape)
  down, right = (np.gradient(images, axis=axis) for axis in (1, 2))
  middle = np.arange(side, dtype=np.float32) - (side - 1) / 2
  spanned = np.stack([images, down, right, down * middle[:, None], right * middle], -1)
  spanned = spanned.reshape(number, side**2, spanned.shape[-1])
  return np.linalg.qr(spanned - spanned.mean(1, keepdims=True))[0]


def _within(spans: np.ndarray, images: np.ndarray) -> np.ndarray:
  """Correlation [N] of normalised images [N, S * S] with the nearest of the span."""
  return np.linalg.norm(np.einsum('npk,np->nk', spans, images), axis=1)


def _look_closely(first: np.ndarray, second: np.ndarray, min_correlation: float
                  ) -> tuple[np.ndarray, np.ndarray]:
  """Correlations [N] of pairs, and whether they are those after moving the second.

  Where what is fine does not agree, the correlation counts as 0.
  """
  values = correlations(first, second)
  moved = values < min_correlation
  worth = ~moved
  rest = np.flatnonzero(moved)
  coarse = alignment.overlay(
      _shrink(first[rest], _SECOND), _shrink(second[rest], _SECOND))
  worth[rest[coarse.correlation >= _MIN_SECOND]] = True
  rows = np.flatnonzero(worth)
  laid = alignment.overlay(first[rows], second[rows])
  values[rows] = np.where(moved[rows], laid.correlation, values[rows])
  enough = np.where(moved[rows], _MIN_DETAIL, _MIN_DETAIL_UNMOVED)
  values[rows[laid.detail < enough]] = 0
  values[~worth] = 0
  return values, moved


def _shrink(images: np.ndarray, side: int) -> np.ndarray:
  """uint8 [N, S, S] -> float32 [N, side, side], means of blocks."""
  number, step = len(images), images.shape[1] // side
  return images.reshape(number, side, step, side, step).mean((2, 4), dtype=np.float32)


def _parts(number: int, size: int) -> Iterator[slice]:
  """Slices of `number` items, each of `size` numbers, that fit in memory."""
  step = max(1, _BLOCK // size)
  for start in range(0, number, step):
    yield slice(start, start + step)


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Pearson's correlation [N] of images [N, H, W]; 0 where one is of a single grey."""
  return (_normalise(first) * _normalise(second)).sum(1)


def _normalise(images: np.ndarray) -> np.ndarray:
  """[N, H, W] -> float32 [N, H * W] of mean 0 and norm 1, or all 0."""
  flat = images.reshape(len(images), np.prod(images.shape[1:])).astype(np.float32)
  flat -= flat.mean(1, keepdims=True)
  norm = np.sqrt((flat * flat).sum(1, keepdims=True))
  return np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 0)


# Photographs that the ISIC archive holds twice, so that their lesions have two names.
# Found by `compare` among all training images of ISIC 2017 (2000), of ISIC 2018 Task 3
# (10,015) and 2018 of the 2594 of Task 1, and each looked at: two scans, crops or
# colours of one photograph, or two photographs of one lesion. The data sets' lesion ids
# treat them as different.
_PAIRS = (
    # ISIC 2017 and Task 1 of 2018
    ('ISIC_0000157', 'ISIC_0014946'), ('ISIC_0000164', 'ISIC_0014795'),
    ('ISIC_0000165', 'ISIC_0014788'), ('ISIC_0000171', 'ISIC_0015124'),
    ('ISIC_0000173', 'ISIC_0015110'), ('ISIC_0000177', 'ISIC_0014657'),
    ('ISIC_0000198', 'ISIC_0014667'), ('ISIC_0000204', 'ISIC_0014748'),
    ('ISIC_0000205', 'ISIC_0014742'), ('ISIC_0000206', 'ISIC_0014739'),
    ('ISIC_0000215', 'ISIC_0015313'), ('ISIC_0000222', 'ISIC_0014846'),
    ('ISIC_0000223', 'ISIC_0014818'), ('ISIC_0000224', 'ISIC_0014791'),
    ('ISIC_0000225', 'ISIC_0014778'), ('ISIC_0000229', 'ISIC_0014771'),
    ('ISIC_0000519', 'ISIC_0011295'), ('ISIC_0012290', 'ISIC_0013594'),
    ('ISIC_0012672', 'ISIC_0012673'), ('ISIC_0012756', 'ISIC_0013184'),
    ('ISIC_0012127', 'ISIC_0012970'),
    # Task 3 of 2018
    ('ISIC_0025226', 'ISIC_0030074'), ('ISIC_0025387', 'ISIC_0029880'),
    ('ISIC_0027027', 'ISIC_0029036'), ('ISIC_0029152', 'ISIC_0033173'))


def join_lesions(ids: Sequence[str], groups: Sequence[str]) -> np.ndarray:
  """Lesions [N] of images [N], those of one photograph under one name.

  Joins a pair only if both images are among `ids`.
  """
  lesions = dict(zip(map(str, ids), map(str, groups), strict=True))
  renamed: dict[str, str] = {}

  def final(name: str) -> str:
    while name in renamed:
      name = renamed[name]
    return name

  for pair in _PAIRS:
    if all(name in lesions for name in pair):
      first, second = sorted(final(lesions[name]) for name in pair)
      if first != second:
        renamed[second] = first
  return np.array([final(str(group)) for group in groups])
