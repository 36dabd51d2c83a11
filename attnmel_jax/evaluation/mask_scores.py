"""How well predicted lesion masks fit: the measures of ISIC 2018 Task 1.

  indices = segmentation.mask_jaccard(
      probabilities, lesion, has_lesion, image_size=224, threshold=0.5)
  segmentation.thresholded(indices)
"""

import numpy as np

from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import attention_scores

# Observers differ, too; below this index the challenge counts a mask as failed.
FAILED_BELOW = 0.65


def mask_jaccard(
    probabilities: np.ndarray,
    lesion: np.ndarray,
    has_lesion: np.ndarray,
    *,
    image_size: int,
    threshold: float,
) -> np.ndarray:
  """Jaccard index of each predicted mask with the lesion mask.

  Args:
    probabilities: [N, image_size, image_size] in [0, 1], of 'lesion'.
    lesion: uint8 [N, S, S] masks of the prepared images, 128 and above lesion.
    has_lesion: bool [N], whether the image is annotated.
    image_size: side of the network's input, the centre of the S x S image.
    threshold: pixels of at least this probability are lesion.

  Returns:
    float64 [N] in [0, 1]; 1 where both masks are empty; nan where the image is not
    annotated.

  Raises:
    ValueError: shapes that do not belong together; a probability outside [0, 1] or
      NaN.
  """
  count = len(probabilities)
  if probabilities.shape != (count, image_size, image_size) or not (
      count == len(lesion) == len(has_lesion)):
    raise ValueError(
        f'probabilities {probabilities.shape}, masks {lesion.shape} and '
        f'{len(has_lesion)} annotation flags do not belong together')
  if not ((probabilities >= 0) & (probabilities <= 1)).all():
    raise ValueError('probabilities outside [0, 1] or NaN')
  masks = attention_maps.central(lesion, image_size) > 127
  indices = attention_scores.jaccard(probabilities >= threshold, masks)
  return np.where(has_lesion, indices, np.nan)


def thresholded(indices: np.ndarray) -> np.ndarray:
  """The thresholded Jaccard index of ISIC 2018 Task 1: what is below 0.65 counts 0.

  Codella et al., arXiv:1902.03368; the challenge ranks by its mean over the images.

  Args:
    indices: [N] Jaccard indices, nan where there is none.

  Returns:
    float64 [N]; nan stays nan.
  """
  return np.where(indices < FAILED_BELOW, 0.0, indices)


def summary(indices: np.ndarray) -> dict[str, float]:
  """Means over the annotated images: 'jaccard' and 'thresholded_jaccard'.

  Both are nan where no image is annotated.
  """
  known = indices[~np.isnan(indices)]
  if not known.size:
    return {'jaccard': float('nan'), 'thresholded_jaccard': float('nan')}
  return {'jaccard': float(known.mean()),
          'thresholded_jaccard': float(thresholded(known).mean())}
