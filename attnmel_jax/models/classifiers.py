"""The four classifiers of chapter 3.

  model = classifiers.create('attnmel_cnn', num_classes=2, backbone='vgg16_bn',
                             width=1., taps=('pool3', 'pool4'), gate_width=256,
                             gate_norm='sigmoid', dropout_rate=.5,
                             dtype='float32', axis_name=None, remat=False)
  variables = model.init(key, images, train=False)
  logits, out = model.apply(variables, images, train=False)
  out['attention']['pool3']  # [B, H/8, W/8]

  vgg16        VGG-16 with its dense layers and dropout; only on VGG-16 backbones
  vgg16_gap    global average pooling instead of the dense layers
  mel_cnn      pool-5 and plain pooled taps, concatenated
  attnmel_cnn  pool-5 and taps pooled under an attention gate, concatenated

A classifier is a trunk, the backbone, and a head over its maps:

  maps = model.apply(variables, images, train=False, method='trunk')
  logits, out = model.apply(variables, maps, train=False, method='head')
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax.models import attention
from attnmel_jax.models import backbones
from attnmel_jax.models import layers
from attnmel_jax.models import vgg

DENSE_UNITS = 4096
TRUNK = 'backbone'  # the module of all parameters that are not the head's

_NORMAL = nn.initializers.normal(0.01)


def create(
    name: str, *, num_classes: int, backbone: str, width: float,
    taps: tuple[str, ...], gate_width: int, gate_norm: str, dropout_rate: float,
    dtype: jnp.dtype | str, axis_name: str | None, remat: bool) -> nn.Module:
  """Builds the classifier `name`, whose call is described at PooledClassifier.

  Args:
    name: one of config.CLASSIFIERS.
    num_classes: number of logits.
    backbone: one of config.BACKBONES.
    width: factor on the channels of the backbone and of the dense layers.
    taps: pools that mel_cnn and attnmel_cnn add to pool-5, in the order of
      concatenation.
    gate_width: channels inside a gate (attnmel_cnn).
    gate_norm: 'sigmoid' or 'softmax' (attnmel_cnn).
    dropout_rate: after each of the two hidden dense layers (vgg16), in [0, 1).
    dtype: of the computation, one of config.DTYPES. Parameters, logits and attention
      are float32, or float64 where that is `dtype`.
    axis_name: device axis of the batch statistics in training, or None.
    remat: save memory in the backward pass, see `vgg.VGG16`.

  Raises:
    UserError: an unknown name, or a backbone without dense layers for vgg16.
  """
  dtype = jnp.dtype(dtype)
  errors.check_choice('model', name, config_lib.CLASSIFIERS)
  declared = backbones.find(backbone)
  errors.check_choice('dtype', dtype.name, config_lib.DTYPES)
  errors.check_choice('gate_norm', gate_norm, config_lib.GATE_NORMS)
  for tap in taps:
    errors.check_choice('taps', tap, declared.taps)
  common = {'num_classes': num_classes, 'backbone_name': backbone, 'width': width,
            'dtype': dtype, 'axis_name': axis_name, 'remat': remat}
  if name == 'vgg16':
    if not declared.dense_layers:
      raise errors.UserError(
          f"model='vgg16' is VGG-16's dense head, which backbone={backbone!r} does not "
          "have; choose model='vgg16_gap'")
    return DenseClassifier(dropout_rate=dropout_rate, **common)
  return PooledClassifier(
      taps=() if name == 'vgg16_gap' else tuple(taps), gated=name == 'attnmel_cnn',
      gate_width=gate_width, gate_norm=gate_norm, **common)


class _Classifier(nn.Module):
  """Trunk and head; a subclass adds its fields and layers and defines `head`."""

  num_classes: int
  backbone_name: str
  width: float
  dtype: Any
  axis_name: str | None
  remat: bool

  def setup(self):
    """The layers that all classifiers have."""
    self.backbone = backbones.find(self.backbone_name).create(
        width=self.width, dtype=self.dtype, axis_name=self.axis_name,
        remat=self.remat, name=None)
    param_dtype = layers.param_dtype(self.dtype)
    self.classifier = nn.Dense(self.num_classes, dtype=param_dtype,
                               param_dtype=param_dtype, kernel_init=_NORMAL)

  def __call__(self, images: jax.Array, *, train: bool,
               example_keys: jax.Array | None = None):
    """Normalised images [B, H, W, 3] -> (logits [B, K], out).

    Args:
      images: floating point; H and W at least 32.
      train: batch statistics instead of running averages, and dropout.
      example_keys: one PRNG key per example, [B]; read by dropout alone.

    Returns:
      Logits, and `out` with 'attention', {tap: [B, h, w]} (empty without
      gates), and 'features', the maps of the backbone by name.
    """
    return self.head(self.trunk(images, train=train), train=train,
                     example_keys=example_keys)

  def trunk(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """Normalised images [B, H, W, 3] -> the maps of the backbone by name."""
    return self.backbone(images, train=train)

  def head(self, features: dict[str, jax.Array], *, train: bool,
           example_keys: jax.Array | None = None):
    """Maps of the trunk, of any floating type -> what `__call__` returns."""
    raise NotImplementedError


class PooledClassifier(_Classifier):
  """Backbone, global average pooling (gated at the taps), one dense layer.

  Parameters: `backbone`, `gate_<tap>`, `classifier`.
  """

  taps: tuple[str, ...]
  gated: bool
  gate_width: int
  gate_norm: str

  def setup(self):
    """Adds the gates."""
    super().setup()
    if self.gated:
      for tap in self.taps:
        setattr(self, f'gate_{tap}',
                attention.Gate(self.gate_width, self.gate_norm, self.dtype))

  def head(self, features: dict[str, jax.Array], *, train: bool,
           example_keys: jax.Array | None = None):
    """See _Classifier."""
    del train, example_keys  # there is no dropout
    features = _cast(features, self.dtype)
    param_dtype = layers.param_dtype(self.dtype)
    maps = {}
    pooled = [features['pool5'].astype(param_dtype).mean((1, 2))]
    for tap in self.taps:
      if self.gated:
        gate = getattr(self, f'gate_{tap}')
        maps[tap], vector = gate(features[tap], features['pool5'])
      else:
        vector = features[tap].astype(param_dtype).mean((1, 2))
      pooled.append(vector)
    logits = self.classifier(jnp.concatenate(pooled, axis=-1))
    return logits, {'attention': maps, 'features': features}


class DenseClassifier(_Classifier):
  """VGG-16 with its two hidden dense layers, at any size of image.

  Parameters: `backbone`, `fc1`, `fc2`, `classifier`. Input and outputs are
  those of PooledClassifier.
  """

  dropout_rate: float

  def setup(self):
    """Adds the hidden layers."""
    super().setup()
    for layer in (1, 2):
      setattr(self, f'fc{layer}', nn.Dense(
          layers.channels(DENSE_UNITS, self.width), dtype=self.dtype,
          param_dtype=layers.param_dtype(self.dtype), kernel_init=_NORMAL))

  def head(self, features: dict[str, jax.Array], *, train: bool,
           example_keys: jax.Array | None = None):
    """See _Classifier; `train` needs `example_keys` for dropout."""
    features = _cast(features, self.dtype)
    x = vgg.flatten(features['pool5'])
    for layer in (1, 2):
      x = nn.relu(getattr(self, f'fc{layer}')(x))
      if train and self.dropout_rate:
        x = dropout(x, example_keys, rate=self.dropout_rate, layer=layer)
    logits = self.classifier(x.astype(layers.param_dtype(self.dtype)))
    return logits, {'attention': {}, 'features': features}


def _cast(features: dict[str, jax.Array], dtype: Any) -> dict[str, jax.Array]:
  """Maps as the trunk computes them; stored ones are float16."""
  return {name: x.astype(dtype) for name, x in features.items()}


def dropout(x: jax.Array, example_keys: jax.Array, *, rate: float,
            layer: int) -> jax.Array:
  """Drops units of x [B, D] with probability `rate`, scaling up the others.

  Each example draws from its own key ([B]) and `layer`, so what it loses does
  not depend on the other examples of the batch, nor on how many devices share
  the batch.

  Raises:
    ValueError: `example_keys` is None.
  """
  if example_keys is None:
    raise ValueError('dropout needs example_keys, one key per example')

  def keep(key):
    return jax.random.bernoulli(
        jax.random.fold_in(key, layer), jnp.float32(1 - rate), x.shape[1:])

  return jnp.where(jax.vmap(keep)(example_keys), x / (1 - rate), 0)
