"""Images a second of decoding JPEG photographs, reduced against plain.

  python -m tests.data.benchmark_decode --megapixels=6,12,24,30 --side=256

Draws synthetic photographs of 3:2, compresses them, and decodes each in one
process by `decode.read_plain` and `decode.read_image` in turn; the best of the
repetitions counts. Prints the factor of the reduced decoding (1: decoded
plainly), both speeds, their ratio and the largest difference in grey levels.
Drawing takes about two seconds a megapixel and a gigabyte at 12 of them.
"""

from collections.abc import Callable
import time

from absl import app
from absl import flags
import numpy as np

from attnmel_jax.data import decode
from attnmel_jax.phantom import artefacts
from attnmel_jax.phantom import drawing
from tests.data import conftest

_MEGAPIXELS = flags.DEFINE_list('megapixels', ['6', '12', '24', '30'], 'sizes to draw')
_SIDE = flags.DEFINE_integer('side', 256, 'side of the result in pixels')
_CROP_RATIO = flags.DEFINE_float('crop_ratio', 0.8, 'central square over short side')
_REPEATS = flags.DEFINE_integer('repeats', 7, 'decodings of each kind')

_ENCODINGS = ((95, 0, '4:4:4'), (90, 2, '4:2:0'))


def photograph(megapixels: float) -> np.ndarray:
  """uint8 [H, W, 3] with every artefact; the sides are as 3 to 2."""
  height = 2 * round((megapixels * 1e6 / 1.5) ** 0.5 / 2)
  return drawing.draw(drawing.Case(
      'melanoma', seed=(0, 1), height=height, width=height * 3 // 2,
      artefacts=tuple(artefacts.ARTEFACTS))).image


def seconds(functions: list[Callable], repeats: int) -> list[float]:
  """The shortest time of each; they run in turn, so load disturbs all alike."""
  best = [float('inf')] * len(functions)
  for _ in range(repeats):
    for k, function in enumerate(functions):
      start = time.perf_counter()
      function()
      best[k] = min(best[k], time.perf_counter() - start)
  return best


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  geometry = {'crop_ratio': _CROP_RATIO.value, 'resize_size': _SIDE.value}
  for megapixels in map(float, _MEGAPIXELS.value):
    image = photograph(megapixels)
    for quality, subsampling, name in _ENCODINGS:
      data = conftest.encode(
          image, 'JPEG', quality=quality, subsampling=subsampling)
      plain, _ = decode.read_plain(data, **geometry)
      reduced, _ = decode.read_image(data, **geometry)
      times = seconds([lambda data=data: decode.read_plain(data, **geometry),
                       lambda data=data: decode.read_image(data, **geometry)],
                      _REPEATS.value)
      print(f'{megapixels:g} megapixels {image.shape[1]}x{image.shape[0]} quality '
            f'{quality} {name} scale 1/{decode.jpeg_scale(data, **geometry)}: '
            f'plain {1 / times[0]:.1f} images/s, reduced {1 / times[1]:.1f}, '
            f'ratio {times[0] / times[1]:.2f}, largest difference '
            f'{abs(plain.astype(int) - reduced).max()} grey levels', flush=True)


if __name__ == '__main__':
  app.run(main)
