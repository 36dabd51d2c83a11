"""The published numbers against the thesis."""

import pytest

from attnmel_jax.report import names
from attnmel_jax.report.tables import published


@pytest.mark.parametrize('table, competitors, rows', [
    (published.TABLE_3_1, 3, [
        ('Lequan et al. [52]', '0.637', '0.804', 'Lesion'),
        ('Codella et al. [8]', '0.596', '0.808', 'Ensemble'),
        ('Yu et al. [53, 54]', '0.685', '0.852', 'Ensemble'),
        ('VGG-16', '0.602', '0.806', ''),
        ('VGG-16-GAP', '0.635', '0.815', 'Interp'),
        ('Mel-CNN', '0.664', '0.844', ''),
        ('AttnMel-CNN', '0.693', '0.852', 'Interp')]),
    (published.TABLE_3_2, 5, [
        ('Winner 1 [29]', None, '0.868', 'Ensemble External'),
        ('Winner 2 [9]', None, '0.856', 'Lesion Dermo External'),
        ('Winner 3 [31]', None, '0.874', 'Ensemble External'),
        ('Harangi et al. [14]', None, '0.836', 'Ensemble'),
        ('Mahbod et al. [28]', None, '0.873', 'Ensemble External'),
        ('VGG-16', '0.600', '0.824', ''),
        ('VGG-16-GAP', '0.627', '0.834', 'Interp'),
        ('Mel-CNN', '0.653', '0.854', ''),
        ('AttnMel-CNN', '0.655', '0.872', 'Interp'),
        ('AttnMel-CNN-Dermo', '0.665', '0.864', 'Dermo Interp'),
        ('AttnMel-CNN-Lesion', '0.672', '0.883', 'Lesion Interp'),
        ('AttnMel-CNN-Bkg', '0.647', '0.849', 'Lesion Interp')])])
def test_tables_3_1_and_3_2(table, competitors, rows):
  assert len(table.competitors) == competitors
  assert [(row.name, row.scores.get('ap'), row.scores['auc'],
           ' '.join(tick for tick, marked in row.ticks.items() if marked))
          for row in (*table.competitors, *table.systems)] == rows
  assert {tuple(row.ticks) for row in table.systems} == {table.ticks}
  assert {row.name for row in table.systems} <= set(names.CLASSIFIERS)


def test_table_3_3_is_the_corrected_one():
  assert published.JACCARD == {
      'AttnMel-CNN': {'pool3': '0.3105', 'pool4': '0.3186'},
      'AttnMel-CNN-Dermo': {'pool3': '0.3621', 'pool4': '0.4767'},
      'AttnMel-CNN-Lesion': {'pool3': '0.5533', 'pool4': '0.6560'},
      'VGG-16-GAP': {'cam': '0.2825'}}


def test_every_recall_of_table_3_4_is_a_whole_number_of_its_images():
  counts, table = published.CLASSES_3_4, published.TABLE_3_4
  assert sum(counts.values()) == 999
  assert [row.name for row in table.systems] == [
      'VGG-16', 'VGG-16-GAP', 'Mel-CNN', 'AttnMel-CNN', 'AttnMel-CNN-Lesion*']
  scores = {row.name: row.scores for row in table.systems}
  for name, own in scores.items():
    recalls = [float(own[f'recall_{label}']) for label in counts]
    for recall, count in zip(recalls, counts.values(), strict=True):
      hits = round(recall * count)
      # One cell, 89 of 111, was cut off and not rounded.
      assert abs(hits / count - recall) < 0.001, (name, recall, count)
    assert abs(sum(recalls) / 7 - float(own['balanced_accuracy'])) < 0.0005
  assert scores['AttnMel-CNN-Lesion*']['recall_DF'] == '0.727'
  assert scores['Mel-CNN']['recall_AKIEC'] == '0.906'
  assert scores['AttnMel-CNN']['recall_VASC'] == '1.0'
