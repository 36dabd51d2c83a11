"""Runs -> groups that one table may hold: alike but for system, seed and fold.

Two runs share a group if all fields of their configs agree but those that name the
system, the seed and the fold and those that change no number; if they learnt from
the same data; and if they were scored on the same images. The folds of one seed are
pooled. A field that an older config lacks counts as its default.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any
from typing import NamedTuple

from attnmel_jax import errors
from attnmel_jax.evaluation import systems
from attnmel_jax.experiments import classification
from attnmel_jax.experiments import run_folder
from attnmel_jax.report import names
from attnmel_jax.report import run_reader

# By these the runs of a group differ.
_OWN = ('model', 'roi', 'generated_masks', 'seed', 'fold')
# These change where and how fast a run is made, and what is drawn, but no number.
FREE_FIELDS = ('data_dir', 'cache_gib', 'log_every_steps', 'checkpoint_every_steps',
               'remat', 'overlay_images', 'tensorboard', 'bootstrap_draws',
               'bootstrap_seed', 'allow_leakage')


class Member(NamedTuple):
  """A run, and its scores of the part that a table is about."""

  run: run_reader.FinishedRun
  folder: pathlib.Path         # that holds predictions/: the run's or an evaluation's
  scores: Mapping[str, Any]
  leakage: tuple[str, ...]     # lines on what flatters the scores


class Unit(NamedTuple):
  """One seed of one system: a network, or those of the folds."""

  system: str
  seed: int
  members: tuple[Member, ...]  # one a fold
  run: systems.Run             # pooled


@dataclasses.dataclass(frozen=True)
class Group:
  """Units whose numbers may stand in one table."""

  split: str
  settings: Mapping[str, Any]
  units: dict[str, list[Unit]]  # by system

  @property
  def members(self) -> list[Member]:
    """All runs."""
    return [member for own in self.units.values() for unit in own
            for member in unit.members]

  @property
  def example(self) -> systems.Run:
    """One of the pooled runs: all have the same images."""
    return next(iter(self.units.values()))[0].run

  @property
  def synthetic(self) -> bool:
    """Whether a program drew the images."""
    return any(member.run.summary['synthetic'] for member in self.members)


class Gathered(NamedTuple):
  """All groups of one table, the one with real images and most systems first."""

  groups: list[Group]
  left_out: list[str]  # a line for each run that is in none, and why


def settings_of(config: Mapping[str, Any], defaults: Mapping[str, Any]
                ) -> dict[str, Any]:
  """The fields in which the runs of a group agree; absent ones by default."""
  return {name: config.get(name, defaults.get(name))
          for name in sorted(config.keys() | defaults.keys())
          if name not in _OWN + FREE_FIELDS}


def gather(runs: Sequence[run_reader.FinishedRun], *, split: str,
           defaults: Mapping[str, Any]) -> Gathered:
  """The groups of runs of one data set.

  Args:
    runs: of one task, such as melanoma on ISIC 2017.
    split: validation, test, or auto: test where a run has been tested.
    defaults: of every field of a config.
  """
  left_out: list[str] = []
  seeds: dict[tuple, dict[int, list[Member]]] = {}
  for run in runs:
    try:
      chosen, member = source(run, split)
    except errors.UserError as error:
      left_out.append(str(error))
      continue
    config = run.config
    key = (chosen, _alike(run, defaults), names.system_name(config), config['seed'])
    folds = seeds.setdefault(key, {})
    fold = config['fold']
    folds.setdefault(fold, []).append(member)
  groups: list[tuple[tuple, Group]] = []
  for (chosen, alike, system, seed), folds in sorted(seeds.items(), key=_place):
    unit = _unit(system, seed, folds, chosen, left_out)
    if unit is not None:
      _join(groups, (chosen, alike), unit, defaults)
  return Gathered(sorted((group for _, group in groups), key=_order), left_out)


def _alike(run: run_reader.FinishedRun, defaults: Mapping[str, Any]) -> str:
  """What the runs of a group have in common, as text."""
  learnt = run.environment['fingerprints']
  return json.dumps([settings_of(run.config, defaults), learnt.get('train'),
                     learnt.get('validation'), run.summary['class_names'],
                     run.summary['synthetic']], sort_keys=True)


def source(run: run_reader.FinishedRun, split: str) -> tuple[str, Member]:
  """The split that is taken, and the scores, of the run or of a later evaluation.

  Args:
    run: any run.
    split: validation, test, or auto: test where the run has been tested.

  Raises:
    UserError: there are none.
  """
  if split == 'validation' and run.config['num_folds'] > 1:
    raise errors.UserError(
        f'{run.folder} is a fold of a cross-validation, and the folds\' validation '
        'images overlap: leave out --split=validation')
  for name in ('test', 'validation') if split == 'auto' else (split,):
    if name in run.summary:
      return name, Member(run, run.folder, run.summary[name],
                          run_reader.leakage_of(run.summary))
    # What launch/evaluate.py scored when the data arrived later.
    later = run.folder / 'evaluations' / f'{run.config["dataset"]}-{name}'
    if (later / 'summary.json').exists():
      summary = run_folder.read_evaluation(later)
      if name not in summary:
        raise errors.UserError(
            f'{later}/summary.json holds no {name} scores; delete {later} and score '
            'the run again with launch/evaluate.py')
      return name, Member(run, later, summary[name], tuple(dict.fromkeys(
          [*run_reader.leakage_of(run.summary), *run_reader.leakage_of(summary)])))
  raise errors.UserError(
      f'{run.folder} has no {"test or validation" if split == "auto" else split} '
      'scores; launch/evaluate.py makes them where the data are prepared')


def _place(item: tuple[tuple, dict[int, list[Member]]]) -> tuple:
  (chosen, alike, system, seed), _ = item
  return alike, chosen, names.system_position(system), seed


def _unit(system: str, seed: int, folds: Mapping[int, Sequence[Member]], split: str,
          left_out: list[str]) -> Unit | None:
  """Reads and pools the folds; a damaged one is left out and named.

  Of runs of one config the first that is whole is taken.
  """
  read: list[systems.Run] = []
  members: list[Member] = []
  for fold, member in ((fold, member) for fold, twins in sorted(folds.items())
                       for member in twins):
    if read and read[-1].folds[0] == fold:
      left_out.append(f'{member.run.folder}: the same config as '
                      f'{members[-1].run.folder}, which is taken')
      continue
    try:
      read.append(read_predictions(member, split, fold=fold))
      members.append(member)
    except errors.UserError as error:
      left_out.append(f'{member.run.folder}: {error}')
  try:
    return Unit(system, seed, tuple(members), systems.pool(read)) if read else None
  except errors.UserError as error:
    left_out += [f'{member.run.folder}: {error}' for member in members]
    return None


def read_predictions(member: Member, split: str, *, fold: int) -> systems.Run:
  """The predictions of a run or an evaluation.

  Raises:
    UserError: they are missing or damaged, or of other classes than the summary.
  """
  found = systems.read(member.folder, classification.FILE_NAMES[split], fold=fold,
                       threshold=member.run.summary['threshold'])
  classes = tuple(member.run.summary['class_names'])
  if tuple(found.predictions.class_names) != classes:
    raise errors.UserError(
        f'the predictions are of {", ".join(found.predictions.class_names)}, '
        f'summary.json of {", ".join(classes)}; delete summary.json and run the '
        'launch/main.py command of the run again')
  return found


def _join(groups: list[tuple[tuple, Group]], key: tuple, unit: Unit,
          defaults: Mapping[str, Any]) -> None:
  """Puts a unit into the group it belongs to, or a new one."""
  for other, group in groups:
    if other == key and _same_images(group, unit):
      group.units.setdefault(unit.system, []).append(unit)
      return
  settings = settings_of(unit.members[0].run.config, defaults)
  groups.append((key, Group(key[0], settings, {unit.system: [unit]})))


def _same_images(group: Group, unit: Unit) -> bool:
  try:
    systems.check_same_images({'group': [group.example], unit.system: [unit.run]})
  except errors.UserError:
    return False
  return True


def _order(group: Group) -> tuple:
  """Real images first, then most systems, tests, most seeds, most images."""
  units = sum(map(len, group.units.values()))
  return (group.synthetic, -len(group.units), group.split != 'test', -units,
          -len(group.example.folds),
          str(min(member.run.folder for member in group.members)))


def differing(settings: Mapping[str, Any], defaults: Mapping[str, Any]
              ) -> Iterator[str]:
  """'field=value' for each of a group's settings that is not the default."""
  names = sorted(settings.keys() | settings_of(defaults, {}).keys())
  for name in names:
    value = settings.get(name)
    if value != defaults.get(name):
      yield f'{name}={run_reader.without_path(value)!r}'


def images_differ(group: Group, other: Group) -> bool:
  """Whether two groups were scored on other images, or divided them otherwise."""
  return not _same_images(group, next(iter(other.units.values()))[0])
