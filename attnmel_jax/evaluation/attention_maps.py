"""Attention maps against lesion masks: the Jaccard index of Table 3.3, and beyond.

The protocol of the thesis: bring the map to the size of the network's input,
rescale it to [0, 1], threshold it, and compare it with the lesion mask after the
centre crop of the test images. An index depends on its threshold; the sweep, the
mass inside the lesion and the pointing game say how much.
"""

from collections.abc import Iterator

import numpy as np

# Where the thesis cuts a rescaled map.
THRESHOLD = 0.5

# Maps are handled so many at a time: 64 of 224 x 224 float64 are 26 MB.
_CHUNK = 64

# A map whose values differ by less than this share of the largest is constant:
# float32 carries 7 digits, and rescaling would turn rounding into a pattern.
_CONSTANT = 1e-6


def upsample(maps: np.ndarray, side: int) -> np.ndarray:
  """Maps [N, h, w] -> float64 [N, side, side], bilinear.

  Half-pixel centres, edge clamp, no antialiasing: the interpolation inside the
  gates (`images.resize_bilinear`).

  >>> attention_maps.upsample(np.array([[[0., 1.]]]), 4)[0, 0].tolist()
  [0.0, 0.25, 0.75, 1.0]
  """
  if maps.ndim != 3:
    raise ValueError(f'maps are {maps.shape}, not [N, h, w]')
  count, height, width = maps.shape
  rows, columns = _interpolation(height, side), _interpolation(width, side)
  # Two products over all maps at once: a product for each map would spend its
  # time on waking threads.
  wide = maps.reshape(-1, width).astype(np.float64) @ columns.T
  turned = wide.reshape(count, height, side).swapaxes(1, 2)  # [N, side, h]
  return (turned.reshape(-1, height) @ rows.T).reshape(
      count, side, side).swapaxes(1, 2)


def rescale(maps: np.ndarray) -> np.ndarray:
  """Maps [N, H, W] -> float64, each with minimum 0 and maximum 1.

  A constant map becomes all ones: attention that singles nothing out marks the
  whole image.

  Raises:
    ValueError: values are NaN or infinite.

  >>> attention_maps.rescale(np.array([[[.2, .3, .4]]])).round(2).tolist()
  [[[0.0, 0.5, 1.0]]]
  """
  low = maps.min(axis=(1, 2), keepdims=True).astype(np.float64)
  high = maps.max(axis=(1, 2), keepdims=True).astype(np.float64)
  if bad := np.count_nonzero(~(np.isfinite(low) & np.isfinite(high))):
    raise ValueError(f'{bad} of {len(maps)} attention maps hold NaN or infinity')
  constant = high - low <= _CONSTANT * np.maximum(np.abs(low), np.abs(high))
  rescaled = maps - low
  rescaled /= np.where(constant, 1.0, high - low)
  rescaled[constant[:, 0, 0]] = 1.0
  return rescaled


