"""Table 3.2: seven systems on ISIC 2017.

  python launch/grid.py --grid=configs/grids/table_3_2.py
"""

from configs.grids import common


def get_grid():
  """Three seeds, so that the intervals can hold the choice of seed."""
  return {'config': 'configs/isic2017.py',
          'systems': common.systems(common.WITHOUT_PRIOR + common.WITH_PRIOR),
          'seeds': (0, 1, 2),
          'folds': (0,)}
