"""Checkpoints that come back bit by bit, and those that a kill cut short."""

import math
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.training import checkpoint
from attnmel_jax.training import state as state_lib

TX = state_lib.optimiser(momentum=0.9, nesterov=True)


def _state(step):
  rng = np.random.default_rng(step)
  state = state_lib.create(
      {'params': {'dense': {'kernel': rng.normal(size=(3, 2)).astype(np.float32)}},
       'batch_stats': {'mean': rng.normal(size=2).astype(np.float32)}}, TX)
  return parallel.replicated(state.replace(
      step=jnp.int32(step),
      momentum=jax.tree.map(lambda x: x + rng.normal(), state.momentum)))


def _steps(folder: pathlib.Path):
  return sorted(path.name for path in folder.iterdir())


def _assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    assert x.sharding == y.sharding
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize('score', [-math.inf, 0.1 + 0.2])
def test_a_state_comes_back_bit_by_bit(tmp_path, score):
  state = _state(7)
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    checkpoints.save_latest(state, {'best_score': score})
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    assert checkpoints.latest_step() == 7
    # A template of shapes: nothing has to be computed to resume.
    shapes = jax.eval_shape(lambda: _state(7))
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=state.step.sharding),
        shapes)
    for like in (_state(0), shapes):
      restored, meta = checkpoints.restore_latest(like)
      _assert_same(restored, state)
      assert meta == {'best_score': score}


def test_float64_comes_back_bit_by_bit(tmp_path, float64):
  state = _state(3)
  state = state.replace(params=parallel.replicated({'w': jnp.asarray(np.pi)}))
  assert state.params['w'].dtype == np.float64
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    checkpoints.save_latest(state, {})
    _assert_same(checkpoints.restore_latest(state)[0], state)


def test_the_latest_two_states_and_the_best_variables_are_kept(tmp_path):
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    assert checkpoints.latest_step() is None
    for step in (2, 4, 6):
      checkpoints.save_latest(_state(step), {'best_score': step})
    assert checkpoints.latest_step() == 6
    for step in (2, 4):
      checkpoints.save_best(_state(step), {'step': step})
    restored, meta = checkpoints.restore_best(_state(0).variables())
  _assert_same(restored, _state(4).variables())
  assert meta == {'step': 4}
  assert _steps(tmp_path / 'latest') == ['4', '6']
  assert _steps(tmp_path / 'best') == ['4']


def test_latest_at_a_saved_step_stays(tmp_path):
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    checkpoints.save_latest(_state(2), {'best_score': 1})
    checkpoints.save_latest(_state(2), {'best_score': 2})
    assert checkpoints.restore_latest(_state(0))[1] == {'best_score': 1}
    with pytest.raises(RuntimeError, match='step 1 was not saved'):
      checkpoints.save_latest(_state(1), {})


def test_best_from_beyond_the_resumed_state_is_replaced(tmp_path):
  # A kill between the two saves leaves a best step that is ahead of the latest.
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    checkpoints.save_best(_state(4), {'score': 0.5})
    for step in (4, 3):
      checkpoints.save_best(_state(step), {'score': 0.6})
      assert checkpoints.restore_best(_state(0).variables())[1] == {'score': 0.6}
      assert _steps(tmp_path / 'best') == [str(step)]


def test_without_a_best_there_is_nothing_to_restore(tmp_path):
  with (checkpoint.Checkpoints(tmp_path, create=True) as checkpoints,
        pytest.raises(FileNotFoundError, match='best')):
    checkpoints.restore_best(_state(0).variables())


KILLED_WHILE_SAVING = '''
import os, pathlib, sys
from attnmel_jax.training import checkpoint
from tests.training import test_checkpoint

class Meta(dict):
  def items(self):  # read while the step is being written
    os._exit(9)

with checkpoint.Checkpoints(pathlib.Path(sys.argv[1]), create=True) as checkpoints:
  checkpoints.save_latest(test_checkpoint._state(2), {'best_score': 1})
  checkpoints.save_latest(test_checkpoint._state(4), Meta(best_score=1))
'''


def test_half_written_steps_are_not_taken_for_whole(tmp_path):
  killed = subprocess.run([sys.executable, '-c', KILLED_WHILE_SAVING, tmp_path],
                          cwd=pathlib.Path(__file__).parents[2], check=False)
  assert killed.returncode == 9
  assert len(_steps(tmp_path / 'latest')) == 2  # the remains of the second
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    assert checkpoints.latest_step() == 2
    _assert_same(checkpoints.restore_latest(_state(0))[0], _state(2))
    assert _steps(tmp_path / 'latest') == ['2']
    checkpoints.save_latest(_state(4), {'best_score': 1})
    _assert_same(checkpoints.restore_latest(_state(0))[0], _state(4))


def test_a_damaged_checkpoint_is_named(tmp_path):
  state = _state(3)
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    checkpoints.save_best(state, {'step': 3})
  for path in (tmp_path / 'best').rglob('*'):
    if path.is_file() and path.stat().st_size > 10:
      path.write_bytes(path.read_bytes()[:10])
  with (checkpoint.Checkpoints(tmp_path, create=False) as checkpoints,
        pytest.raises(errors.UserError, match='cannot be read')):
    checkpoints.restore_best(state.variables())


def test_reading_makes_no_folder(tmp_path):
  with pytest.raises(errors.UserError, match='holds no best checkpoint'):
    checkpoint.Checkpoints(tmp_path / 'run', create=False)
  assert not (tmp_path / 'run').exists()
