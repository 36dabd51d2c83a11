"""The numbers of the thesis's Tables 3.1 to 3.4, as printed there.

Table 3.3 is the corrected one: the cells of the copy in circulation have slipped.
Ticks are the thesis's columns.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from attnmel_jax.experiments import methods
from attnmel_jax.report import names
from attnmel_jax.report import run_reader

# Names of scores, as in `evaluation.run_predictions`, and of the columns of a table.
TITLES = {
    'ap': 'AP', 'auc': 'AUC', 'balanced_accuracy': 'balanced accuracy',
    'sensitivity': 'sensitivity', 'specificity': 'specificity',
    'sensitivity_at_95_specificity': 'sensitivity at 95 % specificity',
    'specificity_at_95_sensitivity': 'specificity at 95 % sensitivity',
}


class Row(NamedTuple):
  """One published system."""

  name: str
  scores: Mapping[str, str]  # by name of `evaluation.run_predictions`, as printed
  ticks: Mapping[str, bool]


class Published(NamedTuple):
  """One table of the thesis; or a task of which nothing is published."""

  number: str                    # 'folder' for a task of that data set
  title: str
  dataset: str
  class_names: tuple[str, ...]   # the positive one last, or all in order
  images: str                    # what the published numbers are of
  metrics: tuple[str, ...]
  ticks: tuple[str, ...]
  competitors: tuple[Row, ...]   # systems of others, with their reference
  systems: tuple[Row, ...]       # none: nothing is published

  @property
  def stem(self) -> str:
    """With which the names of its files begin."""
    return f'table_{self.number.replace(".", "_")}'

  @property
  def label(self) -> str:
    """What its tables are called."""
    return f'Table {self.number}' if self.systems else self.title

  @property
  def has_maps(self) -> bool:
    """Whether a table of attention maps stands beside it: 3.3, or one like it."""
    return self.number == '3.2' or not self.systems

  @property
  def is_binary(self) -> bool:
    """Whether one class is set against the rest."""
    return len(self.class_names) == 1


def _row(metrics, ticks, name, scores, marks):
  pairs = zip(metrics, scores.split(), strict=True)
  return Row(name, {metric: score for metric, score in pairs if score != '-'},
             dict(zip(ticks, (mark == 'y' for mark in marks), strict=True)))


def _rows(metrics, ticks, lines):
  return tuple(_row(metrics, ticks, *line) for line in lines)


_BINARY = ('ap', 'auc')


def _recalls(class_names):
  return (*(f'recall_{name}' for name in class_names), 'balanced_accuracy')


_TICKS_3_1 = ('Lesion', 'Interp', 'Ensemble')
_TICKS_3_2 = ('Lesion', 'Dermo', 'Interp', 'Ensemble', 'External')

TABLE_3_1 = Published(
    '3.1', 'ISIC 2016: malignant against benign', 'isic2016', ('malignant',),
    'the test images of ISIC 2016 (379)', _BINARY, _TICKS_3_1,
    _rows(_BINARY, _TICKS_3_1, [
        ('Lequan et al. [52]', '0.637 0.804', 'ynn'),
        ('Codella et al. [8]', '0.596 0.808', 'nny'),
        ('Yu et al. [53, 54]', '0.685 0.852', 'nny')]),
    _rows(_BINARY, _TICKS_3_1, [
        ('VGG-16', '0.602 0.806', 'nnn'),
        ('VGG-16-GAP', '0.635 0.815', 'nyn'),
        ('Mel-CNN', '0.664 0.844', 'nnn'),
        ('AttnMel-CNN', '0.693 0.852', 'nyn')]))

TABLE_3_2 = Published(
    '3.2', 'ISIC 2017: melanoma against the rest', 'isic2017', ('melanoma',),
    'the test images of ISIC 2017 (600)', _BINARY, _TICKS_3_2,
    _rows(_BINARY, _TICKS_3_2, [
        ('Winner 1 [29]', '- 0.868', 'nnnyy'),
        ('Winner 2 [9]', '- 0.856', 'yynny'),
        ('Winner 3 [31]', '- 0.874', 'nnnyy'),
        ('Harangi et al. [14]', '- 0.836', 'nnnyn'),
        ('Mahbod et al. [28]', '- 0.873', 'nnnyy')]),
    _rows(_BINARY, _TICKS_3_2, [
        ('VGG-16', '0.600 0.824', 'nnnnn'),
        ('VGG-16-GAP', '0.627 0.834', 'nnynn'),
        ('Mel-CNN', '0.653 0.854', 'nnnnn'),
        ('AttnMel-CNN', '0.655 0.872', 'nnynn'),
        ('AttnMel-CNN-Dermo', '0.665 0.864', 'nyynn'),
        ('AttnMel-CNN-Lesion', '0.672 0.883', 'ynynn'),
        ('AttnMel-CNN-Bkg', '0.647 0.849', 'ynynn')]))

# System -> map -> Jaccard index with the lesion mask (Table 3.3).
JACCARD = {
    'AttnMel-CNN': {'pool3': '0.3105', 'pool4': '0.3186'},
    'AttnMel-CNN-Dermo': {'pool3': '0.3621', 'pool4': '0.4767'},
    'AttnMel-CNN-Lesion': {'pool3': '0.5533', 'pool4': '0.6560'},
    'VGG-16-GAP': {'cam': '0.2825'},
}

# Images of each class behind the published Table 3.4.
CLASSES_3_4 = {'MEL': 111, 'NV': 670, 'BCC': 51, 'AKIEC': 32, 'BKL': 110, 'DF': 11,
               'VASC': 14}
_RECALLS = _recalls(CLASSES_3_4)

TABLE_3_4 = Published(
    '3.4', 'ISIC 2018, seven classes: recall of each and their mean', 'isic2018',
    tuple(CLASSES_3_4), 'one division of the training images of ISIC 2018 that ignores '
    'lesions, 999 test images ('
    + ', '.join(f'{name} {count}' for name, count in CLASSES_3_4.items())
    + '), not the mean of five folds', _RECALLS, (), (),
    _rows(_RECALLS, (), [
        ('VGG-16', '0.829 0.848 0.902 0.750 0.782 0.545 1.0 0.808', ''),
        ('VGG-16-GAP', '0.811 0.870 0.863 0.813 0.845 0.545 1.0 0.821', ''),
        ('Mel-CNN', '0.811 0.861 0.902 0.906 0.827 0.545 0.929 0.826', ''),
        ('AttnMel-CNN', '0.784 0.896 0.941 0.813 0.818 0.636 1.0 0.841', ''),
        ('AttnMel-CNN-Lesion*', '0.801 0.896 0.922 0.750 0.873 0.727 1.0 0.853', '')]))


def tasks(runs: Sequence[run_reader.FinishedRun]
          ) -> list[tuple[Published, list[run_reader.FinishedRun]]]:
  """Every task of the thesis, then those of the other classifiers, with their runs."""
  classifiers = [
      run for run in runs if not methods.of(run.config).LEARNS_MASKS]
  found = [(task, [run for run in classifiers if _belongs(run, task)])
           for task in (TABLE_3_1, TABLE_3_2, TABLE_3_4)]
  placed = [run.folder for _, own in found for run in own]
  others: dict[tuple[str, tuple[str, ...]], list[run_reader.FinishedRun]] = {}
  for run in classifiers:
    if run.folder not in placed:
      others.setdefault(
          (run.config['dataset'], tuple(run.summary['class_names'])), []).append(run)
  numbers = collections.Counter()
  for (dataset, classes), own in sorted(others.items()):
    numbers[dataset] += 1
    number = dataset + (f'_task{numbers[dataset]}' if numbers[dataset] > 1 else '')
    found.append((_unpublished(number, dataset, classes), own))
  return found


def _belongs(run: run_reader.FinishedRun, task: Published) -> bool:
  """Whether a classifier does the task of a table."""
  classes = tuple(run.summary['class_names'])
  own = classes[1:] if task.is_binary and len(classes) == 2 else classes
  return own == task.class_names and run.config['dataset'] == task.dataset


def _unpublished(number: str, dataset: str, class_names: tuple[str, ...]) -> Published:
  """A task that the thesis does not have."""
  binary = len(class_names) == 2
  return Published(
      number, names.task_title(dataset, class_names), dataset,
      class_names[1:] if binary else class_names, '',
      _BINARY if binary else _recalls(class_names), (), (), ())
