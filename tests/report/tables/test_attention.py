"""Table 3.3 against means of the files' columns."""

import csv

import numpy as np
import pytest

from attnmel_jax.report.tables import attention
from attnmel_jax.report.tables import published as published_lib
from tests.report import run_folders

SWEEP = [0.25, 0.5, 0.75]


def _write(folder, model='attnmel_cnn', roi='none', best=1, **options):
  names = [*run_folders.MAPS.get(model, ()), 'all_ones']
  curve = [0.3, 0.3, 0.3]
  curve[best] = 0.45
  sweep = {'thresholds': SWEEP, **{f'jaccard_{name}': curve for name in names}}
  fields = {name: options.pop(name) for name in ('seed', 'fold', 'num_folds')
            if name in options}
  return run_folders.write(
      folder, run_folders.config('isic2017', model=model, roi=roi, **fields),
      summary={'threshold_sweep': sweep}, **options)


def _column(run, name):
  with (run.folder / 'predictions' / 'test_images.csv').open() as file:
    cells = [row[name] for row in csv.DictReader(file)]
  return np.array([float(cell) if cell else np.nan for cell in cells])


def _rows(runs, task=published_lib.TABLE_3_2, **options):
  table = attention.scores(run_folders.context(runs, task, **options))
  return {row['map']: row for row in run_folders.texts(table)}


def test_every_map_beside_the_published_and_the_baselines(tmp_path):
  runs = [_write(tmp_path / 'a'), _write(tmp_path / 'g', 'vgg16_gap'),
          _write(tmp_path / 'b', roi='background'), _write(tmp_path / 'v', 'vgg16')]
  rows = _rows(runs)
  assert list(rows) == [
      'AttnMel-CNN pool-3', 'AttnMel-CNN pool-4', 'AttnMel-CNN-Dermo pool-3',
      'AttnMel-CNN-Dermo pool-4', 'AttnMel-CNN-Lesion pool-3',
      'AttnMel-CNN-Lesion pool-4', 'AttnMel-CNN-Bkg pool-3', 'AttnMel-CNN-Bkg pool-4',
      'VGG-16-GAP CAM', 'VGG-16-GAP CAM, released protocol', 'all ones',
      'centred disc (radius 0.40)', "Otsu's threshold"]
  for label, run, column, title, published in (
      ('AttnMel-CNN pool-4', runs[0], 'jaccard_pool4', 'Jaccard', 0.3186),
      ('AttnMel-CNN pool-3', runs[0], 'mass_pool3', 'mass inside', None),
      ('AttnMel-CNN pool-3', runs[0], 'pointing_pool3', 'pointing game', None),
      ('VGG-16-GAP CAM', runs[1], 'jaccard_cam', 'Jaccard', 0.2825),
      ('VGG-16-GAP CAM, released protocol', runs[1], 'jaccard_cam_released', 'Jaccard',
       0.2825),
      ('all ones', runs[1], 'jaccard_all_ones', 'Jaccard', None),
      ("Otsu's threshold", runs[1], 'jaccard_otsu', 'Jaccard', None),
      ('centred disc (radius 0.40)', runs[1], 'jaccard_disc', 'Jaccard', None)):
    mean = np.nanmean(_column(run, column))
    assert rows[label][title].startswith(f'{mean:.3f} [')
    if published:
      assert rows[label]['Jaccard published'] == f'{published:.4f}'
      assert run_folders.floats(rows[label]['Jaccard difference']) == [
          pytest.approx(mean - published, abs=0.0006)]
  assert rows['AttnMel-CNN-Lesion pool-4']['Jaccard'] == 'no run'
  for label in ('AttnMel-CNN-Bkg pool-3', 'all ones'):
    assert rows[label]['Jaccard published'] == '–'
  assert rows['AttnMel-CNN pool-3']['best threshold'] == '0.50'
  assert rows['AttnMel-CNN pool-3']['Jaccard there'] == '0.450'
  notes = attention.scores(run_folders.context(runs)).head.notes
  assert notes[0] == '39 images are annotated.'


