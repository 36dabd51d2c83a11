"""metrics.jsonl: what a resumed run keeps of it, and what it says of lost lines."""

import numpy as np

from attnmel_jax.training import metrics_file


def _open(path, step):
  return metrics_file.MetricsFile(path, step, None)


def test_lines_beyond_the_restored_step_go_and_so_does_a_cut_line(tmp_path, capsys):
  path = tmp_path / 'metrics.jsonl'
  kept = '{"step": 3, "loss": 1.0}\n{"step": 4, "loss": 1.0}\n{"step": 4, "v": 1.0}\n'
  first = '{"step": 1}\n{"step": 2}\n'
  for tail in ('', '{"step": 7, "lo', '{"step": 5}', '{"step": 4'):
    path.write_text(first + kept + '{"step": 5, "loss": 1.0}\n{"step": 6}\n' + tail)
    file = _open(path, 4)
    value = float(np.float32(0.1))
    file.write(5, {'loss': value})
    file.close()
    assert path.read_text() == f'{first}{kept}{{"step": 5, "loss": {value!r}}}\n'
    assert [p.name for p in tmp_path.iterdir()] == ['metrics.jsonl']
  assert 'steps have none' not in capsys.readouterr().err


def test_lost_lines_before_the_restored_step_are_reported(tmp_path, capsys):
  path = tmp_path / 'metrics.jsonl'
  for damaged, said in (
      ('{"step": 2, "loss": 1.\n', '1 lines are damaged, 1 of the first 4 steps have'),
      ('\xff\n', '1 lines are damaged, 1 of'), ('[2]\n', '1 lines are damaged, 1 of'),
      ('', '0 lines are damaged, 1 of the first 4 steps'),
      ('{"step": 1e400}\n', '1 lines are damaged, 1 of'),
      ('{"step": 93}\n', '0 lines are damaged, 1 of the first 4 steps')):
    lines = [f'{{"step": {step}}}\n' for step in (1, 2, 3, 4, 5)]
    lines[1] = damaged
    path.write_text(''.join(lines), encoding='latin-1')
    _open(path, 4).close()
    assert path.read_text() == ''.join(lines[:1] + lines[2:4])
    warning = capsys.readouterr().err
    assert said in warning
    assert warning.startswith(f'warning: {path}: ')
    assert warning.count('\n') == 1


def test_whole_lines_are_no_reason_for_a_warning(tmp_path, capsys):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\n{"step": 2}\n{"step": 2, "v": 1}\n{"step": 3}\n{"st')
  for step in (2, 2, 0):
    _open(path, step).close()
  assert capsys.readouterr().err == ''
