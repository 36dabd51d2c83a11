"""Runs -> groups whose numbers may stand side by side, in a table or in a figure.

  gathered = groups.gather(runs, split='auto', defaults=defaults)
  group = gathered.groups[0]
  group.systems['AttnMel-CNN']             # its networks, by seed and fold
  group.interval('AttnMel-CNN', 'auc')     # averaged over its seeds

This is the one rule for tables and figures. Two runs share a group if all fields of
their configs agree but those that name the system, the seed and the fold and those
that change no number; if they were trained on the same data; and if they were scored
on the same images. The folds of one seed are pooled.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import re
from typing import Any
from typing import NamedTuple

import numpy as np

from attnmel_jax import errors
from attnmel_jax.data import catalogue
from attnmel_jax.evaluation import bootstrap
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.evaluation import run_predictions
from attnmel_jax.evaluation import score_summary
from attnmel_jax.experiments import classification
from attnmel_jax.report import names
from attnmel_jax.report import run_reader

# By these the runs of a group differ.
_OWN = ('model', 'roi', 'generated_masks', 'seed', 'fold')
# These change where and how fast a run is made, and what is drawn, but no number.
_FREE = ('data_dir', 'cache_gib', 'log_every_steps', 'checkpoint_every_steps', 'remat',
         'overlay_images', 'tensorboard', 'bootstrap_draws', 'bootstrap_seed',
         'allow_leakage')
_LONGEST = 80  # characters of a part of a file's name


class Member(NamedTuple):
  """A run: one network, its scores and its predictions of the group's split."""

  run: run_reader.FinishedRun
  scores: run_reader.Scores
  network: run_predictions.Run

  @property
  def table(self) -> prediction_files.PredictionTable:
    """The predictions, without the images that the challenge leaves out."""
    return self.network.predictions

  @property
  def threshold(self) -> float | None:
    """Of a binary task, chosen on validation; 0.5 where there is none."""
    return self.run.summary['threshold']

  @property
  def place(self) -> tuple[int, int]:
    """Seed and fold."""
    return self.run.config['seed'], self.run.config['fold']

  @property
  def label(self) -> str:
    """For example 'seed 0' or 'seed 0, fold 3'."""
    seed, fold = self.place
    return f'seed {seed}' + (
        f', fold {fold}' if self.run.config['num_folds'] > 1 else '')


class Unit(NamedTuple):
  """One seed of one system: a network, or those of the folds."""

  system: str
  members: tuple[Member, ...]  # one a fold
  run: run_predictions.Run     # pooled


