from attnmel_jax.report import names
from configs import common
from configs.grids import common as grid_systems


def test_the_grids_call_the_systems_the_same_and_order_them_so():
  fields = common.get_config().to_dict()
  for name, own in grid_systems.SYSTEMS.items():
    assert names.system_name(fields | own) == name
  found = [name for name in names.SYSTEMS if name in grid_systems.SYSTEMS]
  assert found == list(grid_systems.SYSTEMS)


def test_generated_masks_have_a_star_and_unknown_pairs_their_fields():
  assert names.system_name(
      {'model': 'attnmel_cnn', 'roi': 'generated'}) == 'AttnMel-CNN-Lesion*'
  assert names.system_name({'model': 'vgg16', 'roi': 'lesion'}) == 'vgg16-lesion'


def test_systems_sort_as_in_the_thesis_and_others_come_last():
  shuffled = ['b', 'AttnMel-CNN-Lesion*', 'a', 'Mel-CNN', 'VGG-16', 'AttnMel-CNN']
  assert sorted(shuffled, key=names.system_position) == [
      'VGG-16', 'Mel-CNN', 'AttnMel-CNN', 'AttnMel-CNN-Lesion*', 'a', 'b']


def test_data_sets_and_classes_are_written_out():
  assert names.dataset_name('isic2016') == 'ISIC 2016'
  assert names.dataset_name('mine') == 'mine'
  assert names.class_name('seborrheic_keratosis') == 'seborrheic keratosis'
