"""Folders that are not ours are refused before anything in them is touched."""

import pytest

from attnmel_jax import errors
from attnmel_jax import outputs


def test_a_folder_with_other_files_is_refused(tmp_path):
  words = {'but': ['a.json'], 'remedy': 'name another'}
  for name in ('.lock', 'a.json', '.a.json.7.tmp', 'Thumbs.db'):
    (tmp_path / name).touch()
  outputs.check_empty(tmp_path, '--out=x', 'a run', **words)
  outputs.check_empty(tmp_path / 'new', '--out=x', 'a run', **words)
  (tmp_path / '.b.json.7.tmp').touch()
  with pytest.raises(errors.UserError, match=r'^--out=x holds something other than a '
                     r'run, such as \.b\.json\.7\.tmp; name another$'):
    outputs.check_empty(tmp_path, '--out=x', 'a run', **words)
