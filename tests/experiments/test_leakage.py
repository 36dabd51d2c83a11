"""What aborts a run before it trains, what is reported, what is scored twice."""

import json
import types

import numpy as np
import pytest
import safetensors.numpy

from attnmel_jax import errors
from attnmel_jax.data import near_duplicates
from attnmel_jax.experiments import leakage
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import task as task_lib

_RNG = np.random.default_rng(0)
# Photographs of nothing in particular, by name; an id may name the same one twice.
_PHOTOGRAPHS = {name: _RNG.integers(0, 256, (64, 64, 3), np.uint8) for name in 'abcdef'}


class Store:
  """Counts what is read."""

  def __init__(self, ids):
    self.ids, self.read_rows = ids, 0

  def read(self, rows):
    self.read_rows += len(rows)
    # The first letter of an id is its photograph.
    return {'image': np.stack([_PHOTOGRAPHS[self.ids[row][0]] for row in rows])}


def _part(ids, *, groups=None, dataset='isic2017', split='train', fingerprint='f'):
  count = len(ids)
  prepared = types.SimpleNamespace(
      dataset=dataset, split=split, fingerprint=f'{fingerprint} {split}',
      ids=np.array(ids), groups=np.array(groups or ids))
  return parts_lib.Part(prepared, np.arange(count), np.zeros(count, np.int32), ())


def _task(unet=None, **parts):
  maps = None if unet is None else types.SimpleNamespace(unet=unet)
  return types.SimpleNamespace(parts=parts, generated=maps)


def _stores(task):
  return {name: Store(part.ids) for name, part in task.parts.items()}


CONFIG = {'group_folds': True, 'allow_leakage': False, 'data_dir': '', 'pretrained': ''}


def _check(task, folder, **config):
  return leakage.of_run(CONFIG | config, task, _stores(task), folder)


def _check_names(task, _, **config):
  leakage.check_names(CONFIG | config, task)


def _evaluate(learnt, part, folder, **asked):
  return leakage.of_evaluation(learnt, part, folder, **{
      'unet': None, 'pretrained_from': '', 'data_dirs': (), 'allowed': False} | asked)


NOTHING = {'allowed': False, 'found': [], 'near_duplicates': {}}


def test_parts_without_anything_in_common(tmp_path):
  task = _task(train=_part(['a', 'b']), validation=_part(['c']), test=_part(['d']))
  assert _check(task, tmp_path) == NOTHING
  shared = json.loads((tmp_path / 'leakage.json').read_text())['shared']
  assert [item['parts'] for item in shared] == [
      ['train', 'validation'], ['train', 'test'], ['validation', 'test']]
  assert leakage.lines(NOTHING) == []


def test_copies_inside_an_official_split_are_scored_with_and_without(tmp_path):
  task = _task(train=_part(['a', 'b']),
               validation=_part(['b2', 'c'], split='validation'),
               test=_part(['a2', 'c2', 'd'], split='test'))
  found = _check(task, tmp_path)
  assert found == NOTHING | {
      'near_duplicates': {'validation': ['b2'], 'test': ['a2', 'c2']}}
  assert leakage.lines(found)[1].endswith('with and without them: a2, c2')


@pytest.mark.parametrize('places', [
    {'dataset': 'isic2018'},                     # a fold of one split
    {'dataset': 'folder'}, {'dataset': 'folder', 'split': 'test'}])
def test_copies_abort_what_the_run_divided_itself(tmp_path, places):
  task = _task(train=_part(['a'], dataset=places['dataset']),
               test=_part(['a2', 'b'], **places))
  with pytest.raises(errors.UserError) as caught:
    _check(task, tmp_path)
  assert str(caught.value).startswith(
      'train and test share 1 near-duplicate pairs: a = a2 (correlation 1.000): ')
  assert '--config.allow_leakage=True' in str(caught.value)
  found = _check(task, tmp_path, allow_leakage=True)
  assert found == {
      'allowed': True, 'near_duplicates': {'test': ['a2']},
      'found': ['train and test share 1 near-duplicate pairs: a = a2 (correlation '
                '1.000)']}
  assert leakage.lines(found)[0] == f'leakage: {found["found"][0]}'


