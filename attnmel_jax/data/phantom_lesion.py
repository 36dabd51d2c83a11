"""Draws one lesion as an outline, a map of absorption and its attributes.

Lengths are in units of the image height; `level` is below 1 inside the lesion
and grows outwards, about the distance from the centre over the radius.
"""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from attnmel_jax.data import phantom_diagnoses as diagnoses
from attnmel_jax.data import phantom_fields as fields

ATTRIBUTES = ('pigment_network', 'negative_network', 'milia_like_cyst', 'streaks',
              'globules')

_BROWN = np.array(diagnoses.COLOURS['dark_brown'], np.float32)
_CYST = np.array((-0.03, 0.02, 0.10), np.float32)
_PIT = np.array((1.1, 1.6, 1.9), np.float32)


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
  attributes: dict[str, np.ndarray]  # name -> bool [H, W]

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


def draw(rng: np.random.Generator, look: diagnoses.Look, *, height: int,
         width: int) -> Lesion:
  """Draws a lesion; its area, place and mean colour do not depend on `look`."""
  lesion = _outline(rng, look, height, width)
  streak_lines = _plan_streaks(rng, look, lesion)
  _fade_rim(rng, look, lesion)
  _paint_colours(rng, look, lesion)
  _network(rng, look, lesion)
  _negative_network(rng, look, lesion)
  _globules(rng, look, lesion)
  _ridges(rng, look, lesion)
  _pits_and_cysts(rng, look, lesion)
  _streaks(rng, lesion, streak_lines)
  _match_mean(rng, lesion)
  return lesion


def _outline(rng, look, height, width) -> Lesion:
  y, x = fields.grid(height, width)
  aspect = width / height
  area = float(np.clip(np.exp(rng.normal(np.log(0.20), 0.45)), 0.08, 0.5))
  radius = math.sqrt(area * aspect / math.pi)
  # Most lesions are centred; a few are cut off by the border of the image.
  spread = 0.2 if rng.random() < 0.08 else 0.05
  centre = np.array([0.5, aspect / 2]) + spread * rng.standard_normal(2)
  bend = radius * 0.24 * look.irregularity
  shape = (height, width)
  wave = [bend * fields.noise(rng, shape, scale=0.35 * radius, smoothness=1.1)
          for _ in range(2)]
  axis = fields.direction(rng.uniform(0, np.pi))
  v, u = y - float(centre[0]) + wave[0], x - float(centre[1]) + wave[1]
  across, along = (axis[1] * v - axis[0] * u, axis[0] * v + axis[1] * u)
  stretch = math.sqrt(look.elongation)
  level = _lobes(rng, look, across / radius * stretch, along / radius / stretch)
  # The quantile fixes the area; then one connected region without holes.
  level = level / float(np.quantile(level, area))
  mask = ndimage.binary_opening(level < 1, iterations=1)
  labels, number = ndimage.label(mask)
  if number > 1:
    largest = 1 + np.argmax(np.bincount(labels.ravel())[1:])
    level = np.where((level < 1) & (labels != largest), 1.02, level)
  holes = ndimage.binary_fill_holes(level < 1) & (level >= 1)
  level = np.where(holes, 0.98, level).astype(np.float32)
  empty = np.zeros(shape, bool)
  return Lesion(y, x, centre, radius, level, level, np.zeros((*shape, 3), np.float32),
                {name: empty for name in ATTRIBUTES})


def _lobes(rng, look, v, u) -> np.ndarray:
  """Level of a disc with off-centre lobes and notches; v, u over the radius."""
  sharpness = 6.0
  total = np.exp(-sharpness * np.hypot(v, u))
  for _ in range(rng.integers(1, 4)):
    side = fields.direction(rng.uniform(0, 2 * np.pi))
    away = rng.uniform(0.5, 1.1) * look.asymmetry
    size = rng.uniform(0.45, 0.85)
    lobe = np.hypot(v - away * side[0], u - away * side[1]) / size
    total += np.exp(-sharpness * lobe) * (look.asymmetry > 0)
  level = -np.log(total + 1e-12) / sharpness
  angles = np.arctan2(v, u)
  for order in (2, 3, 5):
    level *= 1 + (0.05 + 0.09 * look.asymmetry) / order * rng.standard_normal() * (
        np.cos(order * angles + rng.uniform(0, 2 * np.pi)))
  for _ in range(round(look.notches)):
    side, size = fields.direction(rng.uniform(0, 2 * np.pi)), rng.uniform(0.12, 0.28)
    away = np.hypot(v - 1.02 * side[0], u - 1.02 * side[1])
    level = level + rng.uniform(0.3, 0.7) * np.exp(-(away / size) ** 2)
  return level - level.min() + 0.05


