"""The device axis; several devices are in training/test_step.py."""

import os
import pathlib
import subprocess
import sys

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import parallel


def test_shard_splits_in_order_and_unshard_joins(monkeypatch):
  monkeypatch.setattr(jax, 'local_device_count', lambda: 3)
  batch = {'image': np.arange(24).reshape(6, 2, 2), 'label': np.arange(6)}
  shares = parallel.shard(batch)
  # Position in the global batch: device * share + i.
  np.testing.assert_array_equal(shares['label'], [[0, 1], [2, 3], [4, 5]])
  jax.tree.map(np.testing.assert_array_equal, parallel.unshard(shares), batch)


def test_batch_size_has_to_divide_among_the_devices(monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: 4)
  parallel.check_batch_size(32, accumulate_steps=1)
  parallel.check_batch_size(32, accumulate_steps=8)
  with pytest.raises(errors.UserError, match='batch_size=30 .* 4 devices'):
    parallel.check_batch_size(30, accumulate_steps=1)
  with pytest.raises(errors.UserError, match='accumulate_steps=16 .* 8 images'):
    parallel.check_batch_size(32, accumulate_steps=16)


def test_update_donates_the_state_and_apply_keeps_it():
  def step(state, batch, hyper):
    total = jax.lax.psum(jnp.sum(batch), parallel.AXIS)
    return state + hyper * total, {'total': total}

  state, spare = (parallel.replicated(jnp.zeros((3,))) for _ in range(2))
  batch = np.arange(4 * jax.local_device_count(), dtype=np.float32)
  after, metrics = parallel.update(step)(state, parallel.shard(batch), np.float32(2))
  assert after.sharding == spare.sharding
  np.testing.assert_array_equal(after, np.full(3, 2 * batch.sum()))
  assert metrics['total'].shape == ()
  assert state.is_deleted()

  apply = parallel.apply(lambda variables, batch: {'y': variables[0] + batch})
  outputs = parallel.unshard(apply(spare, parallel.shard(batch)))
  np.testing.assert_array_equal(outputs['y'], batch)
  assert not spare.is_deleted()


@pytest.fixture
def cache():
  """The folder of compilations is restored after the test."""
  before = jax.config.jax_compilation_cache_dir
  yield lambda folder: jax.config.update('jax_compilation_cache_dir', folder)
  jax.config.update('jax_compilation_cache_dir', before)


def test_compilations_are_cached_where_the_environment_says(
    cache, monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  for before, after in ((None, str(tmp_path / 'attnmel_jax/xla')),
                        ('elsewhere', 'elsewhere')):
    cache(before)
    parallel.configure_compiler()
    assert jax.config.jax_compilation_cache_dir == after


def test_without_a_home_nothing_is_cached(cache, monkeypatch):
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setenv('HOME', '~nobody_at_all')
  cache(None)
  parallel.configure_compiler()
  assert jax.config.jax_compilation_cache_dir is None


def test_devices_that_are_not_here_are_a_mistake(monkeypatch):
  def none():
    raise AssertionError  # as JAX does for want of an NVIDIA GPU

  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  monkeypatch.setattr(jax, 'local_devices', none)
  with pytest.raises(errors.UserError, match='^JAX_PLATFORMS=cuda: no such device'):
    parallel.check_devices()


def test_kernels_of_the_cpu_are_chosen_once_and_a_choice_of_the_user_stands(
    monkeypatch):
  two, ours = ('--xla_force_host_platform_device_count=2',
               '--xla_cpu_experimental_ynn_fusion_type=')
  for before, after in ((two, f'{two} {ours}'), (f'{two} {ours}', f'{two} {ours}'),
                        (f'{ours}LIBRARY_FUSION_TYPE_DOT',) * 2):
    monkeypatch.setenv('XLA_FLAGS', before)
    parallel.configure_compiler()
    assert os.environ['XLA_FLAGS'] == after


def test_parts_cover_the_batch_and_are_joined_in_its_order(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 3)
  batches = [np.arange(12), np.arange(12, 24)]  # two batches of 12 positions
  parts = []
  for process in range(3):
    monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
    part = parallel.batch_part(12)
    parts.append(np.concatenate([batch[part] for batch in batches]))
  monkeypatch.setattr(
      multihost_utils, 'process_allgather', lambda x: np.stack(parts))
  joined = parallel.gather_batches({'x': parts[0]}, 4)['x']
  np.testing.assert_array_equal(joined, np.arange(24))


def test_a_mistake_of_the_main_process_is_raised_in_all(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  sent = []
  monkeypatch.setattr(multihost_utils, 'broadcast_one_to_all',
                      lambda x: sent.append(x) or x)

  def fail():
    raise errors.UserError('no such folder')

  with pytest.raises(errors.UserError, match='no such folder'):
    parallel.from_main(fail)
  received = iter(sent)
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  monkeypatch.setattr(multihost_utils, 'broadcast_one_to_all',
                      lambda x: next(received))
  with pytest.raises(errors.UserError, match='no such folder'):
    parallel.from_main(lambda: pytest.fail('the main process alone calls it'))


@pytest.mark.parametrize(('raised', 'elsewhere', 'said'), [
    (False, True, 'another process of the run cannot start'),
    (True, True, 'no data here'), (False, False, None)])
def test_a_mistake_of_one_process_ends_all(monkeypatch, raised, elsewhere, said):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(multihost_utils, 'process_allgather',
                      lambda flag: np.array([flag, elsewhere]))

  def produce():
    if raised:
      raise errors.UserError('no data here')
    return 'data'

  if said is None:
    assert parallel.in_every_process(produce) == 'data'
  else:
    with pytest.raises(errors.UserError, match=said):
      parallel.in_every_process(produce)


STARTED_BY_SLURM = """
import signal
import jax
from attnmel_jax import parallel
ended = lambda signum, frame: print('SIGTERM is ours')
signal.signal(signal.SIGTERM, ended)
parallel.start_processes(None, None, None)
signal.raise_signal(signal.SIGTERM)
print(jax.config._read('jax_cuda_visible_devices'))
"""


@pytest.mark.parametrize(('changed', 'visible'), [
    ({'JAX_LOCAL_DEVICE_IDS': '0,2'}, '0,2'),
    pytest.param({}, 'all', marks=pytest.mark.slow),
    pytest.param({'SLURM_STEP_NUM_NODES': '2'}, '0', marks=pytest.mark.slow)])
def test_one_process_a_host_has_all_its_gpus_under_slurm(changed, visible):
  slurm = {'SLURM_JOB_ID': str(os.getpid()), 'SLURM_STEP_NODELIST': 'localhost',
           'SLURM_STEP_NUM_NODES': '1', 'SLURM_NTASKS': '1', 'SLURM_PROCID': '0',
           'SLURM_LOCALID': '0'}
  process = subprocess.run(
      [sys.executable, '-c', STARTED_BY_SLURM], check=False, text=True, timeout=100,
      cwd=pathlib.Path(__file__).parents[1], capture_output=True,
      env={**os.environ, **slurm, **changed, 'JAX_PLATFORMS': 'cpu'})
  assert process.stdout.split('\n')[:2] == ['SIGTERM is ours', visible], process.stderr
