"""What both sides of the golden arrays share: weights and a batch, from a seed.

`RandomState` gives the same numbers in every version of numpy, which numpy
does not promise of its newer generators.
"""

import numpy as np

WIDTH = 1 / 8
CHANNELS = (8, 8, 16, 16, 32, 32, 32, 64, 64, 64, 64, 64, 64)
DENSE_UNITS = 512
GATE_WIDTH = 24
NUM_CLASSES = 3
GAMMA = 2.
# Larger than the thesis's weights: an error in the Dice term has to show.
DICE_WEIGHTS = {'pool3': .3, 'pool4': .7}
TAP_CHANNELS = {'pool3': 32, 'pool4': 64}

# torchvision's indices of the convolutions; normalisation follows at index + 1.
CONVOLUTIONS = {
    'vgg16': (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    'vgg16_bn': (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
}
_SAMPLES = 150  # entries of a gradient that are kept


def weights(model: str, backbone: str) -> dict[str, np.ndarray]:
  """Parameters and running averages by torch's names, in torch's layouts."""
  random = np.random.RandomState(1)

  def normal(std, *shape):
    return std * random.standard_normal(shape)

  arrays, inputs = {}, 3
  for index, outputs in zip(CONVOLUTIONS[backbone], CHANNELS, strict=True):
    arrays[f'features.{index}.weight'] = normal(
        (2 / (9 * inputs)) ** .5, outputs, inputs, 3, 3)
    arrays[f'features.{index}.bias'] = normal(.1, outputs)
    if backbone == 'vgg16_bn':
      norm = f'features.{index + 1}'
      arrays[f'{norm}.weight'] = 1 + normal(.2, outputs)
      arrays[f'{norm}.bias'] = normal(.2, outputs)
      arrays[f'{norm}.running_mean'] = normal(.2, outputs)
      arrays[f'{norm}.running_var'] = 1 + abs(normal(.2, outputs))
    inputs = outputs
  if model == 'vgg16':
    sizes = (inputs * 7 * 7, DENSE_UNITS, DENSE_UNITS)
    for index, fan_in in zip((0, 3), sizes, strict=False):
      arrays[f'classifier.{index}.weight'] = normal(
          (2 / fan_in) ** .5, DENSE_UNITS, fan_in)
      arrays[f'classifier.{index}.bias'] = normal(.1, DENSE_UNITS)
    inputs = DENSE_UNITS
  if model == 'attnmel_cnn':
    for tap, channels in TAP_CHANNELS.items():
      for name, count in (('feature', channels), ('guidance', inputs)):
        arrays[f'gate_{tap}.{name}.weight'] = normal(
            (2 / count) ** .5, GATE_WIDTH, count, 1, 1)
      arrays[f'gate_{tap}.response.weight'] = normal(
          (2 / GATE_WIDTH) ** .5, 1, GATE_WIDTH, 1, 1)
      arrays[f'gate_{tap}.response.bias'] = normal(.1, 1)
  if model in ('mel_cnn', 'attnmel_cnn'):
    inputs += sum(TAP_CHANNELS.values())
  arrays['head.weight'] = normal((1 / inputs) ** .5, NUM_CLASSES, inputs)
  arrays['head.bias'] = normal(.1, NUM_CLASSES)
  return arrays


def batch() -> dict[str, np.ndarray]:
  """Three images [3, 64, 96, 3], of which the last is not annotated."""
  random = np.random.RandomState(2)
  images = random.standard_normal((3, 64, 96, 3))
  # Blocks of 5 straddle the cells of the attention maps: soft references.
  roi = np.kron(random.rand(3, 13, 20) < .4, np.ones((1, 5, 5)))[:, :64, :96]
  return {'images': images, 'labels': np.array([0, 2, 1]), 'roi': roi,
          'has_roi': np.array([True, True, False])}


def sample(gradient: np.ndarray) -> np.ndarray:
  """Entries at fixed random places of a gradient in torch's layout."""
  random = np.random.RandomState(gradient.size)
  places = random.permutation(gradient.size)[:_SAMPLES]
  return gradient.reshape(-1)[places]
