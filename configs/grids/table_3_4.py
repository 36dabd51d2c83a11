"""Table 3.4: five systems, five folds of ISIC 2018 Task 3.

  python launch/grid.py --grid=configs/grids/table_3_4.py

AttnMel-CNN-Lesion*, here AttnMel-CNN-Lesion-generated, is trained on masks that a
U-Net draws for all images; the U-Net is trained on Task 1 first.
"""

from configs.grids import common


def get_grid():
  """One seed: five folds already are five trainings."""
  return (
      common.drawing_masks('configs/isic2018_task1.py', 'isic2018'),
      {'config': 'configs/isic2018_cv.py',
       'systems': common.systems(common.WITHOUT_PRIOR + common.WITH_GENERATED),
       'seeds': (0,),
       'folds': (0, 1, 2, 3, 4)})
