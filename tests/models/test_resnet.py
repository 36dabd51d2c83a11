"""resnet50 against timm, by arrays that make_trunks.py made."""

import pytest

from tests.models import trunks


@pytest.mark.slow
def test_maps():
  trunks.check_maps('resnet50', 'float32')


@pytest.mark.slow
def test_training_and_gradients(float64):
  trunks.check_gradients('resnet50')
