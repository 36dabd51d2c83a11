"""A finished run -> files that other programs read without this one.

  model.stablehlo      uint8 images of any number -> probabilities and maps
  model.onnx           the same for one image, where jax2onnx can make it
  weights.safetensors  all variables, by torchvision's names where it has them
  MODEL_CARD.md        what it is, how an image is prepared, what may be done with it
"""

from collections.abc import Callable
from collections.abc import Mapping
import json
import pathlib
from typing import Any

import jax
from jax import export
import jax.numpy as jnp
import safetensors.numpy

from attnmel_jax import files
from attnmel_jax import outputs
from attnmel_jax.evaluation import predict
from attnmel_jax.experiments import build
from attnmel_jax.experiments import run_folder
from attnmel_jax.models import cpu_kernels
from attnmel_jax.models import torch_names
from attnmel_jax.share import model_card
from attnmel_jax.share import trained

PROGRAM, ONNX, WEIGHTS, CARD = (
    'model.stablehlo', 'model.onnx', 'weights.safetensors', 'MODEL_CARD.md')
# One file serves them all.
PLATFORMS = ('cpu', 'cuda', 'tpu')


class Unavailable(Exception):
  """There is no ONNX of this run here; the text says why, in one line."""


def write(run: trained.TrainedRun, out: pathlib.Path
          ) -> tuple[list[pathlib.Path], str]:
  """Writes the files into `out`, replacing those of an earlier call.

  Returns:
    Their paths, and why there is no ONNX file, '' if there is one.

  Raises:
    UserError: `out` cannot be written.
  """
  environment = run_folder.read_environment(run.folder)
  with outputs.exchanged(out, 'an export') as staged:
    contents, missing = _contents(run, environment)
    for name, content in contents.items():
      with files.replacing(staged / name) as file:
        file.write(content)
  return [out / name for name in contents], missing


def _contents(run: trained.TrainedRun, environment: Mapping[str, Any]
              ) -> tuple[dict[str, bytes], str]:
  """The files by name, and why there is no ONNX file."""
  onnx, missing = {}, ''
  try:
    onnx = {ONNX: onnx_model(_whole_step(run), run.config['resize_size'])}
  except Unavailable as reason:
    missing = str(reason)
  return {
      PROGRAM: bytes(program(run).serialize()),
      **onnx,
      WEIGHTS: safetensors.numpy.save(
          torch_names.to_torch(
              jax.device_get(run.variables), run.config['backbone']),
          {'class_names': json.dumps(run.class_names),
           'config': json.dumps(dict(run.config))}),
      CARD: model_card.text(run, environment, program=PROGRAM, weights=WEIGHTS,
                            onnx=ONNX if onnx else '', platforms=PLATFORMS).encode()
  }, missing


def program(run: trained.TrainedRun) -> export.Exported:
  """The run's prediction step as one program, weights inside.

  It takes uint8 [b, S, S, 3] of any b, S being the run's resize_size: squares as
  launch/prepare.py makes them. Crop and normalisation are inside. It gives what
  `predict.eval_step` does: `probabilities`, `attention` and, of VGG-16-GAP, `cam`. A
  run with tta averages the eight views inside.
  """
  batch, = export.symbolic_shape('b')
  side = run.config['resize_size']
  with cpu_kernels.plain():
    return export.export(jax.jit(_whole_step(run)), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((batch, side, side, 3), jnp.uint8))


def _whole_step(run: trained.TrainedRun) -> Callable[[jax.Array], dict[str, Any]]:
  step = build.eval_step(run.config, len(run.class_names))
  if run.config['tta']:
    step = predict.average_views(step)
  host = jax.device_get(run.variables)

  def apply(images: jax.Array) -> dict[str, Any]:
    return step(jax.tree.map(jnp.asarray, host), {'image': images})

  return apply


def onnx_model(step: Callable[[jax.Array], dict[str, Any]], side: int) -> bytes:
  """The step for one image, uint8 [1, S, S, 3], as ONNX with the input `image`.

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
