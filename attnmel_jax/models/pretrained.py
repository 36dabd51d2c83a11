"""ImageNet weights in torchvision's or timm's naming -> Flax variables.

  weights = pretrained.load_file(pathlib.Path('vgg16_bn-6c64b313.pth'))
  variables, report = pretrained.apply_weights(
      variables, weights, backbone='vgg16_bn', width=1.)
  print('\\n'.join(report.lines()))
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
from typing import Any
import urllib.parse

import flax
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import download
from attnmel_jax.models import cpu_kernels
from attnmel_jax.models import vgg

# The hexadecimal digits in torchvision's names begin the file's sha256.
TORCHVISION = {
    'vgg16': 'https://download.pytorch.org/models/vgg16-397923af.pth',
    'vgg16_bn': 'https://download.pytorch.org/models/vgg16_bn-6c64b313.pth',
}
TIMM = {name: f'https://huggingface.co/timm/{name}.tv_in1k/resolve/main/'
        'model.safetensors' for name in vgg.BACKBONES}
# timm's names of the dense layers, kept there as convolutions.
_TIMM_NAMES = {'pre_logits.fc1': 'classifier.0', 'pre_logits.fc2': 'classifier.3',
               'head.fc': 'classifier.6'}
DENSE = {'fc1': 'classifier.0', 'fc2': 'classifier.3'}  # by our names
CLASS_HEAD = 'classifier.6'
# Layers of ours that torchvision lacks, in the files of `weights.to_torchvision`.
_OURS = re.compile(r'classifier|gate_\w+\.\w+')
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
    return [f'{kind}: {", ".join(names)}' for kind, names in kinds if names]


def cache_dir() -> pathlib.Path:
  """Folder of downloaded weights: attnmel_jax below $XDG_CACHE_HOME or ~/.cache."""
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'attnmel_jax'


def fetch_imagenet(backbone: str, folder: pathlib.Path, *,
                   base_url: str | None = None) -> pathlib.Path:
  """The file of ImageNet weights of `backbone`, downloaded at the first call.

  torchvision's .pth where torch can read it, else timm's .safetensors of the
  same numbers. torchvision's name holds the start of the sha256; timm's does
  not, so the sha256 of the download is recorded and checked from then on.

  Args:
    backbone: one of vgg.BACKBONES.
    folder: keeps the file; `cache_dir()` unless there is a reason.
    base_url: a mirror, in place of the publisher's scheme and host.

  Raises:
    UserError: no connection, or a file with another sha256.
  """
  errors.check_choice('backbone', backbone, vgg.BACKBONES)
  if _torch_version() >= _TORCH:
    url = TORCHVISION[backbone]
    path = folder / url.rsplit('/', 1)[1]
    digest = path.stem.rsplit('-', 1)[1]
  else:
    url, path = TIMM[backbone], folder / f'{backbone}.tv_in1k.safetensors'
    digest = ''
  if base_url is not None:
    url = base_url.rstrip('/') + urllib.parse.urlsplit(url).path
  fresh = not path.exists()
  if fresh:
    _download(url, path)
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
        '--config.pretrained to a file of your own')
  return path


def _recorded_sha256(record: pathlib.Path) -> str:
  try:
    digest = files.read_json(record)['sha256']
  except (OSError, ValueError, KeyError):
    digest = None
  if not isinstance(digest, str) or len(digest) != 64:
    raise errors.UserError(f'{record} is damaged; remove it and the weights beside it, '
                           'which are then downloaded again')
  return digest


def _download(url: str, path: pathlib.Path) -> None:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    download.fetch_file(url, path)
  except (OSError, errors.UserError) as error:
    raise errors.UserError(
        f'ImageNet weights are missing: {error}. Or put {url} at {path}, or set '
        '--config.pretrained to a file of your own, or to nothing (training from '
        'scratch)') from error


def _torch_version() -> tuple[int, ...]:
  """(major, minor) of the installed torch; () without torch. Imports nothing."""
  try:
    version = importlib.metadata.version('torch')
  except importlib.metadata.PackageNotFoundError:
    return ()
  return tuple(int(part) for part in re.findall(r'\d+', version)[:2])


def load_file(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Tensors of a .safetensors or .pth file, by torchvision's names, in float32.

  Raises:
    UserError: no such file, another kind of file, damage, or torch is needed.
  """
  readers = {'.safetensors': safetensors.numpy.load_file, '.pth': _load_pth}
  if not path.is_file():
    raise errors.UserError(
        f'pretrained={path} is no file; give a .pth or .safetensors file, imagenet, '
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
  return {name: _float32(name, tensor)
          for name, tensor in _torchvision_names(tensors)}


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
        '.safetensors file (timm publishes vgg16.tv_in1k and vgg16_bn.tv_in1k)')
  import torch  # noqa: PLC0415  optional, and slow to import

  tensors = torch.load(path, map_location='cpu', weights_only=True)
  if not isinstance(tensors, Mapping) or not all(
      isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
    raise errors.UserError(f'pretrained={path} holds no plain dictionary of tensors; '
                           'save model.state_dict() alone')
  return {name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
          for name, tensor in tensors.items()}


def _torchvision_names(tensors: Mapping[str, np.ndarray]
                       ) -> Iterator[tuple[str, np.ndarray]]:
  for name, tensor in tensors.items():
    layer, _, kind = name.rpartition('.')
    if layer not in _TIMM_NAMES:
      if kind != 'num_batches_tracked':  # a counter that nothing reads
        yield name, tensor
    elif kind == 'weight':  # [K, C, h, w] -> [K, C h w], torch's flattening
      yield f'{_TIMM_NAMES[layer]}.weight', tensor.reshape(tensor.shape[0], -1)
    else:
      yield f'{_TIMM_NAMES[layer]}.{kind}', tensor


def dataset_behind(path: pathlib.Path) -> str:
  """The data set that an exported network learnt from; '' of other weights.

  Raises:
    OSError: there is no such file.
  """
  if path.suffix != '.safetensors':
    return ''
  try:
    with safetensors.safe_open(path, 'np') as file:
      config = json.loads((file.metadata() or {}).get('config', '{}'))
  except (safetensors.SafetensorError, ValueError, RecursionError):
    return ''  # loading it says what is wrong
  dataset = config.get('dataset') if isinstance(config, dict) else None
  return dataset if isinstance(dataset, str) and dataset.isprintable() else ''


def apply_weights(variables: Any, weights: Mapping[str, np.ndarray], *, backbone: str,
                  width: float) -> tuple[Any, Report]:
  """Puts pretrained weights into the variables of a classifier.

  Args:
    variables: 'params' and, for vgg16_bn, 'batch_stats'.
    weights: from `load_file`.
    backbone: of the variables.
    width: of the variables; only the full width has pretrained weights.

  Returns:
    New variables and what was loaded, dropped and left as initialised.

  Raises:
    UserError: width is not 1, or a tensor is missing, unexpected, misshapen or
      not finite.
  """
  if width != 1:
    raise errors.UserError(
        f'width={width} has no pretrained weights; set --config.width=1.0, or '
        '--config.pretrained to nothing')
  return convert(variables, weights, backbone=backbone)


def convert(variables: Any, weights: Mapping[str, np.ndarray], *,
            backbone: str) -> tuple[Any, Report]:
  """`apply_weights` at any width."""
  batch_norm = backbone == 'vgg16_bn'
  if 'features.0.weight' in weights and batch_norm != any(
      name.endswith('.running_mean') for name in weights):
    other, = set(vgg.BACKBONES) - {backbone}
    raise errors.UserError(f'pretrained weights are of {other}; set '
                           f'--config.backbone={other} or choose another file')
  flat = flax.traverse_util.flatten_dict(variables)
  # Dense layers count where the model and the file have them: all or none.
  dense = 'fc1' in variables['params'] and any(
      _layer(name) in DENSE.values() for name in weights)
  dropped = {CLASS_HEAD} if dense else {CLASS_HEAD, *DENSE.values()}
  table = dict(torchvision_table(batch_norm, DENSE if dense else {}))
  unused = {name for name in weights
            if _layer(name) in dropped or _OURS.fullmatch(_layer(name))}
  _check_names(set(weights) - unused, set(table))
  for name, (path, to_flax) in table.items():
    value = np.asarray(to_flax(weights[name]))
    if value.shape != flat[path].shape:
      raise errors.UserError(
          f'pretrained tensor {name} has shape {weights[name].shape}, which does not '
          f'fit {"/".join(path)} {flat[path].shape}; choose another file')
    if not np.isfinite(value).all():
      raise errors.UserError(f'pretrained tensor {name} holds a NaN or an infinity; '
                             'get the file again')
    if path[-1] == 'var' and (value < 0).any():
      raise errors.UserError(f'pretrained tensor {name} holds a negative variance; get '
                             'the file again')
    flat[path] = jnp.asarray(value, flat[path].dtype)
  new = set(variables['params']) - {path[1] for path, _ in table.values()}
  report = Report(loaded=tuple(sorted({_layer(name) for name in table}, key=_order)),
                  dropped=tuple(sorted({_layer(name) for name in unused})),
                  new=tuple(sorted(new)))
  return flax.traverse_util.unflatten_dict(flat), report


def _layer(name: str) -> str:
  return name.rpartition('.')[0]


def _order(layer: str) -> tuple[bool, int]:
  kind, _, index = layer.partition('.')
  return kind == 'classifier', int(index)


def torchvision_table(batch_norm: bool, dense: Mapping[str, str]
                      ) -> Iterator[tuple[str, tuple[tuple[str, ...], Callable]]]:
  """torchvision's name -> path in the variables, and how to reorder the axes."""
  index = 0
  for block, (layers, _) in enumerate(vgg.BLOCKS, 1):
    for layer in range(1, layers + 1):
      conv = ('params', 'backbone', f'conv{block}_{layer}')
      yield f'features.{index}.weight', (
          (*conv, 'kernel'), lambda w: w.transpose(2, 3, 1, 0))  # OIHW -> HWIO
      yield f'features.{index}.bias', ((*conv, 'bias'), np.asarray)
      if batch_norm:
        for kind, collection, ours in (
            ('weight', 'params', 'scale'), ('bias', 'params', 'bias'),
            ('running_mean', 'batch_stats', 'mean'),
            ('running_var', 'batch_stats', 'var')):
          yield f'features.{index + 1}.{kind}', (
              (collection, 'backbone', f'bn{block}_{layer}', ours), np.asarray)
      index += 3 if batch_norm else 2  # convolution, normalisation, ReLU
    index += 1  # pooling
  for ours, theirs in dense.items():
    yield f'{theirs}.weight', (('params', ours, 'kernel'), np.transpose)
    yield f'{theirs}.bias', (('params', ours, 'bias'), np.asarray)


def _check_names(found: set[str], wanted: set[str]) -> None:
  for kind, names in (('lack', wanted - found), ('hold unexpected', found - wanted)):
    if names:
      listed = ', '.join(sorted(names)[:5]) + (', ...' if len(names) > 5 else '')
      raise errors.UserError(
          f'pretrained weights {kind} {listed}; give a file in the naming of '
          "torchvision's or timm's vgg16 or vgg16_bn")


def rescale(variables: Any, images: jax.Array) -> Any:
  """Brings every hidden layer of a plain vgg16 to unit RMS activation.

  A ReLU network is positively homogeneous: scaling layer l by c_l (weights by
  c_l / c_(l-1), biases by c_l) scales its activations by c_l and changes
  nothing else. SGD at the usual rates diverges on the unscaled weights. The
  hidden dense layers, if any, are rescaled too; gates and classifier are not.

  Args:
    variables: of a classifier on vgg16.
    images: normalised [N, H, W, 3], over which the activations are measured.

  Raises:
    UserError: the backbone has batch normalisation, which undoes any scale, or
      a layer is silent or not finite on these images.
  """
  params = variables['params']
  if 'batch_stats' in variables:
    raise errors.UserError('rescale_pretrained=True has no effect on vgg16_bn; set '
                           '--config.rescale_pretrained=False')
  params = {**params, 'backbone': dict(params['backbone'])}
  x, scale = images, 1.
  for block, (layers, _) in enumerate(vgg.BLOCKS, 1):
    for layer in range(1, layers + 1):
      name = f'conv{block}_{layer}'
      x, scale, params['backbone'][name] = _rescale_layer(
          cpu_kernels.conv3x3, x, scale, params['backbone'][name], name)
    x = cpu_kernels.max_pool2x2(x)
  if 'fc1' in params:
    x = vgg.flatten(x)
    for name in DENSE:
      x, scale, params[name] = _rescale_layer(jnp.matmul, x, scale, params[name], name)
  return {**variables, 'params': params}


def _rescale_layer(apply: Callable[..., jax.Array], x: jax.Array, scale: jax.Array,
                   layer: Mapping[str, jax.Array], name: str):
  """x: input times `scale` -> unit activations, their scale, the layer's params."""
  bias = layer['bias'] * scale
  activation = jax.nn.relu(apply(x, layer['kernel']) + bias)
  size = jnp.sqrt(jnp.mean(activation ** 2))
  if not 0 < size < jnp.inf:
    raise errors.UserError(
        f'pretrained layer {name} has root-mean-square activation {size}, which cannot '
        'be rescaled; check --config.normalisation or choose another file')
  return (activation / size, scale / size,
          {'kernel': layer['kernel'] / size, 'bias': bias / size})
