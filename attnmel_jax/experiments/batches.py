"""Images and maps of a task, batch by batch."""

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from attnmel_jax import parallel
from attnmel_jax.data import pipeline
from attnmel_jax.data import storage
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import task as task_lib


def open_store(prepared: storage.PreparedSplit, region: pipeline.Region,
               cache_gib: float) -> pipeline.ImageStore:
  """The split's images and maps, in memory where they fit `cache_gib`."""
  return pipeline.open_store(
      prepared, maps=pipeline.needed_maps(region, evaluation=True),
      cache_gib=cache_gib)


def open_stores(config: Mapping[str, Any], task: task_lib.Task
                ) -> dict[str, pipeline.ImageStore]:
  """The store of every part; parts of one split share it, all share the budget.

  The region's map is read where there is training.
  """
  stores: dict[str, pipeline.ImageStore] = {}
  regions = {task.parts['train'].prepared.split: task.region}
  left = config['cache_gib']
  for part in task.parts.values():
    split = part.prepared.split
    if split not in stores:
      region = regions.get(split, pipeline.NO_REGION)
      stores[split] = open_store(part.prepared, region, left)
      left -= stores[split].nbytes / 2**30
  return {name: stores[part.prepared.split] for name, part in task.parts.items()}


def training_batches(config: Mapping[str, Any], task: task_lib.Task,
                     store: pipeline.ImageStore) -> pipeline.TrainingBatches:
  """This process's part of the batch of every training step."""
  train = task.parts['train']
  return pipeline.TrainingBatches(
      store, train.rows, train.labels, region=task.region,
      batch_size=config['batch_size'], sampler=config['sampler'],
      oversample_factors=config['oversample_factors'], seed=config['seed'],
      part=parallel.batch_part(config['batch_size']))


def undecoded(part: parts_lib.Part) -> pipeline.ImageStore:
  """A store of the part's images, read one by one where they are needed at all."""
  return pipeline.ImageStore(part.prepared, (), None)


def evaluation_batches(config: Mapping[str, Any], part: parts_lib.Part,
                       store: pipeline.ImageStore) -> Iterator[pipeline.Batch]:
  """Every row of the part once, in padded batches; this process's part of each."""
  return pipeline.evaluation_batches(
      store, part.rows, part.labels, region=pipeline.NO_REGION,
      batch_size=config['batch_size'], part=parallel.batch_part(config['batch_size']))
