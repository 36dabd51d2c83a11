import csv

import numpy as np
import pytest

from attnmel_jax.evaluation import challenge
from attnmel_jax.evaluation import score_summary


def _test_set(seed=0, rows=140):
  """Ids, labels and probabilities, the image without weight among them."""
  rng = np.random.default_rng(seed)
  ids = [f'ISIC_{35060 + i:07d}' for i in range(rows)]
  assert 'ISIC_0035068' in ids
  labels = rng.permutation(np.arange(rows) % 7)
  # A large class and small ones, right about half the time.
  labels[labels == 6] = np.where(rng.random((labels == 6).sum()) < 0.8, 1, 6)
  logits = rng.normal(size=(rows, 7))
  logits[np.arange(rows), labels] += 1.5
  probabilities = np.exp(logits)
  return ids, labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_a_submission_by_hand(tmp_path):
  path = tmp_path / 'submission.csv'
  row = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125, 0.0]
  challenge.write_submission(path, ['ISIC_1', 'ISIC_2'], [row, row[::-1]])
  assert path.read_text() == (
      'image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n'
      'ISIC_1,0.5,0.25,0.125,0.0625,0.03125,0.03125,0.0\n'
      'ISIC_2,0.0,0.03125,0.03125,0.0625,0.125,0.25,0.5\n')
  with pytest.raises(ValueError, match='do not fit 1 ids'):
    challenge.write_submission(path, ['ISIC_1'], np.zeros((1, 2)))


def test_one_image_has_no_weight():
  found = challenge.scored(['ISIC_0035067', 'ISIC_0035068', 'ISIC_0035069'])
  assert found.tolist() == [True, False, True]
  assert challenge.scored([]).tolist() == []


# pandas 2 warns of a method that the tool uses.
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('seed', range(3))
def test_the_official_tool_gives_the_same_scores(tmp_path, seed):
  official = pytest.importorskip(
      'isic_challenge_scoring',
      reason='the official scorer is not installed: tests/requirements.txt')
  ids, labels, probabilities = _test_set(seed)
  challenge.write_submission(tmp_path / 'submission.csv', ids, probabilities)
  with open(tmp_path / 'truth.csv', 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['image', *challenge.CLASSES])
    for name, label in zip(ids, labels, strict=True):
      writer.writerow([name, *np.eye(7)[label]])
  theirs = official.ClassificationScore.from_file(
      tmp_path / 'truth.csv', tmp_path / 'submission.csv',
      official.ClassificationMetric.BALANCED_ACCURACY)

  def ours(rows):
    return score_summary.classification_scores(
        labels[rows], probabilities[rows], class_names=challenge.CLASSES,
        groups=np.array(ids)[rows], threshold=None, temperature=None, num_draws=10,
        seed=0)

  found = ours(challenge.scored(ids))
  assert found['n'] == len(ids) - 1
  assert found['balanced_accuracy']['estimate'] == pytest.approx(
      theirs.overall, abs=1e-12)
  for name in challenge.CLASSES:
    assert found['auc'][name]['estimate'] == pytest.approx(
        theirs.per_category.loc[name, 'auc'], abs=1e-12)
  assert found['auc_mean']['estimate'] == pytest.approx(
      theirs.macro_average['auc'], abs=1e-12)
  # And it is the image without weight that makes them equal.
  assert ours(np.ones(len(ids), bool))['auc_mean'] != found['auc_mean']
