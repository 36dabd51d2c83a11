"""AttnMel-CNN-Lesion on ISIC 2017 on one GPU or TPU: the recipe in bfloat16.

  python launch/accelerator.py --source=DIR --weights=FILE

The released code's recipe: 9,700 steps at batch 32, 224 pixels. Aimed at under two
minutes of steps on one H100.
"""

from configs import common


def get_config():
  """Computes in bfloat16, and asks the device for numbers once a pass."""
  config = common.get_config()
  config.roi = 'lesion'
  config.dtype = 'bfloat16'

  # Every wait for numbers, and every checkpoint, leaves the device idle.
  config.log_every_steps = 97
  config.checkpoint_every_steps = 9700  # besides the end of each epoch
  return config
