"""What a person sees of long work on stderr."""

import io
import sys

import pytest

from attnmel_jax import progress


@pytest.fixture
def clock(monkeypatch):
  """A clock that is set by hand: clock[0] in seconds."""
  now = [0.]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
  return now


def test_a_line_a_tenth_where_there_is_no_terminal(capsys, clock):
  bar = progress.Progress('val', 100, unit='images', done=50)
  for seconds, count in ((1.9, 10),  # too soon after the start
                         (30, 10),   # twenty in 30 seconds, thirty to go
                         (60, 9),    # within the same tenth
                         (90, 21)):
    clock[0] = seconds
    bar.advance(count)
  bar.close()
  assert capsys.readouterr() == (
      '', 'val: 70 of 100 images, 0:00:45 left\nval: 100 of 100 images, 0:00:00 left\n')


def test_lines_every_few_seconds(capsys, clock):
  bar = progress.Progress('train', 40, unit='steps', done=10, often=True)
  for seconds, count, text in ((20, 10, 'loss 0.25'),
                               (24.9, 2, 'loss 0.20'),  # too soon after the first
                               (26, 18, 'loss 0.10'), (27, 0, '')):
    clock[0] = seconds
    bar.advance(count, text)
  bar.note('validated')
  assert capsys.readouterr().err.splitlines() == [
      'train: 20 of 40 steps, loss 0.25, 0:00:40 left',
      'train: 40 of 40 steps, loss 0.10, 0:00:00 left',
      'train: 40 of 40 steps, 0:00:00 left',  # the last is always shown
      'validated']


def test_the_first_of_the_lines_comes_at_once(capsys, clock):
  progress.Progress('train', 40, unit='steps', often=True).advance(1)
  assert capsys.readouterr().err.startswith('train: 1 of 40 steps')


def test_an_unknown_total_has_no_lines(capsys, clock):
  bar = progress.Progress('x.zip', 0, unit='B')
  clock[0] = 60
  bar.advance(100)
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize('quiet', [False, True])
def test_a_bar_on_a_terminal(monkeypatch, quiet):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', terminal)
  bar = progress.Progress('train', 10, unit='steps', done=2, often=True, quiet=quiet)
  bar.advance(8, 'loss 0.5000')
  bar.note('validated')
  bar.close()
  shown = terminal.getvalue()
  assert [text in shown for text in ('10/10', 'loss 0.5000', 'validated\n')] == [
      not quiet] * 3
  assert bool(shown) != quiet


def test_quiet_is_quiet_without_a_terminal(capsys):
  bar = progress.Progress('train', 10, unit='steps', often=True, quiet=True)
  bar.advance(10, 'loss 0.5000')
  bar.note('validated')
  bar.close()
  assert capsys.readouterr() == ('', '')


@pytest.mark.parametrize(('seconds', 'text'), [
    (0, '0:00:00'), (59.6, '0:01:00'), (3599, '0:59:59'), (90061, '25:01:01')])
def test_duration(seconds, text):
  assert progress.duration(seconds) == text