@dataclasses.dataclass(frozen=True)
class Group:
  """Units whose numbers may stand side by side.

  Each score is worked out once, with the same draws of images for all systems.
  """

  split: str
  settings: Mapping[str, Any]   # the fields in which the runs agree
  units: dict[str, list[Unit]]  # by system, in the order of the thesis and of seeds
  draws: run_predictions.Draws
  number: int = 1               # among the groups of its task
  apart: str = ''               # why it is not part of the first of them
  _values: dict[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)

  @property
  def systems(self) -> dict[str, list[Member]]:
    """The networks of each system, in the order of seeds and folds."""
    return {name: [member for unit in own for member in unit.members]
            for name, own in self.units.items()}

  @property
  def members(self) -> list[Member]:
    """All runs."""
    return [member for own in self.systems.values() for member in own]

  @property
  def example(self) -> run_predictions.Run:
    """One of the pooled runs: all have the same images."""
    return next(iter(self.units.values()))[0].run

  @property
  def class_names(self) -> tuple[str, ...]:
    """In the order of labels."""
    return self.example.predictions.class_names

  @property
  def is_binary(self) -> bool:
    """Whether there are two classes."""
    return len(self.class_names) == 2

  @property
  def counts(self) -> list[int]:
    """Number of images of each class."""
    return np.bincount(self.example.predictions.labels,
                       minlength=len(self.class_names)).tolist()

  @property
  def synthetic(self) -> bool:
    """Whether a program drew the images."""
    return self.members[0].run.summary['synthetic']

  @property
  def suffix(self) -> str:
    """What follows the name of its task: nothing for the first group."""
    return f', group {self.number}' if self.number > 1 else ''

  @property
  def title(self) -> str:
    """For example 'ISIC 2017, synthetic' or 'ISIC 2018, 5 folds by lesion, group 2'."""
    dataset, num_folds = self.settings['dataset'], self.settings['num_folds']
    parts = [names.dataset_name(dataset)]
    if dataset == catalogue.FOLDER:  # of which there may be several tables
      parts = [names.task_title(dataset, self.class_names)]
    if num_folds > 1:
      parts.append(f'{num_folds} folds by '
                   + ('lesion' if self.settings['group_folds'] else 'image'))
    if self.synthetic:
      parts.append('synthetic')
    return ', '.join(parts) + self.suffix

  @property
  def heading(self) -> str:
    """For example 'ISIC 2017, synthetic: 240 test images'."""
    return f'{self.title}: {sum(self.counts)} {self.split} images'

  @property
  def stem(self) -> str:
    """Distinguishes the files of figures of one group each."""
    settings = self.settings
    own = settings['dataset'] == catalogue.FOLDER
    parts = [settings['dataset'], *(self.class_names if own else settings['positive'])]
    if settings['num_folds'] > 1:
      parts.append(f'folds{settings["num_folds"]}'
                   + ('' if settings['group_folds'] else '_by_image'))
    if self.synthetic:
      parts.append('synthetic')
    name = re.sub(r'[^\w-]', '_', '_'.join(parts))[:_LONGEST]
    return name + (f'_group{self.number}' if self.number > 1 else '')

  def has(self, system: str, metric: str) -> bool:
    """Whether all runs of a system of the group have the score."""
    return system in self.units and all(
        metric in run_predictions.metrics_of(unit.run) for unit in self.units[system])

  def values(self, system: str, metric: str) -> np.ndarray:
    """The score, averaged over the seeds, as it is and in each draw: [1 + D]."""
    key = (system, metric)
    if key not in self._values:
      if metric == 'auc_mean':
        # The areas of the classes are needed in any table, and take the time.
        found = np.mean([self.values(system, f'auc_{self.class_names[k]}')
                         for k in np.flatnonzero(self.counts)], axis=0)
      else:
        found = run_predictions.score_in_draws(
            [unit.run for unit in self.units[system]], metric, draws=self.draws)
      self._values[key] = found
    return self._values[key]

  def interval(self, system: str, metric: str) -> bootstrap.Interval:
    """The score with its interval."""
    return bootstrap.percentile_interval(
        self.values(system, metric), level=score_summary.LEVEL)


class Gathered(NamedTuple):
  """All groups of one task, the one with real images and most systems first."""

  groups: list[Group]
  left_out: list[str]  # a line for each run that is in none, and why


def gather(runs: Sequence[run_reader.FinishedRun], *, split: str,
           defaults: Mapping[str, Any]) -> Gathered:
  """The groups of runs of one task.

  Args:
    runs: of one task, such as melanoma on ISIC 2017.
    split: validation, test, or auto: test where a run has been tested.
    defaults: of every field of a config; they say how many images are drawn.
  """
  left_out: list[str] = []
  seeds: dict[tuple, dict[int, list[tuple]]] = {}
  for run in runs:
    try:
      scores = run_reader.find_scores(run, split)
    except errors.UserError as error:
      left_out.append(str(error))
      continue
    key = (scores.split, _alike(run, scores), names.system_name(run.config),
           run.config['seed'])
    folds = seeds.setdefault(key, {})
    folds.setdefault(run.config['fold'], []).append((run, scores))
  draws = run_predictions.Draws(
      num_draws=defaults['bootstrap_draws'], seed=defaults['bootstrap_seed'])
  found: list[tuple[tuple, Group]] = []
  for (chosen, alike, system, _), folds in sorted(seeds.items(), key=_place):
    unit = _unit(system, folds, left_out)
    if unit is not None:
      _join(found, (chosen, alike), unit, draws)
  groups = sorted((group for _, group in found), key=_order)
  return Gathered(
      [dataclasses.replace(group, number=number, apart=_why_apart(group, groups[0]))
       for number, group in enumerate(groups, start=1)], left_out)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
  """The fields in which the runs of a group agree."""
  return {name: value for name, value in sorted(config.items())
          if name not in _OWN + _FREE}


