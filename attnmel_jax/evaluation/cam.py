"""Class activation maps (Zhou et al. 2016), of a network with one dense layer.

After global average pooling the logit of class k is the mean over the positions of
features . kernel[:, k], plus a bias: the summands are the map of class k.

The functions take NumPy and JAX arrays alike.
"""

from typing import TypeVar

import numpy as np

# A NumPy or JAX array: starting this module may not wait for JAX.
Array = TypeVar('Array')


def class_maps(features: Array, kernel: Array) -> Array:
  """The map of every class.

  Args:
    features: [B, h, w, C], what is averaged: pool-5 of VGG-16-GAP.
    kernel: [C, K] of the dense layer after it.

  Returns:
    [B, h, w, K]; the mean over h and w plus the bias is the logits.

  >>> kernel = np.array([[1., 0.], [0., 3.]])
  >>> cam.class_maps(np.array([[[[1., 2.]]]]), kernel).tolist()
  [[[[1.0, 6.0]]]]
  """
  return features @ kernel


def of_classes(maps: Array, classes: np.ndarray) -> Array:
  """Maps [B, h, w, K] and a class for each image, int [B] -> [B, h, w].

  >>> cam.of_classes(np.array([[[[1., 6.]]]]), np.array([1])).tolist()
  [[[6.0]]]
  """
  return maps[np.arange(len(maps)), :, :, classes]