def _plan_streaks(rng, look, lesion: Lesion) -> list[np.ndarray]:
  """Radial lines [31, 2] across the border; the outline grows to hold them."""
  lines = []
  sector, opening = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 2.6)
  height, width = lesion.y.shape
  far = np.linspace(0, 2.5 * lesion.radius, 100)[:, None]
  for _ in range(round(look.streaks)):
    angle = sector + rng.uniform(-opening, opening) / 2
    step = np.array(fields.direction(angle))
    pixels = ((lesion.centre + far * step) * height).astype(int)
    seen = np.all((pixels >= 0) & (pixels < (height, width)), axis=1)
    rows, columns = pixels[seen].T
    inside = far[seen, 0][lesion.level[rows, columns] < 1]
    border = inside[-1] if len(inside) else 0.0
    start = lesion.centre + border * rng.uniform(0.68, 0.9) * step
    end = lesion.centre + (border + lesion.radius * rng.uniform(0.05, 0.17)) * step
    lines.append(fields.curve(start, end, rng.normal(0, 0.07)))
  if lines:
    cover = _streak_cover(lesion, lines)
    lesion.level = np.where(cover > 0.5, np.minimum(lesion.level, 0.97), lesion.level)
  return lines


def _streak_cover(lesion: Lesion, lines: list[np.ndarray]) -> np.ndarray:
  """Coverage [H, W] by lines that taper outwards."""
  pieces = [line[k:k + 11] for line in lines for k in (0, 10, 20)]
  widths = [share * lesion.radius for _ in lines for share in (0.036, 0.028, 0.018)]
  cover = fields.strokes(lesion.y.shape, pieces, widths)
  return ndimage.gaussian_filter(cover, 0.002 * lesion.y.shape[0])


def _fade_rim(rng, look, lesion: Lesion) -> None:
  """How the pigment ends: softly, abruptly, or differently along the border."""
  shape = lesion.y.shape
  along = fields.noise(rng, shape, scale=0.7 * lesion.radius, smoothness=2.0)
  width = look.rim * np.exp(look.rim_variation * 1.2 * along)
  width = np.clip(width, 0.025, 0.5)
  grain = fields.noise(rng, shape, scale=0.04 * lesion.radius, smoothness=1.0)
  ragged = lesion.level + 0.25 * width * grain
  lesion.cover = fields.smoothstep(1 + 0.8 * width, 1 - width, ragged)


def _paint_colours(rng, look, lesion: Lesion) -> None:
  """A base of brown, then the colours of the palette as patches or rings."""
  shape, mask = lesion.y.shape, lesion.mask
  light, dark = (np.array(diagnoses.COLOURS[name], np.float32)
                 for name in ('light_brown', 'dark_brown'))
  colour = np.broadcast_to(light + rng.uniform(0.0, 0.5) * (dark - light),
                           (*shape, 3)).copy()
  v, u = ((lesion.y - float(lesion.centre[0])) / lesion.radius,
          (lesion.x - float(lesion.centre[1])) / lesion.radius)
  for name in look.palette:
    towards = fields.direction(rng.uniform(0, 2 * np.pi))
    side = towards[0] * v + towards[1] * u
    ring = (1 - lesion.level) * (1 if rng.random() < 0.7 else -1)
    cloud = fields.noise(rng, shape, scale=0.30 * lesion.radius, smoothness=1.2)
    rank = (look.eccentricity * side + (1 - look.eccentricity) * 1.6 * ring
            + (0.15 + 0.35 * look.eccentricity) * cloud)
    threshold = float(np.quantile(rank[mask], 1 - rng.uniform(0.12, 0.34)))
    blur = rng.uniform(0.12, 0.40)
    weight = fields.smoothstep(threshold - blur, threshold + blur, rank)
    target = np.array(diagnoses.COLOURS[name], np.float32)
    colour += weight[..., None] * (target - colour)
  mottle = fields.noise(rng, shape, scale=0.12 * lesion.radius, smoothness=1.0)
  grain = fields.noise(rng, shape, scale=0.012, smoothness=0.9)
  dome = 1 + rng.uniform(-0.25, 0.45) * (0.5 - lesion.level)
  colour *= (np.exp(0.16 * mottle + 0.10 * grain) * dome)[..., None]
  lesion.absorption = lesion.cover[..., None] * colour


