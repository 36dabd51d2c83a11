"""One fold of the five-fold cross-validation on ISIC 2018 Task 3 (Table 3.4).

  python launch/main.py --config=configs/isic2018_cv.py --config.fold=3

Fold k of the training images tests; 10 % of the remaining lesions, stratified by
class, choose the checkpoint. All images of a lesion are in one fold; the thesis
divided by image, which config.group_folds=False does. `split.csv` in the run
folder lists which image was what.
"""

from configs import isic2018


def get_config():
  """The recipe of configs/isic2018.py on five folds of its training images."""
  config = isic2018.get_config()
  config.num_folds = 5
  config.validation_fraction = 0.1
  return config
