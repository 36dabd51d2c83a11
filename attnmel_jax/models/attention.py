"""The attention gate of section 2.2: Equations 2.1 to 2.3."""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from attnmel_jax import config as config_lib
from attnmel_jax import images
from attnmel_jax.models import layers

# He normal; flax's own he_normal is truncated.
_INITIALISER = nn.initializers.variance_scaling(2, 'fan_in', 'normal')


class Gate(nn.Module):
  """Estimates where a feature map matters, and pools it there.

  Parameters: `feature` (W_f) and `guidance` (W_g), 1x1 convolutions without
  bias, and `response` (W), a 1x1 convolution to one channel with bias. A 1x1
  convolution is a dense layer over the channels.

  Attributes:
    width: channels inside the gate.
    norm: 'sigmoid', pooled by the mean over positions, or 'softmax' over the
      positions, pooled by the sum.
    dtype: of the two projections; map and pooling have that of the parameters.

  >>> gate = attention.Gate(width=4, norm='sigmoid', dtype=jnp.float32)
  >>> feature, guidance = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 2, 2, 5))
  >>> variables = gate.init(jax.random.key(0), feature, guidance)
  >>> where, pooled = gate.apply(variables, feature, guidance)
  >>> where.shape, pooled.shape
  ((2, 8, 8), (2, 3))
  """

  width: int
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, feature: jax.Array,
               guidance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Feature F [B, h, w, C], guidance G [B, g, g', D] -> map and pooled feature.

    Returns:
      Attention [B, h, w] in [0, 1] and the pooled gated feature [B, C].
    """
    # Eq. 2.1. G is projected before it is upsampled: both maps are linear and
    # commute, and the small map is cheaper.
    projected = self._project('guidance', guidance)
    projected = images.resize_bilinear(projected, feature.shape[1:3])
    hidden = nn.relu(self._project('feature', feature) + projected)
    param_dtype = layers.param_dtype(self.dtype)
    response = nn.Dense(
        1, dtype=param_dtype, param_dtype=param_dtype,
        kernel_init=_INITIALISER, name='response')(hidden)[..., 0]
    feature = feature.astype(param_dtype)
    if self.norm == 'sigmoid':
      attention = nn.sigmoid(response)  # Eq. 2.2
      pooled = (attention[..., None] * feature).mean((1, 2))  # Eq. 2.3
    elif self.norm == 'softmax':
      attention = jax.nn.softmax(response, axis=(1, 2))
      pooled = jnp.einsum('bhw,bhwc->bc', attention, feature)
    else:
      raise ValueError(f'norm={self.norm!r} is not one of {config_lib.GATE_NORMS}')
    return attention, pooled

  def _project(self, name: str, x: jax.Array) -> jax.Array:
    return nn.Dense(self.width, use_bias=False, dtype=self.dtype,
                    param_dtype=layers.param_dtype(self.dtype),
                    kernel_init=_INITIALISER, name=name)(x)
