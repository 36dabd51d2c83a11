"""Table 3.1: four systems on ISIC 2016.

  python launch/grid.py --grid=configs/grids/table_3_1.py
"""

from configs.grids import common


def get_grid():
  """Three seeds, so that the intervals can hold the choice of seed."""
  return {'config': 'configs/isic2016.py',
          'systems': common.systems(common.WITHOUT_PRIOR),
          'seeds': (0, 1, 2),
          'folds': (0,)}
