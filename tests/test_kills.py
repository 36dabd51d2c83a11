"""The short form of `python -m tests.kills`: a few kills of each command."""

import pytest

from tests import kills


@pytest.mark.matrix
def test_killed_at_any_moment_commands_end_as_if_left_alone(capsys):
  status = kills.main(['--kills=3', '--others=1', '--epochs=4'])
  tally = capsys.readouterr().out
  assert status == 0, tally
  assert 'train: 3 kills' in tally
  for name in ('prepare', 'generate_masks', 'report', 'grid'):
    assert f'{name}: 1 kills' in tally


def test_differences_are_found(tmp_path):
  """The comparison of files, which has to be able to fail."""
  for name in ('whole', 'other'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'a.csv').write_text('1\n')
  whole, other = tmp_path / 'whole', tmp_path / 'other'
  assert kills.differing_files(whole, other, ['a.csv']) == []
  (other / 'a.csv').write_text('2\n')
  assert kills.differing_files(whole, other, ['a.csv', 'b.csv']) == [
      f'{other / "a.csv"} differs', f'b.csv is in one of {whole} and {other}']
