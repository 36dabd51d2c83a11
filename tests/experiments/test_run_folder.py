"""Whose folder a run folder is, and what is read from a stranger's."""

import errno
import json
import os

import pytest

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.experiments import run_folder

CONFIG = config_lib.defaults().to_dict() | {'seed': 1, 'data_dir': 'a'}
ENVIRONMENT = {'commit': 'c', 'devices': ['cpu: x']}
SUMMARY = {'class_names': ['a', 'b'], 'threshold': 0.5, 'temperature': None,
           'best': {'step': 1}, 'synthetic': False, 'leakage': {'found': []},
           'fingerprints': {'train': 'f' * 64},
           'trained_on': {'n': 3, 'groups': 3, 'class_counts': {}}}


def _bind(folder, fingerprints=None, **changes):
  run_folder.bind(folder, CONFIG | changes, fingerprints or {'train': 'f' * 64},
                  ENVIRONMENT)


def test_a_folder_keeps_its_config_and_environment(tmp_path):
  _bind(tmp_path)
  assert run_folder.read_config(tmp_path) == CONFIG  # with its tuples
  assert run_folder.read_environment(tmp_path) == ENVIRONMENT | {
      'fingerprints': {'train': 'f' * 64}}
  # Fields that bind nothing may change; those of the first start stay.
  _bind(tmp_path, data_dir='b', allow_leakage=True, tensorboard=True)
  assert run_folder.read_config(tmp_path) == CONFIG


def test_what_a_folder_is_bound_to_is_a_whole_config_again():
  bound = json.loads(json.dumps(run_folder.binding(CONFIG)))
  assert run_folder.unbound(bound, 'b') == CONFIG | {'data_dir': 'b'}
  del bound['dataset']
  with pytest.raises(errors.UserError, match='lacks dataset'):
    run_folder.unbound(bound, 'b')


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path):
  _bind(tmp_path)
  with pytest.raises(errors.UserError, match=r'seed: 1 -> 2') as caught:
    _bind(tmp_path, seed=2)
  assert 'taps' not in str(caught.value)
  assert '--workdir' in str(caught.value)


def test_data_that_change_vanish_or_appear_are_refused(tmp_path):
  train, both = {'train': 'f' * 64}, {'train': 'f' * 64, 'validation': 'g'}
  for number, (before, after, words) in enumerate((
      (train, {'train': 'e' * 64}, 'train data are not those'),
      (both, train, 'validation data are not those.* none'),
      (train, both, 'validation data are not those.* none'))):
    folder = tmp_path / str(number)
    _bind(folder, before)
    with pytest.raises(errors.UserError, match=words):
      _bind(folder, after)
    _bind(folder, before)


def test_what_a_kill_left_half_written_is_removed(tmp_path):
  _bind(tmp_path)
  names = ('.summary.json.7.tmp', 'attention/.test.png.7.tmp')
  kept = ('summary.json', 'attention/test.png', '.notes.tmp', '.notes.txt.7.tmp',
          'attention/.mine.png.7.tmp', 'sub/.draft.odt.tmp', 'sub/.test.png.7.tmp')
  for name in names + kept:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('')
  with run_folder.claim(tmp_path):
    assert not any((tmp_path / name).exists() for name in names)
    assert all((tmp_path / name).exists() for name in kept)


def test_nothing_is_touched_in_a_folder_of_somebody_else(tmp_path):
  names = {'.notes.tmp', '.summary.json.7.tmp', 'sub/.draft.odt.tmp'}
  for number, stranger in enumerate(('thesis.docx', 'config.json')):
    folder = tmp_path / str(number)
    for name in names | {stranger}:
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).write_text('{"architectures": []}')
    with (pytest.raises(errors.UserError, match=r'.notes.tmp; name another|is damaged'),
          run_folder.claim(folder)):
      pass
    assert {str(path.relative_to(folder)) for path in folder.rglob('*')
            if path.is_file()} == names | {stranger}


