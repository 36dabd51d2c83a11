"""AttnMel-CNN on ISIC 2017: melanoma against the rest (thesis, Table 3.2).

  python launch/main.py --config=configs/isic2017.py --config.roi=lesion

The released code's recipe: 9,700 steps at batch 32. Published test scores,
AP / AUC: AttnMel-CNN .655 / .872, -Lesion .672 / .883, -Dermo .665 / .864.
"""

from configs import common


def get_config():
  """ISIC 2017 is the default of every field."""
  return common.get_config()
