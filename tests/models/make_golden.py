"""Makes the golden arrays of test_golden.py with PyTorch (2.6 or later).

  python -m tests.models.make_golden

For every classifier and backbone, in float64: logits and attention maps in
eval mode; in train mode, without dropout, the loss of Eq. 2.7, the running
averages of the last normalisation, and of the gradient of every tensor a
sample, the largest magnitude and the Euclidean norm. The network is written
from the thesis and torchvision's layer table, apart from the JAX code.
"""

import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.models import golden_inputs as inputs

FOLDER = pathlib.Path(__file__).parent / 'golden'
MODELS = ('vgg16', 'vgg16_gap', 'mel_cnn', 'attnmel_cnn')


class Gate(nn.Module):
  """Eq. 2.1 and 2.2."""

  def __init__(self, channels: int, guidance: int):
    super().__init__()
    self.feature = nn.Conv2d(channels, inputs.GATE_WIDTH, 1, bias=False)
    self.guidance = nn.Conv2d(guidance, inputs.GATE_WIDTH, 1, bias=False)
    self.response = nn.Conv2d(inputs.GATE_WIDTH, 1, 1)

  def forward(self, feature, guidance):
    upsampled = functional.interpolate(
        self.guidance(guidance), size=feature.shape[2:], mode='bilinear',
        align_corners=False)
    return torch.sigmoid(self.response(
        functional.relu(self.feature(feature) + upsampled)))


class Network(nn.Module):
  """All four classifiers; `features` and `classifier` as in torchvision."""

  def __init__(self, model: str, backbone: str):
    super().__init__()
    self.model = model
    layers, count, channels = [], 3, iter(inputs.CHANNELS)
    for convolutions in (2, 2, 3, 3, 3):
      for _ in range(convolutions):
        outputs = next(channels)
        layers.append(nn.Conv2d(count, outputs, 3, padding=1))
        if backbone == 'vgg16_bn':
          layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
        count = outputs
      layers.append(nn.MaxPool2d(2))
    self.features = nn.Sequential(*layers)
    pool5 = count
    if model == 'vgg16':
      units = inputs.DENSE_UNITS
      self.classifier = nn.Sequential(
          nn.Linear(pool5 * 49, units), nn.ReLU(), nn.Dropout(0),
          nn.Linear(units, units), nn.ReLU(), nn.Dropout(0))
      count = units
    if model == 'attnmel_cnn':
      for tap, tap_channels in inputs.TAP_CHANNELS.items():
        setattr(self, f'gate_{tap}', Gate(tap_channels, pool5))
    if model in ('mel_cnn', 'attnmel_cnn'):
      count += sum(inputs.TAP_CHANNELS.values())
    self.head = nn.Linear(count, inputs.NUM_CLASSES)

  def forward(self, x):
    pools = []
    for layer in self.features:
      x = layer(x)
      if isinstance(layer, nn.MaxPool2d):
        pools.append(x)
    maps = {}
    if self.model == 'vgg16':
      x = functional.adaptive_avg_pool2d(x, (7, 7))
      return self.head(self.classifier(torch.flatten(x, 1))), maps
    vectors = [x.mean((2, 3))]
    if self.model in ('mel_cnn', 'attnmel_cnn'):
      for tap, feature in (('pool3', pools[2]), ('pool4', pools[3])):
        if self.model == 'attnmel_cnn':
          maps[tap] = getattr(self, f'gate_{tap}')(feature, x)
          vectors.append((maps[tap] * feature).mean((2, 3)))
        else:
          vectors.append(feature.mean((2, 3)))
    return self.head(torch.cat(vectors, 1)), maps


def loss(logits, maps, batch):
  """Eq. 2.7 as the thesis prints it."""
  probability = functional.softmax(logits, 1)
  correct = probability[torch.arange(len(logits)), batch['labels']]
  total = (-(1 - correct) ** inputs.GAMMA * torch.log(correct)).mean()
  for tap, attention in maps.items():
    block = batch['roi'].shape[1] // attention.shape[2]
    reference = functional.avg_pool2d(batch['roi'][:, None], block)
    a, r = attention[batch['has_roi']], reference[batch['has_roi']]
    total = total + inputs.DICE_WEIGHTS[tap] * (1 - 2 * (a * r).sum() / (a + r).sum())
  return total


def golden(model: str, backbone: str) -> dict[str, np.ndarray]:
  """Everything that test_golden.py compares."""
  network = Network(model, backbone).double()
  weights = {name: torch.from_numpy(array)
             for name, array in inputs.weights(model, backbone).items()}
  missing, unexpected = network.load_state_dict(weights, strict=False)
  assert not unexpected
  assert all(name.endswith('num_batches_tracked') for name in missing)
  batch = {name: torch.from_numpy(array) for name, array in inputs.batch().items()}
  images = batch['images'].permute(0, 3, 1, 2)
  network.eval()
  logits, maps = network(images)
  arrays = {'logits': logits, **{tap: value[:, 0] for tap, value in maps.items()}}
  network.train()
  value = loss(*network(images), batch)
  value.backward()
  arrays['loss'] = value
  if backbone == 'vgg16_bn':
    arrays['running_mean'] = network.features[41].running_mean
    arrays['running_var'] = network.features[41].running_var
  arrays = {name: array.detach().numpy() for name, array in arrays.items()}
  gradients = {name: parameter.grad.numpy()
               for name, parameter in network.named_parameters()}
  names = sorted(gradients)
  arrays['sample'] = np.concatenate(
      [inputs.sample(gradients[name]) for name in names]).astype(np.float32)
  arrays['largest'] = np.array([abs(gradients[name]).max() for name in names])
  arrays['norm'] = np.array([np.linalg.norm(gradients[name]) for name in names])
  return arrays


def main():
  """Writes one file a classifier and backbone."""
  FOLDER.mkdir(exist_ok=True)
  for model in MODELS:
    for backbone in inputs.CONVOLUTIONS:
      np.savez_compressed(FOLDER / f'{model}-{backbone}.npz', **golden(model, backbone))


if __name__ == '__main__':
  main()
