"""Table 3.4: four systems, five folds of ISIC 2018 Task 3.

  python launch/grid.py --grid=configs/grids/table_3_4.py

AttnMel-CNN-Lesion*, which learns from generated masks, is not among them.
"""

from configs.grids import common


def get_grid():
  """One seed: five folds already are five trainings."""
  return {'config': 'configs/isic2018_cv.py',
          'systems': common.systems(common.WITHOUT_PRIOR),
          'seeds': (0,),
          'folds': (0, 1, 2, 3, 4)}
