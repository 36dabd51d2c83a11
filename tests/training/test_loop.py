"""The loop: schedule, metrics, selection, stopping and going on."""

import json
import math
import os
import signal

import jax
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.training import checkpoint
from attnmel_jax.training import loop
from attnmel_jax.training import metrics_file
from attnmel_jax.training import schedule as schedule_lib
from attnmel_jax.training import state as state_lib
from tests.training import tiny


def _schedule(**changed):
  return schedule_lib.Schedule(**{
      'steps_per_epoch': 4, 'num_epochs': 3, 'learning_rate': 0.5,
      'decay_every_epochs': 1, 'decay_factor': 0.1, 'checkpoint_every_steps': 3,
      'log_every_steps': 2} | changed)


def _tx():
  return state_lib.optimiser(momentum=0., nesterov=False)


def _start(step=0):
  state = state_lib.create({'params': {'w': np.float32(0)}}, _tx())
  return parallel.replicated(state.replace(step=np.int32(step)))


def _fake_update(losses=lambda step: 1 / (1 + step)):
  """An update that adds the learning rates up and makes up losses."""

  def update(state, batch, hyper):
    assert batch['label'].ndim == 2  # sharded
    step = int(state.step)
    state = state.replace(
        step=state.step + 1,
        params={'w': state.params['w'] + hyper['learning_rate']})
    return state, {'loss': np.float32(losses(step))}

  return update


def _batches(start, total, at=None):
  """Batches of a step; `at` = {step: callable} is called before its batch."""
  for step in range(start, total):
    if at and step in at:
      at[step]()
    yield step, {'label': np.zeros(8 * jax.local_device_count(), np.int32)}


def _train(folder, state=None, best=-math.inf, *, schedule=None, validate=None,
           update=None, at=None, events=None, quiet=True):
  schedule, state = schedule or _schedule(), state or _start()
  with checkpoint.Checkpoints(folder / 'checkpoints', create=True) as checkpoints:
    return loop.train(
        state, best, update=update or _fake_update(),
        batches=_batches(int(state.step), schedule.total_steps, at),
        hyper={'weight_decay': np.float32(0)}, schedule=schedule, validate=validate,
        checkpoints=checkpoints, folder=folder, events=events, quiet=quiet)


def _lines(folder, name='metrics.jsonl'):
  return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def _restore(folder):
  with checkpoint.Checkpoints(folder / 'checkpoints', create=True) as checkpoints:
    return (*checkpoints.restore_latest(_start()),
            *checkpoints.restore_best(_start().variables()))


def test_the_lines_of_a_state_are_on_the_disk_before_it(tmp_path, monkeypatch):
  done, sync, save = [], os.fsync, checkpoint.Checkpoints.save_latest
  metrics = tmp_path / 'metrics.jsonl'

  def synced(number):
    if metrics.exists() and os.path.samestat(os.fstat(number), metrics.stat()):
      done.append(('sync', len(metrics.read_text().splitlines())))
    sync(number)

  def saved(self, state, meta):
    done.append(('save', int(state.step)))
    save(self, state, meta)

  monkeypatch.setattr(os, 'fsync', synced)
  monkeypatch.setattr(checkpoint.Checkpoints, 'save_latest', saved)
  _train(tmp_path)
  saves = [row for row, (what, _) in enumerate(done) if what == 'save']
  assert saves
  for row in saves:
    assert done[row - 1] == ('sync', done[row][1])


@pytest.mark.parametrize('dice', [0.0, 0.25])
def test_a_dice_loss_of_no_map_is_written_and_not_shown(tmp_path, capsys, dice):
  fake = _fake_update()

  def update(state, batch, hyper):
    state, metrics = fake(state, batch, hyper)
    return state, metrics | {'dice_loss_pool4': np.float32(dice)}

  _train(tmp_path, update=update, quiet=False)
  shown = capsys.readouterr().err
  assert 'loss 0.' in shown and ('dice_loss_pool4 0.2500' in shown) == bool(dice)
  assert '0.0000' not in shown
  assert {line['dice_loss_pool4'] for line in _lines(tmp_path)} == {dice}


