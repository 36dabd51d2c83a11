"""AttnMel-CNN on ISIC 2018 Task 3: seven classes (thesis, Table 3.4).

  python launch/main.py --config=configs/isic2018.py --config.roi=lesion

The released code's recipe, on the official split: the validation and test sets
are used where they are prepared; else 10 % of the training lesions choose the
checkpoint. `configs/isic2018_cv.py` runs the cross-validation of the thesis.
"""

from configs import common


def get_config():
  """Classes MEL, NV, BCC, AKIEC, BKL, DF, VASC; the whole central square."""
  config = common.get_config()
  config.dataset = 'isic2018'
  config.positive = ()
  config.crop_ratio = 1.0
  config.normalisation = 'isic2018'
  # 46,543 rows; sampler='inverse_frequency' instead draws with weight 1/p.
  config.oversample_factors = (6, 1, 13, 20, 6, 58, 47)
  config.passes_per_epoch = 1
  return config
