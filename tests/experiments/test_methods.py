"""Classifiers and the U-Net offer the same, which of them a config decides."""

import inspect

from attnmel_jax.experiments import classification
from attnmel_jax.experiments import methods
from attnmel_jax.experiments import segmentation
from configs import isic2018_task1


def test_the_model_decides(config):
  assert methods.of(config) is classification
  assert methods.of(isic2018_task1.get_config()) is segmentation


def test_both_methods_offer_what_is_listed_with_the_same_arguments():
  listed = [line.split()[0] for line in methods.__doc__.splitlines()
            if line.startswith('  ') and not line.startswith('   ')][2:]
  assert len(listed) == 14
  for name in listed:
    one, other = (getattr(module, name) for module in (classification, segmentation))
    if callable(one):
      assert (inspect.signature(one).parameters.keys()
              == inspect.signature(other).parameters.keys()), name
