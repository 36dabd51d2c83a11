"""Training curves: loss and validation score over the steps, from metrics.jsonl."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any
from typing import NamedTuple

from matplotlib.axes import Axes
import numpy as np

from attnmel_jax import files
from attnmel_jax.experiments import methods
from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import curves
from attnmel_jax.report.figures import plotting

# A line has at most so many points: the loss is averaged over as many steps each.
_POINTS = 60
_PREFIX = 'validation_'
_HEADER = ('experiment', 'system', 'seed', 'fold', 'kind', 'step', 'value')
# Names of validation scores, where the axis has a better one.
_TITLES = {'auc': 'AUC', 'balanced_accuracy': 'balanced accuracy',
           'jaccard': 'Jaccard index'}


class History(NamedTuple):
  """How one run went."""

  run: run_reader.FinishedRun
  steps: np.ndarray       # int [n], the last of the steps that a loss is the mean of
  losses: np.ndarray      # float64 [n]
  ends: np.ndarray        # int [m], steps after which the run was validated
  scores: np.ndarray      # float64 [m]
  score_name: str         # '' without validation


class Trained(NamedTuple):
  """The histories of systems that one panel may hold."""

  title: str
  systems: Mapping[str, Sequence[History]]


def write(runs: Sequence[run_reader.FinishedRun],
          all_groups: Sequence[groups.Group], folder: pathlib.Path
          ) -> list[plotting.Entry]:
  """Writes a figure of the losses and one of the validation scores.

  Args:
    runs: whose U-Nets are shown.
    all_groups: whose systems are shown.
    folder: for the files.
  """
  trained, notes = _gather(runs, all_groups)
  entries = []
  if trained:
    average = curves.several(trained, 'the mean at each step')
    entries.append(_write(
        'Training: loss', 'training_loss', trained, loss,
        f'The whole loss, its means over up to {_POINTS} parts of the training.'
        f'{average} Systems with a prior have a term more: their losses do not '
        'compare.', folder))
  validated = [one for one in trained if any(
      len(history.ends) for own in one.systems.values() for history in own)]
  if validated:
    average = curves.several(validated, 'the mean at each step')
    entries.append(_write(
        'Training: validation score', 'training_validation', validated, validation,
        f'The score that chooses the checkpoint, after each epoch.{average} The '
        'number is the best one of all seeds and folds.', folder))
  return [*entries, *(plotting.Entry('', note) for note in notes)]


def _write(title, stem, trained, draw, caption, folder) -> plotting.Entry:
  plotting.save_chart(
      curves.figure(trained, draw, strip=False), folder, stem)
  kind = 'loss' if draw is loss else 'validation'
  plotting.save_table(_HEADER, _rows(trained, kind), folder, stem)
  return plotting.Entry(title, caption, stem, chart=True)


def _gather(runs, all_groups) -> tuple[list[Trained], list[str]]:
  """Panels of classifiers, then one a data set of U-Nets; what cannot be read."""
  wanted = [(group.title, {label: [one.run for one in own]
                            for label, own in group.systems.items()})
            for group in all_groups]
  unets: dict[str, dict[str, list[run_reader.FinishedRun]]] = {}
  for run in runs:
    if methods.of(run.config).LEARNS_MASKS:
      kind = ', synthetic' if run.summary['synthetic'] else ''
      title = f'{names.dataset_name(run.config["dataset"])}{kind}'
      unets.setdefault(title, {}).setdefault(
          names.system_name(run.config), []).append(run)
  found, notes = [], []
  for title, systems in [*wanted, *unets.items()]:
    histories = {}
    for label, own in systems.items():
      for run in own:
        try:
          history = read(run)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
          notes.append(f'{run.folder / "metrics.jsonl"} is missing or damaged: '
                       'the curves lack it.')
        else:
          histories.setdefault(label, []).append(history)
    if histories:
      found.append(Trained(title, histories))
  return found, notes


def read(run: run_reader.FinishedRun) -> History:
  """The history in a run's metrics.jsonl.

  Raises:
    OSError, ValueError, KeyError, TypeError, OverflowError: it is missing, damaged or
      holds no loss.
  """
  steps, losses, ends, scores, name = [], [], [], [], ''
  for line in (run.folder / 'metrics.jsonl').read_text().splitlines():
    values = files.parse_json(line)
    if 'loss' in values:
      steps.append(int(values['step']))
      losses.append(float(values['loss']))
    elif f'{_PREFIX}score' in values:
      ends.append(int(values['step']))
      scores.append(float(values[f'{_PREFIX}score']))
      name = next((key.removeprefix(_PREFIX) for key in values
                   if key.startswith(_PREFIX) and key != f'{_PREFIX}score'), 'score')
  if not steps:
    raise ValueError('no step')
  parts = np.array_split(np.arange(len(steps)), min(_POINTS, len(steps)))
  return History(
      run, np.array([steps[part[-1]] for part in parts]),
      np.array([np.mean(np.take(losses, part)) for part in parts]),
      np.array(ends, int), np.array(scores), name)


def loss(trained: Trained, axis: Axes) -> dict[str, str]:
  """Draws the losses of a panel; what the legend says of each system."""
  axis.set_ylabel('loss', fontsize=plotting.FONT)
  found = {label: [(one.steps, one.losses) for one in own]
           for label, own in trained.systems.items()}
  _draw(trained, axis, found)
  axis.set_ylim(bottom=0)
  return {label: f'{_called(label, own)}  last '
          f'{np.mean([one.losses[-1] for one in own]):.3g}'
          for label, own in trained.systems.items()}


def validation(trained: Trained, axis: Axes) -> dict[str, str]:
  """Draws the validation scores of a panel; what the legend says of each system."""
  found = {label: [(one.ends, one.scores) for one in own if len(one.ends)]
           for label, own in trained.systems.items()}
  kinds = sorted({one.score_name for own in trained.systems.values() for one in own
                  if one.score_name})
  axis.set_ylabel('validation ' + ', '.join(_TITLES.get(kind, kind) for kind in kinds),
                  fontsize=plotting.FONT)
  _draw(trained, axis, found)
  says = {}
  for label, own in trained.systems.items():
    best = [np.nanmax(scores) for _, scores in found[label]
            if not np.isnan(scores).all()]
    says[label] = _called(label, own) + (
        f'  best {max(best):.3f}' if best else '  not validated')
  return says


def _draw(trained: Trained, axis: Axes,
          found: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> None:
  """A line a system: the mean of its runs where they have the same steps."""
  axis.set_title(trained.title, fontsize=plotting.FONT)
  axis.set_xlabel('step', fontsize=plotting.FONT)
  axis.locator_params(nbins=5)
  for label, style in plotting.styles(list(trained.systems)).items():
    lines = found[label]
    same = len({tuple(steps.tolist()) for steps, _ in lines}) == 1
    if same:
      average = (lines[0][0], np.mean([values for _, values in lines], axis=0))
    bold = {'color': style.colour, 'linestyle': style.dashes, **curves.BOLD}
    # The epochs of short runs are few: a marker shows them, and a single one.
    if lines and max(len(steps) for steps, _ in lines) <= 12:
      bold |= {'marker': style.marker, 'markersize': 4}
    for steps, values in lines if len(lines) > 1 and same else ():
      axis.plot(steps, values, color=style.colour, **curves.THIN)
    for steps, values in [average] if same else lines:
      axis.plot(steps, values, **bold)


def _called(label: str, own: Sequence[History]) -> str:
  return f'{label} ×{len(own)}' if len(own) > 1 else label


def _rows(trained: Sequence[Trained], kind: str) -> Iterator[Sequence[Any]]:
  for one in trained:
    for label, own in one.systems.items():
      for history in own:
        config = history.run.config
        lines = ((history.steps, history.losses) if kind == 'loss'
                 else (history.ends, history.scores))
        for step, value in zip(*(line.tolist() for line in lines), strict=True):
          yield (one.title, label, config['seed'], config['fold'], kind, step,
                 value)
