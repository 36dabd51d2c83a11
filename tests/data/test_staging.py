import pathlib

import pytest

from attnmel_jax import errors
from attnmel_jax.data import staging


def _names(folder: pathlib.Path) -> set[str]:
  return {path.name for path in folder.iterdir()}


def test_what_is_published_stays_and_the_rest_goes(tmp_path):
  with staging.folder(tmp_path / 'root') as stage:
    (stage / 'a' / 'x').mkdir(parents=True)
    (stage / 'b').mkdir()
    staging.publish(stage / 'a', tmp_path / 'root' / 'deep' / 'a')
  assert _names(tmp_path / 'root') == {'.lock', 'deep'}
  assert (tmp_path / 'root' / 'deep' / 'a' / 'x').is_dir()


def test_publishing_replaces_the_whole_folder(tmp_path):
  final = tmp_path / 'final'
  final.mkdir()
  (final / 'old').touch()
  with staging.folder(tmp_path) as stage:
    (stage / 'final').mkdir()
    (stage / 'final' / 'new').touch()
    staging.publish(stage / 'final', final)
  assert _names(final) == {'new'}
  assert _names(tmp_path) == {'.lock', 'final'}


def test_an_error_leaves_nothing(tmp_path):
  with pytest.raises(KeyboardInterrupt), staging.folder(tmp_path) as stage:
    (stage / 'half').mkdir()
    raise KeyboardInterrupt
  assert _names(tmp_path) == {'.lock'}


def test_one_process_at_a_time(tmp_path):
  with staging.folder(tmp_path) as stage:
    with (pytest.raises(errors.UserError, match='another command writes'),
          staging.folder(tmp_path)):
      pass
    assert stage.is_dir()  # the other one has not cleared it
  with staging.folder(tmp_path):
    pass


def test_what_a_killed_process_left_is_cleared(tmp_path):
  (tmp_path / '.incomplete-x' / 'y').mkdir(parents=True)
  with staging.folder(tmp_path) as stage:
    assert _names(tmp_path) == {'.lock', stage.name}


def test_a_folder_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').touch()
  with (pytest.raises(errors.UserError, match='cannot be written .*--data_dir'),
        staging.folder(tmp_path / 'file' / 'root')):
    pass
