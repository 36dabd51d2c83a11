"""Artefacts of dermoscopy: how often they occur, and how they are drawn.

An artefact changes the image, never the maps. Images are float32 [H, W, 3] in
[0, 1]; lengths are in units of the image height.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math

import numpy as np
from scipy import ndimage

from attnmel_jax import errors
from attnmel_jax.phantom import canvas

_STICKERS = ((0.10, 0.45, 0.85), (0.15, 0.60, 0.35), (0.93, 0.78, 0.15),
             (0.90, 0.42, 0.18), (0.82, 0.22, 0.35), (0.45, 0.72, 0.80))


def _covered(cover: np.ndarray) -> np.ndarray:
  """bool [H, W]: at least half as covered as the most covered pixel.

  Lines that are thinner than a pixel cover none by half.
  """
  return cover > 0.5 * cover.max()


def _hair(rng, image) -> tuple[np.ndarray, np.ndarray]:
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
  return image + (0.88 * cover)[..., None] * (colour - image), _covered(cover)


def _letters(origin, along, across, size) -> list[np.ndarray]:
  """The letters MM as polylines."""
  glyph = np.array([[1, 0], [0, 0], [0.6, 0.4], [0, 0.8], [1, 0.8]]) * size
  return [origin + (glyph[:, :1] * across + (glyph[:, 1:] + start) * along)
          for start in (0, 1.2 * size)]


def _ruler(rng, image) -> tuple[np.ndarray, np.ndarray]:
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
  return image * (1 - rng.uniform(0.65, 0.92) * cover[..., None]), _covered(cover)


def _ink(rng, image) -> tuple[np.ndarray, np.ndarray]:
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
  return image * np.exp(-cover[..., None] * ink), _covered(cover)


def _sticker(rng, image) -> tuple[np.ndarray, np.ndarray]:
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
  return image + cover[..., None] * (colour * shade[..., None] - image), cover > 0.5


def _dark_corner(rng, image) -> tuple[np.ndarray, np.ndarray]:
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
  image = image * (falloff * (1 - dark))[..., None] + (black * dark)[..., None]
  return image, dark > 0.5


def _gel_bubbles(rng, image) -> tuple[np.ndarray, np.ndarray]:
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
  return image + bright * (1 - image), np.abs(glow) > 0.1


def _gel_border(rng, image) -> tuple[np.ndarray, np.ndarray]:
  """Where the contact gel ends: a glossy wavy rim, and dull dry skin beyond it."""
  shape = image.shape[:2]
  y, x = canvas.grid(*shape)
  towards = canvas.direction(rng.uniform(0, 2 * np.pi))
  away = (y - 0.5) * towards[0] + (x - shape[1] / shape[0] / 2) * towards[1]
  bend = rng.uniform(0.3, 0.8) * ((y - 0.5) ** 2 + (x - shape[1] / shape[0] / 2) ** 2)
  wave = 0.05 * canvas.noise(rng, shape, scale=0.25, smoothness=2.0)
  beyond = away + bend + wave - rng.uniform(0.36, 0.52)
  rim = np.exp(-(beyond / rng.uniform(0.008, 0.016)) ** 2)
  lit = 0.5 + 0.5 * canvas.noise(rng, shape, scale=0.12, smoothness=1.5)
  dry = canvas.smoothstep(-0.004, 0.004, beyond)
  # Without gel the horny layer scatters: paler, less colour, flaky.
  scales = canvas.noise(rng, shape, scale=0.010, smoothness=0.8)
  grey = image.mean(axis=-1, keepdims=True)
  pale = 0.55 * image + 0.30 * grey + (0.13 + 0.025 * scales)[..., None]
  image = image + dry[..., None] * (pale - image)
  glint = (rim * np.clip(lit, -0.4, 1.0))[..., None]
  return np.where(glint > 0, image + 0.6 * glint * (1 - image), image * (1 + glint)), (
      (dry > 0.5) | (rim > 0.5))


@dataclasses.dataclass(frozen=True)
class Artefact:
  """How often an artefact occurs, where a bias would push it, and its brush."""

  prevalence: float
  side: int  # 1: a bias ties it to malignant lesions; -1: to benign ones; 0: to neither
  # rng, image -> image, and bool [H, W]: the pixels that it covers.
  draw: Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]


# In the order they are drawn. The sides are those of 2594 images of the ISIC archive
# whose artefacts Bissoto et al. labelled (arXiv:1904.08818): conditional odds ratios of
# malignant lesions .04 for stickers, .52 gel border, .62 ink, .68 hair, 1.03 bubbles,
# 1.53 dark corners, 1.66 rulers.
ARTEFACTS = {
    'ink': Artefact(0.12, -1, _ink),
    'sticker': Artefact(0.08, -1, _sticker),
    'hair': Artefact(0.45, -1, _hair),
    'gel_bubbles': Artefact(0.25, 0, _gel_bubbles),
    'gel_border': Artefact(0.20, -1, _gel_border),
    'ruler': Artefact(0.40, 1, _ruler),
    'dark_corner': Artefact(0.30, 1, _dark_corner),
}


def add(rng: np.random.Generator, image: np.ndarray, name: str
        ) -> tuple[np.ndarray, np.ndarray]:
  """Puts an artefact into any photograph.

  Args:
    rng: of the artefact alone: equal generators draw it in the same place.
    image: uint8 [H, W, 3].
    name: a key of ARTEFACTS.

  Returns:
    The photograph with the artefact, uint8 [H, W, 3], and the pixels that it covers,
    bool [H, W].

  Raises:
    UserError: an unknown artefact.
    ValueError: the image is not uint8 [H, W, 3].
  """
  errors.check_choice('artefact', name, ARTEFACTS)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(f'image is {image.dtype} {image.shape}, not uint8 [H, W, 3]')
  drawn, mask = ARTEFACTS[name].draw(rng, image.astype(np.float32) / 255)
  return (np.clip(drawn, 0, 1) * 255 + 0.5).astype(np.uint8), mask


# Split -> artefact -> strength in [-1, 1].
Bias = Mapping[str, Mapping[str, float]]


def parse_bias(settings: Sequence[str], splits: Sequence[str]) -> Bias:
  """['sticker=0.9,test:sticker=-0.9'] -> strengths by split and artefact.

  Each of `settings` is a list with commas of `[SPLIT:][ARTEFACT=]VALUE`. Without an
  artefact the value counts for all that have a side, without a split for all splits;
  what names more goes first.

  Raises:
    UserError: an unknown split or artefact, one that is named twice, or a value
      outside [-1, 1].
  """
  given: dict[tuple[str, str], float] = {}
  for setting in ','.join(settings).split(',') if settings else ():
    place, colon, rest = setting.strip().rpartition(':')
    name, equals, text = rest.rpartition('=')
    if colon:
      errors.check_choice('artefact_bias', place, splits)
    if equals:
      errors.check_choice('artefact_bias', name, ARTEFACTS)
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    if not -1 <= value <= 1:
      raise errors.UserError(
          f'artefact_bias {setting!r}: write [SPLIT:]ARTEFACT=VALUE with a value from '
          f'-1 to 1, an artefact of {", ".join(ARTEFACTS)} and a split of '
          f'{", ".join(splits)}; or one value for all')
    if (place, name) in given:
      raise errors.UserError(
          f'artefact_bias gives {setting.strip().rpartition("=")[0] or "all"} twice; '
          'once is enough')
    given[place, name] = value
  return {split: {name: _strength(given, split, name) for name in ARTEFACTS}
          for split in splits}


def _strength(given: Mapping[tuple[str, str], float], split: str, name: str) -> float:
  """The most specific of the given strengths; 0 where none applies."""
  general = '' if ARTEFACTS[name].side else name  # no side: only where it is named
  for key in ((split, name), ('', name), (split, general), ('', general)):
    if key in given:
      return given[key]
  return 0.0


def sample(rng: np.random.Generator, *, malignant: bool,
           bias: Mapping[str, float]) -> tuple[str, ...]:
  """Draws which artefacts an image shows.

  Args:
    rng: source of randomness.
    malignant: whether the lesion is.
    bias: artefact -> strength in [-1, 1], 0 where it is not named. Its absolute value
      is the probability that the class alone decides, otherwise the prevalence does.
      A negative one turns the artefact's side around; one without a side counts as
      if it leant to malignant lesions.
  """
  present = []
  for name, artefact in ARTEFACTS.items():
    by_class, by_chance = rng.random(2)
    strength = bias.get(name, 0.0)
    if by_class < abs(strength):
      side = (artefact.side or 1) * (1 if strength > 0 else -1)
      shown = malignant == (side > 0)
    else:
      shown = by_chance < artefact.prevalence
    if shown:
      present.append(name)
  return tuple(present)
