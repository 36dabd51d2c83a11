"""The same network, loss and step of SGD in PyTorch, as a yardstick of speed.

  reference = torch_reference.Reference(config, variables, learning_rate=0.01)
  loss = reference.step(batch)
  outputs = reference.predict(batch['image'])

PyTorch is not required by this project: it is imported where it is used.
Written for speed in PyTorch: channels-last tensors, library
kernels, ReLU in place; autocast under bfloat16; on a GPU torch.compile, cuDNN's
search for the fastest kernels and, under float32, products in TF32, which is what
XLA's default precision takes there too. Images are augmented and normalised on
the device within the step, as in ours.
"""

from collections.abc import Mapping
import contextlib
from typing import Any

import jax
import numpy as np

from attnmel_jax import errors
from attnmel_jax import images
from attnmel_jax.models import vgg


def to_torch_layout(variables: Any) -> dict[str, np.ndarray]:
  """Flax variables -> arrays by path, such as 'gate_pool3/response/bias'.

  Convolutions become [out, in, 3, 3], dense layers [out, in].
  """
  arrays = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    array = np.asarray(leaf)
    if path[-1].key == 'kernel':
      array = array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
    arrays['/'.join(entry.key for entry in path[1:])] = array
  return arrays


class Reference:
  """A network in training: its weights, its optimiser and its two steps."""

  def __init__(self, config: Mapping[str, Any], variables: Any, *, device: str,
               threads: int, learning_rate: float):
    """Takes over the weights.

    Args:
      config: flat, as configs/common.py lists it.
      variables: of our model, as numpy arrays.
      device: 'cuda' or 'cpu', as JAX has it.
      threads: of a CPU.
      learning_rate: of every step.

    Raises:
      UserError: this PyTorch cannot use the device.
    """
    import torch  # noqa: PLC0415 - no requirement
    self._torch, self._functional = torch, torch.nn.functional
    if device == 'cuda' and not torch.cuda.is_available():
      raise errors.UserError(
          f'JAX computes on a GPU and torch {torch.__version__} cannot; install a '
          'PyTorch for CUDA, or measure without it')
    torch.set_num_threads(threads)
    # TF32 on a GPU, of products and of convolutions.
    torch.set_float32_matmul_precision('high')
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    self._config = config
    self._device = torch.device(device)
    self._dtype = torch.float64 if config['dtype'] == 'float64' else torch.float32
    self._mean, self._std = (
        torch.tensor(values, dtype=self._dtype, device=self._device)
        for values in images.NORMALISATIONS[config['normalisation']])
    self.parameters, self._statistics = {}, {}
    for name, array in to_torch_layout(variables).items():
      tensor = torch.tensor(array, dtype=self._dtype, device=self._device)
      if tensor.ndim == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
      if name.endswith(('/mean', '/var')):
        self._statistics[name] = tensor
      else:
        self.parameters[name] = tensor.requires_grad_()
    self._optimiser = torch.optim.SGD(
        self.parameters.values(), lr=learning_rate, momentum=config['momentum'],
        # Without momentum both kinds are the same, and torch refuses Nesterov's.
        nesterov=config['nesterov'] and config['momentum'] > 0,
        weight_decay=config['weight_decay'])
    compiled = device == 'cuda'
    arithmetic = {'bfloat16': ['autocast'], 'float32': ['TF32'] if compiled else []}
    self._network = torch.compile(self._forward) if compiled else self._forward
    self.description = ', '.join((
        f'torch {torch.__version__}',
        torch.cuda.get_device_name() if compiled else f'cpu, {threads} threads',
        'channels-last', 'torch.compile' if compiled else 'eager',
        *arithmetic.get(config['dtype'], [])))

  def step(self, batch: Mapping[str, np.ndarray]) -> Any:
    """One step of SGD on Eq. 2.7; returns the loss before it, a tensor.

    The gradients stay at `parameters[...].grad`.
    """
    image, roi, has_roi, label = (
        self._tensor(batch[name]) for name in ('image', 'roi', 'has_roi', 'label'))
    image, roi = self._augment(image, roi)
    self._optimiser.zero_grad(set_to_none=True)
    with self._autocast():
      logits, attention = self._network(self._normalise(image), train=True)
    loss = self._loss(logits.to(self._dtype), attention, label.long(),
                      roi.to(self._dtype) / 255, has_roi)
    loss.backward()
    self._optimiser.step()
    return loss.detach()

  def predict(self, image: np.ndarray) -> dict[str, Any]:
    """Probabilities [B, K] and attention maps of the centre crop, as tensors."""
    size = self._config['image_size']
    top, left = ((side - size) // 2 for side in image.shape[1:3])
    image = self._tensor(image)[:, top:top + size, left:left + size]
    with self._torch.no_grad(), self._autocast():
      logits, attention = self._network(self._normalise(image), train=False)
    return {'probabilities': logits.to(self._dtype).softmax(1), 'attention': attention}

  @property
  def device_type(self) -> str:
    """'cuda' or 'cpu'."""
    return self._device.type

  def wait(self) -> None:
    """Returns when the device has done all it was asked."""
    if self._device.type == 'cuda':
      self._torch.cuda.synchronize()

  def _tensor(self, array):
    return self._torch.from_numpy(array).to(self._device)

  def _autocast(self):
    if self._config['dtype'] != 'bfloat16':
      return contextlib.nullcontext()
    return self._torch.autocast(self._device.type, self._torch.bfloat16)

  def _normalise(self, image):
    """uint8 [B, H, W, 3] -> [B, 3, H, W], channels-last in memory."""
    return ((image.to(self._dtype) / 255 - self._mean) / self._std).permute(0, 3, 1, 2)

  def _augment(self, image, roi):
    """A crop and a symmetry per example, gathered in one go."""
    torch = self._torch
    config, count, side = self._config, len(image), image.shape[1]
    size = config['image_size']

    def draw(bound, enabled, otherwise=0):
      shape = (count, 1, 1)
      if enabled:
        return torch.randint(bound, shape, device=self._device)
      return torch.full(shape, otherwise, device=self._device)

    margin = side - size
    top, left = (draw(margin + 1, config['random_crop'], margin // 2) for _ in 'yx')
    turns = draw(4, config['random_rotation'])
    across, down = (draw(2, config['random_flip']) for _ in 'xy')
    position = torch.arange(size, device=self._device)
    row, column = position[None, :, None], position[None, None, :]
    row = torch.where((down == 1) ^ (turns == 1) ^ (turns == 2), size - 1 - row, row)
    column = torch.where(
        (across == 1) ^ (turns == 2) ^ (turns == 3), size - 1 - column, column)
    row, column = (torch.where(turns % 2 == 1, column, row),
                   torch.where(turns % 2 == 1, row, column))
    example = torch.arange(count, device=self._device)[:, None, None]
    index = example, top + row, left + column
    return image[index], roi[index]

  def _forward(self, x, train):
    """Normalised images [B, 3, H, W] -> logits [B, K], {tap: attention [B, h, w]}."""
    functional = self._functional
    config, pools = self._config, {}
    for block, (layers, _) in enumerate(vgg.BLOCKS, 1):
      for layer in range(1, layers + 1):
        x = self._convolve(x, f'{block}_{layer}', train)
      x = pools[f'pool{block}'] = functional.max_pool2d(x, 2)
    if config['model'] == 'vgg16':
      x = functional.adaptive_avg_pool2d(x, vgg.DENSE_SIDE).flatten(1)
      for name in ('fc1', 'fc2'):
        x = functional.relu(self._dense(x, name), inplace=True)
        x = functional.dropout(x, config['dropout_rate'], train)
      return self._dense(x, 'classifier'), {}
    vectors, attention = [x.mean((2, 3))], {}
    for tap in () if config['model'] == 'vgg16_gap' else config['taps']:
      feature = pools[tap]
      if config['model'] == 'attnmel_cnn':
        attention[tap], vector = self._gate(f'gate_{tap}', feature, x)
      else:
        vector = feature.mean((2, 3))
      vectors.append(vector)
    return self._dense(self._torch.cat(vectors, 1), 'classifier'), attention

  def _convolve(self, x, number, train):
    functional = self._functional
    weight, name = self.parameters, f'backbone/conv{number}'
    x = functional.conv2d(
        x, weight[f'{name}/kernel'], weight[f'{name}/bias'], padding=1)
    if self._config['backbone'] == 'vgg16_bn':
      name = f'backbone/bn{number}'
      x = functional.batch_norm(
          x, self._statistics[f'{name}/mean'], self._statistics[f'{name}/var'],
          weight[f'{name}/scale'], weight[f'{name}/bias'], training=train,
          momentum=0.1, eps=1e-5)
    return functional.relu(x, inplace=True)

  def _dense(self, x, name):
    functional = self._functional
    return functional.linear(
        x, self.parameters[f'{name}/kernel'], self.parameters[f'{name}/bias'])

  def _gate(self, name, feature, guidance):
    """Eq. 2.1 to 2.3: attention [B, h, w] and the pooled gated feature [B, C]."""
    functional = self._functional

    def project(x, layer, bias=None):
      kernel = self.parameters[f'{name}/{layer}/kernel'][:, :, None, None]
      return functional.conv2d(x, kernel, bias)

    upsampled = functional.interpolate(
        project(guidance, 'guidance'), size=feature.shape[2:], mode='bilinear',
        align_corners=False)
    hidden = functional.relu(project(feature, 'feature') + upsampled, inplace=True)
    response = project(hidden, 'response', self.parameters[f'{name}/response/bias'])
    if self._config['gate_norm'] == 'sigmoid':
      attention = response.sigmoid()
      vector = (attention * feature).mean((2, 3))
    else:
      attention = response.flatten(1).softmax(1).view_as(response)
      vector = (attention * feature).sum((2, 3))
    return attention[:, 0], vector

  def _loss(self, logits, attention, label, roi, has_roi):
    """Focal loss + lambda * Dice loss over the batch of every gate."""
    torch, functional = self._torch, self._functional
    log_probability = -functional.cross_entropy(logits, label, reduction='none')
    loss = -((1 - log_probability.exp()) ** self._config['focal_gamma']
             * log_probability).mean()
    weights = dict(zip(self._config['taps'], self._config['dice_weights'], strict=True))
    annotated = has_roi[:, None, None].to(self._dtype)
    for tap in attention:
      values = attention[tap].to(self._dtype)
      reference = functional.avg_pool2d(
          roi[:, None], roi.shape[1] // values.shape[1])[:, 0]
      overlap = (annotated * values * reference).sum()
      total = (annotated * (values + reference)).sum()
      # No image is annotated: neither a loss nor a gradient.
      dice = 1 - 2 * overlap / torch.where(total == 0, torch.ones_like(total), total)
      loss = loss + weights[tap] * torch.where(
          total == 0, torch.zeros_like(dice), dice)
    return loss
