"""Splits, labels and schedule of a run, on prepared phantom data."""

import dataclasses

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.data import prepare
from attnmel_jax.data import storage
from attnmel_jax.experiments import batches as batches_lib
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.phantom import generate
from configs import isic2016
from configs import isic2018_cv
from configs import isic2018_task1


def test_the_official_split_is_used_where_it_is_prepared(config):
  task = task_lib.open_task(config)
  assert {name: len(part.rows) for name, part in task.parts.items()} == {
      'train': 48, 'validation': 16, 'test': 20}
  assert task.class_names == ('other', 'melanoma')
  train = task.parts['train']
  melanoma = train.prepared.labels == train.prepared.class_names.index('melanoma')
  np.testing.assert_array_equal(train.row_labels, melanoma)
  counts = parts_lib.describe(train)
  assert counts['images'] == 48
  assert counts['melanoma'] == melanoma.sum()
  assert counts['melanoma'] + counts['seborrheic_keratosis'] + counts['nevus'] == 48
  assert task.synthetic and not task_lib.is_divided(task)


def test_a_fold_takes_all_three_parts_from_the_training_images(config):
  task = task_lib.open_task(
      config | {'num_folds': 2, 'fold': 1, 'validation_fraction': 0.25})
  ids = np.concatenate([part.ids for part in task.parts.values()])
  assert sorted(ids) == sorted(task.parts['train'].prepared.ids)
  assert {part.prepared.split for part in task.parts.values()} == {'train'}
  assert task_lib.is_divided(task)
  stores = batches_lib.open_stores(config, task)
  assert stores['train'] is stores['test']  # decoded once


def test_an_unprepared_data_set_names_the_command(config, tmp_path):
  with pytest.raises(errors.UserError, match=r'launch/prepare\.py'):
    task_lib.open_task(config | {'data_dir': str(tmp_path)})
  with pytest.raises(errors.UserError, match='resize_size=40'):
    task_lib.open_task(config | {'resize_size': 40})


@pytest.fixture(scope='module')
def years(tmp_path_factory):
  """Folder of prepared phantom data of 2016 and 2018, Task 1 included."""
  root = tmp_path_factory.mktemp('years')
  for year, counts in ((2016, {'train': 24, 'test': 12}),
                       (2018, {'train': 120, 'segmentation': 10})):
    generate.write_archives(root / str(year), year=year, counts=counts, size=48, seed=5,
                           artefact_bias={}, workers=1)
  for dataset, year, ratio in (('isic2016', 2016, 0.8), ('isic2018', 2018, 1.0),
                               ('isic2018_task1', 2018, 1.0)):
    prepare.from_archives(dataset, source=root / str(year), data_dir=root / 'data',
                     crop_ratio=ratio, resize_size=32)
  return root / 'data'


def _config(experiment, years, **changes):
  config = experiment.get_config().to_dict()
  return config | {'data_dir': str(years), 'resize_size': 32} | changes


def _classes(part):
  return np.bincount(part.row_labels, minlength=7)


def test_every_fold_tests_other_lesions_of_all_seven_classes(years):
  tasks = [task_lib.open_task(_config(isic2018_cv, years, fold=k)) for k in range(5)]
  tested = [image_id for task in tasks for image_id in task.parts['test'].ids]
  assert sorted(tested) == sorted(tasks[0].parts['train'].prepared.ids)
  for task in tasks:
    assert task.class_names == ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
    groups = {name: set(part.groups) for name, part in task.parts.items()}
    assert not groups['train'] & groups['test']
    assert not groups['train'] & groups['validation']
    assert not groups['validation'] & groups['test']
    assert sum(len(part.rows) for part in task.parts.values()) == 120
    for part in task.parts.values():
      assert _classes(part).min() >= 1
    # Rare classes hold out a lesion at least, so a little more than 10 %.
    assert 9 <= len(task.parts['validation'].rows) <= 20
    assert 22 <= len(task.parts['test'].rows) <= 26


def test_naive_folds_divide_lesions(years):
  config = _config(isic2018_cv, years, group_folds=False)
  parts = task_lib.open_task(config).parts
  assert set(parts['train'].groups) & set(parts['test'].groups)
  assert not set(parts['train'].ids) & set(parts['test'].ids)


