"""Training augmentation on the device: crop, quarter turns, flips."""

import dataclasses

import jax
import jax.numpy as jnp

from attnmel_jax import images


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """What is random about a training image.

  Attributes:
    random_crop: crop anywhere, else at the centre.
    random_rotation: by 0, 90, 180 or 270 degrees.
    random_flip: left-right and top-bottom, each with probability 1/2.
  """

  random_crop: bool
  random_rotation: bool
  random_flip: bool


def augment(image: jax.Array, roi: jax.Array, keys: jax.Array,
            augmentation: Augmentation, *, image_size: int
            ) -> tuple[jax.Array, jax.Array]:
  """One random crop and symmetry per example, the same for image and map.

  Args:
    image: [B, S, S, 3], any dtype.
    roi: [B, S, S].
    keys: [B], a random key for each example; nothing else is random.
    augmentation: what is random.
    image_size: side of the crop, at most S.

  Returns:
    Image [B, image_size, image_size, 3] and map [B, image_size, image_size].
  """

  def one(image, roi, key):
    margin = image.shape[0] - image_size
    if augmentation.random_crop:
      top, left = jax.random.randint(
          _keys(key)[0], (2,), 0, margin + 1, jnp.int32)
    else:
      top = left = jnp.int32(margin // 2)
    element = draw_view(key, augmentation)

    def transform(array):
      size = (image_size, image_size, *array.shape[2:])
      start = (top, left, *(jnp.int32(0) for _ in array.shape[2:]))
      return images.dihedral(jax.lax.dynamic_slice(array, start, size), element)

    return transform(image), transform(roi)

  return jax.vmap(one)(image, roi, keys)


def draw_view(key: jax.Array, augmentation: Augmentation) -> jax.Array:
  """The symmetry of an example, as `images.dihedral` numbers them: int32 scalar."""
  _, turn_key, flip_key = _keys(key)
  turns = across = down = 0
  if augmentation.random_rotation:
    turns = jax.random.randint(turn_key, (), 0, 4, jnp.int32)
  if augmentation.random_flip:
    across, down = jax.random.randint(flip_key, (2,), 0, 2, jnp.int32)
  # A flip from top to bottom is half a turn and a flip from left to right.
  return jnp.asarray((turns + 2 * down) % 4 + 4 * (across ^ down), jnp.int32)


def views(augmentation: Augmentation) -> tuple[int, ...]:
  """All symmetries that `draw_view` may give, in order."""
  if augmentation.random_rotation:
    return tuple(range(8 if augmentation.random_flip else 4))
  return (0, 2, 4, 6) if augmentation.random_flip else (0,)


def _keys(key: jax.Array) -> jax.Array:
  """Of the crop, the turn and the flips. What they draw is int32 throughout: the same
  with and without float64."""
  return jax.random.split(key, 3)