def test_a_run_that_was_killed_before_it_was_bound_resumes(tmp_path):
  for name in ('.lock', 'leakage.json', '.config.json.7.tmp', 'environment.json'):
    (tmp_path / name).touch()
  with run_folder.claim(tmp_path):
    assert not (tmp_path / '.config.json.7.tmp').exists()


def test_a_folder_is_claimed_once_and_where_it_can_be_written(tmp_path):
  with (run_folder.claim(tmp_path),
        pytest.raises(errors.UserError, match='in use by another process'),
        run_folder.claim(tmp_path)):
    pass
  (tmp_path / 'file').write_text('')
  with (pytest.raises(errors.UserError, match='cannot be written'),
        run_folder.claim(tmp_path / 'file' / 'run')):
    pass


def test_a_folder_without_a_run_is_named(tmp_path):
  with pytest.raises(errors.UserError, match='does not exist; name a whole run folder'):
    run_folder.read_config(tmp_path)
  _bind(tmp_path)
  with pytest.raises(errors.UserError, match='is not finished'):
    run_folder.read_summary(tmp_path)
  (tmp_path / 'config.json').write_text('{"seed": ')
  with pytest.raises(errors.UserError, match='cannot be read'):
    run_folder.read_config(tmp_path)


def _without(name):
  return {key: value for key, value in SUMMARY.items() if key != name}


def test_folders_of_strangers_are_one_line(tmp_path):
  _bind(tmp_path)
  scores = {'n': 3, 'auc': {'estimate': 0.5, 'low': 0.1, 'high': 0.9}}
  (tmp_path / 'summary.json').write_text(json.dumps(SUMMARY | {'test': scores}))
  assert run_folder.read_summary(tmp_path)['test'] == scores
  config = {'config': run_folder.read_config, 'summary': run_folder.read_summary,
            'environment': run_folder.read_environment}
  environment = ENVIRONMENT | {'fingerprints': {}}
  for name, content, words in (
      ('environment', environment | {'fingerprints': []}, 'fingerprints is of another'),
      ('environment', environment | {'fingerprints': {'train': 1}}, 'train is of '),
      ('environment', environment | {'commit': 1}, 'commit is of another type'),
      ('environment', ENVIRONMENT, 'fingerprints is missing'),
      ('summary', [], 'holds a list, no object'),
      *(('summary', _without(name), f'{name} is missing') for name in SUMMARY),
      *(('summary', SUMMARY | {name: 'x'}, f'{name} is of another type')
        for name in SUMMARY),
      ('summary', SUMMARY | {'test': 'x'}, 'no object'),
      ('summary', SUMMARY | {'test': {}}, 'n is missing'),
      ('summary', SUMMARY | {'leakage': {'found': 'abc'}}, 'found is of another type'),
      ('summary', SUMMARY | {'fingerprints': {'test': 3}}, 'test is of another type'),
      ('summary', SUMMARY | {'best': {'step': 'x'}}, 'step is of another type'),
      ('summary', SUMMARY | {'trained_on': {'n': 3}}, 'groups is missing'),
      ('summary', SUMMARY | {'test': scores | {'auc': {
          'estimate': 'x', 'low': 0.1, 'high': 0.2}}}, 'estimate is of another type'),
      ('summary', SUMMARY | {'test': scores | {'auc': {'estimate': 0.1}}}, 'low is mi'),
      ('summary', SUMMARY | {'test': scores | {'without_near_duplicates': 3}}, 'no o'),
      *(('summary', SUMMARY | {'temperature': value}, f'temperature={value} is')
        for value in (1e-300, -1, 0, 1e6)),
      ('summary', SUMMARY | {'temperature': float('inf')}, 'no finite number'),
      ('summary', SUMMARY | {'best': {'step': 10**400}}, 'no finite number'),
      ('summary', SUMMARY | {'threshold': 7.5}, 'threshold=7.5 is not from 0 to 1'),
      ('summary', SUMMARY | {'test': scores | {'class_counts': {'b': 1, 'a': 2}}},
       'class_names are a, b, the counts of b, a'),
      ('summary', SUMMARY | {'test': scores | {'auc': {
          'estimate': 88, 'low': 0.1, 'high': 0.2}}}, 'auc: estimate=88 is not from'),
      ('summary', SUMMARY | {'test': scores | {'auc': {'a': 0.5}}}, 'no object'),
      ('summary', SUMMARY | {'test': scores | {'calibration': [1]}}, 'calibration is'),
      ('summary', SUMMARY | {'test': scores | {'threshold_sweep': {
          'thresholds': [0.1], 'jaccard_cam': [0.1, 'x']}}}, 'jaccard_cam is of'),
      ('summary', SUMMARY | {'test': scores | {'files': {'a': 1}}}, 'a is of another'),
      ('config', [], 'holds a list, no object'),
      ('config', CONFIG | {'width': 'abc'}, 'of another version: width='),
      ('config', CONFIG | {'taps': 3}, 'of another version: taps='),
      ('config', CONFIG | {'normalisation': 'x'}, 'version: normalisation=')):
    (tmp_path / f'{name}.json').write_text(json.dumps(content))
    with pytest.raises(errors.UserError, match=words) as caught:
      config[name](tmp_path)
    assert f'{name}.json' in str(caught.value) and '\n' not in str(caught.value)


