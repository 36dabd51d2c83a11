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
import jinja2

from attnmel_jax import config as config_lib
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
    catalogue.FOLDER: 'those of whoever owns the photographs: ask them before passing '
                      'this on',
}
_SYNTHETIC_TERMS = 'synthetic images are bound to no publisher of photographs'
_SYSTEMS = {
    'vgg16': '{} with its dense layers',
    'vgg16_gap': '{} with global average pooling',
    'mel_cnn': 'Mel-CNN: {}, pooled at several depths',
    'attnmel_cnn': 'AttnMel-CNN: {} with attention gates',
}
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
  config, summary = run.config, run.summary
  templates = jinja2.Environment(
      loader=jinja2.PackageLoader('attnmel_jax.share'), autoescape=False,
      finalize=lambda value: files.escaped(str(value)),  # every {{ }}: names are text
      undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
      keep_trailing_newline=True)
  mean, std = images.NORMALISATIONS[config['normalisation']]
  parts = [_part(name, summary[name]) for name in ('test', 'validation')
           if name in summary]
  dataset, temperature = config['dataset'], summary['temperature']
  return templates.get_template('model_card.md').render(
      config=config, summary=summary, environment=environment, program=program,
      onnx=onnx, weights=weights, platforms=platforms, jax_version=jax.__version__,
      system=_SYSTEMS[config['model']].format(
          config_lib.BACKBONES[config['backbone']].title),
      parts=parts, of_maps=_OF_MAPS, counts=_counts,
      data_set='own photographs' if dataset == catalogue.FOLDER else dataset,
      terms=_SYNTHETIC_TERMS if summary['synthetic'] else _TERMS.get(
          dataset, 'unknown: find the terms of its images first'),
      is_temperature_inside=temperature is not None and (
          1.01 * calibration.COLDEST < temperature < 0.99 * calibration.HOTTEST),
      glossary=_glossary({name for part in parts for name in part['intervals']}),
      mean=mean, std=std,
      pools=['pool-5', *(config['taps'] if config['model'] != 'vgg16_gap' else ())])


def _counts(counted: Mapping[str, Any]) -> str:
  """'90 images of 80 lesions (nevus 60, melanoma 30)'."""
  classes = ', '.join(f'{name} {n}' for name, n in counted['class_counts'].items())
  return f'{counted["n"]} images of {counted["groups"]} lesions ({classes})'


def _part(name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
  """The scores of a split as the template takes them."""
  intervals = dict(_intervals(scores))
  return {
      'title': name.capitalize(), 'scores': scores, 'intervals': intervals,
      'of_maps': any(title.startswith(_OF_MAPS) for title in intervals),
      'rest': dict(_intervals(scores.get('without_near_duplicates', {})))}


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


def _glossary(shown: Collection[str]) -> list[str]:
  """What the words in the names of scores mean."""
  return [f'{word}: {meaning}' for word, meaning in _MEANINGS.items()
          if any(re.search(rf'\b{word}\b', name) for name in shown)]
