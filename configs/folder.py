"""AttnMel-CNN on one's own photographs: a table and a folder, any classes.

  python launch/prepare.py --dataset=folder --source=DIR --table=DIR/labels.csv
  python launch/main.py --config=configs/folder.py --config.roi=lesion

With `--config.positive="('melanoma',)"` one class stands against the others. Without
validation images 10 % of the training groups choose the checkpoint; without test
images nothing is tested, unless `--config.num_folds=5 --config.fold=0` says which
part of the training images does.
"""

from configs import common


def get_config():
  """Classes apart, drawn equally often; statistics of no data set in particular."""
  config = common.get_config()
  config.dataset = 'folder'
  config.positive = ()
  config.normalisation = 'imagenet'
  config.sampler = 'inverse_frequency'
  config.passes_per_epoch = 1
  return config
