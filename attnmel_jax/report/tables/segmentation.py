"""U-Nets: how well their masks agree with the annotated ones."""

from collections.abc import Sequence

from attnmel_jax.experiments import methods
from attnmel_jax.report import run_reader
from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import table as table_lib

_COLUMNS = {'jaccard': 'Jaccard', 'thresholded_jaccard': 'thresholded Jaccard'}


def table(runs: Sequence[run_reader.FinishedRun], *, split: str
          ) -> table_lib.Table | None:
  """A row a run and part; None where no run has the part.

  Args:
    runs: any, of which the U-Nets are shown.
    split: validation, test, or auto: test where a run has been tested.
  """
  wanted = ('test', 'validation') if split == 'auto' else (split,)
  rows, shown = [], []
  for run in runs:
    part = next((part for part in wanted if part in run.summary), None)
    if not methods.of(run.config).LEARNS_MASKS or part is None:
      continue
    scores = run.summary[part]
    shown.append((run, scores))
    rows.append([
        *map(table_lib.Cell, (run.folder.name, run.config['dataset'], part,
                              str(scores['n']))),
        *(table_lib.score(scores[column]) for column in _COLUMNS)])
  if not rows:
    return None
  head = table_lib.Head(
      'segmentation', 'U-Net: Jaccard index of its masks with the annotated ones',
      (*captions.near_duplicates([scores for _, scores in shown]),
       *captions.synthetic(any(run.summary['synthetic'] for run, _ in shown)),
       *captions.leakage([run.leakage for run, _ in shown])),
      ('Means over images, 95 % intervals of test sampling; thresholded: an index '
       'below 0.65 counts as 0.',))
  return table_lib.Table(
      head, ('run', 'data set', 'split', 'images', *_COLUMNS.values()), rows)