def jaccard(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Intersection over union of masks bool [N, H, W] -> [N]; 1 if both are empty.

  >>> a, b = np.array([[[True, True, False]]]), np.array([[[False, True, True]]])
  >>> attention_maps.jaccard(a, b).round(2).tolist()
  [0.33]
  """
  if a.shape != b.shape or a.dtype != bool or b.dtype != bool:
    raise ValueError(f'{a.dtype} {a.shape} and {b.dtype} {b.shape} are not masks '
                     'bool [N, H, W] of one shape')
  intersection = np.count_nonzero(a & b, axis=(1, 2))
  union = np.count_nonzero(a | b, axis=(1, 2))
  return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def attention_jaccard(
    maps: np.ndarray,
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
    threshold: float,
) -> np.ndarray:
  """Jaccard index of each thresholded attention map with its lesion mask.

  Args:
    maps: [N, h, w], attention on the network's input.
    lesion: uint8 [N, S, S] masks of the prepared images, 128 and above lesion.
    has_lesion: bool [N], whether the image is annotated.
    image_size: side of the network's input, the centre of the S x S image.
    threshold: rescaled attention of at least this is attended.

  Returns:
    float64 [N] in [0, 1]; nan where the image is not annotated.

  >>> maps = np.array([[[0., 1.], [0., 1.]]])       # attends to the right
  >>> lesion = np.array([[[0, 0, 255, 255]] * 4], np.uint8)
  >>> attention_maps.attention_jaccard(
  ...     maps, lesion, np.array([True]), image_size=4, threshold=0.5).tolist()
  [1.0]
  """
  result = np.full(len(maps), np.nan)
  for rows, masks in _annotated(maps, lesion, has_lesion, image_size):
    attended = rescale(upsample(maps[rows], image_size)) >= threshold
    result[rows] = jaccard(attended, masks)
  return result


def released_jaccard(
    maps: np.ndarray,
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
    threshold: float,
) -> np.ndarray:
  """The Jaccard index as the thesis's released script works it out for CAM.

  Rescaled and thresholded at its own few cells, and brought to the input's size
  only then, so the edges are soft: sum of minima over sum of maxima with the
  mask. It is harder on a coarse map than `attention_jaccard`.

  Args and result are those of `attention_jaccard`.
  """
  result = np.full(len(maps), np.nan)
  for rows, masks in _annotated(maps, lesion, has_lesion, image_size):
    cells = (rescale(maps[rows]) >= threshold).astype(np.float64)
    attended = upsample(cells, image_size)
    union = np.maximum(attended, masks).sum(axis=(1, 2))
    # A rescaled map reaches 1 somewhere, so the union is never empty.
    result[rows] = np.minimum(attended, masks).sum(axis=(1, 2)) / union
  return result


def threshold_sweep(
    maps: np.ndarray,
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
    thresholds: np.ndarray,
) -> np.ndarray:
  """`attention_jaccard` at each of T increasing thresholds: float64 [T, N]."""
  result = np.full((len(thresholds), len(maps)), np.nan)
  for rows, masks in _annotated(maps, lesion, has_lesion, image_size):
    values = rescale(upsample(maps[rows], image_size))
    result[:, rows] = jaccard_at(values, masks, thresholds)
  return result


def mass_inside(
    maps: np.ndarray, lesion: np.ndarray, has_lesion: np.ndarray, *, image_size: int,
) -> np.ndarray:
  """Share of the rescaled attention that lies on the lesion: float64 [N].

  The energy-based pointing game of Score-CAM (Wang et al. 2020). A map that marks
  everything scores the lesion's share of the image. nan where the image is not
  annotated or its mask is empty after the crop.

  >>> maps = np.array([[[0., 1.], [0., 1.]]])       # 0, 1/4, 3/4 and 1 along a row
  >>> lesion = np.array([[[0, 0, 255, 255]] * 4], np.uint8)
  >>> attention_maps.mass_inside(
  ...     maps, lesion, np.array([True]), image_size=4).tolist()
  [0.875]
  """
  result = np.full(len(maps), np.nan)
  for rows, masks in _annotated(maps, lesion, has_lesion, image_size):
    values = rescale(upsample(maps[rows], image_size))
    share = np.sum(values * masks, axis=(1, 2)) / values.sum(axis=(1, 2))
    result[rows] = np.where(masks.any(axis=(1, 2)), share, np.nan)
  return result


def pointing_game(
    maps: np.ndarray, lesion: np.ndarray, has_lesion: np.ndarray, *, image_size: int,
) -> np.ndarray:
  """Whether the most attended pixel lies on the lesion: float64 [N].

  Zhang et al. 2018, without their tolerance of 15 pixels. Where several pixels
  share the maximum it is the share of them on the lesion. nan where the image is
  not annotated or its mask is empty after the crop.

  >>> maps = np.array([[[0., 1.], [0., 1.]]])
  >>> lesion = np.array([[[255, 255, 0, 0]] * 4], np.uint8)
  >>> attention_maps.pointing_game(
  ...     maps, lesion, np.array([True]), image_size=4).tolist()
  [0.0]
  """
  result = np.full(len(maps), np.nan)
  for rows, masks in _annotated(maps, lesion, has_lesion, image_size):
    highest = rescale(upsample(maps[rows], image_size)) >= 1 - _CONSTANT
    hits = np.count_nonzero(highest & masks, axis=(1, 2))
    share = hits / np.count_nonzero(highest, axis=(1, 2))
    result[rows] = np.where(masks.any(axis=(1, 2)), share, np.nan)
  return result


def jaccard_at(
    values: np.ndarray, masks: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
  """`jaccard` of `values >= threshold` for all thresholds, from one pass.

  Args:
    values: [N, H, W].
    masks: bool [N, H, W].
    thresholds: [T], increasing.

  Returns:
    float64 [T, N].
  """
  if np.any(np.diff(thresholds) <= 0):
    raise ValueError(f'thresholds {thresholds} do not increase')
  count, bins = len(values), len(thresholds) + 1
  # Pixels by the number of thresholds that they reach, each image apart.
  reached = np.searchsorted(thresholds, values, side='right')
  cells = reached + bins * np.arange(count)[:, None, None]

  def at_least(chosen):
    histogram = np.bincount(chosen, minlength=count * bins).reshape(count, bins)
    return histogram[:, ::-1].cumsum(axis=1)[:, -2::-1]  # [N, T]

  attended, inside = at_least(cells.ravel()), at_least(cells[masks])
  union = attended + np.count_nonzero(masks, axis=(1, 2))[:, None] - inside
  return np.where(union > 0, inside / np.maximum(union, 1), 1.0).T


def all_ones(side: int) -> np.ndarray:
  """The map [side, side] that marks everything, a baseline of every table."""
  return np.ones((side, side))


def central(lesion: np.ndarray, image_size: int) -> np.ndarray:
  """The view [N, size, size] of masks [N, S, S] that the network's input shows.

  Raises:
    ValueError: the masks hold no square of that side.
  """
  margin = (lesion.shape[1] - image_size) // 2
  if margin < 0 or lesion.shape[1] != lesion.shape[2]:
    raise ValueError(f'masks {lesion.shape} hold no square of side {image_size}')
  window = slice(margin, margin + image_size)
  return lesion[:, window, window]


def _annotated(maps: np.ndarray, lesion: np.ndarray, has_lesion: np.ndarray,
               image_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Rows of annotated images, some at a time, with their cropped masks."""
  if not len(maps) == len(lesion) == len(has_lesion):
    raise ValueError(f'{len(maps)} maps, {len(lesion)} masks and {len(has_lesion)} '
                     'annotation flags do not belong together')
  cropped = central(lesion, image_size)
  annotated = np.flatnonzero(has_lesion)
  for start in range(0, len(annotated), _CHUNK):
    rows = annotated[start:start + _CHUNK]
    yield rows, cropped[rows] > 127


def _interpolation(length: int, side: int) -> np.ndarray:
  """Weights [side, length] of linear interpolation at half-pixel centres."""
  centres = (np.arange(side) + 0.5) * length / side - 0.5
  centres = np.clip(centres, 0, length - 1)
  below = np.floor(centres).astype(int)
  share = centres - below
  weights = np.zeros((side, length))
  weights[np.arange(side), below] = 1 - share
  weights[np.arange(side), np.minimum(below + 1, length - 1)] += share
  return weights
