import dataclasses

import pytest

from attnmel_jax.share import model_card
from attnmel_jax.share import trained

ENVIRONMENT = {'commit': '0123456789abcdef', 'fingerprints': {'train': 'f' * 64}}
INTERVAL = {'estimate': 0.75, 'low': 0.5, 'high': 0.875}


def _run(*, synthetic=False, summary=None, **config):
  config = {'model': 'attnmel_cnn', 'backbone': 'vgg16_bn', 'width': 1.0,
            'roi': 'lesion', 'dataset': 'isic2017', 'pretrained': 'imagenet',
            'taps': ('pool3', 'pool4'), 'gate_norm': 'sigmoid', 'dtype': 'float32',
            'tta': False, 'crop_ratio': 0.8, 'resize_size': 256, 'image_size': 224,
            'normalisation': 'isic2017', 'seed': 0} | config
  summary = {'class_names': ['other', 'melanoma'], 'best': {'step': 100},
             'synthetic': synthetic, 'threshold': 0.25, 'temperature': None,
             'leakage': {'found': []},
             'trained_on': {'n': 2000, 'groups': 1990,
                            'class_counts': {'other': 1626, 'melanoma': 374}},
             'test': {'n': 600, 'groups': 599,
                      'class_counts': {'other': 483, 'melanoma': 117},
                      'level': 0.95, 'ap': INTERVAL, 'threshold': 0.25,
                      'sensitivity': {'estimate': None, 'low': None, 'high': None},
                      'recall': {'melanoma': INTERVAL},
                      'calibration': {'expected_error': 0.1}}} | (summary or {})
  return trained.TrainedRun('run', config, summary, None)


def _text(run):
  return model_card.text(run, ENVIRONMENT, program='model.stablehlo', onnx='',
                         weights='weights.safetensors', platforms=('cpu', 'tpu'))


def test_scores_come_with_their_intervals():
  text = _text(_run())
  assert '| ap | 0.750 | 0.500 to 0.875 |' in text
  assert '| recall of melanoma | 0.750 | 0.500 to 0.875 |' in text
  assert '| sensitivity' not in text  # it is undefined
  assert '### Test\n\n600 images of 599 lesions (other 483, melanoma 117). ' in text
  assert 'Trained on 2000 images of 1990 lesions (other 1626, melanoma 374).' in text
  assert 'chose the checkpoint' not in text
  assert 'ap: area under the precision-recall curve' in text
  assert 'pointing' not in text
  assert 'at least 0.2500' in text
  nothing = _text(_run(summary={'test': None}))
  assert 'nothing is known of how well it works' in nothing


def test_validation_and_maps_are_told_for_what_they_are():
  test = _run().summary['test']
  text = _text(_run(summary={
      'test': None, 'temperature': 19.999, 'validation': test | {
          'jaccard_pool4': INTERVAL, 'n_annotated': 16}}))
  assert 'These images also chose the checkpoint, the threshold and the temp' in text
  assert 'are of the 16 images with a lesion mask' in text
  assert 'jaccard: of a map' in text
  assert 'a temperature of 19.999, where its search ends' in text
  text = _text(_run(summary={'temperature': 2.5}))
  assert 'a temperature of 2.500.' in text
  older = _run()
  older.summary.pop('trained_on')
  assert 'Trained on 2000' not in _text(older)


def test_names_from_outside_are_text():
  evil = '<img src=x onerror=alert(1)>|\n# x](y)'
  text = _text(_run(dataset=evil, summary={
      'class_names': ['other', evil], 'leakage': {'found': [evil]},
      'trained_on': {'n': 1, 'groups': 1, 'class_counts': {evil: 1}},
      'test': _run().summary['test'] | {'class_counts': {evil: 1}, 'recall': {
          evil: INTERVAL}}}))
  assert '<img' not in text.replace('\\<img', '')
  assert '\n# x' not in text and '](y)' not in text.replace('\\](y)', '')
  assert 'recall of \\<img src=x onerror=alert(1)>\\| # x' in text


def test_leakage_and_near_duplicates_stand_beside_the_scores():
  test = _run().summary['test']
  rest = {'n': 598, 'ap': INTERVAL | {'estimate': 0.625}}
  text = _text(_run(summary={
      'leakage': {'found': ['train and test share 1 lesions: x']},
      'test': test | {'without_near_duplicates': rest}}))
  assert '**Leakage, which flatters these scores: train and test share 1' in text
  assert 'Without 2 images that look like one that' in text
  assert 'chosen by: ap 0.625.' in text
  assert 'Leakage' not in _text(_run()) and 'look like' not in _text(_run())
  older = _run()
  older.summary.pop('leakage')
  assert 'unknown: it was not looked for' in _text(older)


@pytest.mark.parametrize(('dataset', 'words'), [
    ('isic2016', 'CC-0, CC-BY or CC-BY-NC'), ('isic2018', 'CC BY-NC 4.0'),
    ('folder', 'whoever owns the photographs'), ('other', 'unknown')])
def test_terms_are_those_of_the_images(dataset, words):
  text = _text(_run(dataset=dataset))
  assert words in text
  assert 'no medical device' in text
  assert 'ImageNet' in text
  assert 'ImageNet' not in _text(_run(dataset=dataset, pretrained=''))


def test_synthetic_images_are_marked_and_bound_to_no_publisher():
  text = _text(_run(synthetic=True))
  assert 'Trained on synthetic images' in text
  assert 'CC-BY' not in text
  assert 'Trained on synthetic' not in _text(_run())


def test_preparation_is_the_runs_own():
  text = _text(_run(crop_ratio=0.9, resize_size=300, image_size=256))
  assert 'int(0.9 * min(image.size))' in text
  assert '.resize((300, 300), Image.Resampling.BILINEAR)' in text
  assert 'uint8 [b, 300, 300, 3]' in text
  assert 'the central 256 x 256' in text
  assert 'mean (0.682, 0.5312, 0.4736)' in text
  assert 'on cpu, tpu' in text


@pytest.mark.parametrize(('config', 'words', 'absent'), [
    ({}, 'sigmoid(r), pooled feature mean(a F)', '`cam`'),
    ({'gate_norm': 'softmax'}, 'sum(a F)', 'sigmoid(r)'),
    ({'model': 'vgg16_gap'}, '`cam`', 'gate_<tap>'),
    ({'model': 'vgg16'}, '`.3` and `.6`', 'gate_<tap>'),
    ({'tta': True}, '8 flips', 'float64'),
    ({'dtype': 'float64'}, 'jax_enable_x64', '8 flips')])
def test_what_the_files_hold_depends_on_the_system(config, words, absent):
  text = _text(_run(**config))
  assert words in text
  assert absent not in text


def test_a_run_without_a_field_of_today_still_has_a_card():
  run = _run()
  config = {k: v for k, v in run.config.items() if k not in ('roi', 'pretrained')}
  assert 'prior of the attention: none' in _text(
      dataclasses.replace(run, config=config))
