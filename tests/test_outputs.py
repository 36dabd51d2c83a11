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


def _tree(folder):
  return {str(path.relative_to(folder)): path.read_text()
          for path in folder.rglob('*') if path.is_file() and path.name != '.lock'}


def _write(out, text, kind='an export'):
  with outputs.exchanged(out, kind) as staged:
    (staged / 'sub').mkdir()
    (staged / 'sub' / 'a').write_text(text)


def test_an_old_result_is_whole_until_the_new_one_is(tmp_path, monkeypatch):
  out = tmp_path / 'out'
  _write(out, 'old')
  before = _tree(tmp_path)
  assert before['out/sub/a'] == 'old'

  def interrupt(*_):
    raise KeyboardInterrupt

  for where in ('digest', 'write_json'):
    with monkeypatch.context() as patched:
      patched.setattr(outputs.files, where, interrupt)
      with pytest.raises(KeyboardInterrupt):
        _write(out, 'cut off')
    assert _tree(tmp_path) == before
  left = tmp_path / '.out.attnmel-new'
  left.mkdir()
  (left / 'half').touch()  # of a kill
  out.rename(tmp_path / '.out.attnmel-old')  # of another, between two renames
  _write(out, 'new')
  assert sorted(_tree(tmp_path)) == ['out/sub/a', 'out/written.json']
  assert (out / 'sub' / 'a').read_text() == 'new'


def test_nothing_but_an_unchanged_result_of_the_kind_is_replaced(tmp_path):
  out = tmp_path / 'out'
  _write(out, 'old')
  with pytest.raises(errors.UserError, match='other than a report, such as sub'):
    _write(out, 'new', 'a report')
  for name in ('notes.txt', 'sub/a'):
    kept = (out / name).read_text() if (out / name).exists() else None
    (out / name).write_text('mine')
    before = _tree(tmp_path)
    with pytest.raises(errors.UserError, match=f'holds {name}, which was put there or'):
      _write(out, 'new')
    assert _tree(tmp_path) == before
    (out / name).unlink() if kept is None else (out / name).write_text(kept)
  with (pytest.raises(errors.UserError, match='in use by another process'),
        outputs.exchanged(out, 'an export')):
    _write(out, 'new')
  assert (out / 'written.json').exists()
