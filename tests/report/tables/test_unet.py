"""U-Nets have a table of their own."""

import pathlib

from attnmel_jax.report import run_reader
from attnmel_jax.report.tables import table as table_lib
from attnmel_jax.report.tables import unet
from tests.report import run_folders


def _run(name, **summary):
  config = {'model': 'unet', 'roi': 'none', 'dataset': 'isic2018_task1', 'seed': 0}
  return run_reader.FinishedRun(
      pathlib.Path('runs') / name, config, {},
      {'best': {'step': 3}, 'synthetic': name == 'drawn', 'leakage': {'found': []},
       **summary})


def _scores(jaccard, n):
  interval = {'estimate': jaccard, 'low': jaccard - 0.1, 'high': jaccard + 0.1}
  return {'n': n, 'jaccard': interval, 'thresholded_jaccard': 0.5}


def test_scores_of_the_part_that_is_asked_for():
  runs = [_run('a', test=_scores(0.7, 12), validation=_scores(0.6, 11)),
          _run('b', validation=_scores(0.5, 10)), _run('c')]
  rows = run_folders.texts(unet.main(runs, split='auto'))
  columns = ('run', 'split', 'images', 'Jaccard')
  assert [tuple(row[column] for column in columns) for row in rows] == [
      ('a', 'test', '12', '0.700 [0.600, 0.800]'),
      ('b', 'validation', '10', '0.500 [0.400, 0.600]')]
  assert rows[0]['thresholded Jaccard'] == '0.500'
  assert rows[0]['data set'] == 'isic2018_task1'
  table = unet.main(runs, split='validation')
  assert [row['images'] for row in run_folders.texts(table)] == ['11', '10']
  assert not table.head.context
  assert unet.main(runs[1:], split='test') is None
  assert unet.main([], split='auto') is None


def test_what_is_missing_and_what_is_drawn():
  table = unet.main([_run('drawn', test={'jaccard': {
      'estimate': None, 'low': None, 'high': None}})], split='auto')
  assert isinstance(table.head.context[0], table_lib.Bold)
  (row,) = run_folders.texts(table)
  assert (row['images'], row['Jaccard'], row['thresholded Jaccard']) == (
      '–', 'undefined', '–')


def test_leakage_is_told():
  runs = [_run('a', test=_scores(0.7, 12)),
          _run('b', test=_scores(0.6, 12), leakage={'found': ['x']})]
  (stamp,) = unet.main(runs, split='auto').head.context
  assert stamp == 'Leakage, which flatters scores, in 1 of 2 runs: x.'


def test_near_duplicates_are_told():
  scores = _scores(0.7, 12) | {'without_near_duplicates': _scores(0.6, 10)}
  (line,) = unet.main([_run('a', test=scores)], split='auto').head.context
  assert line.startswith('2 of these images look like one')
