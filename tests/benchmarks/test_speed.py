"""What is timed is a real step, and what is counted agrees with a count by hand."""

import jax
import numpy as np
import pytest

from benchmarks import speed
from configs import common

LIMITS = speed.Limits(steps=3, seconds=0.)


def _slim(**changed):
  return common.get_config().to_dict() | {
      'gate_width': 8, 'image_size': 32, 'resize_size': 36, 'batch_size': 8,
      'backbone': 'two_blocks', 'pretrained': '', 'roi': 'lesion', **changed}


@pytest.fixture(scope='module')
def started(two_blocks):
  """A slim config after its first step, and what that took."""
  # The folder that JAX has already: the tests' own.
  ours = speed.Ours(_slim(), jax.config.jax_compilation_cache_dir, shared=False)
  return ours, ours.start()


def test_training_is_measured_and_a_slow_input_shows(started, monkeypatch):
  ours, first = started
  assert 0 < first['compile_seconds'] < first['first_step_seconds']
  assert first['devices'] == f'{jax.local_device_count()} x cpu'
  before, batch = int(ours._state.step), ours._batch
  cell = ours.train(LIMITS)
  assert int(ours._state.step) == before + 1 + 3  # one to warm up
  step = cell['step_seconds']
  assert 0 < step['lower_quartile'] <= step['median'] <= step['upper_quartile']
  assert step['measurements'] == 3
  assert cell['images_per_second'] == pytest.approx(8 / step['median'])
  assert 0 <= cell['input_wait_share'] < 1
  assert cell['process_peak_bytes'] > 50 * 2**20
  # A CPU has no memory of its own, so the step's temporaries stand for it.
  assert cell['device_peak_bytes'] is None
  assert cell['step_temporary_bytes'] > 8 * 32 * 32 * 4

  class Slow:
    def iterate(self, *, start_step, num_steps):
      for step in range(start_step, num_steps):
        speed.time.sleep(0.2)
        yield step, batch

  monkeypatch.setattr(ours, '_batches', Slow())
  assert ours.train(LIMITS)['input_wait_share'] > 0.5


def test_weights_stay_as_they_are_and_inference_is_measured(started):
  ours, _ = started
  before = jax.device_get(ours._state.params)
  ours.time_steps()
  jax.tree.map(np.testing.assert_array_equal, before,
               jax.device_get(ours._state.params))
  assert max(np.abs(m).max() for m in jax.tree.leaves(ours._state.momentum)) > 0
  inference = ours.infer(LIMITS)
  assert inference['measurements'] == 3
  assert inference['median'] < 1


def test_the_arithmetic_agrees_with_a_count_by_hand(started, monkeypatch):
  ours, _ = started
  # Patches of 8 x 8 x 3 values make 8 channels, 2 x 2 x 8 of these 16; then there are
  # gates of width 8 whose guidance has one position, and the layer of two classes.
  flops = 2 * 16 * 192 * 8 + 2 * 4 * 32 * 16
  for positions, channels in ((16, 8), (4, 16)):
    flops += 2 * 8 * (positions * (channels + 1) + 16)
  flops += 2 * (16 + 8 + 16) * 2
  # Besides products there are ReLU, pooling and normalisation.
  assert 1 < ours.flops_per_step() / (3 * 8 * flops) < 1.5
  monkeypatch.setattr(speed, '_seconds', lambda run, wait, repeats: 0.5)
  # On a CPU 2048 rows, columns and terms: a multiplication and an addition each.
  assert ours.peak_flops_per_second() == 2 * 2048**3 / 0.5


def test_steps_and_predictions_of_pytorch_are_timed(monkeypatch):
  called = []

  class Reference:
    device_type = 'cpu'

    def __init__(self, config, variables, *, device, threads, learning_rate):
      called.append((config, variables, device, learning_rate))

    def __getattr__(self, name):
      return lambda *arguments: called.append((name, *arguments))

  monkeypatch.setattr(speed.torch_reference, 'Reference', Reference)
  torch = speed.Torch('config', 'variables', {'image': 'images'}, backend='cpu')
  assert torch.time_steps() >= 0
  assert torch.time_inference() >= 0
  assert called == [('config', 'variables', 'cpu', 0.), ('step', {'image': 'images'}),
                    ('wait',), ('predict', 'images'), ('wait',)]


def test_noise_makes_batches_for_every_config():
  for changed, expected in (
      ({'roi': 'none'}, 2), ({'roi': 'dermo'}, 2), ({'roi': 'background'}, 2),
      ({'sampler': 'inverse_frequency', 'oversample_factors': ()}, 2),
      ({'batch_size': 100}, 2), ({'positive': (), 'oversample_factors': (1,) * 7}, 7)):
    config = _slim(**changed)
    batches, classes = speed.random_batches(config)
    batch = batches.batch_at(0)
    assert classes == expected
    assert set(batches.labels) == set(range(classes))
    assert batch['image'].shape == (config['batch_size'], 36, 36, 3)
    assert batch['image'].std() > 60
    assert batch['has_roi'].all() == (config['roi'] != 'none')


def test_a_series_ends(monkeypatch):
  ticks = iter(range(100))  # one at the start, one before each from the fourth on
  monkeypatch.setattr(speed.time, 'perf_counter', lambda: next(ticks))
  assert len(speed.series(lambda: 0, speed.Limits(steps=50, seconds=10.))) == 3 + 9
  assert len(speed.series(lambda: 0, speed.Limits(steps=5, seconds=1e9))) == 5
  assert len(speed.series(lambda: 0, speed.Limits(steps=5, seconds=0.))) == 3


def test_quartiles_by_hand():
  assert speed.quartiles([5., 1., 4., 2., 3.]) == {
      'median': 3., 'lower_quartile': 2., 'upper_quartile': 4., 'measurements': 5}
