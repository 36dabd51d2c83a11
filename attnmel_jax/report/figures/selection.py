"""Finished runs, sorted for the figures: data set, system, seeds and folds.

  panels, notes = figure_runs.panels(runs, split='auto')
  panels[0].systems['AttnMel-CNN']   # its runs, with their predictions

A panel holds systems that were tested with the same images. What cannot stand
beside them is left out, and a note says so.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import pathlib
import re
from typing import Any

from attnmel_jax import errors
from attnmel_jax.data import catalogue
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import systems
from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report import run_reader

_LONGEST = 80  # characters of a part of a file's name
# Fields that make no other system: which images, and how a run is carried out.
_NOT_OF_A_SYSTEM = frozenset(('seed', 'fold', *groups.FREE_FIELDS))


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What two runs have to share to stand in one panel."""

  dataset: str
  positive: tuple[str, ...]  # classes against the others; () for all apart
  class_names: tuple[str, ...]
  num_folds: int
  group_folds: bool
  synthetic: bool

  @property
  def title(self) -> str:
    """For example 'ISIC 2017, synthetic'."""
    parts = [names.dataset_name(self.dataset)]
    if self.dataset == catalogue.FOLDER:  # of which there may be several tables
      parts = [names.task_title(self.dataset, self.class_names)]
    if self.num_folds > 1:
      parts.append(f'{self.num_folds} folds by '
                   + ('lesion' if self.group_folds else 'image'))
    if self.synthetic:
      parts.append('synthetic')
    return ', '.join(parts)

  @property
  def file_name(self) -> str:
    """Distinguishes the files of figures of one experiment each."""
    own = self.dataset == catalogue.FOLDER
    parts = [self.dataset, *(self.class_names if own else self.positive)]
    if self.num_folds > 1:
      parts.append(f'folds{self.num_folds}' + ('' if self.group_folds else '_by_image'))
    if self.synthetic:
      parts.append('synthetic')
    return re.sub(r'[^\w-]', '_', '_'.join(parts))[:_LONGEST]


@dataclasses.dataclass(frozen=True)
class Scored:
  """A run with its predictions of one split."""

  run: run_reader.FinishedRun
  folder: pathlib.Path  # that holds predictions/: the run's or an evaluation's
  scored: systems.Run

  @property
  def table(self) -> prediction_files.PredictionTable:
    """The predictions, without the images that the challenge leaves out."""
    return self.scored.predictions

  @property
  def threshold(self) -> float | None:
    """Of a binary task, chosen on validation; 0.5 where there is none."""
    return self.run.summary['threshold']

  @property
  def place(self) -> tuple[int, int]:
    """Seed and fold."""
    return self.run.config['seed'], self.run.config['fold']


@dataclasses.dataclass(frozen=True)
class Panel:
  """Systems that were scored with the same images, in the order of the thesis."""

  experiment: Experiment
  split: str
  class_names: tuple[str, ...]
  systems: Mapping[str, tuple[Scored, ...]]  # each in the order of seeds and folds

  @property
  def images(self) -> dict[str, int]:
    """Label by image, over all folds and seeds: the same for all systems."""
    first = next(iter(self.systems.values()))
    return {name: label for one in first for name, label in zip(
        one.table.ids.tolist(), one.table.labels.tolist(), strict=True)}

  @property
  def positives(self) -> int:
    """Number of different images of class 1."""
    return sum(label == 1 for label in self.images.values())

  @property
  def title(self) -> str:
    """For example 'ISIC 2017, synthetic: 240 test images'."""
    return f'{self.experiment.title}: {len(self.images)} {self.split} images'


def experiment_of(run: run_reader.FinishedRun) -> Experiment:
  """The experiment of a run."""
  num_folds = run.config['num_folds']
  return Experiment(
      dataset=run.config['dataset'], positive=tuple(run.config['positive']),
      class_names=tuple(run.summary['class_names']),
      num_folds=num_folds,
      group_folds=num_folds == 1 or run.config['group_folds'],
      synthetic=bool(run.summary['synthetic']))


