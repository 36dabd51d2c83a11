"""Every system of the thesis on synthetic data, in minutes.

  make grid-demo
  python launch/grid.py --grid=configs/grids/phantom.py --workdir=demo/grid  # after it

Tables 3.1, 3.2 and, on one fold, 3.4, on the small budget of configs/demo.py.
"""

from configs.grids import common


def get_grid():
  """One seed and one fold of each."""
  once = {'seeds': (0,), 'folds': (0,)}
  return (
      {'config': 'configs/phantom_isic2016.py',
       'systems': common.systems(common.WITHOUT_PRIOR), **once},
      {'config': 'configs/phantom_isic2017.py',
       'systems': common.systems(common.WITHOUT_PRIOR + common.WITH_PRIOR), **once},
      common.drawing_masks('configs/phantom_isic2018_task1.py', 'isic2018'),
      {'config': 'configs/phantom_isic2018_cv.py',
       'systems': common.systems(common.WITHOUT_PRIOR + common.WITH_GENERATED),
       **once})
