"""AttnMel-CNN on your own photographs: a table and a folder, any classes.

  python launch/prepare.py --dataset=folder --source=DIR --table=DIR/labels.csv
  python launch/main.py --config=configs/folder.py --config.roi=lesion

A run has at least 1000 steps, however few the photographs. With
`--config.positive="('melanoma',)"` one class stands against the others. Without
validation images 10 % of the training groups choose the checkpoint. Without test images
nothing is tested, unless `--config.num_folds=5 --config.fold=0` makes a fold of the
training images the test set.
"""

from configs import common


def get_config():
  """All classes, drawn equally often; normalised with the statistics of ImageNet."""
  config = common.get_config()
  config.dataset = 'folder'
  config.positive = ()
  config.normalisation = 'imagenet'
  config.sampler = 'inverse_frequency'
  config.passes_per_epoch = 1
  config.min_steps = 1000  # 60 photographs would give 50 steps, one an epoch
  return config
