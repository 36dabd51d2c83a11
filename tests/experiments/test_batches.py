"""The memory that images take, and the rows of an epoch, on prepared phantom data."""

from attnmel_jax.experiments import batches as batches_lib
from attnmel_jax.experiments import build
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import task as task_lib


def test_the_memory_budget_is_for_all_parts_together(config):
  task = task_lib.open_task(config)
  image = 36 * 36 * 4  # photograph and lesion mask
  budget = (48 + 16) * image / 2**30
  stores = batches_lib.open_stores(config | {'cache_gib': budget}, task)
  assert [store.arrays is not None for store in stores.values()] == [True, True, False]


def test_the_schedule_counts_oversampled_rows(config):
  config |= {'oversample_factors': (4, 1, 1), 'num_epochs': 3, 'passes_per_epoch': 2}
  task = task_lib.open_task(config)
  batches = batches_lib.training_batches(
      config, task, batches_lib.undecoded(task.parts['train']))
  melanoma = parts_lib.describe(task.parts['train'])['melanoma']
  assert batches.rows_per_pass == 48 + 3 * melanoma
  schedule = build.schedule(config, batches.steps_per_pass)
  assert schedule.total_steps == (48 + 3 * melanoma) // 16 * 2 * 3
