"""Table 3.3: attention maps and CAM against the lesion masks of ISIC 2017.

  python launch/grid.py --grid=configs/grids/table_3_3.py

These are runs of Table 3.2: what one of the two grids has finished in a --workdir,
the other finds there.
"""

from configs.grids import common


def get_grid():
  """The systems that have attention maps, and the one that has a CAM."""
  return {'config': 'configs/isic2017.py',
          'systems': common.systems(('AttnMel-CNN', 'AttnMel-CNN-Dermo',
                                     'AttnMel-CNN-Lesion', 'VGG-16-GAP')),
          'seeds': (0, 1, 2),
          'folds': (0,)}
