"""Phantom data, prepared once, and finished runs on it; tests/share uses them too.

Classifiers stand on the backbone of tests/two_blocks.py; `PixelNet` is the U-Net.
"""

from typing import Any

from flax import linen as nn
import pytest

from attnmel_jax.data import prepare
from attnmel_jax.experiments import run as run_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.models import layers
from attnmel_jax.models import unet
from attnmel_jax.phantom import generate
from configs import common
from configs import isic2018_task1
from tests import two_blocks as two_blocks_lib


@pytest.fixture(scope='module', autouse=True)
def _small_backbone(two_blocks):
  """Configs may name it."""


@pytest.fixture(scope='session')
def prepared(built_once):
  """Folder of prepared phantom data: 48 training images, 16 and 20 others."""
  def build(root):
    generate.write_archives(
        root / 'archives', year=2017,
        counts={'train': 48, 'validation': 16, 'test': 20}, size=60, seed=3,
        artefact_bias={}, workers=1)
    prepare.from_archives(
        'isic2017', source=root / 'archives', data_dir=root / 'data',
        crop_ratio=0.8, resize_size=36)

  return built_once('phantom-2017', build) / 'data'


@pytest.fixture(scope='session')
def finished(prepared, built_once):
  """Folder and summary of a run of `config` that was left alone."""
  def build(root):
    with two_blocks_lib.added():
      run_lib.run(_tiny(prepared), root / 'whole', quiet=True)

  folder = built_once('finished-run', build) / 'whole'
  with two_blocks_lib.added():
    return folder, run_folder.read_summary(folder)


@pytest.fixture
def config(prepared):
  """A plain dict: 32 pixels, six steps of 16 images."""
  return _tiny(prepared)


def _tiny(prepared):
  tiny = common.get_config()
  tiny.data_dir = str(prepared)
  tiny.roi = 'lesion'
  tiny.resize_size = 36
  tiny.image_size = 32
  tiny.backbone = 'two_blocks_bn'
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


class PixelNet(nn.Module):
  """Sees every pixel by itself; with the fields, the inputs and outputs of a U-Net."""

  depth: int
  width: float
  dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, images, *, train, example_keys=None):
    x = layers.BatchNorm(self.axis_name, name='bn')(images, train=train)
    return nn.Dense(1, name='logit')(x)[..., 0], {'attention': {}, 'features': {}}


@pytest.fixture(scope='module')
def pixel_net():
  """U-Nets are a `PixelNet`; gives the config of one on a folder."""
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(unet, 'UNet', PixelNet)
    yield _tiny_unet


@pytest.fixture(scope='session')
def segmented(built_once):
  """Folder and summary of a U-Net's run, and its data, with those of Task 3.

  40 images of Task 1; 63, 14 and 14 of Task 3, of which training alone has masks.
  """
  def build(root):
    generate.write_archives(
        root / 'archives', year=2018,
        counts={'train': 63, 'validation': 14, 'test': 14, 'segmentation': 40}, size=48,
        seed=7, artefact_bias={}, workers=1)
    for dataset in ('isic2018', 'isic2018_task1'):
      prepare.from_archives(
          dataset, source=root / 'archives', data_dir=root / 'data',
          crop_ratio=1.0, resize_size=36)
    with pytest.MonkeyPatch.context() as patched:
      patched.setattr(unet, 'UNet', PixelNet)
      run_lib.run(_tiny_unet(root / 'data'), root / 'run', quiet=True)

  root = built_once('segmented', build)
  return root / 'run', run_folder.read_summary(root / 'run'), root / 'data'


@pytest.fixture(scope='module')
def segmenter(segmented, pixel_net):
  """`segmented`, where U-Nets are as small as it."""
  del pixel_net
  return segmented


def _tiny_unet(data):
  """27, 3 and 10 images, six steps of 8."""
  tiny = isic2018_task1.get_config()
  tiny.data_dir = str(data)
  tiny.resize_size = 36
  tiny.image_size = 32
  tiny.num_folds = 4
  tiny.batch_size = 8
  tiny.num_epochs = 2
  tiny.checkpoint_every_steps = 2
  tiny.bootstrap_draws = 100
  tiny.overlay_images = 2
  return tiny.to_dict()
