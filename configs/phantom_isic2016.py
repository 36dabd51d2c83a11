"""Table 3.1 on phantom images of ISIC 2016; `make grid-demo` draws them."""

from configs import demo
from configs import isic2016


def get_config():
  """configs/isic2016.py on the budget of configs/demo.py."""
  config = demo.slim(isic2016.get_config())
  config.num_epochs = 2
  config.passes_per_epoch = 1
  return config
