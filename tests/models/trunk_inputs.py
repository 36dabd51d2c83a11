"""What both sides of the golden arrays of whole backbones share.

Weights and images come from seeds, see `golden_inputs`. Of a tensor a few entries at
fixed places, the largest magnitude and the Euclidean norm are compared.
"""

import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / 'golden'
SIDE = 64
_SAMPLES = 12


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """A tensor for each of torch's names, in their order; float64."""
  random = np.random.RandomState(3)
  arrays = {}
  for name in sorted(shapes):
    shape, kind = shapes[name], name.rpartition('.')[2]
    draw = random.standard_normal(shape)
    if len(shape) == 4:
      arrays[name] = draw * (2 / np.prod(shape[1:])) ** .5
    elif kind in ('weight', 'running_var'):
      arrays[name] = 1 + .2 * abs(draw)
    else:
      arrays[name] = .2 * draw
  return arrays


def images() -> np.ndarray:
  """[2, 64, 64, 3], float64."""
  return np.random.RandomState(4).standard_normal((2, SIDE, SIDE, 3))


def picture() -> np.ndarray:
  """A dark disc on skin, uint8 [224, 224, 3]."""
  rows, columns = np.indices((224, 224))
  inside = (rows - 100) ** 2 + (columns - 130) ** 2 < 60 ** 2
  skin = np.stack([220 - rows // 8, 170 - columns // 8, 150 + 0 * rows], -1)
  return np.where(inside[..., None], skin // 3, skin).astype(np.uint8)


def slopes(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """The gradient [B, H, W, C] that arrives at a map."""
  return np.random.RandomState(sum(map(ord, name))).standard_normal(shape)


def digest(array: np.ndarray) -> np.ndarray:
  """Largest magnitude, norm and entries of an array in torch's layout."""
  places = np.random.RandomState(array.size % 2**32).permutation(array.size)[:_SAMPLES]
  return np.concatenate([[abs(array).max(), np.linalg.norm(array)],
                         array.reshape(-1)[places]])
