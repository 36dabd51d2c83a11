"""Memory of images, rows of an epoch, and maps instead of photographs, on phantoms."""

import functools
import shutil

import jax
import numpy as np
import pytest

from attnmel_jax import parallel
from attnmel_jax.experiments import batches as batches_lib
from attnmel_jax.experiments import build
from attnmel_jax.experiments import methods
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.training import augment
from attnmel_jax.training import losses
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import step as step_lib


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
  schedule = build.schedule(config | {'min_steps': 100}, batches.steps_per_pass)
  assert (schedule.total_steps, schedule.steps_per_epoch) == (102, 34)


@pytest.fixture
def frozen(config, tmp_path):
  """A config with a frozen backbone, on data of its own; maps are written into it."""
  shutil.copytree(config['data_dir'], tmp_path / 'data')
  return config | {
      'data_dir': str(tmp_path / 'data'), 'freeze_backbone': True, 'random_crop': False,
      'dice_weights': (0.5, 1.)}


def _variables(config):
  """Initial ones, with running statistics as if they had been trained."""
  variables, _ = build.initial_variables(config, 2, sample=None)
  rng = np.random.default_rng(0)
  return variables | {'batch_stats': jax.tree.map(
      lambda x: rng.uniform(0.5, 1, x.shape).astype(np.float32),
      variables['batch_stats'])}


def _reference(config):
  """A step on photographs with BatchNorm in evaluation mode; the trunk's rate is 0."""
  model = methods.of(config).create_model(config, 2, remat=False)
  seen = build.input_of(config)

  def step(state, batch, hyper):
    keys, _ = step_lib.split_keys(
        step_lib.example_keys(hyper['seed'], state.step, len(batch['label']), None))
    image, roi = augment.augment(
        batch['image'], batch['roi'], keys, build.augmentation(config),
        image_size=seen.image_size)
    targets = batch | {'roi': roi / 255.}

    def loss(params):
      logits, out = model.apply(
          state.variables() | {'params': params}, seen.normalise(image), train=False)
      return losses.evaluate(
          losses.classification(config['taps']), logits, out, targets, hyper,
          axis_name=None)

    gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
    del gradients['backbone']
    return state_lib.apply_gradients(
        state, gradients, {}, tx=build.optimiser(config),
        learning_rate=hyper['learning_rate'],
        weight_decay=hyper['weight_decay']), metrics

  return jax.jit(step)


def test_a_step_on_maps_is_that_of_a_trunk_that_does_not_learn(frozen):
  task = task_lib.open_task(frozen)
  stores = batches_lib.open_stores(frozen, task)
  variables = jax.device_get(_variables(frozen))
  maps = batches_lib.open_maps(frozen, task, stores, variables, quiet=True)
  plain = batches_lib.training_batches(frozen, task, stores['train'])
  fed = batches_lib.with_maps(frozen, plain, maps['train'], num_steps=4)
  hyper = build.hyperparameters(frozen) | {'learning_rate': np.float32(0.05)}
  update = parallel.update(build.training_step(frozen, 2))
  reference = _reference(frozen)
  state, expected = (build.initial_state(frozen, variables) for _ in range(2))
  for step in range(4):
    state, terms = update(state, parallel.shard(fed.batch_at(step)), hyper)
    expected, wanted = reference(
        jax.device_get(expected), plain.batch_at(step), hyper)
    for name, value in wanted.items():
      assert float(terms[name]) == pytest.approx(float(value), rel=1e-3), name
  state, expected = jax.device_get((state, expected))
  for kept in ('params', 'batch_stats'):
    jax.tree.map(np.testing.assert_array_equal,
                 getattr(state, kept)['backbone'], variables[kept]['backbone'])

  def alike(found, wanted, first):
    moved = np.abs(wanted - first).max()
    assert moved > 1e-4  # of numbers of about 0.1
    np.testing.assert_allclose(found, wanted, atol=5e-3 * moved)

  jax.tree.map(alike, *(state_lib.of_head(params) for params in (
      state.params, expected.params, variables['params'])))


def test_maps_are_in_memory_where_they_fit_and_mapped_elsewhere(frozen):
  task = task_lib.open_task(frozen)
  variables = _variables(frozen)
  plain = frozen | {'random_flip': False, 'random_rotation': False}
  read = []
  for config, images in ((frozen, 84), (plain, 84), (plain, 0)):
    # Photographs, lesion masks; a row of maps of one view.
    stores = batches_lib.open_stores(config, task)
    taken = sum(store.nbytes for store in stores.values())
    read.append(batches_lib.open_maps(
        config | {'cache_gib': (taken + images * 208 * 2) / 2**30}, task, stores,
        variables, quiet=True))
  eight, whole, mapped = read
  assert [len(maps['train'].views) for maps in read] == [8, 1, 1]
  assert [maps.in_memory for maps in eight.values()] == [False, True, True]
  assert all(maps.in_memory for maps in whole.values())
  assert not any(maps.in_memory for maps in mapped.values())
  make = functools.partial(batches_lib.evaluation_batches, plain,
                           task.parts['test'], stores['test'])
  for one, other in zip(make(whole['test']), make(mapped['test']), strict=True):
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert one['features']['pool3'].shape == (16, 4, 4, 8)
