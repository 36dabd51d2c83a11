"""U-Nets have a table of their own."""

from attnmel_jax.report.tables import segmentation
from attnmel_jax.report.tables import table as table_lib
from tests.report import run_folders


def _scores(jaccard, n):
  interval = {'estimate': jaccard, 'low': jaccard - 0.1, 'high': jaccard + 0.1}
  undefined = dict.fromkeys(('estimate', 'low', 'high'))
  return {'n': n, 'jaccard': interval, 'thresholded_jaccard': undefined}


def _run(folder, model='unet', **fields):
  run_folders.write(folder, run_folders.config('isic2018', model=model))
  summary = {'test': _scores(0.9, 9), 'class_names': []} | fields
  return run_folders.change(folder, 'summary', **summary)


def test_scores_of_the_part_that_is_asked_for(tmp_path):
  runs = [_run(tmp_path / 'a', test=_scores(0.7, 12), validation=_scores(0.6, 11)),
          _run(tmp_path / 'classifier', model='vgg16')]
  (row,) = run_folders.texts(segmentation.table(runs, split='auto'))
  assert list(row.values()) == [
      'a', 'isic2018', 'test', '12', '0.700 [0.600, 0.800]', 'undefined']
  table = segmentation.table(runs, split='validation')
  assert [row['images'] for row in run_folders.texts(table)] == ['11']
  assert not table.head.context
  assert segmentation.table(runs[1:], split='auto') is None


def test_what_the_caption_warns_of(tmp_path):
  doubled = _scores(0.7, 12) | {'without_near_duplicates': _scores(0.6, 10)}
  runs = [_run(tmp_path / 'a', test=doubled, leakage={'found': ['x']}),
          _run(tmp_path / 'b', synthetic=True)]
  near, drawn, leaky = segmentation.table(runs, split='test').head.context
  assert near.startswith('2 of these images look like one')
  assert isinstance(drawn, table_lib.Bold) and drawn.startswith('Synthetic data')
  assert leaky == 'Leakage, which flatters scores, in 1 of 2 runs: x.'
