"""What a reader of an exported model has to know, as Markdown.

After Mitchell et al. 2019. The Python of the card runs as it stands: a test does.
"""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any

import jax

from attnmel_jax import files
from attnmel_jax import images
from attnmel_jax.data import catalogue
from attnmel_jax.evaluation import calibration
from attnmel_jax.share import trained

_CHALLENGE = 'https://challenge.isic-archive.com/data/'
# Terms of the images, which the model inherits; as docs/data.md has them.
_TERMS = {
    'isic2016': f'CC-0, CC-BY or CC-BY-NC, image by image ({_CHALLENGE})',
    'isic2017': f'CC-0, CC-BY or CC-BY-NC, image by image ({_CHALLENGE})',
    'isic2018': f'CC BY-NC 4.0 ({_CHALLENGE}; HAM10000)',
    'folder': 'those of whoever owns the photographs: ask them before passing this on',
}
_SYSTEMS = {
    'vgg16': 'VGG-16 with its dense layers',
    'vgg16_gap': 'VGG-16 with global average pooling',
    'mel_cnn': 'Mel-CNN: VGG-16, pooled at several depths',
    'attnmel_cnn': 'AttnMel-CNN: VGG-16 with attention gates',
}
_LIMITS = [
    '## Limits', '',
    '- A photograph unlike those it was trained on (another device, no dermoscope, '
    'another body site or skin colour, no lesion at all) gets a probability all the '
    'same. The classes are all it knows.',
    '- Public sets of dermoscopy hold few dark skins and no prevalence of a clinic; '
    'probabilities do not carry over.',
    '- Rulers, stickers, gel bubbles and hair may stand in for the lesion: such '
    'shortcuts were found in these sets.',
    '- Attention maps show where features were weighted, which is no proof of why a '
    'class was chosen.']
_READER = '''import pathlib

import jax.export
import numpy as np
from PIL import Image
from PIL import ImageOps


def prepare(path):
  image = Image.open(path, formats=('JPEG', 'PNG', 'BMP'))
  image = ImageOps.exif_transpose(image).convert('RGB')
  side = int({crop_ratio} * min(image.size))
  left, top = (image.width - side) // 2, (image.height - side) // 2
  square = image.crop((left, top, left + side, top + side))
  square = square.resize(({resize_size}, {resize_size}), Image.Resampling.BILINEAR)
  return np.asarray(square)


model = jax.export.deserialize(bytearray(pathlib.Path('{program}').read_bytes()))


def predict(paths):
  return model.call(np.stack([prepare(path) for path in paths]))
'''


def text(run: trained.TrainedRun, environment: Mapping[str, Any], *, program: str,
         onnx: str, weights: str, platforms: Sequence[str]) -> str:
  """The card of a run.

  Args:
    run: what was exported.
    environment: of its environment.json.
    program: name of the file of the program.
    onnx: name of the ONNX file; '' if there is none.
    weights: name of the file of the weights.
    platforms: that the program was lowered for.
  """
  parts = [_head(run), _data(run), _scores(run), _LIMITS,
           _use(run, program, platforms), _onnx(run, onnx), _weights(run, weights),
           _origin(run, environment)]
  return '\n'.join('\n'.join([*lines, '']) for lines in parts if lines)


def _head(run: trained.TrainedRun) -> list[str]:
  config = run.config
  prior = config.get('roi', 'none')
  dataset = _data_set(run)
  lines = [
      f'# {_SYSTEMS[config["model"]]}, trained on {dataset}', '',
      '**Research software, no medical device.** It is not meant for diagnosis, nor to '
      'decide on the care of a person.', '']
  if run.summary['synthetic']:
    lines += ['**Trained on synthetic images**, drawn by a program. Its scores say '
              'that the software works, and nothing of patients.', '']
  return [*lines,
          'Classes, in the order of the outputs: '
          f'{", ".join(map(files.escaped, run.class_names))}. '
          f'Backbone {config["backbone"]}, width {config["width"]}; prior of the '
          f'attention: {prior}.', '',
          '## Intended use', '',
          'Research on the recognition of skin lesions in dermoscopic photographs: '
          'comparing methods, studying attention maps, reproducing results.']


def _data(run: trained.TrainedRun) -> list[str]:
  dataset = run.config.get('dataset')
  if run.summary['synthetic']:
    terms = 'synthetic images are bound to no publisher of photographs'
  else:
    terms = _TERMS.get(dataset, 'unknown: find the terms of its images first')
  lines = [
      '## Data and terms', '',
      f'Data set: {_data_set(run)}. Terms of its images: {terms}.', '',
      *_learnt_from(run),
      'A model inherits the terms of the images that it learnt from, whatever the '
      'licence of the code is. Images under a non-commercial licence (NC) make a '
      'model for non-commercial use; their attribution goes with it.']
  if run.config.get('pretrained') == 'imagenet':
    lines += ['', 'Training began from weights that torchvision or timm publish, '
              'trained on ImageNet; their terms apply as well.']
  elif run.config.get('pretrained'):
    lines += ['', 'Training began from the weights of another file; their terms apply '
              'as well.']
  return lines


