"""Photographs that the ISIC archive holds twice, and so lesions that have two names.

Found by `leakage` among all training images of ISIC 2017 (2000), of ISIC 2018 Task 3
(10,015) and 2018 of the 2594 of Task 1, and each looked at: two scans, crops or colours
of one photograph, or two photographs of one lesion. The data sets' own lesion ids do
not know of them.
"""

from collections.abc import Sequence

import numpy as np

_PAIRS = (
    # ISIC 2017 and Task 1 of 2018
    ('ISIC_0000157', 'ISIC_0014946'), ('ISIC_0000164', 'ISIC_0014795'),
    ('ISIC_0000165', 'ISIC_0014788'), ('ISIC_0000171', 'ISIC_0015124'),
    ('ISIC_0000173', 'ISIC_0015110'), ('ISIC_0000177', 'ISIC_0014657'),
    ('ISIC_0000198', 'ISIC_0014667'), ('ISIC_0000204', 'ISIC_0014748'),
    ('ISIC_0000205', 'ISIC_0014742'), ('ISIC_0000206', 'ISIC_0014739'),
    ('ISIC_0000215', 'ISIC_0015313'), ('ISIC_0000222', 'ISIC_0014846'),
    ('ISIC_0000223', 'ISIC_0014818'), ('ISIC_0000224', 'ISIC_0014791'),
    ('ISIC_0000225', 'ISIC_0014778'), ('ISIC_0000229', 'ISIC_0014771'),
    ('ISIC_0000519', 'ISIC_0011295'), ('ISIC_0012290', 'ISIC_0013594'),
    ('ISIC_0012672', 'ISIC_0012673'), ('ISIC_0012756', 'ISIC_0013184'),
    ('ISIC_0012127', 'ISIC_0012970'),
    # Task 3 of 2018
    ('ISIC_0025226', 'ISIC_0030074'), ('ISIC_0025387', 'ISIC_0029880'),
    ('ISIC_0027027', 'ISIC_0029036'), ('ISIC_0029152', 'ISIC_0033173'))


def join_lesions(ids: Sequence[str], groups: Sequence[str]) -> np.ndarray:
  """Lesions [N] of images [N], those of one photograph under one name.

  Only of images of which both are there: an official split of one such pair stays
  what it is.
  """
  lesions = dict(zip(map(str, ids), map(str, groups), strict=True))
  renamed: dict[str, str] = {}

  def final(name: str) -> str:
    while name in renamed:
      name = renamed[name]
    return name

  for pair in _PAIRS:
    if all(name in lesions for name in pair):
      first, second = sorted(final(lesions[name]) for name in pair)
      if first != second:
        renamed[second] = first
  return np.array([final(str(group)) for group in groups])
