"""Table 3.4 on phantom images of ISIC 2018 Task 3; `make grid-demo` draws them."""

from configs import demo
from configs import isic2018_cv


def get_config():
  """configs/isic2018_cv.py on the budget of configs/demo.py."""
  config = demo.slim(isic2018_cv.get_config())
  config.num_epochs = 2
  # Phantoms have as many images of the rarest classes as folds need, or more.
  config.oversample_factors = (2, 1, 3, 3, 2, 3, 3)
  return config
