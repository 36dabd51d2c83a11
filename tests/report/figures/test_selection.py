import shutil

import numpy as np
import pytest

from attnmel_jax.report.figures import selection
from tests.report import conftest


def test_seeds_and_folds_of_a_system_stand_together_in_order(make_run, found):
  for seed in (2, 0):
    make_run(f'x{seed}', conftest.predictions(seed=seed), seed=seed)
  make_run('other', conftest.predictions(seed=9), roi='lesion')
  (panel,), notes = selection.panels(found(), split='auto')
  assert list(panel.systems) == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']
  assert [one.place for one in panel.systems['AttnMel-CNN']] == [(0, 0), (2, 0)]
  assert panel.title == 'ISIC 2017: 40 test images'
  assert (panel.split, panel.positives, notes) == ('test', 20, [])


def test_a_panel_has_the_order_of_the_thesis(seven):
  (panel,), notes = selection.panels(seven[::-1], split='auto')
  assert list(panel.systems) == list(conftest.SYSTEMS)
  assert not notes


def test_another_config_of_a_system_is_a_variant_and_a_note_says_how(make_run, found):
  make_run('a', conftest.predictions(), learning_rate=0.01)
  make_run('b', conftest.predictions(), learning_rate=0.02, seed=1, data_dir='other')
  (panel,), notes = selection.panels(found(), split='auto')
  assert list(panel.systems) == ['AttnMel-CNN', 'AttnMel-CNN #2']
  assert notes == ['AttnMel-CNN #2 differs from AttnMel-CNN in learning_rate=0.02']


def test_a_second_run_of_one_seed_and_fold_is_left_out(make_run, found):
  make_run('a', conftest.predictions())
  make_run('b', conftest.predictions(seed=1))
  (panel,), (note,) = selection.panels(found(), split='auto')
  assert [one.run.folder.name for one in panel.systems['AttnMel-CNN']] == ['a']
  assert 'b is left out: AttnMel-CNN has another run' in note


def test_data_sets_folds_and_synthetic_images_have_panels_of_their_own(
    make_run, found):
  make_run('a', conftest.predictions(), dataset='isic2018', num_folds=5, fold=1,
           group_folds=False)
  make_run('b', conftest.predictions(), synthetic=True)
  make_run('c', conftest.predictions())
  make_run('d', conftest.predictions(), dataset='isic2016', positive=('malignant',))
  make_run('e', conftest.predictions(), dataset='isic2018', num_folds=5, fold=1)
  panels, _ = selection.panels(found(), split='auto')
  assert [panel.experiment.title for panel in panels] == [
      'ISIC 2016', 'ISIC 2017', 'ISIC 2017, synthetic', 'ISIC 2018, 5 folds by image',
      'ISIC 2018, 5 folds by lesion']
  assert len({panel.experiment.file_name for panel in panels}) == 5


def test_validation_images_stand_in_where_no_run_has_test_images(make_run, found):
  make_run('a', conftest.predictions(), split='validation')
  assert selection.panels(found(), split='auto')[0][0].split == 'validation'
  make_run('b', conftest.predictions(), roi='lesion')
  (panel,), (note,) = selection.panels(found(), split='auto')
  assert (panel.split, list(panel.systems)) == ('test', ['AttnMel-CNN-Lesion'])
  assert note.startswith('a is left out: ') and 'has no test scores' in note


def test_a_split_can_be_asked_for_and_a_test_set_may_arrive_later(make_run, found):
  folder = make_run('a', conftest.predictions(), split='validation')
  later = folder / 'evaluations' / 'isic2017-test'
  shutil.copytree(make_run('b', conftest.predictions(30), roi='lesion'), later)
  (later / 'config.json').unlink()  # an evaluation has none
  for split, number in (('auto', 30), ('test', 30), ('validation', 40)):
    panel = selection.panels(found(), split=split)[0][0]
    assert len(panel.images) == number
    assert list(panel.systems)[0] == 'AttnMel-CNN'
  one = selection.read(found()[0], 'test')
  assert one.folder == later


def test_systems_on_other_images_or_labels_are_left_out(make_run, found):
  make_run('a', conftest.predictions(), roi='none')
  make_run('b', conftest.predictions(), roi='lesion')
  make_run('c', conftest.predictions(30), roi='dermo')
  ids, labels, probabilities = conftest.predictions()
  make_run('d', (ids, labels[::-1], probabilities), roi='background')
  (panel,), notes = selection.panels(found(), split='auto')
  assert list(panel.systems) == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']
  assert notes == [
      f'{name} is not shown in ISIC 2017: it was scored with other test images'
      for name in ('AttnMel-CNN-Dermo', 'AttnMel-CNN-Bkg')]


def test_lesions_are_read_and_the_image_without_weight_is_dropped(make_run, found):
  ids, labels, probabilities = conftest.predictions(6)
  ids = np.r_[ids[:5], ['ISIC_0035068']]
  make_run('a', (ids, labels, probabilities), groups=['p', 'p', 'q', 'r', 'r', 's'])
  one = selection.read(found()[0], 'test')
  assert one.table.ids.tolist() == ids[:5].tolist()
  assert one.scored.images.groups.tolist() == ['p', 'p', 'q', 'r', 'r']


def test_networks_for_masks_have_no_curve(make_run, found):
  make_run('a', conftest.predictions(), model='unet')
  assert selection.panels(found(), split='auto') == ([], [])


@pytest.mark.parametrize('content', ['', 'image,label\n'])
def test_damaged_predictions_are_a_note(make_run, found, content):
  folder = make_run('a', conftest.predictions())
  (folder / 'predictions' / 'test.csv').write_text(content)
  panels, (note,) = selection.panels(found(), split='auto')
  assert not panels and 'a is left out' in note
