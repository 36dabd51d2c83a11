"""Where the time of a run went: lines by kind, and their sums over all starts."""

import json

import pytest

from attnmel_jax.training import timing


@pytest.fixture
def clock(monkeypatch):
  """A clock that is set by hand: clock[0] in seconds."""
  now = [100.]
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])
  return now


def _start(path, clock, first_step, laps):
  log = timing.Timing(path, first_step)
  clock[0] += 20
  log.first_step(first_step + 1, 32, {})
  for seconds, what, step in laps:
    clock[0] += seconds
    (log.steps(step, 32) if what == 'steps' else log.lap(what, step))
  log.close()
  return log


def test_two_starts_add_up(tmp_path, clock):
  path = tmp_path / 'timing.jsonl'
  log = _start(path, clock, 0, [(2., 'steps', 11), (1., 'validation', 11),
                                (0.5, 'saving', 11), (0.25, 'saving', 11)])
  assert log.images_per_second == 160
  _start(path, clock, 11, [(4., 'steps', 22), (3., 'validation', 22)])
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines[1] == {'step': 11, 'what': 'steps', 'seconds': 2., 'images': 320}
  expected = {
      'starts': 2, 'steps': 22, 'images': 640, 'images_per_second': 640 / 6,
      'first_step_seconds': 40., 'steps_seconds': 6., 'validation_seconds': 4.,
      'saving_seconds': 0.75}
  assert timing.summarise(path) == expected
  with path.open('a') as file:
    file.write('{"step": 40, "what": "ste')  # a kill cut it short
  assert timing.summarise(path) == expected


def test_no_line_for_no_step(tmp_path, clock):
  """Where the first step is to be logged at once."""
  path = tmp_path / 'timing.jsonl'
  log = _start(path, clock, 0, [(2., 'steps', 1)])
  assert log.images_per_second == 32 / 20
  assert timing.summarise(path)['images_per_second'] is None


def test_a_start_after_a_line_that_was_cut_short(tmp_path, clock):
  path = tmp_path / 'timing.jsonl'
  _start(path, clock, 0, [(2., 'steps', 11)])
  with path.open('a') as file:
    file.write('{"step": 40, "what": "ste')
  _start(path, clock, 11, [(4., 'steps', 22)])
  summary = timing.summarise(path)
  assert (summary['starts'], summary['steps']) == (2, 22)
