"""A config -> model, first variables, steps, schedule and numbers of the step."""

from collections.abc import Callable
from collections.abc import Mapping
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import images
from attnmel_jax import parallel
from attnmel_jax.evaluation import predict
from attnmel_jax.experiments import methods
from attnmel_jax.models import backbones
from attnmel_jax.models import pretrained
from attnmel_jax.training import augment
from attnmel_jax.training import frozen
from attnmel_jax.training import schedule as schedule_lib
from attnmel_jax.training import state as state_lib
from attnmel_jax.training import step as step_lib


def enable_float64(config: Mapping[str, Any]) -> None:
  """Enables float64 in JAX, which has to happen before its first array."""
  jax.config.update('jax_enable_x64', config['dtype'] == 'float64')


def loss_dtype(config: Mapping[str, Any]) -> jnp.dtype:
  """Of images, losses and maps: never below float32."""
  return jnp.dtype('float64' if config['dtype'] == 'float64' else 'float32')


def input_of(config: Mapping[str, Any]) -> images.Input:
  """What the network is shown of an image."""
  return images.Input(config['image_size'], config['normalisation'], loss_dtype(config))


def variable_shapes(config: Mapping[str, Any], num_classes: int) -> Any:
  """Shapes of all variables, without making them."""
  return jax.eval_shape(_initialiser(config, num_classes), jax.random.key(0))


def count_parameters(params: Any) -> int:
  """Numbers in a tree of parameters."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def _initialiser(config, num_classes):
  model = methods.of(config).create_model(config, num_classes, remat=False)
  size = config['image_size']
  blank = jnp.zeros((1, size, size, 3), loss_dtype(config))
  return lambda key: model.init(key, blank, train=False)


def initial_variables(config: Mapping[str, Any], num_classes: int,
                      sample: Callable[[], np.ndarray]) -> tuple[Any, list[str]]:
  """Random variables, with pretrained weights over them where the config asks.

  Args:
    config: of the run.
    num_classes: of the task.
    sample: gives some training images uint8 [N, S, S, 3]; called only to
      rescale pretrained layers.

  Returns:
    The variables, and notes for the user.
  """
  variables = jax.jit(_initialiser(config, num_classes))(
      jax.random.key(config['seed']))
  if not config['pretrained']:
    return variables, ['all weights are new: pretrained is empty']
  if config['pretrained'] == 'imagenet':
    path = pretrained.fetch_imagenet(config['backbone'], files.cache_dir())
  else:
    path = errors.expanded(config['pretrained'])
  variables, report = pretrained.apply_weights(
      variables, pretrained.load_file(path), backbone=config['backbone'])
  notes = [f'weights from {path}', *report.lines()]
  expected = backbones.find(config['backbone']).normalisation
  if config['normalisation'] != expected:
    notes.append(
        f'these weights were trained with normalisation={expected!r}; the config has '
        f'{config["normalisation"]!r}')
  if config['rescale_pretrained']:
    image = input_of(config).normalise(
        images.centre_crop(jnp.asarray(sample()), config['image_size']))
    variables = pretrained.rescale(variables, image, backbone=config['backbone'])
    notes.append(f'layers rescaled to unit activation over {len(image)} images')
  return variables, notes


def training_step(config: Mapping[str, Any], num_classes: int) -> Callable[..., Any]:
  """The per-device `step(state, batch, hyper)`, its statics bound."""
  method = methods.of(config)
  return functools.partial(
      step_lib.train_step,
      model=method.create_model(config, num_classes, remat=config['remat']),
      loss=method.loss(config), tx=optimiser(config), augmentation=augmentation(config),
      input=input_of(config), accumulate_steps=config['accumulate_steps'],
      axis_name=parallel.AXIS)


def augmentation(config: Mapping[str, Any]) -> augment.Augmentation:
  """What is random about a training image."""
  return augment.Augmentation(
      random_crop=config['random_crop'], random_flip=config['random_flip'],
      random_rotation=config['random_rotation'])


def schedule(config: Mapping[str, Any], steps_per_pass: int) -> schedule_lib.Schedule:
  """Steps, learning rates and checkpoints of a run."""
  return schedule_lib.Schedule(
      steps_per_epoch=max(steps_per_pass * config['passes_per_epoch'],
                          math.ceil(config['min_steps'] / config['num_epochs'])),
      num_epochs=config['num_epochs'], learning_rate=config['learning_rate'],
      decay_every_epochs=config['decay_every_epochs'],
      decay_factor=config['decay_factor'],
      checkpoint_every_steps=config['checkpoint_every_steps'],
      log_every_steps=config['log_every_steps'])


def hyperparameters(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The step's numbers but for the learning rate, which changes as it goes."""
  dtype = loss_dtype(config)
  return {'weight_decay': np.asarray(config['weight_decay'], dtype),
          'focal_gamma': np.asarray(config['focal_gamma'], dtype),
          'dice_weights': np.asarray(config['dice_weights'], dtype),
          'seed': np.uint32(config['seed'])}


def optimiser(config: Mapping[str, Any]) -> optax.GradientTransformation:
  """SGD with the config's momentum."""
  return state_lib.optimiser(momentum=config['momentum'], nesterov=config['nesterov'])


def initial_state(config: Mapping[str, Any], variables: Any) -> state_lib.TrainState:
  """A state at step 0 on all devices."""
  return parallel.replicated(state_lib.create(
      variables, optimiser(config), frozen=config['freeze_backbone']))


def state_template(config: Mapping[str, Any], num_classes: int
                   ) -> state_lib.TrainState:
  """Shapes, types and placement of a state, to restore one onto."""
  initialise = _initialiser(config, num_classes)
  shapes = jax.eval_shape(
      lambda key: state_lib.create(initialise(key), optimiser(config),
                                   frozen=config['freeze_backbone']),
      jax.random.key(0))
  return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype,
                                        sharding=parallel.replication()), shapes)


def eval_step(config: Mapping[str, Any], num_classes: int) -> Callable[..., Any]:
  """The per-device `step(variables, batch)` of `predict.eval_step`."""
  method = methods.of(config)
  return functools.partial(
      predict.eval_step, model=method.create_model(config, num_classes, remat=False),
      take=method.take(config), input=input_of(config), tta=config['tta'])


def prediction_step(config: Mapping[str, Any], num_classes: int) -> Callable[..., Any]:
  """`eval_step` on all devices; with tta the mean over the eight views."""
  return predict.on_devices(eval_step(config, num_classes), tta=config['tta'])


def maps_step(config: Mapping[str, Any], num_classes: int) -> Callable[..., Any]:
  """The per-device `step(variables, batch)` of `frozen.maps_step`.

  It gives the maps at all taps, whether the model reads them or not, so that its runs
  share them with the other models'.
  """
  model = methods.of(config).create_model(config, num_classes, remat=False)
  return frozen.maps_step(
      model, input_of(config), (*sorted(config['taps']), 'pool5'))
