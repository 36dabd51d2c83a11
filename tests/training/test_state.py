"""SGD against torch's formula, written out in numpy."""

import functools

import jax
import numpy as np
import pytest

from attnmel_jax.training import state as state_lib


@pytest.mark.parametrize('nesterov', [False, True])
def test_sgd_is_torchs(float64, nesterov):
  rng = np.random.default_rng(0)
  param = rng.normal(size=4)  # weight decay is on biases too
  gradients = rng.normal(size=(6, 4))
  rates = [0.1, 0.1, 0.01, 0.01, 0.5, 0.1]  # the rate is not part of the buffer
  decay, momentum = 0.03, 0.9

  tx = state_lib.optimiser(momentum=momentum, nesterov=nesterov)
  state = state_lib.create({'params': {'w': param}}, tx)
  step = jax.jit(functools.partial(state_lib.apply_gradients, tx=tx))
  buffer = None
  for number, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
    state = step(state, {'w': gradient}, {}, learning_rate=rate, weight_decay=decay)
    # torch.optim.SGD(weight_decay=decay, momentum=momentum, dampening=0)
    d = gradient + decay * param
    buffer = d if buffer is None else momentum * buffer + d
    param = param - rate * (d + momentum * buffer if nesterov else buffer)
    np.testing.assert_allclose(state.params['w'], param, rtol=1e-13)
    assert int(state.step) == number + 1


def test_a_new_state_is_at_step_0_with_momentum_0():
  variables = {'params': {'w': np.ones(2, np.float32)},
               'batch_stats': {'mean': np.full(1, 3, np.float32)}}
  state = state_lib.create(
      variables, state_lib.optimiser(momentum=0.9, nesterov=True))
  assert state.step == 0
  assert state.step.dtype == np.int32
  assert state.variables() == variables
  np.testing.assert_array_equal(jax.tree.leaves(state.momentum), [[0, 0]])


def test_batch_stats_are_replaced_and_may_be_absent():
  tx = state_lib.optimiser(momentum=0., nesterov=False)
  state = state_lib.create({'params': {'w': np.ones(1)}}, tx)
  assert state.variables()['batch_stats'] == {}
  state = state_lib.apply_gradients(
      state, {'w': np.ones(1)}, {'mean': 5}, tx=tx, learning_rate=1., weight_decay=0.)
  assert state.batch_stats == {'mean': 5}
