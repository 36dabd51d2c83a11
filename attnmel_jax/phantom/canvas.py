"""Smooth noise, meshes, spots and strokes: the brushes of the phantom.

Lengths are in units of the image height, so that a picture looks the same at
every size; fields are float32 [H, W]. All functions are pure: numpy, scipy and
Pillow only, randomness from the generator passed in.
"""

from collections.abc import Sequence
import math

import numpy as np
from PIL import Image
from PIL import ImageDraw
from scipy import fft
from scipy import spatial

_SUPERSAMPLING = 3  # strokes are drawn this much larger, then averaged


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Pixel centres (y, x), each [H, W], in units of the height."""
  y, x = np.mgrid[:height, :width].astype(np.float32)
  return (y + 0.5) / height, (x + 0.5) / height


def direction(angle: float) -> tuple[float, float]:
  """Unit vector (y, x); plain floats leave float32 fields float32."""
  return math.sin(angle), math.cos(angle)


def smoothstep(low, high, value: np.ndarray) -> np.ndarray:
  """0 at `low`, 1 at `high` (which may be below `low`), smooth in between."""
  t = np.clip((value - low) / (high - low), 0, 1)
  return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, shape: tuple[int, int], *, scale: float,
          smoothness: float) -> np.ndarray:
  """A random field of mean 0 and variance 1 with a Matern-like spectrum.

  Args:
    rng: source of randomness.
    shape: (H, W).
    scale: correlation length; octaves below it fall off as a power law.
    smoothness: exponent of that power law, 1 (cloudy) to 3 (smooth).
  """
  height, width = shape
  ky = fft.fftfreq(height, 1 / height).astype(np.float32)[:, None]
  kx = fft.rfftfreq(width, 1 / height).astype(np.float32)[None, :]
  gain = (1 + (2 * np.pi * scale) ** 2 * (ky ** 2 + kx ** 2)) ** -smoothness
  white = rng.standard_normal(shape, dtype=np.float32)
  field = fft.irfft2(fft.rfft2(white) * gain, s=shape)
  field -= field.mean()
  return field / max(float(field.std()), 1e-6)


def lattice(rng: np.random.Generator, *, extent: tuple[float, float, float, float],
            spacing: float, jitter: float) -> np.ndarray:
  """Centres [N, 2] of a hexagonal lattice over (top, left, bottom, right).

  Each is moved by a normal deviate of `jitter * spacing`.
  """
  top, left, bottom, right = extent
  rows = np.arange(top - 2 * spacing, bottom + 2 * spacing, spacing * 0.866)
  columns = np.arange(left - 2 * spacing, right + 2 * spacing, spacing)
  y, x = np.meshgrid(rows, columns, indexing='ij')
  x = x + np.where(np.arange(len(rows)) % 2, spacing / 2, 0)[:, None]
  centres = np.stack([y, x], axis=-1).reshape(-1, 2)
  return centres + jitter * spacing * rng.standard_normal(centres.shape)


def mesh(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """Distance gap [N] of `points` [N, 2] between the two nearest centres.

  It is 0 on the edges of the Voronoi cells of `centres` and grows into them.
  """
  distances, _ = spatial.cKDTree(centres).query(points, k=2)
  return (distances[:, 1] - distances[:, 0]).astype(np.float32)


def spots(points: np.ndarray, centres: np.ndarray, radii: np.ndarray,
          softness: float) -> np.ndarray:
  """Coverage [N] of `points` [N, 2] by discs with soft rims."""
  if not len(centres):
    return np.zeros(len(points), np.float32)
  reach = float(radii.max()) + softness
  distances, nearest = spatial.cKDTree(centres).query(
      points, k=1, distance_upper_bound=reach)
  radius = np.append(radii, 0)[nearest]  # query's index N means none in reach
  distances = np.where(np.isfinite(distances), distances, reach + 1)
  return smoothstep(softness / 2, -softness / 2, distances - radius).astype(
      np.float32)


def strokes(shape: tuple[int, int], lines: Sequence[np.ndarray],
            widths: Sequence[float]) -> np.ndarray:
  """Coverage [H, W] in [0, 1] by polylines, each [n, 2] as (y, x)."""
  height, width = shape
  zoom = _SUPERSAMPLING
  canvas = Image.new('L', (width * zoom, height * zoom), 0)
  pen = ImageDraw.Draw(canvas)
  for line, thickness in zip(lines, widths, strict=True):
    pixels = thickness * height * zoom
    # A line thinner than the finest pixel is a paler line of one pixel.
    shade = int(255 * min(1.0, pixels))
    path = [(float(x), float(y)) for y, x in line * (height * zoom)]
    pen.line(path, fill=shade, width=max(1, round(pixels)), joint='curve')
  return np.asarray(canvas.reduce(zoom), np.float32) / 255


def curve(start: np.ndarray, end: np.ndarray, bend: float) -> np.ndarray:
  """A parabola [31, 2] from `start` to `end`, `bend` times its length aside."""
  t = np.linspace(0, 1, 31)[:, None]
  along = end - start
  aside = np.array([-along[1], along[0]])
  return start + t * along + 4 * t * (1 - t) * bend * aside