def panels(runs: Sequence[run_reader.FinishedRun], *, split: str
           ) -> tuple[list[Panel], list[str]]:
  """Classifiers by experiment, in the order of data sets, and what was left out.

  Where systems were scored with different images, those are shown that most
  systems have in common.

  Args:
    runs: any.
    split: validation, test, or auto: test where a run of the experiment has been
      tested.
  """
  classifiers = [run for run in runs if run.config['model'] != 'unet']
  experiments = sorted({experiment_of(run) for run in classifiers},
                       key=dataclasses.astuple)
  result, notes = [], []
  for experiment in experiments:
    own = [run for run in classifiers if experiment_of(run) == experiment]
    shown_split = _split(own, split)
    scored = []
    for run in own:
      try:
        scored.append(read(run, shown_split))
      except errors.UserError as error:
        notes.append(f'{run.folder.name} is left out: {error}')
    labelled, more = _by_system(scored)
    shown, left_out = _same_images(labelled)
    notes += more + [f'{label} is not shown in {experiment.title}: it was scored with '
                     f'other {shown_split} images' for label in left_out]
    if shown:
      first = next(iter(shown.values()))[0]
      result.append(Panel(experiment, shown_split, first.table.class_names, shown))
  return result, notes


def _split(runs: Sequence[run_reader.FinishedRun], split: str) -> str:
  """What 'auto' means for the runs of an experiment."""
  if split != 'auto':
    return split
  for run in runs:
    with contextlib.suppress(errors.UserError):
      if groups.source(run, split)[0] == 'test':
        return 'test'
  return 'validation'


def read(run: run_reader.FinishedRun, split: str) -> Scored:
  """The predictions of a split.

  Raises:
    UserError: they are missing or damaged.
  """
  _, member = groups.source(run, split)
  return Scored(run, member.folder, groups.read_predictions(
      member, split, fold=run.config['fold']))


def _by_system(scored: Sequence[Scored]
               ) -> tuple[dict[str, tuple[Scored, ...]], list[str]]:
  """Seeds and folds of one system together; a note for each further variant.

  Runs of one name whose configs differ are variants: 'Mel-CNN', 'Mel-CNN #2'.
  """
  variants: dict[str, dict[Any, list[Scored]]] = {}
  for one in scored:
    own = variants.setdefault(names.system_name(one.run.config), {})
    own.setdefault(_identity(one.run.config), []).append(one)
  labelled, notes = {}, []
  for name in sorted(variants, key=names.system_position):
    groups = list(variants[name].values())
    for number, group in enumerate(groups, start=1):
      label = name if number == 1 else f'{name} #{number}'
      labelled[label], repeated = _once(group)
      notes += [f'{one.run.folder} is left out: {label} has another run of that seed '
                'and fold' for one in repeated]
      if number > 1:
        changed = run_reader.differing_fields(
            [groups[0][0].run.config, group[0].run.config])
        fields = ', '.join(f'{field}={values[1]!r}' for field, values in
                           changed.items() if field not in _NOT_OF_A_SYSTEM)
        notes.append(f'{label} differs from {name} in {fields}')
  return labelled, notes


def _once(group: Sequence[Scored]) -> tuple[tuple[Scored, ...], list[Scored]]:
  """One run for each seed and fold, in their order, and the others."""
  kept: dict[tuple[int, int], Scored] = {}
  repeated = []
  for one in sorted(group, key=lambda one: one.run.folder):
    if one.place in kept:
      repeated.append(one)
    else:
      kept[one.place] = one
  return tuple(kept[key] for key in sorted(kept)), repeated


def _identity(config: Mapping[str, Any]) -> str:
  return repr(sorted((name, value) for name, value in config.items()
                     if name not in _NOT_OF_A_SYSTEM))


def _same_images(labelled: Mapping[str, tuple[Scored, ...]]
                 ) -> tuple[dict[str, tuple[Scored, ...]], list[str]]:
  """The systems on the commonest set of images and labels, and the other ones."""
  sets: dict[Any, list[str]] = {}
  for label, runs in labelled.items():
    rows = {row for one in runs for row in zip(
        one.table.ids.tolist(), one.table.labels.tolist(), strict=True)}
    key = (runs[0].table.class_names, frozenset(rows))
    sets.setdefault(key, []).append(label)
  if not sets:
    return {}, []
  chosen = max(sets, key=lambda key: (len(sets[key]), len(key[1])))
  return ({label: labelled[label] for label in sets[chosen]},
          [label for label in labelled if label not in sets[chosen]])
