"""What classifiers and the U-Net do each in their own way.

  method = methods.of(config)
  predictions = method.predict(config, step, variables, batches)

A method is a module with these names, alike in their arguments:

  LEARNS_MASKS      whether lesion masks are what it predicts
  task_labels       prepared split -> the task's labels and class names
  check_labels      refuses training images that it cannot learn from
  check_validation  refuses validation images that could not choose a checkpoint
  check_scored      refuses images that it could not be scored by
  create_model      config -> Flax module, which returns logits, out
  loss              what training minimises, a `losses.Loss`
  take              what predictions keep of logits, out
  predict           step, variables, batches -> predictions
  title             first line of the plan
  selection_score   validation predictions -> name and value of the score that chooses
                    the checkpoint
  decisions         validation predictions, or None -> `threshold` and `temperature`,
                    which go with every test
  report            writes the files of a part, returns its scores
  draw              writes a picture of the maps, where there is something to show
"""

from collections.abc import Mapping
import types
from typing import Any

from attnmel_jax import config as config_lib
from attnmel_jax.experiments import classification
from attnmel_jax.experiments import segmentation

_METHODS = dict.fromkeys(config_lib.CLASSIFIERS, classification) | {
    'unet': segmentation}


def of(config: Mapping[str, Any]) -> types.ModuleType:
  """The method of the config's model."""
  return _METHODS[config['model']]
