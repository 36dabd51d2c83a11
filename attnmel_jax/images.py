"""Pure image operations that training and evaluation share.

Images are [..., H, W, C] or, where a docstring says maps, [..., H, W]. All
functions are traceable and differentiable where that has a meaning.
"""

import dataclasses

import jax
import jax.numpy as jnp

from attnmel_jax import errors

# Mean and standard deviation (the mean of per-image deviations) of RGB in
# [0, 1]. 'isic*' are the released code's numbers, 'imagenet' torchvision's,
# 'inception' those of networks that TensorFlow's authors trained.
NORMALISATIONS = {
    'isic2016': ((0.7012, 0.5517, 0.4875), (0.0942, 0.1331, 0.1521)),
    'isic2017': ((0.6820, 0.5312, 0.4736), (0.0840, 0.1140, 0.1282)),
    'isic2018': ((0.7560, 0.5222, 0.5431), (0.0909, 0.1248, 0.1400)),
    'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    'inception': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclasses.dataclass(frozen=True)
class Input:
  """What a network is shown of a prepared image.

  Attributes:
    image_size: side of the crop, in pixels.
    normalisation: key of NORMALISATIONS.
    dtype: of images, losses and maps: float32 or float64.
  """

  image_size: int
  normalisation: str
  dtype: jnp.dtype

  def normalise(self, images: jax.Array) -> jax.Array:
    """See `normalise`."""
    return normalise(images, self.normalisation, self.dtype)


def normalise(images: jax.Array, normalisation: str, dtype=jnp.float32) -> jax.Array:
  """uint8 RGB [..., H, W, 3] -> (image / 255 - mean) / std as `dtype`.

  Raises:
    UserError: `normalisation` is not a key of NORMALISATIONS.
  """
  errors.check_choice('normalisation', normalisation, NORMALISATIONS)
  mean, std = (jnp.asarray(v, dtype) for v in NORMALISATIONS[normalisation])
  return (images.astype(dtype) / 255 - mean) / std


def centre_crop(images: jax.Array, size: int) -> jax.Array:
  """Central size x size window of images [B, H, W, ...]."""
  height, width = images.shape[1:3]
  top, left = (height - size) // 2, (width - size) // 2
  return images[:, top:top + size, left:left + size]


def dihedral(image: jax.Array, element: jax.Array) -> jax.Array:
  """Applies one of the 8 symmetries of the square to a square [S, S, ...].

  Args:
    image: one image or map.
    element: int in [0, 8): `element % 4` quarter turns anticlockwise, then,
      where `element >= 4`, a flip from left to right. Rotations by quarter
      turns together with horizontal and vertical flips generate just these 8.

  >>> images.dihedral(jnp.array([[1, 2], [3, 4]]), jnp.array(1)).tolist()
  [[2, 4], [1, 3]]
  """
  # Turns are composed of transpositions and reversals under a select: a
  # lax.switch under vmap would compute all eight.
  quarter, flip = element % 4, element >= 4
  transposed = jnp.swapaxes(image, 0, 1)
  odd = quarter % 2 == 1
  turned = jnp.where(odd, transposed, image)
  # rot90 = flip rows of the transpose; rot180 = flip both; rot270 = flip columns.
  turned = jnp.where((quarter == 1) | (quarter == 2), turned[::-1], turned)
  turned = jnp.where((quarter == 2) | (quarter == 3), turned[:, ::-1], turned)
  return jnp.where(flip, turned[:, ::-1], turned)


def inverse_dihedral(element: jax.Array) -> jax.Array:
  """The element that undoes `element`: the turn back, or the same reflection."""
  return jnp.where(element >= 4, element, -element % 4)


def resize_bilinear(maps: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Maps [B, h, w] or features [B, h, w, C] -> `shape`, bilinear.

  Half-pixel centres, edge clamp, no antialiasing: torch's
  `interpolate(mode='bilinear', align_corners=False)`.
  """
  return jax.image.resize(
      maps, (maps.shape[0], *shape, *maps.shape[3:]), 'linear', antialias=False)


def block_mean(maps: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Maps [B, H, W] -> [B, h, w], each cell the mean of its H/h x W/w block.

  >>> images.block_mean(jnp.arange(8.).reshape(1, 2, 4), (1, 2)).tolist()
  [[[2.5, 4.5]]]
  """
  batch, height, width = maps.shape
  rows, columns = height // shape[0], width // shape[1]
  if rows * shape[0] != height or columns * shape[1] != width:
    raise ValueError(f'{height}x{width} is not a multiple of {shape[0]}x{shape[1]}')
  blocks = maps.reshape(batch, shape[0], rows, shape[1], columns)
  return blocks.mean(axis=(2, 4))
