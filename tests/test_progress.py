import sys

import pytest

from attnmel_jax import progress


@pytest.fixture
def _hurried(monkeypatch):
  """Plain lines need not wait for the clock."""
  monkeypatch.setattr(progress, '_SECONDS', 0)


@pytest.mark.usefixtures('_hurried')
def test_plain_lines_where_there_is_no_terminal(capsys):
  bar = progress.Progress('train', 25, unit='images')
  for _ in range(25):
    bar.advance(1)
  bar.close()
  captured = capsys.readouterr()
  lines = captured.err.splitlines()
  assert captured.out == ''
  assert len(lines) == 10
  assert lines[0] == 'train: 3 of 25 images, 0:00:00 left'
  assert lines[-1] == 'train: 25 of 25 images, 0:00:00 left'


def test_time_left_counts_what_this_process_did(capsys, monkeypatch):
  monkeypatch.setattr(progress.time, 'monotonic', lambda: 0.)
  bar = progress.Progress('train', 100, unit='images', done=50)
  monkeypatch.setattr(progress.time, 'monotonic', lambda: 30.)
  bar.advance(10)  # ten in 30 seconds, forty to go
  assert capsys.readouterr().err == 'train: 60 of 100 images, 0:02:00 left\n'


def test_short_work_is_silent(capsys):
  bar = progress.Progress('train', 25, unit='images')
  bar.advance(25)
  assert capsys.readouterr().err == ''


@pytest.mark.usefixtures('_hurried')
@pytest.mark.parametrize('total', [0, 100])
def test_resumed_and_unknown_totals(capsys, total):
  bar = progress.Progress('x.zip', total, unit='B', done=50)
  bar.advance(4)
  assert capsys.readouterr().err == ''
  bar.advance(46)
  assert capsys.readouterr().err == (
      'x.zip: 100 of 100 B, 0:00:00 left\n' if total else '')
  bar.close()


def test_a_bar_on_a_terminal(capsys, monkeypatch):
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
  bar = progress.Progress('train', 4, unit='images')
  bar.advance(4)
  bar.close()
  captured = capsys.readouterr()
  assert '4/4' in captured.err
  assert captured.out == ''


@pytest.mark.parametrize(('seconds', 'text'), [
    (0, '0:00:00'), (59.6, '0:01:00'), (3599, '0:59:59'), (90061, '25:01:01')])
def test_duration(seconds, text):
  assert progress.duration(seconds) == text