def test_seeds_train_on_one_division_and_split_seeds_on_others(years):
  def tested(**changes):
    config = _config(isic2018_cv, years, **changes)
    return list(task_lib.open_task(config).parts['test'].ids)

  assert tested(seed=1) == tested(seed=0)
  assert tested(split_seed=1) != tested(split_seed=0)


@pytest.mark.parametrize(('synthetic', 'joined'), [(True, False), (False, True)])
def test_copies_are_one_lesion_but_for_phantoms(years, monkeypatch, synthetic, joined):
  opened = storage.open_split

  def renamed(*arguments, **named):
    split = opened(*arguments, **named)
    ids = split.ids.copy()
    ids[:2] = 'ISIC_0025226', 'ISIC_0030074'
    return dataclasses.replace(split, ids=ids, synthetic=synthetic)

  monkeypatch.setattr(storage, 'open_split', renamed)
  part = task_lib.open_part(_config(isic2018_cv, years), 'train')
  assert (part.groups[0] == part.groups[1]) == joined


def test_isic2016_has_no_validation_unless_a_share_is_asked_for(years):
  task = task_lib.open_task(_config(isic2016, years))
  assert {name: len(part.rows) for name, part in task.parts.items()} == {
      'train': 24, 'test': 12}
  assert task.class_names == ('other', 'malignant')
  divided = task_lib.open_task(_config(isic2016, years, validation_fraction=0.25))
  assert len(divided.parts['train'].rows) + len(divided.parts['validation'].rows) == 24
  assert 5 <= len(divided.parts['validation'].rows) <= 7
  assert task_lib.is_divided(divided)


def test_images_without_labels_are_no_classification_task(years):
  config = _config(isic2018_cv, years, dataset='isic2018_task1')
  with pytest.raises(errors.UserError, match='isic2018_task1 has no labels'):
    task_lib.open_task(config)
  part = task_lib.open_part(config, 'train')
  assert part.class_names == ()
  assert parts_lib.describe(part) == {
      'images': 10, 'lesion masks': 10, 'dermo maps': 10}


def test_a_unet_needs_no_labels(years):
  config = _config(isic2018_task1, years, num_folds=5, validation_fraction=0.25)
  tasks = [task_lib.open_task(config | {'fold': fold}) for fold in range(5)]
  assert {task.class_names for task in tasks} == {()}
  for task in tasks:
    assert {name: len(part.rows) for name, part in task.parts.items()} == {
        'train': 6, 'validation': 2, 'test': 2}
  tested = np.concatenate([task.parts['test'].ids for task in tasks])
  assert sorted(tested) == sorted(tasks[0].parts['train'].prepared.ids)
  # Labels are no obstacle, nor is the class that a classifier would tell.
  labelled = task_lib.open_task(config | {
      'dataset': 'isic2018', 'positive': ('melanoma',)})
  assert labelled.class_names == ()


def test_a_unet_is_not_chosen_without_masks(years, monkeypatch):
  opened = storage.open_split

  def without_masks(*arguments, **named):
    split = opened(*arguments, **named)
    return dataclasses.replace(split, has_lesion=np.zeros(len(split), bool))

  monkeypatch.setattr(storage, 'open_split', without_masks)
  with pytest.raises(errors.UserError, match='no validation image .* lesion mask'):
    task_lib.open_task(_config(isic2018_task1, years, num_folds=5))


def test_splits_of_other_classes_are_refused(tmp_path):
  for split, label in (('train', 'naevus'), ('test', 'nevus')):
    rows = generate.rows(year=2017, split=split, total=4, size=48, seed=1,
                        artefact_bias={})
    table = ['image,label,split']
    for number, row in enumerate(rows):
      data = generate.YEARS[2017].encode(row.image_id, row.case)[0]
      (tmp_path / f'{row.image_id}.jpg').write_bytes(data[f'{row.image_id}.jpg'])
      table.append(f'{row.image_id}.jpg,{"melanoma" if number % 2 else label},{split}')
    (tmp_path / f'{split}.csv').write_text('\n'.join(table))
    prepare.from_table(
        tmp_path, table=tmp_path / f'{split}.csv', classes=(), mask_kind='binary',
        data_dir=tmp_path, crop_ratio=1.0, resize_size=32)
  config = _config(isic2018_cv, tmp_path, dataset='folder', num_folds=1,
                   validation_fraction=0.0)
  with pytest.raises(errors.UserError, match='melanoma, nevus, .* melanoma, naevus'):
    task_lib.open_task(config)