def test_metrics_have_a_line_a_step_and_an_epoch_and_no_times(tmp_path):
  state, best = _train(tmp_path, validate=lambda s: {'auc': 0.5, 'score': 0.5})
  assert int(state.step) == 12
  assert best == 0.5
  # Learning rates of three epochs of four steps.
  np.testing.assert_allclose(state.params['w'], 4 * (0.5 + 0.05 + 0.005), rtol=1e-6)
  expected = []
  for step in range(1, 13):
    expected.append({'step': step, 'loss': float(np.float32(1 / step))})
    if step % 4 == 0:
      expected.append(
          {'step': step, 'validation_auc': 0.5, 'validation_score': 0.5})
  assert _lines(tmp_path) == expected


def test_the_time_of_compilation_steps_validation_and_saving_stands_apart(tmp_path):
  _train(tmp_path, validate=lambda s: {'score': -int(s.step)})
  lines = _lines(tmp_path, 'timing.jsonl')
  steps = {what: [line['step'] for line in lines if line['what'] == what]
           for what in ('first_step', 'steps', 'validation', 'saving')}
  # Logged every 2 steps and wherever a checkpoint is due: every 3 and 4.
  assert steps == {
      'first_step': [1], 'steps': [2, 3, 4, 6, 8, 9, 10, 12], 'validation': [4, 8, 12],
      'saving': [3, 4, 4, 6, 8, 9, 12]}  # at 4 the best and the latest
  assert sum(line.get('images', 0) for line in lines) == (
      12 * 8 * jax.local_device_count())


def test_the_best_has_to_improve_strictly(tmp_path):
  scores = iter([0.7, 0.7, 0.6])
  _, best = _train(tmp_path, validate=lambda s: {'score': next(scores)})
  assert best == 0.7
  state, meta, variables, best_meta = _restore(tmp_path)
  assert int(state.step) == 12
  assert meta == {'best_score': 0.7}
  assert best_meta == {'step': 4, 'score': 0.7}
  np.testing.assert_allclose(variables['params']['w'], 4 * 0.5, rtol=1e-6)


def test_nan_scores_are_never_best(tmp_path):
  scores = iter([math.nan, 0.1, math.nan])
  _, best = _train(tmp_path, validate=lambda s: {'score': next(scores)})
  assert best == 0.1
  assert _restore(tmp_path)[3]['step'] == 8


def test_without_validation_the_last_epoch_is_the_best(tmp_path):
  _, best = _train(tmp_path)
  assert best == -math.inf
  _, meta, _, best_meta = _restore(tmp_path)
  assert meta == {'best_score': -math.inf}
  assert best_meta == {'step': 12}


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_names_the_steps(tmp_path, bad):
  update = _fake_update(lambda step: bad if step == 6 else 0.5)
  schedule = _schedule(checkpoint_every_steps=100, log_every_steps=3)
  with pytest.raises(errors.UserError,
                     match=r'not finite in step 7 \(steps 7 to 8\).*learning_rate'):
    _train(tmp_path, update=update, schedule=schedule)
  assert [line['step'] for line in _lines(tmp_path)] == [1, 2, 3, 4, 5, 6]
  # The last checkpoint is from before.
  assert int(_restore(tmp_path)[0].step) == 4


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_from_there(tmp_path, signum):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  whole.mkdir(), parts.mkdir()
  scores = {4: 0.6, 8: 0.8, 12: 0.7}
  validate = lambda state: {'score': scores[int(state.step)]}  # noqa: E731
  handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

  expected, _ = _train(whole, validate=validate)
  with pytest.raises(loop.Stopped, match='after step 6') as stopped:
    _train(parts, validate=validate, at={5: lambda: os.kill(os.getpid(), signum)})
  assert (stopped.value.step, stopped.value.signum) == (6, signum)
  assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))

  with checkpoint.Checkpoints(parts / 'checkpoints', create=True) as checkpoints:
    state, meta = checkpoints.restore_latest(_start())
  assert int(state.step) == 6
  assert meta == {'best_score': 0.6}
  result, best = _train(parts, state, meta['best_score'], validate=validate)
  assert best == 0.8
  np.testing.assert_array_equal(result.params['w'], expected.params['w'])
  assert _lines(parts) == _lines(whole)


