"""Checkpoints that come back bit by bit, and those that a kill cut short."""

import contextlib
import errno
import hashlib
import json
import math
import pathlib
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
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


def test_a_state_comes_back_bit_by_bit(tmp_path, float64):
  state, meta = _state(7), {'best_score': -math.inf, 'auc': 0.1 + 0.2}
  state = state.replace(params={
      **state.params, 'wide': parallel.replicated(jnp.asarray(np.pi))})
  assert state.params['wide'].dtype == np.float64
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    checkpoints.save_latest(state, meta)
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    assert checkpoints.latest_step() == 7
    # A template of shapes: nothing has to be computed to resume.
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=x.sharding), state)
    for like in (jax.tree.map(lambda x: 0 * x, state), shapes):
      restored = checkpoints.restore_latest(like)
      _assert_same(restored[0], state)
      assert restored[1] == meta


def test_the_latest_two_states_and_the_best_variables_are_kept(tmp_path):
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    assert checkpoints.latest_step() is None
    with pytest.raises(FileNotFoundError, match='best'):
      checkpoints.restore_best(_state(0).variables())
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


@pytest.fixture
def saved(tmp_path):
  """Checkpoints of steps 2 and 4, the best of step 2."""
  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    checkpoints.save_latest(_state(2), {'best_score': 0.5})
    checkpoints.save_best(_state(2), {'step': 2})
    checkpoints.save_latest(_state(4), {'best_score': 0.5})
  return tmp_path


def _flip(path: pathlib.Path) -> None:
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def _largest(folder: pathlib.Path) -> pathlib.Path:
  """The file that holds the arrays."""
  return max((p for p in (folder / 'tree').rglob('*') if p.is_file()),
             key=lambda p: p.stat().st_size)


@pytest.mark.parametrize('damaged', [False, True])
def test_best_from_beyond_the_resumed_state_is_replaced(saved, damaged):
  """A kill between the two saves leaves a best step that is ahead of the latest."""
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    checkpoints.save_best(_state(5), {'step': 5})
  if damaged:
    _flip(_largest(saved / 'best' / '5'))
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    assert int(checkpoints.restore_latest(_state(0))[0].step) == 4
    for step in (5, 4):
      checkpoints.save_best(_state(step), {'again': step})
      restored, meta = checkpoints.restore_best(_state(0).variables())
      _assert_same(restored, _state(step).variables())
      assert meta == {'again': step}
      assert _steps(saved / 'best') == [str(step)]


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


def test_what_orbax_cannot_read_is_named(saved):
  folder = saved / 'best' / '2'
  (folder / checkpoint.MANIFEST).unlink()  # else it is seen before
  for path in folder.rglob('*'):
    if path.is_file() and path.stat().st_size > 10:
      path.write_bytes(path.read_bytes()[:10])
  with (checkpoint.Checkpoints(saved, create=False) as checkpoints,
        pytest.raises(errors.UserError, match='best/2 cannot be read')):
    checkpoints.restore_best(_state(0).variables())


def test_reading_makes_no_folder(tmp_path):
  with pytest.raises(errors.UserError, match='holds no best checkpoint'):
    checkpoint.Checkpoints(tmp_path / 'run', create=False)
  assert not (tmp_path / 'run').exists()


def test_a_damaged_newest_state_is_left_for_the_one_before(saved, capsys):
  _flip(_largest(saved / 'latest' / '4'))
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    assert checkpoints.latest_step() == 2
    state, meta = checkpoints.restore_latest(_state(0))
    _assert_same(state, _state(2))
    assert meta == {'best_score': 0.5}
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f'warning: checkpoint {saved}/latest/4 is not whole (tree/')
    assert line.endswith(' has another sha256); resuming from step 2')
    checkpoints.save_latest(_state(4), {'best_score': 0.7})
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    state, meta = checkpoints.restore_latest(_state(0))
    _assert_same(state, _state(4))
    assert meta == {'best_score': 0.7}
  assert not capsys.readouterr().err


def test_the_manifest_is_the_sha256sum_of_the_files(saved):
  folder = saved / 'latest' / '4'
  manifest = json.loads((folder / checkpoint.MANIFEST).read_text())
  assert manifest == {
      str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
      for path in folder.rglob('*')
      if path.is_file() and path.name != checkpoint.MANIFEST}
  assert len(manifest) > 5


