"""A phantom data set, prepared once, and a config that runs on it in seconds."""

import pytest

from attnmel_jax.data import builders
from attnmel_jax.data import phantom
from attnmel_jax.experiments import run as run_lib
from configs import common


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
  """Folder of prepared phantom data: 48 training images, 16 and 20 others."""
  root = tmp_path_factory.mktemp('phantom')
  phantom.write_archives(
      root / 'archives', year=2017,
      counts={'train': 48, 'validation': 16, 'test': 20}, size=60, seed=3,
      artefact_bias={}, workers=1)
  builders.prepare('isic2017', source=root / 'archives', data_dir=root / 'data',
                   crop_ratio=0.8, resize_size=36)
  return root / 'data'


@pytest.fixture(scope='session')
def finished(prepared, tmp_path_factory):
  """Folder and summary of a run of `config` that was left alone."""
  folder = tmp_path_factory.mktemp('run') / 'whole'
  return folder, run_lib.run(_tiny(prepared), folder, quiet=True)


@pytest.fixture
def config(prepared):
  """A plain dict: a sixteenth of the width, 32 pixels, six steps of 16 images."""
  return _tiny(prepared)


def _tiny(prepared):
  tiny = common.get_config()
  tiny.data_dir = str(prepared)
  tiny.roi = 'lesion'
  tiny.resize_size = 36
  tiny.image_size = 32
  tiny.width = 1 / 16
  tiny.gate_width = 8
  tiny.pretrained = ''
  tiny.batch_size = 16
  tiny.num_epochs = 2
  tiny.passes_per_epoch = 1
  tiny.oversample_factors = (1, 1, 1)
  tiny.checkpoint_every_steps = 2
  tiny.bootstrap_draws = 100
  tiny.overlay_images = 2
  return tiny.to_dict()
