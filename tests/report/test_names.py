import pytest

from attnmel_jax.report import names
from configs import common
from configs.grids import common as grid_systems


def test_the_grids_call_the_systems_the_same_and_order_them_so():
  fields = common.get_config().to_dict()
  found = {name: names.system_name(fields | own)
           for name, own in grid_systems.SYSTEMS.items()}
  # A star cannot be part of a folder's name.
  assert all(name == in_grid or name == 'AttnMel-CNN-Lesion*' and 'generated' in in_grid
             for in_grid, name in found.items())
  assert sorted(found.values(), key=names.system_position) == list(found.values())


def test_generated_masks_have_a_star_and_unknown_pairs_their_fields():
  fields = common.get_config().to_dict()
  assert names.system_name(
      fields | {'model': 'attnmel_cnn', 'roi': 'generated'}) == 'AttnMel-CNN-Lesion*'
  assert names.system_name(
      fields | {'model': 'vgg16', 'roi': 'lesion'}) == 'vgg16-lesion'
  assert {names.system_name(fields | {'model': 'unet', 'roi': roi})
          for roi in ('none', 'lesion')} == {'U-Net'}


def test_systems_sort_as_in_the_thesis_and_others_come_last():
  shuffled = ['b', 'AttnMel-CNN-Lesion*', 'a', 'Mel-CNN', 'VGG-16', 'AttnMel-CNN']
  assert sorted(shuffled, key=names.system_position) == [
      'VGG-16', 'Mel-CNN', 'AttnMel-CNN', 'AttnMel-CNN-Lesion*', 'a', 'b']


def test_data_sets_and_classes_are_written_out():
  assert names.dataset_name('isic2016') == 'ISIC 2016'
  assert names.dataset_name('mine') == 'mine'
  assert names.class_name('seborrheic_keratosis') == 'seborrheic keratosis'


@pytest.mark.parametrize('fields, name', [
    (('vgg16', 'none'), 'VGG-16'), (('vgg16_gap', 'none'), 'VGG-16-GAP'),
    (('mel_cnn', 'none'), 'Mel-CNN'), (('attnmel_cnn', 'none'), 'AttnMel-CNN'),
    (('attnmel_cnn', 'lesion'), 'AttnMel-CNN-Lesion'),
    (('attnmel_cnn', 'dermo'), 'AttnMel-CNN-Dermo'),
    (('attnmel_cnn', 'background'), 'AttnMel-CNN-Bkg'),
    (('attnmel_cnn', 'generated'), 'AttnMel-CNN-Lesion*'),
    (('mel_cnn', 'lesion'), 'mel_cnn-lesion')])
def test_systems_are_named_by_model_and_prior(fields, name):
  own = dict(zip(('model', 'roi'), fields, strict=True))
  assert names.system_name(common.get_config().to_dict() | own) == name


def test_other_generated_masks_are_another_system():
  config = {'model': 'attnmel_cnn', 'roi': 'generated', 'generated_masks': 'better'}
  assert names.system_name(config) == 'AttnMel-CNN-Lesion* (better)'
