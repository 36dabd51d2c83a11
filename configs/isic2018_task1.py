"""ISIC 2018 Task 1: photographs with lesion masks, no labels.

  python launch/prepare.py --dataset=isic2018_task1 --source=DIR

Says how its images are prepared; the attributes of Task 2 are in the `dermo` map. No
system trains on it yet: without labels there is nothing for a classifier.
"""

from configs import common


def get_config():
  """The geometry of ISIC 2018 Task 3, for which its masks are made."""
  config = common.get_config()
  config.dataset = 'isic2018_task1'
  config.positive = ()
  config.crop_ratio = 1.0
  config.normalisation = 'isic2018'
  config.sampler = 'none'  # there is no class to balance
  config.passes_per_epoch = 1
  config.validation_fraction = 0.1
  return config
