"""Images and maps of a task, batch by batch; with a frozen backbone its maps."""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import Any

from attnmel_jax import parallel
from attnmel_jax.data import pipeline
from attnmel_jax.data import storage
from attnmel_jax.experiments import build
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.training import augment
from attnmel_jax.training import frozen
from attnmel_jax.training import stored_maps

# Of the config: what maps depend on besides weights and images.
_SHOWN = ('backbone', 'width', 'dtype', 'image_size', 'normalisation')


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


def open_maps(config: Mapping[str, Any], task: task_lib.Task,
              stores: Mapping[str, pipeline.ImageStore], variables: Any, *,
              quiet: bool) -> dict[str, stored_maps.Maps]:
  """Maps of the frozen backbone for every part, {} where it is not frozen.

  Those that no run has computed yet are computed and kept. They are in memory where
  they fit what the stores leave of the budget.

  Args:
    config: of the run.
    task: of the run.
    stores: of `open_stores`.
    variables: of the model; of the backbone they never change.
    quiet: show no progress.
  """
  if not config['freeze_backbone']:
    return {}
  step = build.maps_step(config, len(task.class_names))
  layout = frozen.layout(step, variables, side=config['resize_size'])
  shown = {name: config[name] for name in _SHOWN} | {'maps': [*layout.shapes]}
  wanted = {}  # split -> store, identity, views
  for name, store in stores.items():
    views = augment.views(build.augmentation(config)) if name == 'train' else (0,)
    wanted.setdefault(store.split.split, (
        store, frozen.identity(variables, store.split, shown), views))

  def compute():
    for store, identity, views in wanted.values():
      frozen.compute(step, variables, store, identity, layout, views=views,
                     quiet=quiet)

  parallel.from_main(compute)
  parallel.in_every_process(compute)  # whose host has another disk
  opened = {}
  left = config['cache_gib'] - sum(s.nbytes for s, *_ in wanted.values()) / 2**30
  for split, (store, identity, views) in wanted.items():
    opened[split] = stored_maps.open_maps(
        store.split, identity, layout, views, memory_gib=left)
    left -= opened[split].nbytes / 2**30
  return {name: opened[store.split.split] for name, store in stores.items()}


def with_maps(config: Mapping[str, Any], batches: pipeline.TrainingBatches,
              maps: stored_maps.Maps | None, *, num_steps: int
              ) -> pipeline.TrainingBatches:
  """Training batches of the maps of a frozen backbone; as they are without maps."""
  if maps is None:
    return batches
  views = frozen.draw_views(
      build.augmentation(config), seed=config['seed'], num_steps=num_steps,
      batch_size=config['batch_size'])
  return dataclasses.replace(batches, finish=frozen.training(
      maps, views, part=batches.part, image_size=config['image_size']))


def undecoded(part: parts_lib.Part) -> pipeline.ImageStore:
  """A store of the part's images, read one by one where they are needed at all."""
  return pipeline.ImageStore(part.prepared, (), None)


def evaluation_batches(config: Mapping[str, Any], part: parts_lib.Part,
                       store: pipeline.ImageStore,
                       maps: stored_maps.Maps | None = None
                       ) -> Iterator[pipeline.Batch]:
  """Every row of the part once, in padded batches; this process's part of each.

  With `maps` of a frozen backbone the batches hold those, but for test-time
  augmentation: it sees the photographs, as seven of its views are kept of none.
  """
  if maps is None or config['tta']:
    finish = pipeline.as_it_is
  else:
    finish = frozen.evaluation(maps)
  return pipeline.evaluation_batches(
      store, part.rows, part.labels, region=pipeline.NO_REGION,
      batch_size=config['batch_size'], part=parallel.batch_part(config['batch_size']),
      finish=finish)
