"""Whose folder a run folder is."""

import errno
import json
import os
import subprocess
import sys

import pytest

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax.experiments import run_folder

CONFIG = config_lib.defaults().to_dict() | {'seed': 1, 'data_dir': 'a'}


def test_a_config_keeps_its_tuples(tmp_path):
  run_folder.bind(tmp_path, CONFIG, {'train': 'f'}, {})
  assert run_folder.read_config(tmp_path) == CONFIG


def test_what_a_folder_is_bound_to_is_a_whole_config_again():
  bound = json.loads(json.dumps(run_folder.binding(CONFIG)))
  assert run_folder.unbound(bound, 'b') == CONFIG | {'data_dir': 'b'}
  del bound['dataset']
  with pytest.raises(errors.UserError, match='lacks dataset'):
    run_folder.unbound(bound, 'b')


def test_the_same_config_and_data_are_taken_elsewhere_too(tmp_path):
  run_folder.bind(tmp_path, CONFIG, {'train': 'f'}, {})
  run_folder.bind(tmp_path, CONFIG | {'data_dir': 'b'}, {'train': 'f'}, {})
  assert run_folder.read_config(tmp_path)['data_dir'] == 'a'


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path):
  run_folder.bind(tmp_path, CONFIG, {'train': 'f'}, {})
  with pytest.raises(errors.UserError, match=r'seed: 1 -> 2') as caught:
    run_folder.bind(tmp_path, CONFIG | {'seed': 2}, {'train': 'f'}, {})
  assert 'taps' not in str(caught.value)
  assert '--workdir' in str(caught.value)


def test_data_prepared_anew_are_refused(tmp_path):
  run_folder.bind(tmp_path, CONFIG, {'train': 'f' * 64}, {})
  with pytest.raises(errors.UserError, match='train data are not those'):
    run_folder.bind(tmp_path, CONFIG, {'train': 'e' * 64}, {})


@pytest.mark.parametrize('before, after', [
    ({'train': 'f', 'validation': 'g'}, {'train': 'f'}),
    ({'train': 'f'}, {'train': 'f', 'validation': 'g'})])
def test_data_that_vanish_or_appear_are_refused(tmp_path, before, after):
  run_folder.bind(tmp_path, CONFIG, before, {})
  with pytest.raises(errors.UserError, match='validation data are not those.* none'):
    run_folder.bind(tmp_path, CONFIG, after, {})
  run_folder.bind(tmp_path, CONFIG, before, {})


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
  hold = ('import pathlib, sys, time\n'
          'from attnmel_jax.experiments import run_folder\n'
          'with run_folder.claim(pathlib.Path(sys.argv[1])):\n'
          '  print("held", flush=True)\n'
          '  time.sleep(60)\n')
  with subprocess.Popen([sys.executable, '-c', hold, str(tmp_path)],
                        stdout=subprocess.PIPE, text=True) as holder:
    try:
      assert holder.stdout.readline() == 'held\n'
      with (pytest.raises(errors.UserError, match='in use by another process'),
            run_folder.claim(tmp_path)):
        pass
    finally:
      holder.kill()
  with run_folder.claim(tmp_path):
    pass


def test_what_a_kill_left_half_written_is_removed(tmp_path):
  names = ('.summary.json.7.tmp', 'attention/.test.png.7.tmp')
  kept = ('summary.json', 'attention/test.png', 'evaluations/x/.summary.json.8.tmp')
  for name in names + kept:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('')
  with run_folder.claim(tmp_path):
    assert not any((tmp_path / name).exists() for name in names)
    assert all((tmp_path / name).exists() for name in kept)


def test_fields_that_bind_nothing_may_change(tmp_path):
  run_folder.bind(tmp_path, CONFIG, {'train': 'f'}, {})
  run_folder.bind(tmp_path, CONFIG | {'allow_leakage': True, 'tensorboard': True},
                  {'train': 'f'}, {})
  assert run_folder.read_config(tmp_path) == CONFIG  # as it began


def test_a_path_that_cannot_be_a_folder_is_one_line(tmp_path):
  (tmp_path / 'file').write_text('')
  with (pytest.raises(errors.UserError, match='cannot be written'),
        run_folder.claim(tmp_path / 'file' / 'run')):
    pass


def test_a_folder_without_a_run_is_named(tmp_path):
  with pytest.raises(errors.UserError, match='does not exist; name a whole run folder'):
    run_folder.read_config(tmp_path / 'nothing')
  (tmp_path / 'config.json').write_text('{"seed": ')
  with pytest.raises(errors.UserError, match='cannot be read'):
    run_folder.read_config(tmp_path)


