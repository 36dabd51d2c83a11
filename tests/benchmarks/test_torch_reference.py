"""The yardstick computes what we compute: losses, weights and predictions."""

import jax
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import parallel
from attnmel_jax.experiments import build
from benchmarks import torch_reference
from configs import common

SIZE = 32


def test_kernels_change_their_layout():
  variables = {
      'params': {'a': {'kernel': np.arange(3 * 3 * 2 * 5.).reshape(3, 3, 2, 5)},
                 'b': {'kernel': np.arange(6.).reshape(2, 3), 'bias': np.ones(3)}},
      'batch_stats': {'c': {'mean': np.zeros(4)}}}
  arrays = torch_reference.to_torch_layout(variables)
  assert {name: array.shape for name, array in arrays.items()} == {
      'a/kernel': (5, 2, 3, 3), 'b/kernel': (3, 2), 'b/bias': (3,), 'c/mean': (4,)}
  kernel = variables['params']['a']['kernel']
  assert arrays['a/kernel'][4, 1, 0, 2] == kernel[0, 2, 1, 4]


@pytest.mark.parametrize('backbone', ['vgg16', 'vgg16_bn'])
def test_two_steps_and_a_prediction_agree(backbone, float64):
  pytest.importorskip(
      'torch', reason='PyTorch is not installed, so nothing compares the benchmark\'s '
      'two sides: pip install torch')
  config = common.get_config().to_dict() | {
      'width': 1 / 16, 'gate_width': 8, 'image_size': SIZE, 'resize_size': SIZE,
      'batch_size': 8, 'backbone': backbone, 'pretrained': '', 'roi': 'lesion',
      'dtype': 'float64', 'dice_weights': (0.3, 0.7), 'weight_decay': 1e-3,
      'random_rotation': False, 'random_flip': False}
  rng = np.random.default_rng(0)
  # As large as the crop: nothing is random.
  batch = {'image': rng.integers(0, 256, (8, SIZE, SIZE, 3), np.uint8),
           'roi': rng.integers(0, 256, (8, SIZE, SIZE), np.uint8),
           'has_roi': np.arange(8) % 3 > 0, 'label': np.arange(8, dtype=np.int32) % 2}
  variables, _ = build.initial_variables(config, 2, sample=None)
  variables = jax.device_get(variables)
  reference = torch_reference.Reference(
      config, variables, device='cpu', threads=1, learning_rate=0.01)
  state = build.initial_state(config, variables)
  update = parallel.update(build.training_step(config, 2))
  hyper = build.hyperparameters(config) | {'learning_rate': np.float64(0.01)}
  for _ in range(2):  # the second has momentum
    state, metrics = update(state, parallel.shard(batch), hyper)
    loss = float(reference.step(batch))
    np.testing.assert_allclose(loss, metrics['loss'], rtol=1e-9)
  ours = torch_reference.to_torch_layout({'params': jax.device_get(state.params)})
  before = torch_reference.to_torch_layout({'params': variables['params']})
  assert set(ours) == set(reference.parameters)
  for name, value in ours.items():
    theirs = reference.parameters[name].detach().numpy()
    scale = np.abs(value - before[name]).max()
    np.testing.assert_allclose(theirs, value, rtol=0, atol=1e-7 * scale + 1e-15,
                               err_msg=name)
  if backbone == 'vgg16':  # running variances are torch's unbiased ones
    image = rng.integers(0, 256, (8, SIZE + 4, SIZE + 4, 3), np.uint8)
    predicted = reference.predict(image)
    outputs = parallel.unshard(build.prediction_step(config, 2)(
        state.variables(), parallel.shard({'image': image})))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b.numpy(), rtol=1e-9),
                 outputs, predicted)


def test_augmentation_draws_symmetries_of_crops():
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  config = common.get_config().to_dict() | {
      'image_size': 32, 'random_crop': True, 'random_rotation': True,
      'random_flip': True}
  reference = torch_reference.Reference(
      config, {'params': {'bias': np.zeros(1)}}, device='cpu', threads=1,
      learning_rate=0.)
  torch.manual_seed(0)
  roi = torch.arange(34 * 34).reshape(1, 34, 34).expand(200, -1, -1)
  image, crops = reference._augment(roi[..., None].expand(-1, -1, -1, 3), roi)
  assert torch.equal(image[..., 1], crops)  # one draw for both
  windows = {(np.rot90(np.fliplr(square) if flip else square, turns)).tobytes()
             for top in range(3) for left in range(3) for flip in (False, True)
             for turns in range(4)
             for square in [roi[0, top:top + 32, left:left + 32].numpy()]}
  drawn = {crop.numpy().tobytes() for crop in crops}
  assert len(windows) == 72
  assert drawn <= windows
  assert len(drawn) > 55  # 200 draws of 72 leave out 4 or 5


def test_a_pytorch_without_cuda_is_one_line(monkeypatch):
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
  with pytest.raises(errors.UserError, match='PyTorch for CUDA'):
    torch_reference.Reference(
        common.get_config().to_dict(), {}, device='cuda', threads=1, learning_rate=0.)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_network_compiles_as_one_graph(dtype):
  """Under autocast too, and it computes what the eager network does."""
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  config = common.get_config().to_dict() | {
      'width': 1 / 16, 'gate_width': 8, 'image_size': SIZE, 'resize_size': SIZE,
      'dtype': dtype}
  variables, _ = build.initial_variables(config | {'pretrained': ''}, 2, sample=None)
  reference = torch_reference.Reference(
      config, jax.device_get(variables), device='cpu', threads=1, learning_rate=0.)
  image = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
  eager = reference.predict(image)
  reference._network = torch.compile(
      reference._forward, backend='aot_eager', fullgraph=True)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a.float(), b.float(), atol=1e-6),
      eager, reference.predict(image))
  assert eager['probabilities'].dtype == torch.float32
