"""AttnMel-CNN on ISIC 2017 as the text of the thesis describes it (section 3.1.2).

  python launch/main.py --config=configs/thesis_text.py --config.roi=lesion

The released code, whose recipe all other experiment files follow, differs from the
text: VGG-16 with BatchNorm, Nesterov momentum, weight decay, and several passes over
the rows in each of the 50 epochs. The text names neither batch size, normalisation nor
oversampling factors: these are the code's.
"""

from configs import common


def get_config():
  """A plain VGG-16, momentum alone, one pass an epoch: 4,850 steps."""
  config = common.get_config()
  config.backbone = 'vgg16'
  # Not in the text: the original weights diverge within ten steps at this rate.
  config.rescale_pretrained = True
  config.nesterov = False
  config.weight_decay = 0.0
  config.passes_per_epoch = 1
  return config
