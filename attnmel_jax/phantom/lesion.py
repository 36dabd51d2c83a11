"""Draws one lesion: outline, rim, colours, structures, then its mean colour."""

from collections.abc import Collection
import copy

import numpy as np

from attnmel_jax.phantom import canvas
from attnmel_jax.phantom import diagnoses
from attnmel_jax.phantom import outline as outlines
from attnmel_jax.phantom import structures

# A change of the absorption that can be seen: about one grey level.
_VISIBLE = 0.004


def draw(rng: np.random.Generator, look: diagnoses.Look, *, height: int, width: int,
         without: Collection[str]) -> outlines.Lesion:
  """Draws a lesion; its area, place and mean colour do not depend on `look`.

  Outline, rim, colours and every structure have random streams of their own, and the
  mean colour is matched on the lesion with all its structures: one drawn `without`
  some of `structures.DRAWN` differs only where they are.
  """
  outline_rng, rim_rng, colour_rng, mean_rng = rng.spawn(4)
  seeds = rng.bit_generator.seed_seq.spawn(len(structures.DRAWN))
  lesion = outlines.outline(outline_rng, look, height, width)
  lesion.attributes = dict.fromkeys(
      structures.ATTRIBUTES, np.zeros((height, width), bool))
  _fade_rim(rim_rng, look, lesion)
  _paint_colours(colour_rng, look, lesion)
  lesion.typical = lesion.absorption[lesion.mask].mean(axis=0)
  whole = copy.deepcopy(lesion)
  _draw_structures(seeds, look, whole, without=())
  gains = _mean_gains(mean_rng, whole)
  if without:
    _draw_structures(seeds, look, lesion, without=without)
  else:
    lesion = whole
  _apply_gains(lesion, gains)
  return lesion


def _draw_structures(seeds, look, lesion: outlines.Lesion, *,
                     without: Collection[str]) -> None:
  """Draws all structures but `without`, and notes where each changed the lesion."""
  for seed, (name, brush) in zip(seeds, structures.DRAWN.items(), strict=True):
    before = lesion.absorption.copy()
    if name not in without:
      brush(np.random.default_rng(seed), look, lesion)
    change = np.abs(lesion.absorption - before).max(axis=-1)
    lesion.structures[name] = change > _VISIBLE


def _fade_rim(rng, look, lesion: outlines.Lesion) -> None:
  """How the pigment ends: softly, abruptly, or differently along the border."""
  shape = lesion.y.shape
  along = canvas.noise(rng, shape, scale=0.7 * lesion.radius, smoothness=2.0)
  width = look.rim * np.exp(look.rim_variation * 1.2 * along)
  width = np.clip(width, 0.025, 0.5)
  grain = canvas.noise(rng, shape, scale=0.04 * lesion.radius, smoothness=1.0)
  ragged = lesion.level + 0.25 * width * grain
  lesion.cover = canvas.smoothstep(1 + 0.8 * width, 1 - width, ragged)


def _paint_colours(rng, look, lesion: outlines.Lesion) -> None:
  """A base of brown, then the colours of the palette as patches or rings."""
  shape, mask = lesion.y.shape, lesion.mask
  light, dark = (np.array(diagnoses.COLOURS[name], np.float32)
                 for name in ('light_brown', 'dark_brown'))
  colour = np.broadcast_to(light + rng.uniform(0.0, 0.5) * (dark - light),
                           (*shape, 3)).copy()
  v, u = ((lesion.y - float(lesion.centre[0])) / lesion.radius,
          (lesion.x - float(lesion.centre[1])) / lesion.radius)
  for name in look.palette:
    towards = canvas.direction(rng.uniform(0, 2 * np.pi))
    side = towards[0] * v + towards[1] * u
    ring = (1 - lesion.level) * (1 if rng.random() < 0.7 else -1)
    cloud = canvas.noise(rng, shape, scale=0.30 * lesion.radius, smoothness=1.2)
    rank = (look.eccentricity * side + (1 - look.eccentricity) * 1.6 * ring
            + (0.15 + 0.35 * look.eccentricity) * cloud)
    threshold = float(np.quantile(rank[mask], 1 - rng.uniform(0.12, 0.34)))
    blur = rng.uniform(0.12, 0.40)
    weight = canvas.smoothstep(threshold - blur, threshold + blur, rank)
    target = np.array(diagnoses.COLOURS[name], np.float32)
    colour += weight[..., None] * (target - colour)
  mottle = canvas.noise(rng, shape, scale=0.12 * lesion.radius, smoothness=1.0)
  grain = canvas.noise(rng, shape, scale=0.012, smoothness=0.9)
  dome = 1 + rng.uniform(-0.25, 0.45) * (0.5 - lesion.level)
  colour *= (np.exp(0.16 * mottle + 0.10 * grain) * dome)[..., None]
  lesion.absorption = lesion.cover[..., None] * colour


def _mean_gains(rng, lesion: outlines.Lesion) -> tuple[float, float, float]:
  """What sets the lesion's mean colour, so that it does not follow from the diagnosis.

  The share of light that the lesion takes from the image comes from one
  distribution for all. Without this, melanomas would be darker and a classifier
  could do without their structure. Green is matched by a common gain, red and
  blue by an offset where there is pigment, which leaves white and black as they are.

  Returns:
    The gain, and the offsets of red and blue: see `_apply_gains`.
  """
  depth = float(np.clip(np.exp(rng.normal(np.log(0.58), 0.35)), 0.25, 1.3))
  hue = np.array([0.62, 1.0, 1.20]) * np.exp(0.06 * rng.standard_normal(3))
  area = lesion.mask.sum()
  seen = (lesion.cover > 0) | (lesion.absorption != 0).any(axis=-1)
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

  gain = solve(0.1, 5.0, lambda k: k * pigment[:, 1], 1)
  pigment = pigment * gain
  share = _pigment_share(pigment[:, 1])
  red, blue = (
      solve(-0.9, 1.2, lambda k, c=channel: pigment[:, c] + k * share, channel)
      for channel in (0, 2))
  return gain, red, blue


def _pigment_share(green: np.ndarray) -> np.ndarray:
  """In [0, 1): how much pigment there is, from the absorption of green."""
  amount = np.maximum(green, 0)
  return amount / (amount + 0.25)


def _apply_gains(lesion: outlines.Lesion, gains: tuple[float, float, float]) -> None:
  """Multiplies the absorption by the gain, and adds the offsets where pigment is."""
  gain, red, blue = gains
  lesion.absorption *= gain
  share = _pigment_share(lesion.absorption[..., 1])
  lesion.absorption[..., 0] += red * share
  lesion.absorption[..., 2] += blue * share