def test_a_summary_of_other_data_or_files_is_told(tmp_path):
  _bind(tmp_path)
  table = tmp_path / 'predictions' / 'test.csv'
  table.parent.mkdir()
  table.write_text('image,label,a,b')
  scores = {'n': 3, 'files': run_folder.digests(tmp_path, 'test')}
  files.write_json(tmp_path / 'summary.json', SUMMARY | {'test': scores})
  run_folder.check_digests(tmp_path, run_folder.read_summary(tmp_path)['test'], 'test')
  table.write_text('image,label,b,a')
  with pytest.raises(errors.UserError, match=r'predictions/test\.csv has changed'):
    run_folder.check_digests(tmp_path, scores, 'test')
  table.unlink()  # whoever reads it will say so
  run_folder.check_digests(tmp_path, scores, 'test')
  files.write_json(tmp_path / 'summary.json',
                   SUMMARY | {'fingerprints': {'train': 'e' * 64}})
  with pytest.raises(errors.UserError, match='other train data than environment'):
    run_folder.read_summary(tmp_path)


def test_an_evaluation_needs_no_data_of_the_training(tmp_path):
  later = {name: value for name, value in SUMMARY.items()
           if name not in ('fingerprints', 'trained_on')}
  files.write_json(tmp_path / 'summary.json', later)
  assert run_folder.read_evaluation(tmp_path) == later
  files.write_json(tmp_path / 'summary.json', {'class_names': []})
  with pytest.raises(errors.UserError, match=r'threshold is missing.*evaluate\.py'):
    run_folder.read_evaluation(tmp_path)


def test_a_folder_that_cannot_be_written_any_more_is_one_line(tmp_path):
  for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES,
                 errno.EIO):
    for name in (None, str(tmp_path / 'metrics.jsonl')):
      with pytest.raises(errors.UserError, match=f'^workdir={tmp_path} cannot be '
                         f'written .{os.strerror(number)}'), run_folder.claim(tmp_path):
        raise OSError(number, os.strerror(number), name)
  for error in (FileNotFoundError(errno.ENOENT, 'none', 'weights.pth'),
                PermissionError(errno.EACCES, 'forbidden', '/elsewhere/weights.pth'),
                BrokenPipeError(errno.EPIPE, 'Broken pipe')):
    with pytest.raises(type(error)), run_folder.claim(tmp_path):
      raise error
