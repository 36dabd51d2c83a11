"""The systems of the thesis: by which fields of a config they differ."""

SYSTEMS = {
    'VGG-16': {'model': 'vgg16', 'roi': 'none'},
    'VGG-16-GAP': {'model': 'vgg16_gap', 'roi': 'none'},
    'Mel-CNN': {'model': 'mel_cnn', 'roi': 'none'},
    'AttnMel-CNN': {'model': 'attnmel_cnn', 'roi': 'none'},
    'AttnMel-CNN-Lesion': {'model': 'attnmel_cnn', 'roi': 'lesion'},
    'AttnMel-CNN-Dermo': {'model': 'attnmel_cnn', 'roi': 'dermo'},
    'AttnMel-CNN-Bkg': {'model': 'attnmel_cnn', 'roi': 'background'},
}
WITHOUT_PRIOR = ('VGG-16', 'VGG-16-GAP', 'Mel-CNN', 'AttnMel-CNN')


def systems(names):
  """The named systems, in this order."""
  return {name: SYSTEMS[name] for name in names}