def test_a_signal_during_validation_waits_until_the_state_can_be_saved(tmp_path):
  # Step 4 ends an epoch: its state is saved there; the run stops one later.
  def validate(state):
    if int(state.step) == 4:
      os.kill(os.getpid(), signal.SIGTERM)
    return {'score': 0.5}

  with pytest.raises(loop.Stopped) as stopped:
    _train(tmp_path, validate=validate)
  assert int(_restore(tmp_path)[0].step) == stopped.value.step == 5


def test_a_signal_while_metrics_are_written_is_not_taken_before_a_save(
    tmp_path, monkeypatch):
  # Step 2 is logged but not saved.
  write = metrics_file.MetricsFile.write

  def writing(self, step, values):
    if step == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    write(self, step, values)

  monkeypatch.setattr(metrics_file.MetricsFile, 'write', writing)
  with (pytest.raises(loop.Stopped) as stopped,
        checkpoint.Checkpoints(tmp_path / 'checkpoints', create=True) as checkpoints):
    loop.train(
        _start(), -math.inf, update=_fake_update(), batches=_batches(0, 12),
        hyper={'weight_decay': np.float32(0)}, schedule=_schedule(), validate=None,
        checkpoints=checkpoints, folder=tmp_path, events=None, quiet=True)
  with checkpoint.Checkpoints(tmp_path / 'checkpoints', create=True) as checkpoints:
    assert checkpoints.latest_step() == stopped.value.step


def test_a_signal_in_the_last_step_is_not_lost(tmp_path):
  validate = lambda state: (  # noqa: E731
      os.kill(os.getpid(), signal.SIGTERM) if int(state.step) == 12 else None,
      {'score': 0.5})[1]
  with pytest.raises(loop.Stopped) as stopped:
    _train(tmp_path, validate=validate)
  assert int(_restore(tmp_path)[0].step) == stopped.value.step == 12
  state, _ = _train(tmp_path, _start(12), 0.5)  # nothing is left to do
  assert int(state.step) == 12


def test_stop_signal_lets_a_second_ctrl_c_through():
  before = signal.getsignal(signal.SIGINT)
  with loop.stop_signal() as received:
    os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert received == [signal.SIGTERM]
  assert signal.getsignal(signal.SIGINT) == before


def _run_tiny(folder, update, stop_at=None):
  """Trains or goes on; all that came of it."""
  folder.mkdir(exist_ok=True)
  schedule = _schedule(steps_per_epoch=3, num_epochs=2, checkpoint_every_steps=100)
  state, best = parallel.replicated(tiny.state('small', '', 'float32')), -math.inf
  hyper = tiny.hyper('float32')
  del hyper['learning_rate']

  def batches(start):
    for step in range(start, schedule.total_steps):
      if step == stop_at:
        os.kill(os.getpid(), signal.SIGTERM)
      yield step, tiny.batch(step)

  def validate(state):  # reads the state that the next step is given
    return {'score': float(np.sum(state.batch_stats['BatchNorm_0']['mean']))}

  with checkpoint.Checkpoints(folder / 'checkpoints', create=True) as checkpoints:
    if checkpoints.latest_step() is not None:
      state, meta = checkpoints.restore_latest(state)
      best = meta['best_score']
    state, best = loop.train(
        state, best, update=update, batches=batches(int(state.step)), hyper=hyper,
        schedule=schedule, validate=validate, checkpoints=checkpoints, folder=folder,
        events=None, quiet=True)
    return jax.device_get((state, checkpoints.restore_best(state.variables()), best))


def test_a_stopped_run_ends_bit_by_bit_like_one_that_was_not(tmp_path, tiny_update):
  """A real step, with donation, dropout and BatchNorm."""
  expected = _run_tiny(tmp_path / 'whole', tiny_update)
  with pytest.raises(loop.Stopped):
    _run_tiny(tmp_path / 'parts', tiny_update, stop_at=1)
  result = _run_tiny(tmp_path / 'parts', tiny_update)
  for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(result), strict=True):
    np.testing.assert_array_equal(a, b)
  assert ((tmp_path / 'whole/metrics.jsonl').read_bytes()
          == (tmp_path / 'parts/metrics.jsonl').read_bytes())
