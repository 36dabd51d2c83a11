"""The systems of Table 3.2 on the synthetic data of `make demo`, in minutes.

  make demo
  python launch/grid.py --grid=configs/grids/phantom.py --workdir=demo/grid

Segmentation and generated masks are not part of it.
"""

from configs.grids import common


def get_grid():
  """The small budget is that of configs/demo.py."""
  return {'config': 'configs/demo.py',
          'systems': common.SYSTEMS,
          'seeds': (0,),
          'folds': (0,)}
