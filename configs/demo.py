"""The main job on synthetic data in a minute or two on a laptop's CPU.

  make demo
  python launch/main.py --config=configs/demo.py --workdir=DIR   # after make demo

A slim AttnMel-CNN learns from scratch from a few hundred phantom images of 64
pixels. Everything that departs from the thesis is stated here.
"""

import pathlib

from configs import common


def get_config():
  """AttnMel-CNN-Lesion at a quarter of the width, on the data of `make demo`."""
  config = slim(common.get_config())
  config.roi = 'lesion'
  config.num_epochs = 4
  config.passes_per_epoch = 2
  return config


def slim(config):
  """Changes a config to small images, a slim network and a few steps, for phantoms."""
  config.data_dir = str(pathlib.Path(__file__).resolve().parents[1] / 'demo' / 'data')
  config.resize_size = 72
  config.image_size = 64

  config.width = 0.25
  config.gate_width = 64
  config.pretrained = ''  # nothing to download

  # A few hundred steps from scratch ask for a faster start and a stronger pull
  # than the thesis's 0.001 and 0.01, which work over 9,700 steps.
  config.dice_weights = (0.1, 1.0)
  config.learning_rate = 0.02
  config.decay_every_epochs = 3
  return config
