"""A run's prediction step as ONNX, where jax2onnx is installed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from attnmel_jax.models import cpu_kernels


class Unavailable(Exception):
  """There is no ONNX of this run here; the text says why, in one line."""


def model(step: Callable[[jax.Array], dict[str, Any]], side: int) -> bytes:
  """The step for one image, uint8 [1, S, S, 3], as `image`.

  The converter wants a fixed number of images where it resizes maps. Outputs are
  `probabilities` [1, K], the attention maps by tap and, of VGG-16-GAP, `cam`.

  Raises:
    Unavailable: jax2onnx is not installed, or fails.
  """
  try:
    import jax2onnx  # noqa: PLC0415  optional
  except ImportError as error:
    raise Unavailable(f'jax2onnx is not installed ({error})') from None
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
  names = list(_flat(jax.eval_shape(step, image)))
  try:
    with cpu_kernels.plain():
      return jax2onnx.to_onnx(
          lambda x: tuple(_flat(step(x)).values()), [image], input_names=['image'],
          output_names=names,
          enable_double_precision=jax.config.jax_enable_x64).SerializeToString()
  except Exception as error:  # of all sorts, for an operation that it does not know
    reason = ' '.join(str(error).split())[:200]
    raise Unavailable(f'jax2onnx cannot convert this run ({reason})') from error


def _flat(out: dict[str, Any]) -> dict[str, jax.Array]:
  """Outputs by name."""
  maps = {'cam': out['cam']} if 'cam' in out else {}
  return {'probabilities': out['probabilities'], **out['attention'], **maps}