def test_any_change_of_a_file_is_found(saved, capsys):
  folder = saved / 'latest' / '4'
  files = sorted(p for p in folder.rglob('*') if p.is_file())
  manifest, arrays = folder / checkpoint.MANIFEST, _largest(folder)
  changes = [
      (manifest, 'cannot be read', lambda content: content[:20]),
      (manifest, 'cannot be read', lambda content: b'\xff'),
      (manifest, 'cannot be read', lambda content: b'[]'),
      (manifest, 'was added', lambda content: b'{}'),
      (arrays, 'has another sha256', lambda content: content[:-1]),
      (arrays, 'is missing', lambda content: None),
      (folder / 'other', 'other was added', lambda content: b'')]
  for path in files:
    for bit in (0, 8 * path.stat().st_size - 1) if path.stat().st_size else ():
      def flip(content, bit=bit):
        content = bytearray(content)
        content[bit // 8] ^= 1 << bit % 8
        return content
      changes.append((path, '' if path == manifest else 'has another sha256', flip))
  with checkpoint.Checkpoints(saved, create=False) as checkpoints:
    for path, expected, change in changes:
      content = path.read_bytes() if path.exists() else None
      changed = change(content)
      if changed is None:
        path.unlink()
      else:
        path.write_bytes(changed)
      assert checkpoints.latest_step() == 2, path
      assert expected in capsys.readouterr().err
      path.unlink(missing_ok=True)
      if content is not None:
        path.write_bytes(content)
    (folder / f'.{checkpoint.MANIFEST}.17.tmp').touch()  # a kill left it
    assert checkpoints.latest_step() == 4


def test_another_network_than_the_configs_is_named(saved):
  """Orbax gives what lies there, whatever shape was asked for."""
  other = _state(0).replace(batch_stats={'mean': jnp.zeros(3)})
  with (checkpoint.Checkpoints(saved, create=False) as checkpoints,
        pytest.raises(errors.UserError, match=(
            r"of another network than the config: .*\['mean'\] is \(2,\) instead of"))):
    checkpoints.restore_latest(other)


def test_all_states_damaged_are_one_line(saved):
  for step in (2, 4):
    _flip(_largest(saved / 'latest' / str(step)))
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    for call in (checkpoints.latest_step,
                 lambda: checkpoints.restore_latest(_state(0))):
      with pytest.raises(errors.UserError, match=(
          r'^all checkpoints in .*/latest are damaged \(4: tree/.* has another sha256; '
          rf'2: tree/.*delete {saved} and the same command starts over$')):
        call()
  assert _steps(saved / 'latest') == ['2', '4']  # nothing is thrown away


def test_a_damaged_best_is_reported_before_the_steps_that_are_left(saved):
  _flip(_largest(saved / 'best' / '2'))
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    assert checkpoints.latest_step() == 4
    for call in (lambda: checkpoints.restore_best(_state(0).variables()),
                 lambda: checkpoints.restore_latest(_state(0))):
      with pytest.raises(errors.UserError, match=(
          'the best checkpoint .*/best/2 is damaged .*'
          f'delete {saved} and the summary.json beside it')):
        call()


def test_a_state_whose_save_was_cut_short_is_left_for_a_whole_one(saved, capsys):
  (saved / 'latest' / '4' / checkpoint.MANIFEST).unlink()
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    assert checkpoints.latest_step() == 2
  assert 'saving it was cut short' in capsys.readouterr().err
  assert _steps(saved / 'latest') == ['2']


def test_without_any_manifest_the_newest_is_taken_with_a_warning(saved, capsys):
  for path in saved.rglob(checkpoint.MANIFEST):
    path.unlink()
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    _assert_same(checkpoints.restore_latest(_state(0))[0], _state(4))
    checkpoints.restore_best(_state(0).variables())
  for line, step in zip(capsys.readouterr().err.splitlines(),
                        ('latest/4', 'best/2'), strict=True):
    assert line.startswith(f'warning: checkpoint {saved}/{step} is taken unverified')


@contextlib.contextmanager
def _largest_file(size: int):
  """The system refuses files beyond `size` bytes, as a full disk would."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_place_that_cannot_be_written_is_one_line_and_loses_nothing(saved):
  big = _state(6)
  big = big.replace(params=parallel.replicated(
      {'w': np.random.default_rng(0).normal(size=(200, 200))}))
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    for save in (checkpoints.save_latest, checkpoints.save_best):
      with (_largest_file(20_000), pytest.raises(
          errors.UserError, match='6 cannot be written .File too large.*resumes from')):
        save(big, {})
  with checkpoint.Checkpoints(saved, create=True) as checkpoints:
    _assert_same(checkpoints.restore_latest(_state(0))[0], _state(4))
    _assert_same(checkpoints.restore_best(_state(0).variables())[0],
                 _state(2).variables())
    checkpoints.save_latest(big, {})
    assert checkpoints.latest_step() == 6
  assert _steps(saved / 'latest') == ['4', '6']


@pytest.mark.parametrize(('error', 'kind', 'match'), [
    (OSError(errno.EROFS, 'Read-only file system', 'a/b'), errors.UserError,
     '^.*cannot be written.*$'),
    (ValueError('RESOURCE_EXHAUSTED: writing "d": [OS error 28: No space left on '
                'device]\nmore'), errors.UserError, '^.*cannot be written.*$'),
    (ValueError('something else'), ValueError, 'something else')])
def test_storage_that_refuses_is_one_line(tmp_path, monkeypatch, error, kind, match):
  def refuse(*_, **__):
    raise error

  with checkpoint.Checkpoints(tmp_path, create=True) as checkpoints:
    monkeypatch.setattr(ocp.CheckpointManager, 'save', refuse)
    with pytest.raises(kind, match=match):
      checkpoints.save_latest(_state(2), {})
