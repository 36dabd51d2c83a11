"""What several devices add up, from hand-written programs and from real ones."""

import contextlib
import types

import pytest

from attnmel_jax.experiments import build
from benchmarks import apart
from benchmarks import matrix
from benchmarks import scaling
from benchmarks import speed
from configs import isic2017
from tests import two_blocks as two_blocks_lib

PROGRAM = '''
  %all-reduce.1 = f32[3,64]{1,0} all-reduce(%x), channel_id=1, to_apply=%add
  %sums = (f32[], bf16[10]{0}, f64[2,2]{1,0}) all-reduce(%a, %b, %c), channel_id=2
  %started = f32[5]{0} all-reduce-start(%y), channel_id=3
  %done = f32[5]{0} all-reduce-done(%started)
  %other = f32[7]{0} add(%all-reduce.1, %x)
'''


def test_all_reduces_are_counted_with_their_bytes():
  assert scaling.all_reduces(PROGRAM) == (3, 3 * 64 * 4 + 4 + 20 + 32 + 20)
  assert scaling.all_reduces('%x = f32[2]{0} add(%y, %z)') == (0, 0)


def test_table_compares_with_one_device():
  rows = [{'scaling': kind, 'devices': devices, 'batch_size': 4,
           'step_seconds': {'median': 0.5}, 'images_per_second': rate,
           'all_reduces': 3, 'all_reduced_bytes': 2_000_000}
          for kind, devices, rate in
          (('weak', 1, 10.), ('weak', 2, 8.), ('strong', 1, 20.), ('strong', 2, 15.))]
  lines = scaling.table(rows)
  assert [line.split()[5] for line in lines[1:5]] == ['100%', '80%', '100%', '75%']
  assert 'overhead' in lines[-1]


class _TwoBlocks(scaling.Scaled):
  """The same in a process that knows the backbone of the tests."""

  def __init__(self, *args):
    two_blocks_lib.add(pytest.MonkeyPatch())
    super().__init__(*args)


@pytest.mark.slow
@pytest.mark.usefixtures('two_blocks')
def test_two_devices_add_up_every_gradient(tmp_path):
  config = matrix.without_data(matrix.quick(isic2017.get_config().to_dict())) | {
      'image_size': 32, 'resize_size': 36, 'backbone': 'two_blocks', 'roi': 'lesion'}
  with apart.Process(_TwoBlocks, config, 2, str(tmp_path)) as process:
    row = process.call('measure', speed.Limits(speed.FEWEST, 0.))
  parameters = build.count_parameters(
      build.variable_shapes(config, 2)['params'])
  # Gradients, a Dice sum or two a map, and the terms of the loss.
  assert 4 * parameters < row['all_reduced_bytes'] < 4 * parameters + 200


def test_scaling_is_weak_and_strong_at_every_number_of_devices(monkeypatch):
  @contextlib.contextmanager
  def process(cls, config, devices, cache):
    assert cls is scaling.Scaled
    yield types.SimpleNamespace(call=lambda method, limits: {
        'said': (method, limits, config['batch_size'], devices)})

  monkeypatch.setattr(apart, 'Process', process)
  rows = scaling.measure({}, 'limits', say=lambda _: None)
  assert [(row['scaling'], row['devices'], row['batch_size']) for row in rows] == [
      *(('weak', n, 4 * n) for n in (1, 2, 4, 8)),
      *(('strong', n, 32) for n in (1, 2, 4, 8))]
  for row in rows:
    assert row['said'] == ('measure', 'limits', row['batch_size'], row['devices'])
