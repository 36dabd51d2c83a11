"""The systems of the thesis: by which fields of a config they differ."""

SYSTEMS = {
    'VGG-16': {'model': 'vgg16', 'roi': 'none'},
    'VGG-16-GAP': {'model': 'vgg16_gap', 'roi': 'none'},
    'Mel-CNN': {'model': 'mel_cnn', 'roi': 'none'},
    'AttnMel-CNN': {'model': 'attnmel_cnn', 'roi': 'none'},
    'AttnMel-CNN-Dermo': {'model': 'attnmel_cnn', 'roi': 'dermo'},
    'AttnMel-CNN-Lesion': {'model': 'attnmel_cnn', 'roi': 'lesion'},
    'AttnMel-CNN-Bkg': {'model': 'attnmel_cnn', 'roi': 'background'},
    # The thesis's AttnMel-CNN-Lesion*.
    'AttnMel-CNN-Lesion-generated': {'model': 'attnmel_cnn', 'roi': 'generated'},
    'U-Net': {'model': 'unet', 'roi': 'lesion'},
}
WITHOUT_PRIOR = ('VGG-16', 'VGG-16-GAP', 'Mel-CNN', 'AttnMel-CNN')
WITH_PRIOR = ('AttnMel-CNN-Lesion', 'AttnMel-CNN-Dermo', 'AttnMel-CNN-Bkg')
WITH_GENERATED = ('AttnMel-CNN-Lesion-generated',)


def systems(names):
  """The named systems, in this order."""
  return {name: SYSTEMS[name] for name in names}


def drawing_masks(config, dataset):
  """A U-Net that trains by the experiment file, then draws masks for the data set."""
  return {'config': config, 'systems': systems(('U-Net',)), 'seeds': (0,),
          'folds': (0,), 'generate_masks': {'dataset': dataset, 'name': 'unet'}}
