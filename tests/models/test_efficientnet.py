"""efficientnet_lite0 against timm, by arrays that make_trunks.py made."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import files
from attnmel_jax import images
from attnmel_jax.models import backbones
from attnmel_jax.models import classifiers
from attnmel_jax.models import pretrained
from tests.models import trunk_inputs as inputs
from tests.models import trunks


@pytest.mark.slow
def test_maps():
  trunks.check_maps('efficientnet_lite0', 'float32')


@pytest.mark.slow
def test_training_and_gradients(float64):
  trunks.check_gradients('efficientnet_lite0')


@pytest.mark.slow
def test_the_published_weights_give_the_maps_of_timm():
  url = backbones.find('efficientnet_lite0').safetensors
  path = (files.cache_dir() or pathlib.Path()) / f'{url.split("/")[-4]}.safetensors'
  if not path.exists():
    pytest.skip(f'{path} is absent: pretrained=imagenet downloads it')
  model = classifiers.create(
      'vgg16_gap', num_classes=2, backbone='efficientnet_lite0', width=1., taps=(),
      gate_width=256, gate_norm='sigmoid', dropout_rate=0., dtype='float32',
      axis_name=None, remat=False)
  image = images.normalise(jnp.asarray(inputs.picture())[None], 'inception')
  variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(image)
  variables, _ = pretrained.apply_weights(
      variables, pretrained.load_file(path), backbone='efficientnet_lite0')
  _, out = jax.jit(lambda x: model.apply(variables, x, train=False))(image)
  golden = np.load(inputs.FOLDER / 'lite0_imagenet.npz')
  for pool, values in out['features'].items():
    trunks.check(np.asarray(values).transpose(0, 3, 1, 2), golden[pool], pool)
