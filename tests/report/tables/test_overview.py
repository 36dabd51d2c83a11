"""Every run by itself."""

import csv
import io

from attnmel_jax.report.tables import overview
from attnmel_jax.report.tables import table as table_lib
from tests.report import run_folders


def _score(estimate, **bounds):
  return {'estimate': estimate, 'low': bounds.get('low'), 'high': bounds.get('high')}


def _run(folder, roi, *, leakage=(), **scores):
  return run_folders.write(folder, run_folders.config('isic2017', roi=roi),
                           leakage=leakage, summary=scores)


def test_scores_and_intervals_of_each_run(tmp_path):
  area = _score(0.75, low=0.625, high=0.875)
  runs = [_run(tmp_path / 'a', 'none', auc=area, jaccard_pool4=area),
          _run(tmp_path / 'b', 'lesion', auc=_score(None), jaccard_pool1=area,
               leakage=['x', 'y'], without_near_duplicates={'n': 38, 'auc': area}),
          _run(tmp_path / 'c', 'dermo', auc={'MEL': area})]
  found = overview.overview(runs, 'test')
  lines = table_lib.body(found.shown).splitlines()
  assert lines[0] == '| run | n | n annotated | AUC | Jaccard pool-1 | Jaccard pool-4 |'
  assert lines[2] == (
      '| a | 40 | 39 | 0.750 [0.625, 0.875] | – | 0.750 [0.625, 0.875] |')
  assert lines[3].startswith('| b | 40 | 39 | – | 0.750 ')
  assert lines[4].startswith('| b without near-duplicates | 38 | – | 0.750 ')
  assert lines[5] == '| c | 40 | 39 | – | – | – |'
  rows = list(csv.DictReader(io.StringIO(table_lib.to_csv(found.whole))))
  assert [row['AUC'] for row in rows] == ['0.75', '', '0.75', '']
  assert rows[0]['AUC low'] == '0.625' and rows[0]['roi'] == 'none'
  assert [row['leakage'] for row in rows] == ['', 'x; y', 'x; y', '']
  assert overview.overview(runs, 'validation') is None
