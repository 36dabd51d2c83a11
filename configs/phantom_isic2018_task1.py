"""U-Net on phantom images of ISIC 2018 Task 1; `make grid-demo` draws them."""

from configs import demo
from configs import isic2018_task1


def get_config():
  """configs/isic2018_task1.py on the budget of configs/demo.py, at its own rate."""
  config = isic2018_task1.get_config()
  learning_rate = config.learning_rate
  config = demo.slim(config)
  config.learning_rate = learning_rate
  config.num_epochs = 8
  config.decay_every_epochs = 6
  return config