def _data_set(run: trained.TrainedRun) -> str:
  dataset = run.config.get('dataset', 'unknown data')
  return 'own photographs' if dataset == catalogue.FOLDER else files.escaped(dataset)


def _learnt_from(run: trained.TrainedRun) -> list[str]:
  """How many images trained the model; nothing where an older run does not say."""
  counted = run.summary.get('trained_on')
  if not counted:
    return []
  return [f'Trained on {_counts(counted)}.', '']


def _counts(counted: Mapping[str, Any]) -> str:
  """'90 images of 80 lesions (nevus 60, melanoma 30)'."""
  classes = ', '.join(f'{files.escaped(name)} {count}'
                      for name, count in counted['class_counts'].items())
  return f'{counted["n"]} images of {counted["groups"]} lesions ({classes})'


def _scores(run: trained.TrainedRun) -> list[str]:
  lines = ['## Scores', '']
  unknown = {'found': ['unknown: it was not looked for']}
  found = '; '.join(run.summary.get('leakage', unknown)['found'])
  if found:
    lines += ['**Leakage, which flatters these scores: '
              f'{files.escaped(found)}.**', '']
  shown = set()
  for split in ('test', 'validation'):
    scores = run.summary.get(split)
    if scores is None:
      continue
    intervals = dict(_intervals(scores))
    shown |= intervals.keys()
    lines += [f'### {split.capitalize()}', '',
              f'{_counts(scores)}. Estimates with {scores["level"]:.0%} bootstrap '
              'intervals, which hold the sampling of these images and not the choice '
              'of seed.' + _CHOSEN[split], '',
              '| score | estimate | interval |', '|---|---|---|']
    lines += [f'| {files.escaped(name)} | {score["estimate"]:.3f} | '
              f'{score["low"]:.3f} to {score["high"]:.3f} |'
              for name, score in intervals.items()]
    lines.append('')
    annotated = scores.get('n_annotated')
    if annotated and any(name.startswith(_OF_MAPS) for name in intervals):
      lines += [f'Scores of maps ({", ".join(_OF_MAPS)}) are of the {annotated} images '
                'with a lesion mask.', '']
    rest = scores.get('without_near_duplicates')
    if rest is not None:
      lines += [f'Without {scores["n"] - rest["n"]} images that look like one that it '
                'learnt from or was chosen by: ' + ', '.join(
                    f'{files.escaped(name)} {score["estimate"]:.3f}'
                    for name, score in _intervals(rest)) + '.', '']
  if not shown:
    lines += ['There was neither a validation nor a test set: nothing is known of how '
              'well it works.', '']
  if run.summary.get('threshold') is not None:
    lines.append(
        'Sensitivity and specificity call an image '
        f'{files.escaped(run.class_names[1])} where its probability is at least '
        f'{run.summary["threshold"]:.4f}.')
  temperature = run.summary.get('temperature')
  if temperature is not None:
    inside = 1.01 * calibration.COLDEST < temperature < 0.99 * calibration.HOTTEST
    bound = '' if inside else ', where its search ends: they say little of it'
    lines.append('Probabilities are as the network gives them; the validation images '
                 f'ask for a temperature of {temperature:.3f}{bound}.')
  return [*lines, '', *_glossary(shown)]


# What is said of the scores of a split.
_CHOSEN = {'test': '', 'validation': ' These images also chose the checkpoint, the '
           'threshold and the temperature, which flatters these scores.'}
_OF_MAPS = ('jaccard', 'mass', 'pointing')
_MEANINGS = {
    'ap': 'area under the precision-recall curve (average precision)',
    'auc': 'area under the ROC curve; of a class, of that class against the rest',
    'sensitivity': 'share of the positive images that are called so',
    'specificity': 'share of the others that are not',
    'recall': 'share of the images of a class that are called so',
    'balanced accuracy': 'mean recall of the classes',
    'jaccard': 'of a map, rescaled to 0 to 1 and cut at 0.5, and the lesion mask: '
               'common area over that of both',
    'mass': 'share of a rescaled map that lies on the lesion',
    'pointing': 'share of the images in which its highest pixel lies on the lesion',
    'all ones': 'for comparison, a map that marks everything',
    'disc': 'for comparison, a disc in the middle, its radius chosen on these masks',
    'otsu': 'for comparison, what is dark in the photograph',
}


