"""A fixed training run, whose losses may not change from one version to the next.

Pinned as they came out in float64 on a CPU. Float32 differs from them by 1e-6, and by
1e-4 where the factors of products are rounded to 10 bits (TF32), as GPUs do by
default: a tolerance of 1e-3 is to hold on all. What changes the computation itself
(a draw of the augmentation, a weight, a sign) changes them by more.
"""

import jax
import numpy as np
import pytest

from tests.training import tiny

SMALL = {  # convolution, BatchNorm, dropout, two maps: all terms of the step
    'dice_loss_pool3': [0.7648706, 0.8671162, 0.8129442, 0.8042572, 0.7172133,
                        0.7046888, 0.6944808, 0.7506866],
    'dice_loss_pool4': [0.7876922, 0.8425865, 0.7980636, 0.7337003, 0.6992215,
                        0.6972194, 0.6961973, 0.7688927],
    'focal_loss': [0.2726856, 0.2543944, 0.2579983, 0.2383697, 0.1660700, 0.1073357,
                   0.1729392, 0.2066101],
    'loss': [1.4428131, 1.5305390, 1.4625340, 1.3741985, 1.2238982, 1.1568996,
             1.2163769, 1.3508461]}


def _run(name, backbone, dtype, steps):
  step = jax.jit(tiny.step(name, backbone, dtype, axis_name=None))
  state = tiny.state(name, backbone, dtype)
  terms = []
  for number in range(steps):
    state, metrics = step(state, tiny.batch(number), tiny.hyper(dtype))
    terms.append(metrics)
  return {name: np.array([t[name] for t in terms]) for name in terms[0]}


@pytest.mark.parametrize('dtype, tolerance', [('float32', 1e-3), ('float64', 1e-6)])
def test_the_losses_of_a_fixed_run(dtype, tolerance):
  with jax.enable_x64(dtype == 'float64'):
    found = _run('small', 'vgg16_bn', dtype, 8)
  assert found.keys() == SMALL.keys()
  for name, values in SMALL.items():
    np.testing.assert_allclose(found[name], values, rtol=tolerance, err_msg=name)