def test_rows_without_a_run_stand_only_where_the_thesis_is_repeated(tmp_path):
  rows = list(_rows([]).values())
  assert len(rows) == 7
  assert rows[5] == {
      'map': 'AttnMel-CNN-Lesion pool-4', 'Jaccard': 'no run',
      'Jaccard published': '0.6560', 'Jaccard difference': '–', 'mass inside': 'no run',
      'pointing game': 'no run', 'best threshold': 'no run', 'Jaccard there': 'no run'}
  runs = [_write(tmp_path / 'a', roi='dermo')]
  own = ['AttnMel-CNN-Dermo pool-3', 'AttnMel-CNN-Dermo pool-4', 'all ones',
         'centred disc (radius 0.40)', "Otsu's threshold"]
  assert list(_rows(runs, number=2)) == own
  rows = _rows(runs, published_lib.TABLE_3_2._replace(systems=()))
  assert list(rows) == own
  assert 'Jaccard published' not in rows['all ones']


def test_maps_are_compared_with_the_same_map_of_the_reference(tmp_path):
  runs = [_write(tmp_path / 'a'), _write(tmp_path / 'l', roi='lesion'),
          _write(tmp_path / 'g', 'vgg16_gap')]
  table = attention.compared(run_folders.context(runs))
  rows = {(row['score'], row['system']): row for row in run_folders.texts(table)}
  against = {system: row['reference'] for (score, system), row in rows.items()
             if score == 'Jaccard'}
  assert against == {
      'AttnMel-CNN-Lesion pool-3': 'AttnMel-CNN pool-3',
      'AttnMel-CNN-Lesion pool-4': 'AttnMel-CNN pool-4',
      'VGG-16-GAP CAM': 'AttnMel-CNN pool-4',
      'VGG-16-GAP CAM, released protocol': 'AttnMel-CNN pool-4',
      'all ones': 'AttnMel-CNN pool-4',
      'centred disc (radius 0.40)': 'AttnMel-CNN pool-4',
      "Otsu's threshold": 'AttnMel-CNN pool-4'}
  for system, run, names in (
      ('AttnMel-CNN-Lesion pool-3', runs[1], ('pool3', 'pool3')),
      ('VGG-16-GAP CAM', runs[2], ('cam', 'pool4')),
      ("Otsu's threshold", runs[2], ('otsu', 'pool4'))):
    own, theirs = (np.nanmean(_column(r, f'jaccard_{name}')) for r, name in
                   zip((run, runs[0]), names, strict=True))
    assert rows['Jaccard', system]['difference'].startswith(
        f'{own - theirs:+.3f} ['.replace('-', '−'))
    assert rows['Jaccard', system]['comparisons'] == '7'
  assert rows['mass inside', 'VGG-16-GAP CAM']['comparisons'] == '3'
  cam = attention.compared(run_folders.context(runs, reference='VGG-16-GAP'))
  assert {row['reference'] for row in run_folders.texts(cam)} == {'VGG-16-GAP CAM'}
  assert attention.compared(run_folders.context(runs, reference='VGG-16')) is None


def test_the_deepest_of_any_taps_is_compared_with(tmp_path):
  runs = [_write(tmp_path / 'a', scored=('pool2', 'pool1')),
          _write(tmp_path / 'g', 'vgg16_gap')]
  assert list(_rows(runs, number=2))[:2] == ['AttnMel-CNN pool-1', 'AttnMel-CNN pool-2']
  rows = run_folders.texts(attention.compared(run_folders.context(runs)))
  assert {row['reference'] for row in rows} == {'AttnMel-CNN pool-2'}


def test_the_sweep_is_averaged_over_seeds_and_images_of_folds(tmp_path):
  runs = [_write(tmp_path / '0', fold=0, num_folds=2, best=0, rows=30, per_lesion=10),
          _write(tmp_path / '1', fold=1, num_folds=2, best=2, rows=30, per_lesion=10)]
  table = attention.sweep(run_folders.context(runs))
  assert [row['threshold'] for row in run_folders.texts(table)] == [
      '0.250', '0.500', '0.750']
  # 19 annotated images in fold 0, 9 in fold 1.
  expected = [(19 * 0.45 + 9 * 0.3) / 28, 0.3, (19 * 0.3 + 9 * 0.45) / 28]
  column = table.columns.index('AttnMel-CNN pool-4')
  assert [row[column].values[0] for row in table.rows] == pytest.approx(expected)
  assert 'all ones' in table.columns
  bare = run_folders.write(tmp_path / 'bare', run_folders.config('isic2017'))
  assert attention.sweep(run_folders.context([bare])) is None
  row = _rows([bare])['AttnMel-CNN pool-3']
  assert (row['best threshold'], row['Jaccard there']) == ('–', '–')