def _glossary(shown: Collection[str]) -> list[str]:
  """What the words in the names of scores mean."""
  found = [f'{word}: {meaning}' for word, meaning in _MEANINGS.items()
           if any(re.search(rf'\b{word}\b', name) for name in shown)]
  return [f'Scores are shares of 1. {"; ".join(found)}.'] if found else []


def _intervals(scores: Mapping[str, Any], prefix: str = ''
               ) -> Iterator[tuple[str, Mapping[str, float]]]:
  """Every defined score with an interval, those by class after the class's name."""
  for name, score in scores.items():
    if not isinstance(score, Mapping):
      continue
    title = f'{prefix}{name}'.replace('_', ' ')
    if score.get('estimate') is not None:
      yield title, score
    elif 'estimate' not in score and name in ('recall', 'auc'):
      yield from _intervals(score, f'{name} of ')


def _use(run: trained.TrainedRun, program: str, platforms: Sequence[str]) -> list[str]:
  config = run.config
  mean, std = images.NORMALISATIONS[config['normalisation']]
  code = _READER.format(
      crop_ratio=config['crop_ratio'], resize_size=config['resize_size'],
      program=program)
  lines = [
      f'## Use: {program}', '',
      'Preparation of a photograph, in this order: EXIF orientation applied; RGB; the '
      f'central square of side int({config["crop_ratio"]} x shorter side), offsets '
      f'rounded down; resized to {config["resize_size"]} x {config["resize_size"]}, '
      'bilinear with antialiasing. (The training images had pixels within 2 grey '
      'levels of this where a photograph was more than twelve times as large.)', '',
      f'The program takes these as uint8 [b, {config["resize_size"]}, '
      f'{config["resize_size"]}, 3], any number b of them. It cuts out the central '
      f'{config["image_size"]} x {config["image_size"]} and normalises it itself: '
      f'(x / 255 - mean) / std, mean {mean}, std {std}.'
      + (' It averages over the 8 flips and quarter turns.' if config['tta'] else ''),
      '', f'Python with jax, flatbuffers, numpy and Pillow, on {", ".join(platforms)}:',
      '',
      '```python', code.rstrip(), '```', '',
      '`predict` gives `probabilities` [b, classes] and the maps, each over that '
      'centre: `attention` by pool (empty where there are no gates)'
      + (' and `cam` [b, h, w, classes]' if config['model'] == 'vgg16_gap' else '')
      + '.', '',
      f'It was written by jax {jax.__version__}; JAX promises to read such a file for '
      'six months. The weights file is the one to keep.']
  if config['dtype'] == 'float64':
    lines.append("It computes in float64: jax.config.update('jax_enable_x64', True) "
                 'goes before.')
  return lines


def _onnx(run: trained.TrainedRun, onnx: str) -> list[str]:
  side = run.config['resize_size']
  return [] if not onnx else [
      f'## Use: {onnx}', '',
      f'One image at a time: `image`, uint8 [1, {side}, {side}, 3], prepared as above, '
      'gives the same `probabilities` and maps, by name. For ONNX Runtime and its '
      'like.']


def _weights(run: trained.TrainedRun, weights: str) -> list[str]:
  config = run.config
  lines = [
      f'## Weights: {weights}', '',
      'Tensors in PyTorch\'s axes. The backbone has torchvision\'s names of '
      f'{config["backbone"]} (`features.<n>.weight`, ...), and its classes read it.']
  if config['model'] == 'vgg16':
    return [*lines, 'So do the dense layers: `classifier.0`, `.3` and `.6`.']
  pools = ['pool-5', *config['taps']] if config['model'] != 'vgg16_gap' else ['pool-5']
  lines.append(
      '`classifier` is the dense layer over the pooled features of '
      f'{", ".join(pools)}, concatenated in this order.')
  if config['model'] == 'attnmel_cnn':
    pooled = {'sigmoid': 'a = sigmoid(r), pooled feature mean(a F)',
              'softmax': 'a = softmax(r) over the positions, pooled feature sum(a F)'}
    lines.append(
        'A gate `gate_<tap>` makes of the feature F of its tap and of pool-5, G: '
        'r = response(relu(feature(F) + resize(guidance(G)))), resize being bilinear '
        f'with half-pixel centres; {pooled[config["gate_norm"]]}.')
  return lines


def _origin(run: trained.TrainedRun, environment: Mapping[str, Any]) -> list[str]:
  prints = ', '.join(f'{files.escaped(split)} {files.escaped(value[:12])}'
                     for split, value in environment['fingerprints'].items())
  return ['## Origin', '',
          f'attnmel_jax at commit {files.escaped(environment["commit"][:12])}, seed '
          f'{run.config.get("seed")}, after step {run.summary["best"]["step"]}. '
          f'Fingerprints of the data: {prints}. All fields of the config are in the '
          'metadata of the weights file.']
