"""A U-Net as an ordinary run: its step, its files, its scores."""

import csv
import json
import os
import signal
import types

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.evaluation import predict_masks
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import evaluate
from attnmel_jax.experiments import run as run_lib
from attnmel_jax.experiments import segmentation
from attnmel_jax.training import loop
from attnmel_jax.training import metrics_file


def _predictions(jaccard, maps=0):
  return predict_masks.MaskPredictions(
      index=np.arange(len(jaccard)), jaccard=np.array(jaccard),
      probability=np.full((maps, 32, 32), 200, np.uint8))


def test_the_mean_over_annotated_images_chooses():
  assert segmentation.selection_score(_predictions([0.5, np.nan, 1.0])) == (
      'jaccard', 0.75)


def test_scores_and_files_of_a_part(tmp_path):
  jaccard = [0.5, 0.7, np.nan, 0.9]
  prepared = types.SimpleNamespace(
      has_lesion=np.array([False, True, True, False, True]),
      load=lambda row: {'image': np.full((36, 36, 3), 40 * row, np.uint8),
                        'lesion': np.full((36, 36), 255, np.uint8)})
  ids = np.array(list('abcd'))
  part = types.SimpleNamespace(
      prepared=prepared, rows=np.arange(1, 5), ids=ids, groups=ids)

  def report(maps, near_duplicates):
    return segmentation.report(
        tmp_path, 'validation', _predictions(jaccard, maps), part,
        {'bootstrap_draws': 100, 'bootstrap_seed': 0},
        near_duplicates=near_duplicates, **segmentation.decisions(None, 0))

  scores = report(1, ())
  assert (scores['n'], scores['n_annotated']) == (4, 3)
  assert scores['jaccard']['estimate'] == pytest.approx(0.7)
  assert scores['thresholded_jaccard']['estimate'] == pytest.approx(1.6 / 3)
  assert 0.5 <= scores['jaccard']['low'] < 0.7 < scores['jaccard']['high'] <= 0.9
  table = prediction_files.read_image_scores(
      tmp_path / 'predictions' / 'val_images.csv')
  np.testing.assert_array_equal(table.scores['jaccard'], jaccard)
  np.testing.assert_array_equal(
      table.scores['thresholded_jaccard'], [0, 0.7, np.nan, 0.9])
  assert (tmp_path / 'masks' / 'val.png').is_file()
  again = report(0, ('d',))
  rest = again.pop('without_near_duplicates')
  assert again == scores
  assert (rest['n'], rest['n_annotated']) == (3, 2)
  assert rest['jaccard']['estimate'] == pytest.approx(0.6)


def test_a_unet_leaves_all_its_files(segmenter):
  folder, summary, _ = segmenter
  for name in ('config.json', 'environment.json', 'predictions/val_images.csv',
               'masks/val.png', 'masks/test.png', 'checkpoints/best'):
    assert (folder / name).exists(), name
  with (folder / 'split.csv').open() as file:
    parts = [row['part'] for row in csv.DictReader(file)]
  assert len(parts) == 40 and parts.count('test') == summary['test']['n'] == 10
  assert summary['class_names'] == [] and summary['synthetic']
  table = prediction_files.read_image_scores(folder / 'predictions' / 'test_images.csv')
  assert summary['test']['jaccard']['estimate'] == pytest.approx(
      np.mean(table.scores['jaccard']))
  lines = [json.loads(line) for line in
           (folder / 'metrics.jsonl').read_text().splitlines()]
  chosen = max(line.get('validation_jaccard', -1) for line in lines)
  assert summary['best']['jaccard'] == chosen
  assert summary['validation']['jaccard']['estimate'] == pytest.approx(chosen)


def test_a_unet_scores_a_prepared_split(segmenter, tmp_path):
  folder, _, data = segmenter
  again = evaluate.evaluate(folder, dataset='isic2018_task1', data_dir=str(data),
                            split='train', out=tmp_path, allow_leakage=False)
  assert again['train']['n'] == 40
  own, scored = (
      prediction_files.read_image_scores(path / 'predictions' / f'{name}_images.csv')
      for path, name in ((folder, 'test'), (tmp_path, 'train')))
  by_id = dict(zip(scored.ids, scored.scores['jaccard'], strict=True))
  np.testing.assert_allclose([by_id[name] for name in own.ids], own.scores['jaccard'])
  with pytest.raises(errors.UserError, match='no test image .* has a lesion mask'):
    evaluate.evaluate(folder, dataset='isic2018', data_dir=str(data), split='test',
                      out=tmp_path, allow_leakage=False)


def test_a_stopped_unet_resumes(segmenter, pixel_net, tmp_path, monkeypatch):
  folder, summary, data = segmenter
  write = metrics_file.MetricsFile.write

  def stopping(file, step, values):
    if step == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    write(file, step, values)

  config = pixel_net(data)
  with monkeypatch.context() as patched, pytest.raises(loop.Stopped):
    patched.setattr(metrics_file.MetricsFile, 'write', stopping)
    run_lib.run(config, tmp_path, quiet=True)
  assert run_lib.run(config, tmp_path, quiet=True) == summary
  assert (tmp_path / 'metrics.jsonl').read_bytes() == (
      folder / 'metrics.jsonl').read_bytes()
