"""Splits, labels and schedule of a run, on prepared phantom data."""

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.experiments import task as task_lib


def test_the_official_split_is_used_where_it_is_prepared(config):
  task = task_lib.open_task(config)
  assert {name: len(part.rows) for name, part in task.parts.items()} == {
      'train': 48, 'validation': 16, 'test': 20}
  assert task.class_names == ('other', 'melanoma')
  train = task.parts['train']
  melanoma = train.prepared.labels == train.prepared.class_names.index('melanoma')
  np.testing.assert_array_equal(train.row_labels, melanoma)
  counts = task_lib.describe(train)
  assert counts['images'] == 48
  assert counts['melanoma'] == melanoma.sum()
  assert counts['melanoma'] + counts['seborrheic_keratosis'] + counts['nevus'] == 48


def test_a_fold_takes_all_three_parts_from_the_training_images(config):
  task = task_lib.open_task(
      config | {'num_folds': 2, 'fold': 1, 'validation_fraction': 0.25})
  ids = np.concatenate([part.ids for part in task.parts.values()])
  assert sorted(ids) == sorted(task.parts['train'].prepared.ids)
  assert {part.prepared.split for part in task.parts.values()} == {'train'}
  stores = task_lib.open_stores(config, task)
  assert stores['train'] is stores['test']  # decoded once


def test_the_memory_budget_is_for_all_parts_together(config):
  task = task_lib.open_task(config)
  image = 36 * 36 * 4  # photograph and lesion mask
  budget = (48 + 16) * image / 2**30
  stores = task_lib.open_stores(config | {'cache_gib': budget}, task)
  assert [store.arrays is not None for store in stores.values()] == [True, True, False]


def test_the_schedule_counts_oversampled_rows(config):
  config |= {'oversample_factors': (4, 1, 1), 'num_epochs': 3, 'passes_per_epoch': 2}
  task = task_lib.open_task(config)
  batches = task_lib.training_batches(config, task, task_lib.undecoded(task))
  melanoma = task_lib.describe(task.parts['train'])['melanoma']
  assert batches.rows_per_pass == 48 + 3 * melanoma
  schedule = task_lib.schedule(config, batches.steps_per_pass)
  assert schedule.total_steps == (48 + 3 * melanoma) // 16 * 2 * 3


def test_an_unprepared_data_set_names_the_command(config, tmp_path):
  with pytest.raises(errors.UserError, match=r'launch/prepare\.py'):
    task_lib.open_task(config | {'data_dir': str(tmp_path)})
  with pytest.raises(errors.UserError, match='resize_size=40'):
    task_lib.open_task(config | {'resize_size': 40})


def test_phantom_data_are_called_synthetic(config):
  assert task_lib.open_task(config).synthetic