def _warped_mesh(rng, lesion: Lesion, inside, spacing, irregularity) -> np.ndarray:
  """Distance gap over the spacing to the lines of a mesh, at `inside` [N]."""
  points = lesion.points(inside)
  for axis in range(2):
    wave = fields.noise(rng, inside.shape, scale=0.5 * lesion.radius, smoothness=2.0)
    points[:, axis] += spacing * (0.4 + 0.6 * irregularity) * wave[inside]
  centres = fields.lattice(rng, extent=lesion.extent(), spacing=spacing,
                           jitter=0.10 + 0.22 * irregularity)
  return fields.mesh(points, centres) / spacing


def _mesh_region(rng, look, lesion: Lesion, share: float, irregularity) -> np.ndarray:
  """Where a mesh shows [H, W]: all of the lesion, or patches on one side."""
  cloud = fields.noise(rng, lesion.y.shape, scale=0.4 * lesion.radius, smoothness=1.5)
  threshold = float(np.quantile(cloud[lesion.mask], 1 - share))
  patch = fields.smoothstep(threshold - 0.4, threshold + 0.4, cloud)
  return (1 - irregularity + irregularity * patch) * fields.smoothstep(
      1.15, 0.75, lesion.level)


def _network(rng, look, lesion: Lesion) -> None:
  spacing = rng.uniform(0.024, 0.036) * (1 + 0.6 * look.network_irregularity)
  uneven = look.network_irregularity
  region = _mesh_region(rng, look, lesion, rng.uniform(0.5, 0.9), uneven)
  if not look.network:
    return
  inside = lesion.level < 1.2
  gap = _warped_mesh(rng, lesion, inside, spacing, uneven)
  width = fields.noise(rng, inside.shape, scale=0.25 * lesion.radius, smoothness=1.5)
  thickness = (0.26 + 0.14 * uneven) * np.exp(0.45 * uneven * width[inside])
  line = np.exp(-(gap / thickness) ** 2)
  # Lines come and go along the mesh, as pegs of the rete differ in depth.
  depth = fields.noise(rng, inside.shape, scale=0.03, smoothness=1.0)[inside]
  strength = look.network * region[inside] * np.clip(0.8 + 0.35 * depth, 0, 1.3)
  lesion.absorption[inside] *= (1 + strength * (1.15 * line - 0.42))[:, None]
  lesion.attributes['pigment_network'] = lesion.mask & (look.network * region > 0.25)


def _negative_network(rng, look, lesion: Lesion) -> None:
  spacing = rng.uniform(0.04, 0.07)
  region = _mesh_region(rng, look, lesion, rng.uniform(0.25, 0.6), 1.0)
  if not look.negative_network:
    return
  inside = lesion.level < 1.1
  gap = _warped_mesh(rng, lesion, inside, spacing, 0.6)
  line = np.exp(-(gap / 0.26) ** 2)
  strength = look.negative_network * region[inside]
  lesion.absorption[inside] *= (1 + strength * (0.5 - 1.3 * line))[:, None]
  lesion.attributes['negative_network'] = (
      lesion.mask & (look.negative_network * region > 0.3))


def _stain(lesion: Lesion, inside, cover, colour, strength) -> None:
  """Mixes `colour` into the absorption at `inside` by `strength * cover`."""
  share = (strength * cover)[:, None]
  lesion.absorption[inside] += share * (colour - lesion.absorption[inside])


def _mark(lesion: Lesion, name: str, inside, cover) -> None:
  region = np.zeros(lesion.mask.shape, bool)
  region[inside] = cover > 0.5
  lesion.attributes[name] = region & lesion.mask


def _globules(rng, look, lesion: Lesion) -> None:
  uneven = look.globule_irregularity
  spacing = rng.uniform(0.045, 0.075)
  centres = fields.lattice(rng, extent=lesion.extent(), spacing=spacing,
                           jitter=0.10 + 0.35 * uneven)
  radii = spacing * rng.uniform(0.22, 0.32) * np.exp(
      0.5 * uneven * rng.standard_normal(len(centres)))
  side = (centres - lesion.centre) @ fields.direction(rng.uniform(0, 2 * np.pi))
  # Irregular globules crowd on one side and leave gaps.
  keep = rng.random(len(centres)) < np.clip(
      0.9 - 0.5 * uneven + uneven * side / lesion.radius, 0.05, 0.95)
  if not look.globules:
    return
  inside = lesion.level < 1.05
  cover = fields.spots(lesion.points(inside), centres[keep], radii[keep],
                       0.35 * spacing) * lesion.cover[inside]
  # Globules are nests of pigment: none in what has regressed to white.
  cover *= fields.smoothstep(0.05, 0.25, lesion.absorption[inside][:, 1])
  shade = 0.35 * lesion.absorption[inside] + 0.9 * _BROWN
  _stain(lesion, inside, cover, shade, 0.8 * look.globules)
  _mark(lesion, 'globules', inside, cover)