def _alike(run: run_reader.FinishedRun, scores: run_reader.Scores) -> str:
  """What the runs of a group have in common, as text."""
  data = run.environment['fingerprints']
  return json.dumps([_settings(run.config), data.get('train'), data.get('validation'),
                     scores.fingerprint, run.summary['class_names'],
                     run.summary['synthetic']], sort_keys=True)


def _place(item: tuple[tuple, Any]) -> tuple:
  (chosen, alike, system, seed), _ = item
  return alike, chosen, names.system_position(system), seed


def _unit(system: str, folds: Mapping[int, Sequence[tuple]], left_out: list[str]
          ) -> Unit | None:
  """Reads and pools the folds; a damaged one is left out and named.

  Of runs of one config the first that is whole is taken.
  """
  members: list[Member] = []
  for run, scores in (twin for _, twins in sorted(folds.items()) for twin in twins):
    if members and members[-1].run.config['fold'] == run.config['fold']:
      left_out.append(f'{run.folder}: the same config as {members[-1].run.folder}, '
                      'which is taken')
      continue
    try:
      members.append(Member(run, scores, _read(run, scores)))
    except errors.UserError as error:
      left_out.append(f'{run.folder}: {error}')
  if not members:
    return None
  try:
    return Unit(system, tuple(members),
                run_predictions.pool([member.network for member in members]))
  except errors.UserError as error:
    left_out += [f'{member.run.folder}: {error}' for member in members]
    return None


def _read(run: run_reader.FinishedRun, scores: run_reader.Scores
          ) -> run_predictions.Run:
  """The predictions behind scores; UserError where they are missing or damaged."""
  return run_predictions.read(
      scores.folder, classification.FILE_NAMES[scores.split],
      fold=run.config['fold'], threshold=run.summary['threshold'])


def _join(found: list[tuple[tuple, Group]], key: tuple, unit: Unit,
          draws: run_predictions.Draws) -> None:
  """Puts a unit into the group it belongs to, or a new one."""
  for other, group in found:
    if other == key and _same_images(group.example, unit.run):
      group.units.setdefault(unit.system, []).append(unit)
      return
  settings = _settings(unit.members[0].run.config)
  found.append((key, Group(key[0], settings, {unit.system: [unit]}, draws)))


def _same_images(one: run_predictions.Run, other: run_predictions.Run) -> bool:
  try:
    run_predictions.check_same_images({'one': [one], 'other': [other]})
  except errors.UserError:
    return False
  return True


def _order(group: Group) -> tuple:
  """Real images first, then most systems, tests, most seeds, most images."""
  units = sum(map(len, group.units.values()))
  return (group.synthetic, -len(group.units), group.split != 'test', -units,
          -len(group.example.folds),
          str(min(member.run.folder for member in group.members)))


def differing(settings: Mapping[str, Any], base: Mapping[str, Any]) -> str:
  """'field=value, ...' for each of a group's settings that is not that of `base`."""
  return ', '.join(f'{name}={value!r}' for name, value in run_reader.changed(
      settings, base).items())


def _why_apart(group: Group, first: Group) -> str:
  """Why a group is not part of the first one."""
  if group is first:
    return ''
  settings = differing(group.settings, first.settings)
  if settings:
    return f'other settings ({settings})'
  if group.synthetic != first.synthetic:
    return 'other images (drawn by a program)'
  if group.split != first.split:
    return f'other images ({group.split} instead of {first.split})'
  if not _same_images(group.example, first.example):
    return 'other images, or other folds of them'
  return 'other data (by their fingerprints)'


def maps(run: run_predictions.Run) -> list[str]:
  """The maps that a run was scored with: taps by their depth, then the others."""
  found = [metric.removeprefix('jaccard_') for metric in run.images.scores
           if metric.startswith('jaccard_')]
  return [*sorted(filter(names.is_tap, found)),
          *(name for name in found if not names.is_tap(name))]


def taps(group: Group) -> list[str]:
  """Taps with an attention map in any system of the group, by their depth."""
  found = {name for own in group.units.values() for name in maps(own[0].run)}
  return sorted(filter(names.is_tap, found))
