"""What no network is needed for: guesses of the lesion that attention has to beat.

A dermoscopic lesion is central and dark. The best centred disc knows the first,
Otsu's threshold the second. `attention_maps.all_ones` knows nothing.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from attnmel_jax.evaluation import attention_maps

# Candidates, as shares of the side; 0.71 reaches the corners.
RADII = np.arange(5, 72) / 100


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
      attention_maps.jaccard_at(closeness[None], cropped[[row]] > 127,
                                -RADII[::-1]**2)
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
