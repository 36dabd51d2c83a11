"""The finished run of tests/experiments, its data, and the run opened."""

import zipfile

import pytest

from attnmel_jax.share import trained
from tests import two_blocks
from tests.experiments import conftest as experiments

_small_backbone = experiments._small_backbone
prepared = experiments.prepared
finished = experiments.finished


@pytest.fixture(scope='session')
def run(finished):
  """The finished run as the modules of `share` take it."""
  with two_blocks.added():
    opened, = trained.open_runs([finished[0]], tta=None)
  return opened


@pytest.fixture(scope='session')
def originals(prepared, built_once):
  """The photographs that the test split was prepared from, with their superpixels."""
  def build(folder):
    with zipfile.ZipFile(
        prepared.parent / 'archives' / 'ISIC-2017_Test_v2_Data.zip') as archive:
      archive.extractall(folder)

  return built_once('phantom-2017-photographs', build)
