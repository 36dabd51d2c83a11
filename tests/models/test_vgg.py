"""The backbone's shapes and batch statistics, and adaptive pooling by hand."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from attnmel_jax.models import layers
from attnmel_jax.models import vgg


def test_remat_keeps_pools_alone_for_the_backward_pass():
  images = jnp.zeros((2, 32, 32, 3))

  def kept(remat):
    backbone = vgg.VGG16(
        batch_norm=True, width=1 / 8, dtype=jnp.float32, axis_name=None,
        remat=remat)
    variables = jax.eval_shape(lambda key: backbone.init(key, images, train=False),
                               jax.random.key(0))
    residuals = jax.eval_shape(lambda variables: jax.vjp(
        lambda params: backbone.apply(
            {**variables, 'params': params}, images, train=True,
            mutable=['batch_stats'])[0], variables['params'])[1], variables)
    shapes = {leaf.shape for leaf in jax.tree.leaves(residuals) if leaf.ndim == 4}
    return {s for s in shapes if s[0] == 2}, jax.tree.map(jnp.shape, variables)

  some, variables = kept(True)
  everything, unchanged = kept(False)
  assert variables == unchanged  # by name, as pretrained weights are loaded
  # The images and what the blocks 2 to 5 start from.
  assert some == {(2, 32, 32, 3), (2, 16, 16, 8), (2, 8, 8, 16), (2, 4, 4, 32),
                  (2, 2, 2, 64)}
  assert (2, 32, 32, 8) in everything


def test_adaptive_pool_by_hand():
  # 3 -> 7 and 10 -> 7: cell i is the mean from floor(i n / 7) to ceil((i + 1) n / 7).
  x = np.random.default_rng(0).standard_normal((2, 3, 10, 4)).astype(np.float32)
  rows = [(0, 1), (0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 3)]
  columns = [(0, 2), (1, 3), (2, 5), (4, 6), (5, 8), (7, 9), (8, 10)]
  got = np.asarray(jax.jit(vgg.adaptive_average_pool, static_argnums=1)(x, 7))
  assert got.shape == (2, 7, 7, 4)
  for i, (top, bottom) in enumerate(rows):
    for j, (left, right) in enumerate(columns):
      np.testing.assert_allclose(
          got[:, i, j], x[:, top:bottom, left:right].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_flatten_is_the_identity_in_channel_major_order_at_7x7():
  x = np.random.default_rng(0).standard_normal((2, 7, 7, 5)).astype(np.float32)
  np.testing.assert_allclose(
      jax.jit(vgg.flatten)(x), np.moveaxis(x, -1, 1).reshape(2, -1), rtol=1e-6)


def test_only_batch_statistics_centre_a_layer():
  for batch_norm, train in ((True, True), (True, False), (False, True)):
    seen = set()

    def look(method, args, kwargs, context, seen=seen):
      if isinstance(context.module, layers.Conv3x3):
        seen.add(kwargs['centred'])
      return method(*args, **kwargs)

    backbone = vgg.VGG16(batch_norm, 1 / 64, jnp.float32, None, remat=False)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    with nn.intercept_methods(look):
      jax.eval_shape(
          functools.partial(backbone.init_with_output, train=train),
          jax.random.key(0), x)
    assert seen == {batch_norm and train}
