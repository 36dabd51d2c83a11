"""Dermoscopic structures: networks, globules, fissures, pits, cysts and streaks.

Each function of `DRAWN` changes the absorption of a lesion in place, and nothing
else that another one reads, from a random stream of its own: a lesion drawn without
one of them differs nowhere else. `lesion.attributes` notes where an annotator would
mark the structure. Sources of the patterns: the consensus terminology of Kittler et
al., J Am Acad Dermatol 74 (2016).
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from attnmel_jax.phantom import canvas
from attnmel_jax.phantom import diagnoses
from attnmel_jax.phantom import outline as outlines

ATTRIBUTES = ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks',
              'globules')

_BROWN = np.array(diagnoses.COLOURS['dark_brown'], np.float32)
_CYST = np.array((-0.03, 0.02, 0.10), np.float32)
_PIT = np.array((1.1, 1.6, 1.9), np.float32)


def _streak_lines(rng: np.random.Generator, look: diagnoses.Look,
                  lesion: outlines.Lesion) -> list[np.ndarray]:
  """Radial lines [31, 2] across the border."""
  lines = []
  sector, opening = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 2.6)
  height, width = lesion.y.shape
  far = np.linspace(0, 2.5 * lesion.radius, 100)[:, None]
  for _ in range(round(look.streaks)):
    angle = sector + rng.uniform(-opening, opening) / 2
    step = np.array(canvas.direction(angle))
    pixels = ((lesion.centre + far * step) * height).astype(int)
    seen = np.all((pixels >= 0) & (pixels < (height, width)), axis=1)
    rows, columns = pixels[seen].T
    inside = far[seen, 0][lesion.level[rows, columns] < 1]
    border = inside[-1] if len(inside) else 0.0
    start = lesion.centre + border * rng.uniform(0.68, 0.9) * step
    end = lesion.centre + (border + lesion.radius * rng.uniform(0.05, 0.17)) * step
    lines.append(canvas.curve(start, end, rng.normal(0, 0.07)))
  return lines


def _streak_cover(lesion: outlines.Lesion, lines: list[np.ndarray]) -> np.ndarray:
  """Coverage [H, W] by lines that taper outwards."""
  pieces = [line[k:k + 11] for line in lines for k in (0, 10, 20)]
  widths = [share * lesion.radius for _ in lines for share in (0.036, 0.028, 0.018)]
  cover = canvas.strokes(lesion.y.shape, pieces, widths)
  return ndimage.gaussian_filter(cover, 0.002 * lesion.y.shape[0])


def streaks(rng: np.random.Generator, look: diagnoses.Look,
            lesion: outlines.Lesion) -> None:
  """Radial streaming in the colour of the lesion, darker; some end in a bulb.

  The outline grows to hold it, after all that depends on the outline was drawn.
  """
  lines = _streak_lines(rng, look, lesion)
  if not lines:
    return
  shape = lesion.y.shape
  everywhere = np.ones(shape, bool)
  bulbous = [line[-1] for line in lines if rng.random() < 0.2]
  radii = 0.024 * lesion.radius * rng.uniform(0.7, 1.3, len(bulbous))
  bulbs = canvas.spots(lesion.points(everywhere), np.array(bulbous).reshape(-1, 2),
                       radii, 0.03 * lesion.radius)
  lines_cover = _streak_cover(lesion, lines)
  cover = np.maximum(lines_cover, bulbs.reshape(shape))
  dark = np.maximum(lesion.absorption.reshape(-1, 3),
                    1.2 * lesion.typical + 0.25 * _BROWN)
  _stain(lesion, everywhere, cover.ravel(), dark, 0.85)
  lesion.level = outlines.single_region(
      np.where(lines_cover > 0.5, np.minimum(lesion.level, 0.97), lesion.level))
  lesion.attributes['streaks'] = (cover > 0.5) & lesion.mask


def _warped_mesh(rng, lesion, inside, spacing, irregularity) -> np.ndarray:
  """Distance gap over the spacing to the lines of a mesh, at `inside` [N]."""
  points = lesion.points(inside)
  for axis in range(2):
    wave = canvas.noise(rng, inside.shape, scale=0.5 * lesion.radius, smoothness=2.0)
    points[:, axis] += spacing * (0.4 + 0.6 * irregularity) * wave[inside]
  centres = canvas.lattice(rng, extent=lesion.extent(), spacing=spacing,
                           jitter=0.10 + 0.22 * irregularity)
  return canvas.mesh(points, centres) / spacing


def _mesh_region(rng, lesion, share, irregularity) -> np.ndarray:
  """Where a mesh shows [H, W]: all of the lesion, or patches on one side."""
  cloud = canvas.noise(rng, lesion.y.shape, scale=0.4 * lesion.radius, smoothness=1.5)
  threshold = float(np.quantile(cloud[lesion.mask], 1 - share))
  patch = canvas.smoothstep(threshold - 0.4, threshold + 0.4, cloud)
  return (1 - irregularity + irregularity * patch) * canvas.smoothstep(
      1.15, 0.75, lesion.level)


def network(rng: np.random.Generator, look: diagnoses.Look,
            lesion: outlines.Lesion) -> None:
  """Dark mesh of the rete ridges, regular or atypical; fades at the border."""
  spacing = rng.uniform(0.024, 0.036) * (1 + 0.6 * look.network_irregularity)
  uneven = look.network_irregularity
  region = _mesh_region(rng, lesion, rng.uniform(0.5, 0.9), uneven)
  if not look.network:
    return
  inside = lesion.level < 1.2
  gap = _warped_mesh(rng, lesion, inside, spacing, uneven)
  width = canvas.noise(rng, inside.shape, scale=0.25 * lesion.radius, smoothness=1.5)
  thickness = (0.26 + 0.14 * uneven) * np.exp(0.45 * uneven * width[inside])
  line = np.exp(-(gap / thickness) ** 2)
  # Lines come and go along the mesh, as pegs of the rete differ in depth.
  depth = canvas.noise(rng, inside.shape, scale=0.03, smoothness=1.0)[inside]
  strength = look.network * region[inside] * np.clip(0.8 + 0.35 * depth, 0, 1.3)
  lesion.absorption[inside] *= (1 + strength * (1.15 * line - 0.42))[:, None]
  lesion.attributes['pigment_network'] = lesion.mask & (look.network * region > 0.25)


def negative_network(rng: np.random.Generator, look: diagnoses.Look,
                     lesion: outlines.Lesion) -> None:
  """Light mesh around dark islands, in patches."""
  spacing = rng.uniform(0.030, 0.050)
  region = _mesh_region(rng, lesion, rng.uniform(0.25, 0.6), 1.0)
  if not look.negative_network:
    return
  inside = lesion.level < 1.1
  gap = _warped_mesh(rng, lesion, inside, spacing, 0.6)
  line = np.exp(-(gap / 0.26) ** 2)
  strength = look.negative_network * region[inside]
  lesion.absorption[inside] *= (1 + strength * (0.40 - 1.05 * line))[:, None]
  lesion.attributes['negative_network'] = (
      lesion.mask & (look.negative_network * region > 0.3))


def _stain(lesion: outlines.Lesion, inside, cover, colour, strength) -> None:
  """Mixes `colour` into the absorption at `inside` by `strength * cover`."""
  share = (strength * cover)[:, None]
  lesion.absorption[inside] += share * (colour - lesion.absorption[inside])


def _mark(lesion: outlines.Lesion, name: str, inside, cover) -> None:
  region = np.zeros(lesion.mask.shape, bool)
  region[inside] = cover > 0.5
  lesion.attributes[name] = region & lesion.mask


def globules(rng: np.random.Generator, look: diagnoses.Look,
             lesion: outlines.Lesion) -> None:
  """Brown dots: even cobblestones, or of any size and on one side."""
  uneven = look.globule_irregularity
  spacing = rng.uniform(0.045, 0.075)
  centres = canvas.lattice(rng, extent=lesion.extent(), spacing=spacing,
                           jitter=0.10 + 0.35 * uneven)
  radii = spacing * rng.uniform(0.22, 0.32) * np.exp(
      0.5 * uneven * rng.standard_normal(len(centres)))
  side = (centres - lesion.centre) @ canvas.direction(rng.uniform(0, 2 * np.pi))
  # Irregular globules crowd on one side and leave gaps.
  keep = rng.random(len(centres)) < np.clip(
      0.9 - 0.5 * uneven + uneven * side / lesion.radius, 0.05, 0.95)
  if not look.globules:
    return
  inside = lesion.level < 1.05
  cover = canvas.spots(lesion.points(inside), centres[keep], radii[keep],
                       0.35 * spacing) * lesion.cover[inside]
  # Globules are nests of pigment: none in what has regressed to white.
  cover *= canvas.smoothstep(0.05, 0.25, lesion.absorption[inside][:, 1])
  shade = 0.35 * lesion.absorption[inside] + 0.9 * _BROWN
  _stain(lesion, inside, cover, shade, 0.8 * look.globules)
  _mark(lesion, 'globules', inside, cover)


def ridges(rng: np.random.Generator, look: diagnoses.Look,
           lesion: outlines.Lesion) -> None:
  """Cerebriform surface: dark fissures that meander between pale ridges."""
  shape = lesion.y.shape
  fold = canvas.noise(rng, shape, scale=rng.uniform(0.03, 0.05), smoothness=2.2)
  if not look.ridges:
    return
  fissure = np.exp(-(fold / 0.28) ** 2) * lesion.cover
  lesion.absorption *= (1 + look.ridges * (1.3 * fissure - 0.45))[..., None]


def _scatter(rng, lesion: outlines.Lesion, number: float) -> np.ndarray:
  """`number` places [N, 2] well inside the lesion."""
  rows, columns = np.nonzero(lesion.level < 0.88)
  chosen = rng.integers(0, len(rows), round(number))
  return np.stack([lesion.y[rows[chosen], 0], lesion.x[0, columns[chosen]]], axis=-1)


def _dots(rng, lesion: outlines.Lesion, number: float, colour: np.ndarray, size: float
          ) -> tuple[np.ndarray, np.ndarray]:
  """Draws dots that are not quite round; returns where, and their coverage there."""
  inside = lesion.mask
  points = lesion.points(inside)
  for axis in range(2):
    points[:, axis] += 0.004 * canvas.noise(
        rng, inside.shape, scale=0.012, smoothness=1.5)[inside]
  centres = _scatter(rng, lesion, number)
  radii = size * np.exp(0.45 * rng.standard_normal(len(centres)))
  cover = canvas.spots(points, centres, radii, 0.016)
  _stain(lesion, inside, cover, colour, rng.uniform(0.65, 0.9))
  return inside, cover


def comedones(rng: np.random.Generator, look: diagnoses.Look,
              lesion: outlines.Lesion) -> None:
  """Comedo-like openings: dark dots of keratin."""
  _dots(rng, lesion, look.comedones, _PIT, 0.012)


def milia(rng: np.random.Generator, look: diagnoses.Look,
          lesion: outlines.Lesion) -> None:
  """Milia-like cysts: pale dots."""
  inside, cover = _dots(rng, lesion, look.milia, _CYST, 0.010)
  _mark(lesion, 'milia_like_cyst', inside, cover)


# In the order they are drawn; streaks last, as they move the outline.
DRAWN: dict[str, Callable[[np.random.Generator, diagnoses.Look, outlines.Lesion], None]]
DRAWN = {
    'pigment_network': network,
    'negative_network': negative_network,
    'globules': globules,
    'ridges': ridges,
    'comedones': comedones,
    'milia_like_cyst': milia,
    'streaks': streaks,
}
