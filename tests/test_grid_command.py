"""launch/grid.py as a user types it, on phantom data."""

import re
import signal
import subprocess

import pytest

from tests import commands

ARGUMENTS = ['--grid=grid.py', '--workdir=runs', *(f'--set={setting}' for setting in (
    *commands.SMALL, 'passes_per_epoch=1', 'log_every_steps=1'))]


@pytest.fixture
def grid(home, tmp_path):
  """Runs the command in a folder with a grid of two runs."""
  (tmp_path / 'grid.py').write_text(commands.GRID)
  return lambda *arguments: commands.run(
      home, 'grid', *ARGUMENTS, *arguments, cwd=tmp_path)


@pytest.mark.slow
def test_a_grid_continues_after_a_failure_and_skips_what_is_finished(
    grid, tmp_path, monkeypatch):
  folders = [f'runs/isic2017/{name}-fold0-seed0'
             for name in ('Mel-CNN', 'AttnMel-CNN-Lesion')]
  blocked = tmp_path / folders[0]
  blocked.parent.mkdir(parents=True)
  blocked.touch()  # a file where the run folder should be
  first = grid('--quiet')
  assert first.returncode == 1
  assert 'Traceback' not in first.stderr
  last = first.stderr.splitlines()[-1]
  assert last.startswith(f'error: 1 of 2 runs failed: {folders[0]} (status 2)')
  assert first.stdout.startswith(f'{folders[1]}: test (16 synthetic images)')
  blocked.unlink()
  monkeypatch.chdir(tmp_path)
  listed = commands.in_process('grid', *ARGUMENTS, '--dry_run')
  assert [line.split() for line in listed.stdout.splitlines()] == [
      ['0', 'new', folders[0]], ['1', 'finished', folders[1]],
      ['2', 'runs:', '1', 'new,', '1', 'finished']]
  assert not blocked.exists()
  again = grid()
  assert again.returncode == 0, again.stderr
  assert f'run 1, {folders[1]}: finished' in again.stderr
  assert again.stdout.count('\n') == 1
  assert again.stdout.startswith(f'{folders[0]}: ')


@pytest.mark.slow
def test_ctrl_c_saves_and_the_grid_resumes(home, grid, tmp_path):
  chosen = ['--systems=Mel-CNN', '--set=num_epochs=8']
  with subprocess.Popen(
      commands.command('grid', *ARGUMENTS, *chosen), cwd=tmp_path, text=True,
      env=commands.environment(home), stderr=subprocess.PIPE) as process:
    for line in process.stderr:
      if re.match(r'train: \d+ of \d+ steps', line):
        break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read().splitlines()
    assert process.wait(timeout=120) == 130
  assert any(line.startswith('error: stopped after step') for line in rest)
  assert rest[-1] == ('error: stopped in runs/isic2017/Mel-CNN-fold0-seed0; the same '
                      'command resumes')
  done = grid(*chosen)
  assert done.returncode == 0, done.stderr
  assert 'Mel-CNN-fold0-seed0: begun' in done.stderr
  assert 'resumed after step' in done.stderr
