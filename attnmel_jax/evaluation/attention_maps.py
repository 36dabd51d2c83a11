"""Attention maps and class activation maps, brought to the network's input.

  maps = attention_maps.of_classes(
      attention_maps.class_maps(features, kernel), predicted)       # [N, h, w]
  attention_maps.rescale(attention_maps.upsample(maps, 224))        # in [0, 1]
"""

from typing import TypeVar

import numpy as np

# A NumPy or JAX array: importing this module must not start JAX.
Array = TypeVar('Array')

# A map whose values differ by less than this share of the largest is constant:
# float32 carries 7 digits, and rescaling would turn rounding into a pattern.
CONSTANT = 1e-6


def upsample(maps: np.ndarray, side: int) -> np.ndarray:
  """Maps [N, h, w] -> float64 [N, side, side], bilinear.

  Half-pixel centres, edge clamp, no antialiasing: the interpolation inside the
  gates (`images.resize_bilinear`).

  >>> attention_maps.upsample(np.array([[[0., 1.]]]), 4)[0, 0].tolist()
  [0.0, 0.25, 0.75, 1.0]
  """
  if maps.ndim != 3:
    raise ValueError(f'maps are {maps.shape}, not [N, h, w]')
  count, height, width = maps.shape
  rows, columns = _interpolation(height, side), _interpolation(width, side)
  # Two products over all maps at once: a product for each map would spend its
  # time on waking threads.
  wide = maps.reshape(-1, width).astype(np.float64) @ columns.T
  turned = wide.reshape(count, height, side).swapaxes(1, 2)  # [N, side, h]
  return (turned.reshape(-1, height) @ rows.T).reshape(
      count, side, side).swapaxes(1, 2)


def rescale(maps: np.ndarray) -> np.ndarray:
  """Maps [N, H, W] -> float64, each with minimum 0 and maximum 1.

  A constant map becomes all ones: attention that singles nothing out marks the
  whole image.

  Raises:
    ValueError: values are NaN or infinite.

  >>> attention_maps.rescale(np.array([[[.2, .3, .4]]])).round(2).tolist()
  [[[0.0, 0.5, 1.0]]]
  """
  low = maps.min(axis=(1, 2), keepdims=True).astype(np.float64)
  high = maps.max(axis=(1, 2), keepdims=True).astype(np.float64)
  if bad := np.count_nonzero(~(np.isfinite(low) & np.isfinite(high))):
    raise ValueError(f'{bad} of {len(maps)} attention maps hold NaN or infinity')
  constant = high - low <= CONSTANT * np.maximum(np.abs(low), np.abs(high))
  rescaled = maps - low
  rescaled /= np.where(constant, 1.0, high - low)
  rescaled[constant[:, 0, 0]] = 1.0
  return rescaled


def central(lesion: np.ndarray, image_size: int) -> np.ndarray:
  """The view [N, size, size] of masks [N, S, S] that the network's input shows.

  Raises:
    ValueError: the masks hold no square of that side.
  """
  margin = (lesion.shape[1] - image_size) // 2
  if margin < 0 or lesion.shape[1] != lesion.shape[2]:
    raise ValueError(f'masks {lesion.shape} hold no square of side {image_size}')
  window = slice(margin, margin + image_size)
  return lesion[:, window, window]


def class_maps(features: Array, kernel: Array) -> Array:
  """Class activation maps (Zhou et al. 2016) of a network with one dense layer.

  After global average pooling the logit of class k is the mean over the positions
  of features . kernel[:, k], plus a bias: the summands are the map of class k.

  Args:
    features: [B, h, w, C], what is averaged: pool-5 of VGG-16-GAP.
    kernel: [C, K] of the dense layer after it.

  Returns:
    [B, h, w, K]; the mean over h and w plus the bias is the logits.

  >>> kernel = np.array([[1., 0.], [0., 3.]])
  >>> attention_maps.class_maps(np.array([[[[1., 2.]]]]), kernel).tolist()
  [[[[1.0, 6.0]]]]
  """
  return features @ kernel


def of_classes(maps: Array, classes: np.ndarray) -> Array:
  """Maps [B, h, w, K] and a class for each image, int [B] -> [B, h, w].

  >>> attention_maps.of_classes(np.array([[[[1., 6.]]]]), np.array([1])).tolist()
  [[[6.0]]]
  """
  return maps[np.arange(len(maps)), :, :, classes]


def _interpolation(length: int, side: int) -> np.ndarray:
  """Weights [side, length] of linear interpolation at half-pixel centres."""
  centres = (np.arange(side) + 0.5) * length / side - 0.5
  centres = np.clip(centres, 0, length - 1)
  below = np.floor(centres).astype(int)
  share = centres - below
  weights = np.zeros((side, length))
  weights[np.arange(side), below] = 1 - share
  weights[np.arange(side), np.minimum(below + 1, length - 1)] += share
  return weights
