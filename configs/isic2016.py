"""AttnMel-CNN on ISIC 2016: malignant against benign (thesis, Table 3.1).

  python launch/main.py --config=configs/isic2016.py --config.roi=lesion

The released code's recipe: 1419 rows, 11,000 steps at batch 32. There is no
validation set: the last epoch is used, and the threshold is 0.5. Published test
scores, AP / AUC: AttnMel-CNN .693 / .852, Mel-CNN .664 / .844.
"""

from configs import common


def get_config():
  """Malignant rows count four times; five passes are an epoch."""
  config = common.get_config()
  config.dataset = 'isic2016'
  config.positive = ('malignant',)
  config.normalisation = 'isic2016'
  config.validation_fraction = 0.0  # above 0: that share chooses the checkpoint
  config.oversample_factors = (1, 4)
  config.passes_per_epoch = 5
  return config
