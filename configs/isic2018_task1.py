"""U-Net on ISIC 2018 Task 1: photographs and lesion masks, no labels.

  python launch/prepare.py --dataset=isic2018_task1 --source=DIR
  python launch/main.py --config=configs/isic2018_task1.py

A tenth of the training images tests, a tenth of the others chooses the checkpoint by
its mean Jaccard index: few users have the masks of the official splits, which
`--config.num_folds=1` uses.

The thesis says only that its U-Net was trained on these images. The recipe is ours:
from scratch, cross entropy and Dice loss, 5,240 steps at batch 16. With momentum 0.9 a
learning rate of 0.1 moves as far as the 0.01 of nnU-Net (Isensee et al. 2021) does with
0.99.
"""

from configs import common


def get_config():
  """The geometry of ISIC 2018 Task 3, for which its masks are made."""
  config = common.get_config()
  config.dataset = 'isic2018_task1'
  config.positive = ()
  config.model = 'unet'
  config.roi = 'lesion'  # the masks that it is trained on
  config.crop_ratio = 1.0
  config.normalisation = 'isic2018'
  config.num_folds = 10
  config.validation_fraction = 0.1
  config.sampler = 'none'  # there is no class to balance

  config.pretrained = ''
  config.batch_size = 16
  config.num_epochs = 40
  config.passes_per_epoch = 1
  config.learning_rate = 0.1
  config.decay_every_epochs = 15
  return config
