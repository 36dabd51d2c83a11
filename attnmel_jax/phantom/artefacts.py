"""Artefacts of dermoscopy: how often they occur, and how they are drawn.

An artefact changes the image, never the maps. Images are float32 [H, W, 3] in
[0, 1]; lengths are in units of the image height.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

import numpy as np
from scipy import ndimage

from attnmel_jax import errors
from attnmel_jax.phantom import canvas

_STICKERS = ((0.10, 0.45, 0.85), (0.15, 0.60, 0.35), (0.93, 0.78, 0.15),
             (0.90, 0.42, 0.18), (0.82, 0.22, 0.35), (0.45, 0.72, 0.80))


def _hair(rng, image, level) -> np.ndarray:
  """Strands, or cropped stubble, each with a soft shadow."""
  height, width = image.shape[:2]
  stubble = rng.random() < 0.25
  number = int(np.exp(rng.uniform(np.log(3), np.log(32))))
  main = rng.uniform(0, 2 * np.pi)
  lines, widths = [], []
  thickness = rng.uniform(0.0025, 0.0055)
  for _ in range(number):
    angle = main + rng.normal(0, 0.5)
    length = rng.uniform(0.05, 0.13) if stubble else rng.uniform(0.4, 1.3)
    step = length * np.array(canvas.direction(angle))
    middle = rng.random(2) * np.array([1, width / height])
    lines.append(canvas.curve(middle - step / 2, middle + step / 2,
                              rng.normal(0, 0.06 if stubble else 0.20)))
    widths.append(thickness * rng.uniform(0.6, 1.3))
  cover = canvas.strokes((height, width), lines, widths)
  shadow = ndimage.gaussian_filter(
      ndimage.shift(cover, rng.uniform(0.004, 0.010, 2) * height, order=1),
      0.004 * height)
  colour = np.array([0.16, 0.10, 0.07]) * rng.uniform(0.5, 2.4)
  image = image * (1 - 0.30 * shadow[..., None])
  return image + (0.88 * cover)[..., None] * (colour - image)


def _letters(origin, along, across, size) -> list[np.ndarray]:
  """The letters MM as polylines."""
  glyph = np.array([[1, 0], [0, 0], [0.6, 0.4], [0, 0.8], [1, 0.8]]) * size
  return [origin + (glyph[:, :1] * across + (glyph[:, 1:] + start) * along)
          for start in (0, 1.2 * size)]


def _ruler(rng, image, level) -> np.ndarray:
  """A scale with a tick a millimetre, longer at every fifth; or a coarse edge."""
  height, width = image.shape[:2]
  aspect = width / height
  if rng.random() < 0.3:  # thick ticks along the left or right edge
    edge = 0.0 if rng.random() < 0.5 else aspect
    inward = np.array([0, 1.0 if edge == 0 else -1.0])
    spacing = rng.uniform(0.07, 0.11)
    lines, widths = [], []
    for k, at in enumerate(np.arange(rng.uniform(0, spacing), 1, spacing)):
      start = np.array([at, edge])
      lines.append(np.stack([start, start + inward * (0.15 if k % 5 == 0 else 0.09)]))
      widths.append(0.014 if k % 5 == 0 else 0.010)
  else:
    angle = rng.normal(0, 0.15) + (rng.random() < 0.1) * np.pi / 3
    along = np.array(canvas.direction(angle))
    across = np.array([along[1], -along[0]])
    length, ticks = rng.uniform(0.5, 0.75), 10
    middle = np.array([rng.uniform(0.84, 0.93) if rng.random() < 0.8 else 0.08,
                       rng.uniform(0.4, aspect - 0.4)])
    start = middle - along * length / 2
    lines, widths = [np.stack([start, start + along * length])], [0.006]
    for k in range(ticks * 2 + 1):
      at = start + along * length * k / (ticks * 2)
      tick = 0.036 if k % 10 == 0 else 0.028 if k % 2 == 0 else 0.016
      lines.append(np.stack([at, at - across * tick]))
      widths.append(0.0045)
    letters = _letters(start + across * 0.015, along, across, 0.03)
    lines += letters
    widths += [0.005] * len(letters)
  cover = canvas.strokes((height, width), lines, widths)
  return image * (1 - rng.uniform(0.65, 0.92) * cover[..., None])


def _ink(rng, image, level) -> np.ndarray:
  """Violet skin marker: dots, an arc around the lesion or bands at the sides."""
  shape = image.shape[:2]
  aspect = shape[1] / shape[0]
  centre = np.array([0.5, aspect / 2])
  style = rng.integers(3)
  turn = rng.uniform(0, 2 * np.pi)
  lines, widths = [], []
  if style == 0:
    for k in range(rng.integers(2, 5)):
      at = centre + rng.uniform(0.36, 0.46) * np.array(
          canvas.direction(turn + k * np.pi / 2))
      for _ in range(7):
        step = 0.03 * rng.standard_normal(2)
        lines.append(np.stack([at - step, at + step + 0.01 * rng.standard_normal(2)]))
        widths.append(0.012)
  elif style == 1:
    angles = turn + np.linspace(0, rng.uniform(1.5, 4.5), 60)
    lines.append(centre + rng.uniform(0.40, 0.48) * np.stack(
        [np.sin(angles), 1.15 * np.cos(angles)], axis=-1))
    widths.append(rng.uniform(0.012, 0.03))
  else:
    for edge in rng.permutation([0.08, aspect - 0.08])[:rng.integers(1, 3)]:
      lines.append(canvas.curve(np.array([-0.05, edge + rng.normal(0, 0.04)]),
                                np.array([1.05, edge + rng.normal(0, 0.04)]), 0.03))
      widths.append(rng.uniform(0.03, 0.08))
  cover = canvas.strokes(shape, lines, widths)
  # Ink collects in the furrows of the skin and leaves gaps.
  dry = canvas.noise(rng, shape, scale=0.008, smoothness=0.8)
  cover = ndimage.gaussian_filter(cover, 0.003 * shape[0])
  cover = cover * canvas.smoothstep(-1.3, 0.6, dry)
  ink = np.array([0.75, 1.25, 0.30]) * rng.uniform(0.6, 1.3)
  return image * np.exp(-cover[..., None] * ink)


def _sticker(rng, image, level) -> np.ndarray:
  """A coloured round sticker that reaches into the image from its border."""
  height, width = image.shape[:2]
  aspect = width / height
  y, x = canvas.grid(height, width)
  colour = np.array(_STICKERS[rng.integers(len(_STICKERS))])
  radius = rng.uniform(0.22, 0.42)
  side = -1 if rng.random() < 0.5 else 1
  # Far enough out that it seldom hides the lesion.
  reach = rng.uniform(0.18, 0.34)
  middle = (rng.uniform(0.1, 0.9),
            aspect / 2 + side * (aspect / 2 + radius - reach))
  away = np.hypot(y - middle[0], x - middle[1]) - radius
  cover = canvas.smoothstep(0.004, -0.004, away)
  shadow = np.exp(-np.maximum(away, 0) / 0.02) * 0.30
  paper = canvas.noise(rng, (height, width), scale=0.006, smoothness=0.8)
  shade = 1 + 0.05 * paper + 0.12 * (y - 0.5)
  image = image * (1 - shadow[..., None])
  return image + cover[..., None] * (colour * shade[..., None] - image)


def _dark_corner(rng, image, level) -> np.ndarray:
  """The round field of view of a contact dermoscope."""
  height, width = image.shape[:2]
  y, x = canvas.grid(height, width)
  middle = np.array([0.5, width / height / 2]) + 0.03 * rng.standard_normal(2)
  radius = rng.uniform(0.60, 0.80)
  away = np.hypot(y - middle[0], x - middle[1]) / radius
  rim = rng.uniform(0.02, 0.08)
  dark = canvas.smoothstep(1 - rim, 1 + rim, away)
  falloff = 1 - rng.uniform(0.05, 0.3) * np.clip(away, 0, 1) ** 3
  black = rng.uniform(0.0, 0.08)
  return image * (falloff * (1 - dark))[..., None] + (black * dark)[..., None]


def _gel_bubbles(rng, image, level) -> np.ndarray:
  """Air in the contact gel: bright rims, dark far sides, specular highlights."""
  height, width = image.shape[:2]
  y, x = canvas.grid(height, width)
  towards = canvas.direction(rng.uniform(0, 2 * np.pi))
  glow = np.zeros((height, width), np.float32)
  for _ in range(rng.integers(3, 16)):
    radius = float(np.exp(rng.uniform(np.log(0.010), np.log(0.065))))
    v = (y - rng.random()) / radius
    u = (x - rng.random() * width / height) / radius
    away = np.hypot(v, u)
    rim = np.exp(-((away - 1) / 0.14) ** 2)
    facing = (v * towards[0] + u * towards[1]) / np.maximum(away, 0.3)
    spark = np.exp(-((v - 0.45 * towards[0]) ** 2
                     + (u - 0.45 * towards[1]) ** 2) / 0.03)
    glow += rim * (0.12 + 0.48 * facing) + 0.9 * spark
    glow += 0.05 * (away < 1)
  bright = np.clip(glow, 0, 1)[..., None]
  image = image * (1 + np.minimum(glow, 0))[..., None]
  return image + bright * (1 - image)


@dataclasses.dataclass(frozen=True)
class Artefact:
  """How often an artefact occurs, where a bias would push it, and its brush."""

  prevalence: float
  with_malignant: bool
  draw: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]


# In the order they are drawn. The sides are those of the bias measured in the
# ISIC archive: stickers occur with benign lesions, the others lean to melanoma.
ARTEFACTS = {
    'ink': Artefact(0.12, True, _ink),
    'sticker': Artefact(0.08, False, _sticker),
    'hair': Artefact(0.45, True, _hair),
    'gel_bubbles': Artefact(0.25, True, _gel_bubbles),
    'ruler': Artefact(0.40, True, _ruler),
    'dark_corner': Artefact(0.30, True, _dark_corner),
}


def parse_bias(settings: Sequence[str]) -> dict[str, float]:
  """['sticker=0.9,ruler=0.5'] -> {'sticker': 0.9, 'ruler': 0.5}.

  Each of `settings` is a list with commas; a bare number counts for every
  artefact.

  Raises:
    UserError: an unknown artefact, a repeated one, or a value outside [0, 1].
  """
  bias = {}
  for setting in ','.join(settings).split(',') if settings else ():
    name, equals, text = setting.strip().rpartition('=')
    if equals:
      errors.check_choice('artefact_bias', name, ARTEFACTS)
    try:
      value = float(text)
    except ValueError:
      value = -1.0
    if not 0 <= value <= 1:
      raise errors.UserError(
          f'artefact_bias {setting!r}: write ARTEFACT=VALUE with a value from 0 to 1 '
          f'and an artefact of {", ".join(ARTEFACTS)}; or one value for all')
    for artefact in (name,) if equals else ARTEFACTS:
      if artefact in bias:
        raise errors.UserError(f'artefact_bias names {artefact} twice; once is enough')
      bias[artefact] = value
  return bias


def sample(rng: np.random.Generator, *, malignant: bool,
           bias: Mapping[str, float]) -> tuple[str, ...]:
  """Draws which artefacts an image shows.

  Args:
    rng: source of randomness.
    malignant: whether the lesion is.
    bias: artefact -> probability that the class alone decides (0 where it is
      not named); otherwise the artefact's prevalence does.
  """
  present = []
  for name, artefact in ARTEFACTS.items():
    by_class, by_chance = rng.random(2)
    if by_class < bias.get(name, 0.0):
      shown = malignant == artefact.with_malignant
    else:
      shown = by_chance < artefact.prevalence
    if shown:
      present.append(name)
  return tuple(present)
