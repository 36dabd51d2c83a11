import sys

import pytest

from attnmel_jax.data import progress


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
  assert lines[0] == 'train: 3 of 25 images'
  assert lines[-1] == 'train: 25 of 25 images'


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
  assert capsys.readouterr().err == ('x.zip: 100 of 100 B\n' if total else '')
  bar.close()


def test_a_bar_on_a_terminal(capsys, monkeypatch):
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
  bar = progress.Progress('train', 4, unit='images')
  bar.advance(4)
  bar.close()
  captured = capsys.readouterr()
  assert '4/4' in captured.err
  assert captured.out == ''
