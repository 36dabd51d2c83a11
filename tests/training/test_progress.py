"""What a person sees of a run on stderr."""

import io
import sys
import time

from attnmel_jax.training import progress


def test_lines_say_step_loss_speed_and_time_left(capsys, monkeypatch):
  now = [100.]
  monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
  shown = progress.Progress(40, 10, quiet=False)
  now[0] = 120.  # ten steps in twenty seconds, twenty steps to go
  shown.report(20, {'loss': 0.25, 'dice': 1.}, 12.34)
  now[0] = 123.
  shown.report(22, {'loss': 0.2}, 12.34)  # too soon after the first
  now[0] = 124.
  shown.report(40, {'loss': 0.1}, 9.)     # but the last is always shown
  shown.note('validated')
  shown.close()
  assert capsys.readouterr().err.splitlines() == [
      'step 20/40 loss 0.2500 dice 1.0000 12.3 images/s 0:00:40 left',
      'step 40/40 loss 0.1000 9.0 images/s 0:00:00 left',
      'validated']


def test_the_first_report_is_shown_soon_after_the_clock_began(capsys, monkeypatch):
  now = iter([0., 0.5])
  monkeypatch.setattr(time, 'perf_counter', lambda: next(now))
  progress.Progress(10, 0, quiet=False).report(1, {'loss': 1.}, 1.)
  assert capsys.readouterr().err.startswith('step 1/10')


def test_a_terminal_gets_a_bar(monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', terminal)
  shown = progress.Progress(10, 2, quiet=False)
  shown.report(10, {'loss': 0.5}, 100.)
  shown.note('validated')
  shown.close()
  assert '10/10' in terminal.getvalue()
  assert 'loss 0.5000 100 images/s' in terminal.getvalue()
  assert 'validated\n' in terminal.getvalue()


def test_quiet_is_quiet(capsys):
  shown = progress.Progress(10, 0, quiet=True)
  shown.report(10, {'loss': 0.5}, 100.)
  shown.note('validated')
  shown.close()
  assert capsys.readouterr() == ('', '')
