"""What a training run carries from step to step."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from attnmel_jax.models import classifiers


@flax.struct.dataclass
class TrainState:
  """Everything that a step reads and writes; a checkpoint holds just this."""

  step: jax.Array         # int32, number of steps done
  params: Any
  batch_stats: Any        # running BatchNorm statistics; empty without BatchNorm
  momentum: Any           # optax.trace state, of the parameters that are trained

  def variables(self) -> dict[str, Any]:
    """The collections that `model.apply` takes."""
    return {'params': self.params, 'batch_stats': self.batch_stats}


def optimiser(*, momentum: float, nesterov: bool) -> optax.GradientTransformation:
  """SGD but for the learning rate, which is an input of the step."""
  return optax.trace(decay=momentum, nesterov=nesterov)


def of_head(params: Any) -> Any:
  """What is trained of a classifier's parameters where its backbone is frozen."""
  return {name: value for name, value in params.items() if name != classifiers.TRUNK}


def create(variables: Any, tx: optax.GradientTransformation, *,
           frozen: bool = False) -> TrainState:
  """A state at step 0 from a model's initial variables.

  Args:
    variables: of the whole model.
    tx: see `optimiser`.
    frozen: whether the head alone is trained.
  """
  params = variables['params']
  # jit: one program of all the zeros, where each shape would be compiled by itself.
  momentum = jax.jit(tx.init)(of_head(params) if frozen else params)
  return TrainState(step=jnp.zeros((), jnp.int32), params=params,
                    batch_stats=variables.get('batch_stats', {}), momentum=momentum)


def apply_gradients(state: TrainState, gradients: Any, batch_stats: Any, *,
                    tx: optax.GradientTransformation, learning_rate: jax.Array,
                    weight_decay: jax.Array) -> TrainState:
  """The state after a step of SGD, as torch.optim.SGD does it.

  Args:
    state: before the step.
    gradients: of the loss, like `state.params`; modules that are missing stay.
    batch_stats: of the new state; those that are missing stay.
    tx: see `optimiser`.
    learning_rate: scalar.
    weight_decay: scalar; this times every parameter joins its gradient.
  """
  trained = {name: state.params[name] for name in gradients}
  gradients = jax.tree.map(
      lambda g, p: g + weight_decay * p, gradients, trained)
  updates, momentum = tx.update(gradients, state.momentum)
  params = jax.tree.map(lambda p, u: p - learning_rate * u, trained, updates)
  return TrainState(step=state.step + 1, params=state.params | params,
                    batch_stats=state.batch_stats | batch_stats, momentum=momentum)