def _ridges(rng, look, lesion: Lesion) -> None:
  """Cerebriform surface: dark fissures that meander between pale ridges."""
  shape = lesion.y.shape
  fold = fields.noise(rng, shape, scale=rng.uniform(0.03, 0.05), smoothness=2.2)
  if not look.ridges:
    return
  fissure = np.exp(-(fold / 0.28) ** 2) * lesion.cover
  lesion.absorption *= (1 + look.ridges * (1.3 * fissure - 0.45))[..., None]


def _scatter(rng, lesion: Lesion, number: float) -> np.ndarray:
  """`number` places [N, 2] well inside the lesion."""
  rows, columns = np.nonzero(lesion.level < 0.88)
  chosen = rng.integers(0, len(rows), round(number))
  return np.stack([lesion.y[rows[chosen], 0], lesion.x[0, columns[chosen]]], axis=-1)


def _pits_and_cysts(rng, look, lesion: Lesion) -> None:
  """Comedo-like openings and milia-like cysts: dark and pale dots, not quite round."""
  inside = lesion.mask
  points = lesion.points(inside)
  for axis in range(2):
    points[:, axis] += 0.004 * fields.noise(
        rng, inside.shape, scale=0.012, smoothness=1.5)[inside]
  for number, colour, size, name in (
      (look.comedones, _PIT, 0.012, ''),
      (look.milia, _CYST, 0.010, 'milia_like_cyst')):
    centres = _scatter(rng, lesion, number)
    radii = size * np.exp(0.45 * rng.standard_normal(len(centres)))
    cover = fields.spots(points, centres, radii, 0.016)
    _stain(lesion, inside, cover, colour, rng.uniform(0.65, 0.9))
    if name:
      _mark(lesion, name, inside, cover)


def _streaks(rng, lesion: Lesion, lines: list[np.ndarray]) -> None:
  """Radial streaming in the colour of the lesion, darker; some end in a bulb."""
  if not lines:
    return
  shape = lesion.y.shape
  everywhere = np.ones(shape, bool)
  bulbous = [line[-1] for line in lines if rng.random() < 0.2]
  radii = 0.024 * lesion.radius * rng.uniform(0.7, 1.3, len(bulbous))
  bulbs = fields.spots(lesion.points(everywhere), np.array(bulbous).reshape(-1, 2),
                       radii, 0.03 * lesion.radius)
  cover = np.maximum(_streak_cover(lesion, lines), bulbs.reshape(shape))
  typical = lesion.absorption[lesion.mask].mean(axis=0)
  dark = np.maximum(lesion.absorption.reshape(-1, 3), 1.2 * typical + 0.25 * _BROWN)
  _stain(lesion, everywhere, cover.ravel(), dark, 0.85)
  lesion.attributes['streaks'] = (cover > 0.5) & lesion.mask


def _match_mean(rng, lesion: Lesion) -> None:
  """Sets the lesion's mean colour, so that it does not follow from the diagnosis.

  The share of light that the lesion takes from the image comes from one
  distribution for all. Without this, melanomas would be darker and a classifier
  could do without their structure. Green is matched by a common gain, red and
  blue by an offset where there is pigment, which leaves white and black as they are.
  """
  depth = float(np.clip(np.exp(rng.normal(np.log(0.58), 0.35)), 0.25, 1.3))
  hue = np.array([0.62, 1.0, 1.20]) * np.exp(0.06 * rng.standard_normal(3))
  seen = lesion.cover > 0
  area = lesion.mask.sum()
  pigment = lesion.absorption[seen][::2]  # half of the pixels are enough

  def solve(low, high, absorb, channel):
    for _ in range(12):
      middle = (low + high) / 2
      taken = 2 * (1 - np.exp(-absorb(middle))).sum() / area
      if taken < 1 - np.exp(-depth * hue[channel]):
        low = middle
      else:
        high = middle
    return middle

  lesion.absorption *= solve(0.1, 5.0, lambda k: k * pigment[:, 1], 1)
  amount = np.maximum(lesion.absorption[..., 1], 0)
  amount = amount / (amount + 0.25)
  pigment, share = lesion.absorption[seen][::2], amount[seen][::2]
  for channel in (0, 2):
    offset = solve(-0.9, 1.2, lambda k, c=channel: pigment[:, c] + k * share, channel)
    lesion.absorption[..., channel] += offset * amount
