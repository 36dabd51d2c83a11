"""How well attention maps find the lesion, image by image: Table 3.3, and beyond.

  attention_scores.per_image({'pool4': maps}, lesion, has_lesion, image_size=224)
  # {'jaccard_pool4': [N], 'mass_pool4': [N], ..., 'jaccard_all_ones': [N], ...}

The protocol of the thesis: bring the map to the size of the network's input,
rescale it to [0, 1], threshold it, and compare it with the lesion mask after the
centre crop of the test images. A Jaccard index depends on its threshold; the sweep,
the mass inside the lesion and the pointing game show how much.

Three baselines need no network: a map that marks everything, the best centred disc
(dermoscopic lesions are central) and Otsu's threshold (they are dark).
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from attnmel_jax.evaluation import attention_maps

# Where the thesis cuts a rescaled map.
THRESHOLD = 0.5
# Of the threshold sweep; that of the thesis is among them.
THRESHOLDS = np.arange(1, 20) / 20
# Candidate radii of the disc, as shares of the side; 0.71 reaches the corners.
RADII = np.arange(5, 72) / 100

# Maps are handled so many at a time: 64 of 224 x 224 float64 are 26 MB.
_CHUNK = 64


def jaccard(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Intersection over union of masks bool [N, H, W] -> [N]; 1 if both are empty.

  >>> a, b = np.array([[[True, True, False]]]), np.array([[[False, True, True]]])
  >>> attention_scores.jaccard(a, b).round(2).tolist()
  [0.33]
  """
  if a.shape != b.shape or a.dtype != bool or b.dtype != bool:
    raise ValueError(f'{a.dtype} {a.shape} and {b.dtype} {b.shape} are not masks '
                     'bool [N, H, W] of one shape')
  intersection = np.count_nonzero(a & b, axis=(1, 2))
  union = np.count_nonzero(a | b, axis=(1, 2))
  return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def _check(values: np.ndarray, masks: np.ndarray) -> None:
  """Raises ValueError unless these are maps [N, H, W] and masks bool [N, H, W]."""
  if values.ndim != 3 or values.shape != masks.shape or masks.dtype != bool or (
      values.dtype.kind != 'f'):
    raise ValueError(f'{values.dtype} {values.shape} and {masks.dtype} {masks.shape} '
                     'are not floating-point maps and masks bool [N, H, W] of one '
                     'shape')


