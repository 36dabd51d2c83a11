"""Draws a synthetic dermoscopic image with its maps: a pure function of a case.

  case = Case('melanoma', seed=(0, 0, 7), height=300, width=400, artefacts=('hair',))
  drawing = draw(case)   # image, lesion mask and attribute maps

Skin, lesion, structures and artefacts have random streams of their own: the same
seed with other artefacts shows the same lesion on the same skin, and without one
structure it shows the same picture everywhere else. Such twins show what a network
makes of a cause.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from attnmel_jax.phantom import artefacts
from attnmel_jax.phantom import canvas
from attnmel_jax.phantom import diagnoses
from attnmel_jax.phantom import lesion as lesions

# Bare skin under white light from fair to dark, RGB in [0, 1].
_SKIN_TONES = np.array([(0.96, 0.88, 0.82), (0.93, 0.81, 0.72), (0.88, 0.72, 0.60),
                        (0.76, 0.58, 0.46)])


@dataclasses.dataclass(frozen=True)
class Case:
  """All that determines a drawing."""

  diagnosis: str               # a key of diagnoses.DIAGNOSES
  seed: tuple[int, ...]        # of numpy.random.default_rng
  height: int                  # pixels
  width: int
  artefacts: tuple[str, ...]   # keys of artefacts.ARTEFACTS
  without: tuple[str, ...] = ()  # keys of structures.DRAWN that are left out
  # Further photographs of the same lesion, 1 to 3: mirrored, and taken anew.
  view: int = 0


@dataclasses.dataclass(frozen=True)
class Drawing:
  """An image and what is in it."""

  image: np.ndarray                  # uint8 [H, W, 3]
  lesion: np.ndarray                 # bool [H, W], the outline as drawn
  attributes: dict[str, np.ndarray]  # structures.ATTRIBUTES -> bool [H, W]
  structures: dict[str, np.ndarray]  # structures.DRAWN -> bool [H, W], where drawn
  artefacts: dict[str, np.ndarray]   # each of `case.artefacts` -> bool [H, W]


def draw(case: Case) -> Drawing:
  """Draws `case`; equal cases give equal drawings."""
  skin_rng, lesion_rng, artefact_rng, camera_rng = (
      np.random.default_rng(case.seed).spawn(4))
  look = diagnoses.sample(lesion_rng, diagnoses.DIAGNOSES[case.diagnosis])
  lesion = lesions.draw(lesion_rng, look, height=case.height, width=case.width,
                        without=case.without)
  image = _skin(skin_rng, case.height, case.width) * np.exp(-lesion.absorption)
  image = _seen(image, case.view)
  if case.view:
    camera_rng = np.random.default_rng((*case.seed, 2, case.view))
    image = image * camera_rng.uniform(0.9, 1.0)
  added = {}
  for name, artefact in artefacts.ARTEFACTS.items():
    stream = artefact_rng.spawn(1)[0]  # spawned even if unused: streams stay apart
    if name in case.artefacts:
      image, added[name] = artefact.draw(stream, image)
  attributes, drawn = (
      {name: _seen(mask, case.view) for name, mask in masks.items()}
      for masks in (lesion.attributes, lesion.structures))
  return Drawing(
      image=_photograph(camera_rng, image), lesion=_seen(lesion.mask, case.view),
      attributes=attributes, structures=drawn, artefacts=added)


def _seen(array: np.ndarray, view: int) -> np.ndarray:
  """[H, W, ...] mirrored from left to right, top to bottom, or both."""
  array = array[:, ::-1] if view & 1 else array
  return array[::-1] if view & 2 else array


def _skin(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
  """Bare skin [H, W, 3]: tone, flush, mottling, furrows, freckles, light."""
  shape = (height, width)
  place = rng.beta(1.3, 2.2) * (len(_SKIN_TONES) - 1)
  below = min(int(place), len(_SKIN_TONES) - 2)
  tone = _SKIN_TONES[below] + (place - below) * (
      _SKIN_TONES[below + 1] - _SKIN_TONES[below])
  blood = np.array([0.02, 0.16, 0.12], np.float32)  # absorption of flushed skin
  melanin = np.array([0.06, 0.11, 0.16], np.float32)
  flush = rng.uniform(0.1, 0.9) + rng.uniform(0.05, 0.28) * canvas.noise(
      rng, shape, scale=0.05, smoothness=0.8)
  mottle = rng.uniform(0.05, 0.28) * canvas.noise(
      rng, shape, scale=0.04, smoothness=0.8)
  freckles = canvas.noise(rng, shape, scale=0.025, smoothness=2.0)
  threshold = rng.uniform(1.9, 3.2)
  mottle += 1.5 * canvas.smoothstep(threshold, threshold + 1.0, freckles)
  furrows = rng.uniform(0.010, 0.025) * canvas.noise(
      rng, shape, scale=0.008, smoothness=0.9)
  # Skin lines are the zero crossings of a field with crests all over.
  crests = canvas.noise(rng, shape, scale=0.016, smoothness=2.0)
  furrows += rng.uniform(0.0, 0.05) * np.exp(-(crests / 0.25) ** 2)
  absorption = (np.maximum(flush, 0)[..., None] * blood + mottle[..., None] * melanin
                + furrows[..., None])
  return (tone * np.exp(-absorption)).astype(np.float32) * _light(rng, height, width)


def _light(rng, height, width) -> np.ndarray:
  """Brightness, white balance and fall-off of the lamp [H, W, 3]."""
  y, x = canvas.grid(height, width)
  towards = canvas.direction(rng.uniform(0, 2 * np.pi))
  slope = rng.uniform(0, 0.12) * (towards[0] * (y - 0.5)
                                  + towards[1] * (x - width / height / 2))
  falloff = rng.uniform(0, 0.25) * ((y - 0.5) ** 2 + (x - width / height / 2) ** 2)
  balance = rng.uniform(0.76, 1.02) * np.exp(0.03 * rng.standard_normal(3))
  return ((1 + slope - falloff)[..., None] * balance).astype(np.float32)


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Blur, sensor noise and rounding: float [H, W, 3] -> uint8."""
  sigma = rng.uniform(0.0005, 0.0022) * image.shape[0]
  image = ndimage.gaussian_filter(image, (sigma, sigma, 0))
  image = image + rng.uniform(0.003, 0.012) * rng.standard_normal(
      image.shape, dtype=np.float32)
  return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
