"""The outline of a lesion, and the lesion as a thing to draw on.

Lengths are in units of the image height; `level` is below 1 inside the lesion
and grows outwards, about the distance from the centre over the radius.
"""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from attnmel_jax.phantom import canvas
from attnmel_jax.phantom import diagnoses


@dataclasses.dataclass
class Lesion:
  """What is drawn so far; the structures below change it in place."""

  y: np.ndarray
  x: np.ndarray
  centre: np.ndarray       # (y, x)
  radius: float            # of the disc of the same area
  level: np.ndarray        # [H, W]
  cover: np.ndarray        # [H, W], share of the pigment that the rim lets show
  absorption: np.ndarray   # [H, W, 3], optical density
  typical: np.ndarray      # [3], mean absorption before any structure is drawn
  attributes: dict[str, np.ndarray]  # name -> bool [H, W], as annotators mark them
  structures: dict[str, np.ndarray]  # name -> bool [H, W], where it was drawn

  @property
  def mask(self) -> np.ndarray:
    """The outline as drawn: bool [H, W]."""
    return self.level < 1

  def points(self, where: np.ndarray) -> np.ndarray:
    """Coordinates [N, 2] of the pixels in `where`."""
    return np.stack([self.y[where], self.x[where]], axis=-1)

  def extent(self) -> tuple[float, float, float, float]:
    """(top, left, bottom, right) of the box around the outline."""
    rows, columns = np.nonzero(self.mask)
    return (self.y[rows[0], 0], self.x[0, columns.min()],
            self.y[rows[-1], 0], self.x[0, columns.max()])


def outline(rng: np.random.Generator, look: diagnoses.Look, height: int,
            width: int) -> Lesion:
  """A bare lesion; its area and place do not depend on `look`."""
  y, x = canvas.grid(height, width)
  aspect = width / height
  area = float(np.clip(np.exp(rng.normal(np.log(0.20), 0.45)), 0.08, 0.5))
  radius = math.sqrt(area * aspect / math.pi)
  # Most lesions are centred; a few are cut off by the border of the image.
  spread = 0.2 if rng.random() < 0.08 else 0.05
  centre = np.array([0.5, aspect / 2]) + spread * rng.standard_normal(2)
  bend = radius * 0.24 * look.irregularity
  shape = (height, width)
  wave = [bend * canvas.noise(rng, shape, scale=0.35 * radius, smoothness=1.1)
          for _ in range(2)]
  axis = canvas.direction(rng.uniform(0, np.pi))
  v, u = y - float(centre[0]) + wave[0], x - float(centre[1]) + wave[1]
  across, along = (axis[1] * v - axis[0] * u, axis[0] * v + axis[1] * u)
  stretch = math.sqrt(look.elongation)
  level = _lobes(rng, look, across / radius * stretch, along / radius / stretch)
  level = level / float(np.quantile(level, area))  # the quantile fixes the area
  opened = ndimage.binary_opening(level < 1)  # without threads a pixel wide
  level = single_region(np.where((level < 1) & ~opened, 1.02, level))
  bare = np.zeros((*shape, 3), np.float32)
  return Lesion(y, x, centre, radius, level, level, bare, np.zeros(3), {}, {})


def single_region(level: np.ndarray) -> np.ndarray:
  """Puts islands outside and holes inside: `level < 1` is one region."""
  labels, _ = ndimage.label(level < 1, np.ones((3, 3)))
  largest = 1 + np.argmax(np.bincount(labels.ravel())[1:])
  mask = labels == largest
  level = np.where((level < 1) & ~mask, 1.02, level)
  holes = ndimage.binary_fill_holes(mask) & ~mask
  return np.where(holes, 0.98, level).astype(np.float32)


def _lobes(rng, look, v, u) -> np.ndarray:
  """Level of a disc with off-centre lobes and notches; v, u over the radius."""
  sharpness = 6.0
  total = np.exp(-sharpness * np.hypot(v, u))
  for _ in range(rng.integers(1, 4)):
    side = canvas.direction(rng.uniform(0, 2 * np.pi))
    away = rng.uniform(0.5, 1.1) * look.asymmetry
    size = rng.uniform(0.45, 0.85)
    lobe = np.hypot(v - away * side[0], u - away * side[1]) / size
    total += np.exp(-sharpness * lobe)
  level = -np.log(total + 1e-12) / sharpness
  angles = np.arctan2(v, u)
  for order in (2, 3, 5):
    level *= 1 + (0.05 + 0.09 * look.asymmetry) / order * rng.standard_normal() * (
        np.cos(order * angles + rng.uniform(0, 2 * np.pi)))
  for _ in range(round(look.notches)):
    side, size = canvas.direction(rng.uniform(0, 2 * np.pi)), rng.uniform(0.12, 0.28)
    away = np.hypot(v - 1.02 * side[0], u - 1.02 * side[1])
    level = level + rng.uniform(0.3, 0.7) * np.exp(-(away / size) ** 2)
  return level - level.min() + 0.05