def test_what_naive_folds_share_is_reported(tmp_path):
  task = _task(train=_part(['a', 'b'], groups=['L', 'M']),
               test=_part(['c', 'b2'], groups=['L', 'b2']))
  found = _check(task, tmp_path, group_folds=False)
  line, = found['found']
  assert line.startswith('train and test share 1 lesions: L; 1 near-duplicate pairs')
  assert line.endswith('(group_folds=False)')
  # Without the copies the lesions that are left would flatter the scores still.
  assert found['near_duplicates'] == {}
  _check_names(task, tmp_path, group_folds=False)
  with pytest.raises(errors.UserError, match='1 lesions: L; 1 near-duplicate'):
    _check(task, tmp_path)
  with pytest.raises(errors.UserError, match='1 lesions: L: .*allow_leakage=True'):
    _check_names(task, tmp_path)


@pytest.mark.parametrize('group_folds', [True, False])
def test_shared_images_and_lesions_of_different_splits_always_abort(
    tmp_path, group_folds):
  parts = {'images': _part(['a', 'd'], split='test'),
           'lesions': _part(['d'], groups=['M'], split='test')}
  for what, test in parts.items():
    task = _task(train=_part(['a', 'b'], groups=['a', 'M']), test=test)
    for check in (_check, _check_names):
      with pytest.raises(errors.UserError, match=f'train and test share 1 {what}: '):
        check(task, tmp_path, group_folds=group_folds)
    _check_names(task, tmp_path, group_folds=group_folds, allow_leakage=True)
    found = _check(task, tmp_path, group_folds=group_folds, allow_leakage=True)
    assert found['found'] == [
        f'train and test share 1 {what}: {"a" if what == "images" else "M"}']


def test_images_are_looked_at_once(tmp_path):
  task = _task(train=_part(['a', 'b']), test=_part(['a2'], split='test'))

  def read():
    stores = _stores(task)
    found = leakage.of_run(CONFIG, task, stores, tmp_path)
    assert found['near_duplicates'] == {'test': ['a2']}
    return [store.read_rows for store in stores.values()]

  assert read() == [2, 1]
  assert read() == [0, 0]
  for damaged in ('{', '[]', '{"identity": "another"}'):
    (tmp_path / 'leakage.json').write_text(damaged)
    assert read() == [2, 1]
  for changed in ({'fingerprint': 'prepared anew'}, {'groups': ['lesion']}):
    task.parts['test'] = _part(['a2'], split='test', **changed)
    assert read() == [2, 1]
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(near_duplicates, 'SETTINGS', ('others',))
    assert read() == [2, 1]


@pytest.fixture
def _undecoded(monkeypatch):
  """Stores of an evaluation read the photographs above."""
  monkeypatch.setattr(leakage.pipeline, 'ImageStore',
                      lambda prepared, *_: Store(prepared.ids))


@pytest.mark.usefixtures('_undecoded')
def test_a_network_that_began_from_another_reports_it(tmp_path):
  task = _task(train=_part(['a']), test=_part(['b'], split='test'))
  weights = {'classifier.weight': np.zeros(2, np.float32)}
  exported, plain = tmp_path / 'own.safetensors', tmp_path / 'plain.safetensors'
  safetensors.numpy.save_file(weights, exported, {'config': '{"dataset": "isic2017"}'})
  safetensors.numpy.save_file(weights, plain)
  for path, found in (
      (exported, ['unknown for copies of the isic2017 images behind pretrained='
                  'own.safetensors']), (plain, []), ('imagenet', []),
      (tmp_path / 'no.safetensors', ['unknown for the images behind pretrained='
                                     'no.safetensors, which cannot be read'])):
    assert _check(task, tmp_path, pretrained=str(path))['found'] == found
    tested = _part(['c'], dataset='isic2016', split='test')
    evaluated = _evaluate(task, tested, tmp_path, pretrained_from=str(path))
    assert evaluated['found'] == found