SUMMARY = {'class_names': ['a', 'b'], 'threshold': 0.5, 'best': {'step': 1},
           'synthetic': False}


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('config', [], 'holds a list, no object'), ('config', None, 'holds a NoneType'),
    ('config', CONFIG | {'width': 'abc'}, 'of another version: width='),
    ('config', CONFIG | {'taps': 3}, 'of another version: taps='),
    ('config', {}, 'of another version: the config lacks dataset'),
    ('summary', [], 'holds a list, no object'),
    ('summary', SUMMARY | {'best': None}, 'best is of another type'),
    ('summary', SUMMARY | {'threshold': 'x'}, 'threshold is of another type'),
    ('summary', SUMMARY | {'temperature': 'x'}, 'temperature is of another type'),
    ('summary', SUMMARY | {'class_names': 'ab'}, 'class_names is of another type'),
    ('summary', SUMMARY | {'test': 'x'}, 'no object'),
    ('summary', SUMMARY | {'test': {}}, 'n is missing'),
    ('summary', SUMMARY | {'leakage': []}, 'no object'),
    ('summary', SUMMARY | {'leakage': {'found': 'abc'}}, 'found is of another type'),
    ('summary', SUMMARY | {'fingerprints': []}, 'no object'),
    ('summary', SUMMARY | {'fingerprints': {'test': 3}}, 'test is of another type'),
    ('summary', SUMMARY | {'best': {'step': 'x'}}, 'step is of another type'),
    ('summary', SUMMARY | {'trained_on': {'n': 3}}, 'groups is missing'),
    ('summary', SUMMARY | {'test': {'n': 3, 'auc': {
        'estimate': 'x', 'low': 0.1, 'high': 0.2}}}, 'estimate is of another type'),
    ('summary', SUMMARY | {'test': {'n': 3, 'auc': {'estimate': 0.1}}}, 'low is miss'),
    ('summary', SUMMARY | {'test': {'n': 3, 'without_near_duplicates': 3}}, 'no obj'),
    ('environment', {'fingerprints': []}, 'fingerprints is of another type'),
    ('environment', {'fingerprints': {'train': 1}}, 'train is of another type'),
    ('environment', {'commit': 1}, 'commit is of another type')])
def test_folders_of_strangers_are_one_line(tmp_path, name, content, words):
  run_folder.bind(tmp_path, CONFIG, {'train': 'f'}, {})
  read = {'config': run_folder.read_config, 'summary': run_folder.read_summary,
          'environment': run_folder.read_environment}[name]
  (tmp_path / f'{name}.json').write_text(json.dumps(content))
  with pytest.raises(errors.UserError, match=words) as caught:
    read(tmp_path)
  assert f'{name}.json' in str(caught.value) and '\n' not in str(caught.value)


def test_what_an_older_environment_lacks_is_unknown(tmp_path):
  run_folder.bind(tmp_path, CONFIG, {'train': 'f'}, {})
  (tmp_path / 'environment.json').write_text('{"python": "3"}')
  assert run_folder.read_environment(tmp_path) == {
      'commit': 'unknown', 'devices': [], 'fingerprints': {}, 'python': '3'}
  (tmp_path / 'summary.json').write_text(json.dumps(SUMMARY))
  assert run_folder.read_summary(tmp_path) == SUMMARY


@pytest.mark.parametrize('number', [
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EIO])
@pytest.mark.parametrize('name', [None, 'metrics.jsonl'])
def test_a_folder_that_cannot_be_written_any_more_is_one_line(tmp_path, number, name):
  error = OSError(number, os.strerror(number))
  if name:
    error.filename = str(tmp_path / name)
  with pytest.raises(errors.UserError) as caught, run_folder.claim(tmp_path):
    raise error
  assert str(caught.value).startswith(
      f'workdir={tmp_path} cannot be written ({os.strerror(number)})')
  with run_folder.claim(tmp_path):  # the lock is free again
    pass


@pytest.mark.parametrize('error', [
    FileNotFoundError(errno.ENOENT, 'none', 'weights.pth'),
    PermissionError(errno.EACCES, 'forbidden', '/elsewhere/weights.pth'),
    BrokenPipeError(errno.EPIPE, 'Broken pipe')])
def test_other_errors_are_not_blamed_on_the_folder(tmp_path, error):
  with pytest.raises(type(error)), run_folder.claim(tmp_path):
    raise error
