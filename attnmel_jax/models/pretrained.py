"""ImageNet weights under PyTorch's names -> Flax variables.

  weights = pretrained.load_file(pathlib.Path('vgg16_bn-6c64b313.pth'))
  variables, report = pretrained.apply_weights(variables, weights, backbone='vgg16_bn')
  print('\\n'.join(report.lines()))
"""

import atexit
from collections.abc import Mapping
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import pathlib
import re
import shutil
import sys
import tempfile
from typing import Any
import urllib.parse

import flax
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import download
from attnmel_jax.models import backbones
from attnmel_jax.models import torch_names

# Layers of ours that published files lack, in those of `torch_names.to_torch`.
_OURS = re.compile(r'classifier|gate_\w+\.\w+')
_LISTED = 32  # names of a line
_TORCH = (2, 6)  # weights_only was unsafe before (CVE-2025-32434)


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of the weights: file's layers, file's layers, model's modules."""

  loaded: tuple[str, ...]
  dropped: tuple[str, ...]
  new: tuple[str, ...]

  def lines(self) -> list[str]:
    """One line for the log about each kind that is not empty."""
    kinds = (('pretrained', self.loaded), ('in the file but unused', self.dropped),
             ('newly initialised', self.new))
    return [f'{kind}: {", ".join(names[:_LISTED])}' + (
        f', ... ({len(names)} layers)' if len(names) > _LISTED else '')
            for kind, names in kinds if names]


def fetch_imagenet(backbone: str, folder: pathlib.Path | None, *,
                   base_url: str | None = None) -> pathlib.Path:
  """The file of ImageNet weights of `backbone`, downloaded at the first call.

  Where `folder` cannot be written the download is kept until the process ends.

  The .pth where there is one and torch can read it, else the .safetensors of the
  same numbers. The name of a .pth holds the start of its sha256; a .safetensors
  lacks it, so the sha256 of the download is recorded and checked from then on.

  Args:
    backbone: one that `backbones.find` knows.
    folder: keeps the file; `files.cache_dir()` unless there is a reason.
    base_url: a mirror, in place of the publisher's scheme and host.

  Raises:
    UserError: nothing is published, no connection, or a file with another sha256.
  """
  declared = backbones.find(backbone)
  if declared.pth and _torch_version() >= _TORCH:
    url = declared.pth
    name = url.rsplit('/', 1)[1]
    digest = name.removesuffix('.pth').rsplit('-', 1)[1]
  elif declared.safetensors:  # .../<name>/resolve/main/model.safetensors
    url = declared.safetensors
    name = f'{url.split("/")[-4]}.safetensors'
    digest = ''
  else:
    raise errors.UserError(
        f'backbone={backbone!r} has no ImageNet weights to download; set '
        '--config.pretrained to your own file or to nothing')
  if base_url is not None:
    url = base_url.rstrip('/') + urllib.parse.urlsplit(url).path
  path = folder and folder / name
  fresh = path is None or not path.exists()
  kept = bool(folder and (not fresh or _is_writable(folder)))
  if not kept:
    path = _until_the_end() / name
  if fresh:
    _download(url, path, kept=kept)
  record = path.with_name(path.name + '.json')
  if not digest and record.exists():
    digest = _recorded_sha256(record)
  with path.open('rb') as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()
  if not found.startswith(digest):
    if fresh:
      path.unlink()
      record.unlink(missing_ok=True)
    raise errors.UserError(
        f'{url if fresh else path} has sha256 {found}, which does not start with '
        f'{digest}; {"try again" if fresh else "remove the file"}, or set '
        '--config.pretrained to your own file')
  return path


def _is_writable(folder: pathlib.Path) -> bool:
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
  except OSError:
    return False
  return True


def _until_the_end() -> pathlib.Path:
  """A folder that goes when the process ends; a notice says so."""
  print('the cache of weights cannot be written, and the download is not kept; set '
        '$XDG_CACHE_HOME to a folder that keeps it', file=sys.stderr)
  folder = tempfile.mkdtemp(prefix='attnmel_jax-')
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return pathlib.Path(folder)


