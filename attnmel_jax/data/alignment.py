"""Small images of one thing in different crops, laid over each other.

A crop of another place, size or aspect ratio moves and stretches what is seen, each
axis by itself. Shift and stretch are found by Gauss-Newton steps on the difference of
the normalised images, from coarse to fine, as in Evangelidis and Psarakis,
"Parametric image alignment using enhanced correlation coefficient maximization", 2008.
"""

import dataclasses

import numpy as np
from scipy import ndimage

# Blur of each step, in pixels of half the size, at which the steps are made.
_BLURS = (1.5,) * 6 + (0.7,) * 6
_MAX_STRETCH = 0.3
_MAX_SHIFT = 0.25   # of the side
_DETAIL_BLUR = 2.0  # in pixels: what is finer is detail
_TINY = 1e-6


@dataclasses.dataclass(frozen=True)
class Overlay:
  """How well N pairs agree where they lie over each other."""

  correlation: np.ndarray  # [N], Pearson's
  detail: np.ndarray       # [N], the same of what is finer than a blur: it tells two
                           # pictures of one lesion from two lesions of one shape
  overlap: np.ndarray      # [N], share of the first image
  stretch: np.ndarray      # [N, 2], vertical and horizontal: 0.1 is 10 %
  shift: np.ndarray        # [N, 2], in sides of the image


def overlay(first: np.ndarray, second: np.ndarray) -> Overlay:
  """Moves and stretches each second image until it lies on the first.

  Args:
    first: grey images [N, S, S], S even.
    second: images of the same shape.
  """
  first, second = (images.astype(np.float32) for images in (first, second))
  side = first.shape[1]
  placing = _align(_halve(first), _halve(second))
  placing[:, 2:] *= 2  # in pixels of the whole size
  rows, columns, inside = _place(placing, side)
  fine = [_centre(images - _blur(images, _DETAIL_BLUR), np.ones_like(images))
          for images in (first, second)]
  return Overlay(
      correlation=_correlation(first, rows @ second @ columns, inside),
      detail=_correlation(fine[0], rows @ fine[1] @ columns, inside),
      overlap=inside.mean((1, 2)), stretch=placing[:, :2],
      shift=placing[:, 2:] / side)


def _halve(images: np.ndarray) -> np.ndarray:
  number, side = images.shape[:2]
  return images.reshape(number, side // 2, 2, side // 2, 2).mean((2, 4))


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
  return ndimage.gaussian_filter(images, sigma, axes=(1, 2))


def _place(placing: np.ndarray, side: int
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Stretches and shifts [N, 4] -> the resampling as matrices.

  Returns:
    rows [N, S, S] and columns [N, S, S], of which `rows @ images @ columns` are the
    moved images, bilinear; inside [N, S, S], 1 where they have pixels, else 0.
  """
  middle = np.arange(side, dtype=np.float32) - (side - 1) / 2
  at = (middle * (1 + placing[:, :2, None]) + placing[:, 2:, None] + (side - 1) / 2)
  weights = np.maximum(0, 1 - np.abs(at[..., None] - np.arange(side, dtype=np.float32)))
  within = ((at >= 0) & (at <= side - 1)).astype(np.float32)
  return (weights[:, 0], weights[:, 1].swapaxes(1, 2),
          within[:, 0, :, None] * within[:, 1, None, :])


def _centre(images: np.ndarray, inside: np.ndarray) -> np.ndarray:
  """Without their mean inside, and zero outside."""
  number = np.maximum(inside.sum((1, 2), keepdims=True), 1)
  return (images - (images * inside).sum((1, 2), keepdims=True) / number) * inside


def _norm(images: np.ndarray) -> np.ndarray:
  return np.sqrt((images * images).sum((1, 2), keepdims=True)) + _TINY


def _correlation(first: np.ndarray, second: np.ndarray, inside: np.ndarray
                 ) -> np.ndarray:
  first, second = _centre(first, inside), _centre(second, inside)
  return ((first / _norm(first)) * (second / _norm(second))).sum((1, 2))


def _align(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Vertical and horizontal stretch, then shift in pixels [N, 4], of the second."""
  number, side = first.shape[:2]
  placing = np.zeros((number, 4), np.float32)
  limits = np.array([_MAX_STRETCH] * 2 + [_MAX_SHIFT * side] * 2, np.float32)
  blur = None
  for sigma in _BLURS:
    if sigma != blur:
      still, moving, blur = _blur(first, sigma), _blur(second, sigma), sigma
      slopes = [np.gradient(moving, axis=axis) for axis in (1, 2)]
    placing = np.clip(placing + _step(still, moving, slopes, placing), -limits, limits)
  return placing


def _step(still: np.ndarray, moving: np.ndarray, slopes: list[np.ndarray],
          placing: np.ndarray) -> np.ndarray:
  """One Gauss-Newton step of the placing [N, 4]."""
  number, side = still.shape[:2]
  rows, columns, inside = _place(placing, side)
  moved = _centre(rows @ moving @ columns, inside)
  norm = _norm(moved)
  moved = moved / norm
  still = _centre(still, inside)
  down, right = (rows @ slope @ columns * inside / norm for slope in slopes)
  middle = np.arange(side, dtype=np.float32) - (side - 1) / 2
  slope = np.stack([down * middle[:, None], right * middle, down, right], -1)
  # The normalisation follows the placing: no change of brightness or contrast counts.
  slope -= (slope.sum((1, 2), keepdims=True)
            / np.maximum(inside.sum((1, 2), keepdims=True), 1)[..., None]
            ) * inside[..., None]
  slope -= moved[..., None] * (moved[..., None] * slope).sum((1, 2), keepdims=True)
  slope = slope.reshape(number, side**2, 4)
  rest = (still / _norm(still) - moved).reshape(number, side**2, 1)
  normal = slope.swapaxes(1, 2) @ slope
  damping = _TINY * (1 + np.trace(normal, axis1=1, axis2=2))
  normal += damping[:, None, None] * np.eye(4, dtype=np.float32)
  return np.linalg.solve(normal, slope.swapaxes(1, 2) @ rest)[..., 0]