def attention_jaccard(values: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Jaccard index of each map, cut at THRESHOLD, with its mask: float64 [N].

  Args:
    values: [N, S, S] in [0, 1], rescaled maps of the network's input.
    masks: bool [N, S, S], lesion masks of the same view.

  >>> values = np.array([[[0., .25, .75, 1.]]])
  >>> attention_scores.attention_jaccard(
  ...     values, np.array([[[False, True, True, True]]])).round(2).tolist()
  [0.67]
  """
  _check(values, masks)
  return jaccard(values >= THRESHOLD, masks)


def mass_inside(values: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Share of the rescaled attention that lies on the lesion: float64 [N].

  The energy-based pointing game of Score-CAM (Wang et al. 2020). A map that marks
  everything scores the lesion's share of the image; nan where the mask is empty.
  Arguments as those of `attention_jaccard`.

  >>> values = np.array([[[0., .25, .75, 1.]]])
  >>> attention_scores.mass_inside(
  ...     values, np.array([[[False, False, True, True]]])).tolist()
  [0.875]
  """
  _check(values, masks)
  share = np.sum(values * masks, axis=(1, 2)) / values.sum(axis=(1, 2))
  return np.where(masks.any(axis=(1, 2)), share, np.nan)


def pointing_game(values: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Whether the most attended pixel lies on the lesion: float64 [N].

  Zhang et al. 2018, without their tolerance of 15 pixels. Where several pixels
  share the maximum it is the share of them on the lesion; nan where the mask is
  empty. Arguments as those of `attention_jaccard`.

  >>> values = np.array([[[0., .25, .75, 1.]]])
  >>> attention_scores.pointing_game(
  ...     values, np.array([[[True, True, False, False]]])).tolist()
  [0.0]
  """
  _check(values, masks)
  highest = values >= 1 - attention_maps.CONSTANT
  hits = np.count_nonzero(highest & masks, axis=(1, 2))
  share = hits / np.count_nonzero(highest, axis=(1, 2))
  return np.where(masks.any(axis=(1, 2)), share, np.nan)


class Score(NamedTuple):
  """A measure of a map that every image has by itself."""

  function: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (values, masks) -> [N]
  title: str  # of its column in the report


# All that is measured of every map. To add a score, write a function like those
# above and give it a row here: its name begins the columns of the per-image table
# (`mass_pool4`), and intervals, comparisons and the report follow from there.
SCORES = {
    'jaccard': Score(attention_jaccard, 'Jaccard'),
    'mass': Score(mass_inside, 'mass inside'),
    'pointing': Score(pointing_game, 'pointing game'),
}


def per_image(
    maps: Mapping[str, np.ndarray],
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
) -> dict[str, np.ndarray]:
  """All SCORES of every map on every image.

  Args:
    maps: name -> [N, h, w], attention on the network's input.
    lesion: uint8 [N, S, S] masks of the prepared images, 128 and above lesion.
    has_lesion: bool [N], whether the image is annotated.
    image_size: side of the network's input, the centre of the S x S image.

  Returns:
    `<score>_<map>`, float64 [N], of each map and of the baseline `all_ones`; nan
    where the image is not annotated.
  """
  maps = {**maps, 'all_ones': np.ones((len(has_lesion), 1, 1))}
  result = {}
  for name, own in maps.items():
    columns = {f'{score}_{name}': np.full(len(own), np.nan) for score in SCORES}
    for rows, masks in _annotated(own, lesion, has_lesion, image_size):
      values = attention_maps.rescale(attention_maps.upsample(own[rows], image_size))
      for column, score in zip(columns.values(), SCORES.values(), strict=True):
        column[rows] = score.function(values, masks)
    result |= columns
  return result


def released_jaccard(
    maps: np.ndarray, lesion: np.ndarray, has_lesion: np.ndarray, *, image_size: int,
) -> np.ndarray:
  """The Jaccard index as the thesis's released script computes it for CAM.

  The map [N, h, w] is rescaled and cut at THRESHOLD at its own few cells, and
  brought to the input's size only then, so the edges are soft: sum of minima over
  sum of maxima with the mask. It is harder on a coarse map than `attention_jaccard`.

  The other arguments are those of `per_image`; returns float64 [N].
  """
  result = np.full(len(maps), np.nan)
  for rows, masks in _annotated(maps, lesion, has_lesion, image_size):
    cells = (attention_maps.rescale(maps[rows]) >= THRESHOLD).astype(np.float64)
    attended = attention_maps.upsample(cells, image_size)
    union = np.maximum(attended, masks).sum(axis=(1, 2))
    # A rescaled map reaches 1 somewhere, so the union is never empty.
    result[rows] = np.minimum(attended, masks).sum(axis=(1, 2)) / union
  return result


def threshold_sweep(
    maps: Mapping[str, np.ndarray],
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
) -> dict[str, list[float | None]]:
  """`thresholds`, and the mean `jaccard_<map>` over the annotated images at each.

  Arguments as those of `per_image`; None where no image is annotated.
  """
  result: dict[str, list[float | None]] = {'thresholds': THRESHOLDS.tolist()}
  for name, own in maps.items():
    found = [jaccard_at(
        attention_maps.rescale(attention_maps.upsample(own[rows], image_size)), masks,
        THRESHOLDS) for rows, masks in _annotated(own, lesion, has_lesion, image_size)]
    result[f'jaccard_{name}'] = (
        np.concatenate(found, axis=1).mean(axis=1).tolist() if found
        else [None] * len(THRESHOLDS))
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
  _check(values, masks)
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


class Disc(NamedTuple):
  """The centred disc with the highest mean Jaccard index."""

  radius: float        # as a share of the side
  jaccard: np.ndarray  # float64 [N]; nan where the image is not annotated


def best_disc(
    lesion: np.ndarray, has_lesion: np.ndarray, *, image_size: int) -> Disc:
  """The best of the centred discs of RADII, in hindsight.

  The radius is chosen on the very masks that are scored, so the disc is a little
  better than one that is fixed beforehand: a bar that is slightly too high.

  Args:
    lesion: uint8 [N, S, S], 128 and above lesion.
    has_lesion: bool [N], whether the image is annotated.
    image_size: side of the network's input, the centre of the S x S image.

  Returns:
    The radius, nan where no image is annotated, and the index of each image.
  """
  result = np.full(len(lesion), np.nan)
  annotated = np.flatnonzero(has_lesion)
  if not len(annotated):
    return Disc(float('nan'), result)
  offsets = (np.arange(image_size) + 0.5) / image_size - 0.5
  # Larger towards the centre: at least -r^2 is within r.
  closeness = -(offsets[:, None]**2 + offsets**2)
  cropped = attention_maps.central(lesion, image_size)
  # A mask at a time, so that the distances are never copied for all.
  found = np.concatenate([
      jaccard_at(closeness[None], cropped[[row]] > 127, -RADII[::-1]**2)
      for row in annotated], axis=1)[::-1]
  best = int(found.mean(axis=1).argmax())
  result[annotated] = found[best]
  return Disc(float(RADII[best]), result)


def otsu_threshold(grey: np.ndarray) -> int:
  """The grey level that best divides an image in two (Otsu 1979).

  Args:
    grey: uint8, any shape.

  Returns:
    The level t with the largest variance between the classes `grey <= t` and
    `grey > t`, the lowest of equally good ones; the grey itself of an image that
    has only one.
  """
  counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
  below, sums = counts.cumsum(), (counts * np.arange(256)).cumsum()
  pixels, total = below[-1], sums[-1]
  both = (below > 0) & (below < pixels)
  if not both.any():
    return int(counts.argmax())
  # n0 n1 (mean0 - mean1)^2 / n^2, without its constant.
  between = np.divide((total * below - pixels * sums)**2, below * (pixels - below),
                      where=both, out=np.zeros(256))
  return int(between.argmax())


def otsu_mask(photograph: np.ndarray) -> np.ndarray:
  """The darker part of a photograph uint8 [H, W, 3], by its luma: bool [H, W]."""
  grey = np.asarray(Image.fromarray(photograph).convert('L'))
  return grey <= otsu_threshold(grey)


def _annotated(maps: np.ndarray, lesion: np.ndarray, has_lesion: np.ndarray,
               image_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Rows of annotated images, some at a time, with their cropped masks."""
  if not len(maps) == len(lesion) == len(has_lesion):
    raise ValueError(f'{len(maps)} maps, {len(lesion)} masks and {len(has_lesion)} '
                     'annotation flags do not belong together')
  if (lesion.dtype, lesion.ndim) != (np.uint8, 3) or has_lesion.dtype != bool:
    raise ValueError(f'lesion {lesion.dtype} {lesion.shape} and has_lesion '
                     f'{has_lesion.dtype} are not uint8 [N, S, S], 0 to 255, and bool')
  cropped = attention_maps.central(lesion, image_size)
  annotated = np.flatnonzero(has_lesion)
  for start in range(0, len(annotated), _CHUNK):
    rows = annotated[start:start + _CHUNK]
    yield rows, cropped[rows] > 127