def _recorded_sha256(record: pathlib.Path) -> str:
  try:
    digest = files.read_json(record)['sha256']
  except (OSError, ValueError, KeyError):
    digest = None
  if not isinstance(digest, str) or len(digest) != 64:
    raise errors.UserError(f'{record} is damaged; remove it and the weights beside it, '
                           'which are then downloaded again')
  return digest


def _download(url: str, path: pathlib.Path, *, kept: bool) -> None:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    download.fetch_file(url, path)
  except (OSError, errors.UserError) as error:
    raise errors.UserError(
        f'ImageNet weights are missing: {error}. Or '
        f'{f"put {url} at {path}, or " if kept else ""}set '
        '--config.pretrained to your own file, or to nothing (training from '
        'scratch)') from error


def _torch_version() -> tuple[int, ...]:
  """(major, minor) of the installed torch; () without torch. Imports nothing."""
  try:
    version = importlib.metadata.version('torch')
  except importlib.metadata.PackageNotFoundError:
    return ()
  return tuple(int(part) for part in re.findall(r'\d+', version)[:2])


def load_file(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Tensors of a .safetensors or .pth file, by their names, in float32.

  Raises:
    UserError: no such file, another kind of file, damage, or torch is needed.
  """
  readers = {'.safetensors': safetensors.numpy.load_file, '.pth': _load_pth}
  if not path.is_file():
    raise errors.UserError(
        f'pretrained={path} is not a file; give a .pth or .safetensors file, imagenet, '
        'or nothing')
  if path.suffix not in readers:
    raise errors.UserError(
        f'pretrained={path} is of an unknown kind; convert it to one of '
        f'{", ".join(readers)}')
  try:
    tensors = readers[path.suffix](path)
  except errors.UserError:
    raise
  except Exception as error:  # a damaged pickle may raise anything
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise errors.UserError(
        f'pretrained={path} cannot be read ({reason}); get the file again') from error
  return {name: _float32(name, tensor) for name, tensor in tensors.items()
          if not name.endswith('.num_batches_tracked')}  # a counter that nothing reads


def _float32(name: str, tensor: np.ndarray) -> np.ndarray:
  if not np.issubdtype(tensor.dtype, np.floating):  # quantised numbers, for example
    raise errors.UserError(
        f'pretrained tensor {name} is of type {tensor.dtype}; give a file of floating-'
        'point weights')
  with np.errstate(over='ignore'):  # an infinity is refused with its name
    return tensor.astype(np.float32)


def _load_pth(path: pathlib.Path) -> dict[str, np.ndarray]:
  if _torch_version() < _TORCH:
    raise errors.UserError(
        f'pretrained={path} needs torch >= 2.6; pip install torch, or give a '
        '.safetensors file, such as those that timm publishes')
  import torch  # noqa: PLC0415  optional, and slow to import

  tensors = torch.load(path, map_location='cpu', weights_only=True)
  if not isinstance(tensors, Mapping) or not all(
      isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
    raise errors.UserError(f'pretrained={path} is not a plain dictionary of tensors; '
                           'save model.state_dict() alone')
  return {name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
          for name, tensor in tensors.items()}


def dataset_behind(path: pathlib.Path) -> str:
  """The data set that an exported network was trained on; '' of other weights.

  Raises:
    OSError: the file does not exist.
  """
  if path.suffix != '.safetensors':
    return ''
  try:
    with safetensors.safe_open(path, 'np') as file:
      trained = json.loads((file.metadata() or {}).get('config', '{}'))
  except (safetensors.SafetensorError, ValueError, RecursionError):
    return ''  # loading it says what is wrong
  dataset = trained.get('dataset') if isinstance(trained, dict) else None
  return dataset if isinstance(dataset, str) and dataset.isprintable() else ''


def apply_weights(variables: Any, weights: Mapping[str, np.ndarray], *, backbone: str
                  ) -> tuple[Any, Report]:
  """Puts pretrained weights into the variables of a classifier.

  Args:
    variables: 'params' and, with batch normalisation, 'batch_stats'.
    weights: from `load_file`.
    backbone: of the variables.

  Returns:
    New variables and what was loaded, dropped and left as initialised.

  Raises:
    UserError: a tensor is missing, unexpected, misshapen or not finite.
  """
  declared = backbones.find(backbone)
  weights = _renamed(weights, declared)
  flat = flax.traverse_util.flatten_dict(variables)
  # Dense layers count where the model and the file have them: all or none.
  layers = {_layer(name) for name in weights}
  dense = 'fc1' in variables['params'] and not layers.isdisjoint(declared.dense_layers)
  table = torch_names.published_names(declared, dense=dense)
  dropped = {declared.class_layer, *(() if dense else declared.dense_layers)}
  unused = {name for name in weights
            if _layer(name) in dropped or _OURS.fullmatch(_layer(name))}
  _check_names(set(weights) - unused, set(table), backbone)
  for name, path in table.items():
    flat[path] = _checked(name, weights[name], path, flat[path])
  new = set(variables['params']) - {path[1] for path in table.values()}
  report = Report(loaded=tuple(dict.fromkeys(map(_layer, table))),
                  dropped=tuple(sorted({_layer(name) for name in unused})),
                  new=tuple(sorted(new)))
  return flax.traverse_util.unflatten_dict(flat), report


def _renamed(weights: Mapping[str, np.ndarray], declared: backbones.Backbone
             ) -> dict[str, np.ndarray]:
  """The tensors of any file of the backbone under the names of its table."""
  renamed = dict(weights)
  for name, tensor in weights.items():
    layer, _, kind = name.rpartition('.')
    if layer in declared.renamed_layers:
      del renamed[name]
      if tensor.ndim == 4:  # [K, C, h, w] -> [K, C h w], torch's flattening
        tensor = tensor.reshape(len(tensor), math.prod(tensor.shape[1:]))  # noqa: PLW2901
      renamed[f'{declared.renamed_layers[layer]}.{kind}'] = tensor
  return renamed


def _checked(name: str, tensor: np.ndarray, path: torch_names.Path, like: Any
             ) -> jax.Array:
  """The tensor with our axes, in the shape and type of the variable at `path`."""
  value = torch_names.from_torch_axes(np.asarray(tensor), path)
  if value.shape != like.shape:
    raise errors.UserError(
        f'pretrained tensor {name} has shape {tensor.shape}, which does not fit '
        f'{"/".join(path)} {like.shape}; choose another file')
  if not np.isfinite(value).all():
    raise errors.UserError(f'pretrained tensor {name} holds a NaN or an infinity; '
                           'get the file again')
  if path[-1] == 'var' and (value < 0).any():
    raise errors.UserError(f'pretrained tensor {name} holds a negative variance; get '
                           'the file again')
  return jnp.asarray(value, like.dtype)


def _layer(name: str) -> str:
  return name.rpartition('.')[0]


def _check_names(found: set[str], wanted: set[str], backbone: str) -> None:
  if found == wanted:
    return
  for other in config_lib.BACKBONES:
    if other != backbone and backbones.find(other).torch_names.keys() <= found:
      raise errors.UserError(f'pretrained weights belong to {other}; set '
                             f'--config.backbone={other} or choose another file')
  for kind, names in (('lack', wanted - found), ('hold unexpected', found - wanted)):
    if names:
      listed = ', '.join(sorted(names)[:5]) + (', ...' if len(names) > 5 else '')
      raise errors.UserError(
          f'pretrained weights {kind} {listed}; give a file of {backbone} in the '
          "naming of torchvision or timm")


def rescale(variables: Any, images: jax.Array, *, backbone: str) -> Any:
  """Brings the layers of a classifier to unit activation, see `Backbone.rescale`.

  Args:
    variables: of a classifier on `backbone`.
    images: normalised [N, H, W, 3], over which the activations are measured.
    backbone: of the variables.

  Raises:
    UserError: the backbone cannot be rescaled, or not on these images.
  """
  scaled = backbones.find(backbone).rescale
  if scaled is None:
    raise errors.UserError(f'rescale_pretrained=True cannot scale {backbone}; set '
                           '--config.rescale_pretrained=False')
  return {**variables, 'params': scaled(variables['params'], images)}
