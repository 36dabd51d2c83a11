from attnmel_jax.report import names
from configs import common
from configs.grids import common as grid_systems

FIELDS = common.get_config().to_dict()


def test_the_grids_call_the_systems_the_same_and_order_them_so():
  found = {name: names.system_name(FIELDS | own)
           for name, own in grid_systems.SYSTEMS.items()}
  # A star cannot be part of a folder's name.
  assert all(name == in_grid or name == 'AttnMel-CNN-Lesion*' and 'generated' in in_grid
             for in_grid, name in found.items())
  assert sorted(found.values(), key=names.system_position) == list(found.values())
  assert sorted(['b', 'AttnMel-CNN-Lesion*', 'a', 'Mel-CNN'],
                key=names.system_position) == [
      'Mel-CNN', 'AttnMel-CNN-Lesion*', 'a', 'b']


def test_systems_are_named_by_model_prior_and_masks():
  for (model, roi, masks), name in {
      ('vgg16_gap', 'none', 'unet'): 'VGG-16-GAP',
      ('attnmel_cnn', 'background', 'other'): 'AttnMel-CNN-Bkg',
      ('attnmel_cnn', 'generated', 'unet'): 'AttnMel-CNN-Lesion*',
      ('attnmel_cnn', 'generated', 'better'): 'AttnMel-CNN-Lesion* (better)',
      ('mel_cnn', 'lesion', 'unet'): 'mel_cnn-lesion',
      ('unet', 'lesion', 'unet'): 'U-Net'}.items():
    assert names.system_name(
        {'model': model, 'roi': roi, 'generated_masks': masks,
         'backbone': 'vgg16'}) == name


def test_another_backbone_is_named_and_comes_after_the_thesis_s():
  config = {'roi': 'none', 'generated_masks': 'unet', 'backbone': 'resnet50'}
  assert [names.system_name(config | {'model': model})
          for model in ('vgg16_gap', 'mel_cnn', 'attnmel_cnn')] == [
      'GAP on ResNet-50', 'Mel-CNN on ResNet-50', 'AttnMel-CNN on ResNet-50']
  listed = ['AttnMel-CNN', 'other', 'GAP on EfficientNet-Lite0',
            'AttnMel-CNN on EfficientNet-Lite0', 'GAP on ResNet-50',
            'Mel-CNN on ResNet-50']
  assert sorted(reversed(listed), key=names.system_position) == listed
