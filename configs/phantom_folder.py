"""configs/folder.py on the synthetic photographs of docs/tutorial.md, in a minute."""

from configs import demo
from configs import folder


def get_config():
  """The budget of configs/demo.py, melanoma against the rest."""
  config = demo.slim(folder.get_config())
  config.data_dir = ''  # --data_dir of launch/prepare.py, as for real photographs
  config.positive = ('melanoma',)
  config.num_epochs = 4
  config.min_steps = 0
  return config
