"""What the card says of a run: facts, warnings, terms; test_export runs its code."""

import dataclasses

from attnmel_jax.share import model_card
from attnmel_jax.share import trained
from configs import common

ENVIRONMENT = {'commit': '0123456789abcdef', 'fingerprints': {'train': 'f' * 64}}
INTERVAL = {'estimate': 0.75, 'low': 0.5, 'high': 0.875}
SCORES = {'n': 600, 'groups': 599, 'class_counts': {'other': 483, 'melanoma': 117},
          'level': 0.95, 'ap': INTERVAL, 'threshold': 0.25,
          'sensitivity': {'estimate': None, 'low': None, 'high': None},
          'recall': {'melanoma': INTERVAL}, 'calibration': {'expected_error': 0.1}}


def _run(*, summary=None, **config):
  config = common.get_config().to_dict() | {
      'dataset': 'isic2017', 'roi': 'lesion', 'pretrained': 'imagenet'} | config
  summary = {'class_names': ['other', 'melanoma'], 'best': {'step': 100},
             'synthetic': False, 'threshold': 0.25, 'temperature': None,
             'leakage': {'found': []},
             'trained_on': {'n': 2000, 'groups': 1990,
                            'class_counts': {'other': 1626, 'melanoma': 374}},
             'test': SCORES} | (summary or {})
  return trained.TrainedRun('run', config, summary, None)


def _text(run):
  """The card with the whitespace of a rendered page."""
  card = model_card.text(run, ENVIRONMENT, program='model.stablehlo', onnx='',
                         weights='weights.safetensors', platforms=('cpu', 'tpu'))
  assert '{{' not in card and '\n\n\n\n' not in card
  return ' '.join(card.split())


def test_scores_come_with_their_intervals():
  text = _text(_run())
  for fact in ('| ap | 0.750 | 0.500 to 0.875 |',
               '| recall of melanoma | 0.750 | 0.500 to 0.875 |',
               '### Test 600 images of 599 lesions (other 483, melanoma 117). Est',
               'with 95% bootstrap intervals',
               'Trained on 2000 images of 1990 lesions (other 1626, melanoma 374).',
               'ap: area under the precision-recall curve', 'at least 0.2500',
               'melanoma where', 'commit 0123456789ab, seed 0, after step 100',
               'train ffffffffffff.'):
    assert fact in text, fact
  for absent in ('| sensitivity', 'chose the checkpoint', 'pointing', 'temperature of',
                 'Leakage', 'look like'):
    assert absent not in text, absent
  untested = dataclasses.replace(_run(), summary={
      name: value for name, value in _run().summary.items() if name != 'test'})
  assert 'nothing is known of how well it works' in _text(untested)


def test_what_flatters_the_scores_stands_beside_them():
  rest = {'n': 598, 'ap': INTERVAL | {'estimate': 0.625}}
  text = _text(_run(summary={
      'temperature': 19.999, 'leakage': {'found': ['train and test share 1 image: x']},
      'test': SCORES | {'without_near_duplicates': rest},
      'validation': SCORES | {'jaccard_pool4': INTERVAL, 'n_annotated': 16}}))
  for fact in ('**Leakage, which flatters these scores: train and test share 1 image',
               'Without 2 images that look like one that trained the model or chose '
               'its checkpoint: ap 0.625.',
               'These images also chose the checkpoint, the threshold and the temp',
               'are of the 16 images with a lesion mask', 'jaccard: of a map',
               'a temperature of 19.999, where its search ends'):
    assert text.count(fact) == 1, fact
  assert 'a temperature of 2.500.' in _text(_run(summary={'temperature': 2.5}))


def test_names_from_outside_are_text():
  evil = '<img src=x onerror=alert(1)>|\n# x](y)'
  text = _text(_run(summary={
      'class_names': ['other', evil], 'leakage': {'found': [evil]},
      'trained_on': {'n': 1, 'groups': 1, 'class_counts': {evil: 1}},
      'test': SCORES | {'class_counts': {evil: 1}, 'recall': {evil: INTERVAL}}}))
  assert text.count('<img') == text.count('\\<img') == 6
  assert '](y)' not in text.replace('\\](y)', '')
  assert 'recall of \\<img src=x onerror=alert(1)>\\| # x' in text


def test_terms_are_those_of_the_images():
  for dataset, words in (
      ('isic2016', 'CC-0, CC-BY or CC-BY-NC'), ('isic2018', 'CC BY-NC 4.0'),
      ('folder', 'whoever owns the photographs'), ('other', 'unknown')):
    text = _text(_run(dataset=dataset))
    assert words in text, dataset
    assert 'no medical device' in text and 'ImageNet' in text
    assert 'ImageNet' not in _text(_run(dataset=dataset, pretrained=''))
  text = _text(_run(summary={'synthetic': True}))
  assert 'Trained on synthetic images' in text and 'CC-BY' not in text
  assert 'Trained on synthetic' not in _text(_run())


def test_preparation_and_contents_of_the_files_are_those_of_the_system():
  for config, words, absent in (
      ({'crop_ratio': 0.9}, 'int(0.9 * min(image.size))', 'int(0.8'),
      ({'resize_size': 300}, 'uint8 [b, 300, 300, 3]', '256, 256'),
      ({'image_size': 256}, 'the central 256 x 256', '224'),
      ({}, 'mean (0.682, 0.5312, 0.4736)', '485'), ({}, 'on cpu, tpu', 'cuda'),
      ({}, 'sigmoid(r), pooled feature mean(a F)', '`cam`'),
      ({'gate_norm': 'softmax'}, 'sum(a F)', 'sigmoid(r)'),
      ({'model': 'vgg16_gap'}, '`cam`', 'gate_<tap>'),
      ({'model': 'mel_cnn'}, 'of pool-5, pool3, pool4, concatenated', 'gate_<tap>'),
      ({'model': 'vgg16'}, '`.3` and `.6`', 'gate_<tap>'),
      ({'tta': True}, '8 flips', 'float64'),
      ({'dtype': 'float64'}, 'jax_enable_x64', '8 flips')):
    text = _text(_run(**config))
    assert words in text, config
    assert absent not in text, config
