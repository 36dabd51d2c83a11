"""Signals reach a command and what it started."""

import signal
import time

from attnmel_jax.experiments import processes


def test_a_signal_is_passed_on_to_a_command_and_what_it_started(tmp_path):
  ours = signal.getsignal(signal.SIGTERM)
  program = (
      'import pathlib, subprocess, sys\n'
      'child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)\n'
      'pathlib.Path(sys.argv[1]).touch()\n'
      'child.wait()\n'
      'sys.exit(child.returncode)\n')
  ready = tmp_path / 'ready'
  with processes.running(['-c', program, str(ready)]) as (process, received):
    while not ready.exists():
      time.sleep(0.01)
    signal.raise_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == -signal.SIGTERM
  assert received == [signal.SIGTERM]
  assert signal.getsignal(signal.SIGTERM) == ours
