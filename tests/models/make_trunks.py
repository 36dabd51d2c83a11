"""Makes the golden arrays of trunks.py with PyTorch and timm.

  python -m tests.models.make_trunks [FILE]

For each backbone, in float64, with weights from a seed: maps at every stride in
evaluation and in training mode, and the gradients of all parameters in training. FILE
holds the ImageNet weights of EfficientNet-Lite0: the maps that a picture has with them.
"""

import sys

import numpy as np
import safetensors.torch
import timm
import torch

from tests.models import trunk_inputs as inputs

# Our backbone -> timm's, and its module that ends in each map; {} before the pooling.
NETWORKS = {
    'efficientnet_lite0': ('tf_efficientnet_lite0', {
        'pool1': 'blocks.0', 'pool2': 'blocks.1', 'pool3': 'blocks.2',
        'pool4': 'blocks.4', 'pool5': 'bn2'}),
    'resnet50': ('resnet50', {
        'pool1': 'act1', 'pool2': 'layer1', 'pool3': 'layer2', 'pool4': 'layer3',
        'pool5': 'layer4'})}


def observed(network, taps: dict[str, str]) -> dict:
  """Fills with the maps of each pass through the network."""
  maps = {}
  modules = dict(network.named_modules())
  for pool, module in taps.items():
    modules[module].register_forward_hook(
        lambda module, _, output, pool=pool: maps.__setitem__(pool, output))
  return maps


def golden(name: str, taps: dict[str, str]) -> dict[str, np.ndarray]:
  """Everything that trunks.py compares."""
  network = timm.create_model(name, pretrained=False, drop_path_rate=0., num_classes=0)
  shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()
            if not key.endswith('num_batches_tracked')}
  network = network.double()
  network.load_state_dict(
      {key: torch.from_numpy(array) for key, array in inputs.weights(shapes).items()},
      strict=False)
  maps = observed(network, taps)
  images = torch.from_numpy(inputs.images().transpose(0, 3, 1, 2).copy())
  arrays = {}
  for mode in ('eval', 'train'):
    network.train(mode == 'train')
    network.forward_features(images)
    for pool, values in maps.items():
      arrays[f'{mode}/{pool}'] = inputs.digest(values.detach().numpy())
  total = sum((values * torch.from_numpy(inputs.slopes(
      pool, (len(values), *values.shape[2:], values.shape[1])).transpose(
          0, 3, 1, 2).copy())).sum() for pool, values in maps.items())
  total.backward()
  for key, parameter in network.named_parameters():
    arrays[f'gradient/{key}'] = inputs.digest(parameter.grad.numpy())
  return arrays


def with_weights(path: str) -> dict[str, np.ndarray]:
  """Maps of `picture` by EfficientNet-Lite0 with the weights of a file."""
  name, taps = NETWORKS['efficientnet_lite0']
  network = timm.create_model(name, pretrained=False).eval()
  network.load_state_dict(safetensors.torch.load_file(path))
  maps = observed(network, taps)
  image = torch.from_numpy(inputs.picture()).permute(2, 0, 1)[None] / 127.5 - 1
  network(image)
  return {pool: inputs.digest(values.detach().numpy()) for pool, values in maps.items()}


def main():
  """Writes one file a backbone."""
  if sys.argv[1:]:
    arrays = with_weights(sys.argv[1])
    np.savez_compressed(inputs.FOLDER / 'lite0_imagenet.npz', **arrays)
    return
  for ours, (name, taps) in NETWORKS.items():
    np.savez_compressed(inputs.FOLDER / f'{ours}.npz', **golden(name, taps))


if __name__ == '__main__':
  main()
