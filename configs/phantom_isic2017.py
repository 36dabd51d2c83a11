"""Table 3.2 on phantom images of ISIC 2017; `make grid-demo` draws them."""

from configs import demo
from configs import isic2017


def get_config():
  """configs/isic2017.py on the budget of configs/demo.py."""
  config = demo.slim(isic2017.get_config())
  config.num_epochs = 2
  config.passes_per_epoch = 1
  return config