@pytest.mark.usefixtures('_undecoded')
def test_images_that_a_run_was_trained_on_abort_its_evaluation(tmp_path):
  learnt = _task(train=_part(['a', 'b']), validation=_part(['c'], split='validation'),
                 test=_part(['d'], split='test'))
  elsewhere = {'dataset': 'isic2016', 'split': 'test', 'fingerprint': 'g'}

  def evaluate(*ids, allowed=False, **place):
    return _evaluate(learnt, _part(list(ids), **(place or elsewhere)), tmp_path,
                     allowed=allowed)

  assert evaluate('d', 'e') == NOTHING  # its own test images taught it nothing
  for ids, said in ((['a', 'e'], 'isic2017 train and isic2016 test share 1 images: a'),
                    (['c2'], 'isic2017 validation and isic2016 test share 1 near-dup')):
    with pytest.raises(errors.UserError, match=f'{said}.*--allow_leakage'):
      evaluate(*ids)
    found = evaluate(*ids, allowed=True)
    assert found['allowed'] and found['found'][0].startswith(said)
  assert found['near_duplicates'] == {'test': ['c2']}
  # The data set's own test images, that arrived later.
  assert evaluate('a2', 'e', split='test') == NOTHING | {
      'near_duplicates': {'test': ['a2']}}
  # Its own images, if that is asked for.
  assert evaluate('a', 'b', split='train')['found'] == [
      'the run was trained on isic2017 train, or on a part of it']
  assert evaluate('c', 'b2', split='validation') == NOTHING | {
      'near_duplicates': {'validation': ['b2']}}
  assert leakage.lines(leakage.not_compared('not prepared', False)) == [
      'leakage: unknown, as the training images of the run are not available (not '
      'prepared)']


@pytest.fixture
def _unet(monkeypatch):
  """Trained on the photographs a and e; is prepared in the folder 'here' alone."""
  def open_learnt(unet, data_dir, lesions):
    if data_dir != 'here':
      raise errors.UserError(f'not prepared in {data_dir}')
    return [_part(unet['trained_on'], groups=[
        lesions.get(name, name) for name in unet['trained_on']], dataset='task1')]
  monkeypatch.setattr(task_lib, 'open_learnt', open_learnt)
  return {'trained_on': ['a1', 'e1']}


@pytest.mark.usefixtures('_undecoded')
@pytest.mark.parametrize(('tested', 'said'), [
    ({'ids': ['d', 'e2']}, '1 near-duplicate pairs: e1 = e2 (correlation 1.000)'),
    # The lesion of a1 is known where the run's own images are listed.
    ({'ids': ['d', 'f'], 'groups': ['d', 'A']}, '1 lesions: A')])
def test_images_that_trained_the_unet_of_the_masks_abort_tests(
    _unet, tmp_path, tested, said):
  train = _part(['a1', 'b'], groups=['A', 'b'])
  with pytest.raises(errors.UserError, match='^train and test share 1 lesions: A; .*'
                     if 'A' in said else '^the U-Net of the masks and test share 1 n'):
    _check(_task(_unet, train=train, test=_part(**tested, split='test')), tmp_path,
           data_dir='here')
  found = _check(_task(_unet, train=train, test=_part(**tested, split='test')),
                 tmp_path, data_dir='here', allow_leakage=True)
  assert found['found'][-1] == f'the U-Net of the masks and test share {said}'
  # Masks may well be of training images that the U-Net knew.
  assert _check(_task(_unet, train=train, test=_part(['d'], split='test')), tmp_path,
                data_dir='here') == NOTHING
  with pytest.raises(errors.UserError, match='of the masks and isic2018 test'):
    _evaluate(_task(train=train), _part(**tested, dataset='isic2018', split='test'),
              tmp_path, unet=_unet, data_dirs=('away', 'here'))


@pytest.mark.usefixtures('_undecoded')
def test_a_unet_whose_images_are_away_leaves_leakage_unknown(_unet, tmp_path):
  test = _part(['e2'], split='test')
  found = _check(_task(_unet, train=_part(['b']), test=test), tmp_path, data_dir='away')
  evaluated = _evaluate(_task(train=_part(['b'])), test, tmp_path, unet=_unet,
                        data_dirs=('away',))
  assert found == evaluated == NOTHING | {'found': [
      'unknown for copies of the images of the U-Net of the masks: not prepared in '
      'away']}
