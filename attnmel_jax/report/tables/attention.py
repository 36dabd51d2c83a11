"""Table 3.3: attention maps, CAM and plain guesses against the lesion masks."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnmel_jax.evaluation import paired
from attnmel_jax.evaluation import score_summary
from attnmel_jax.report.tables import comparison
from attnmel_jax.report.tables import estimates as estimates_lib
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib

_TITLES = {'pool3': 'pool-3', 'pool4': 'pool-4', 'cam': 'CAM', 'all_ones': 'all ones',
           'disc': 'centred disc', 'otsu': 'Otsu\'s threshold'}
# Ending of the name of a score by the released protocol.
_RELEASED = '_released'
_BASELINES = ('all_ones', 'disc', 'otsu')
_KINDS = {'jaccard': 'Jaccard', 'mass': 'mass inside', 'pointing': 'pointing game'}
# A system's map that others are compared with, if they have no such map.
_DEEPEST = ('pool4', 'pool3', 'cam')

NOTES = (
    'Always against the lesion mask after the centre crop, whatever prior trained.',
    'Protocol: upsample the map, rescale it to [0, 1], cut at 0.5, mean Jaccard index '
    'over the annotated images; CAM is of the predicted class. The released protocol '
    'cuts CAM at its own few cells before upsampling, always for the positive class. '
    'Mass inside: share of the rescaled map on the lesion; pointing game: whether its '
    'highest pixel is.',
    'Best threshold: of 0.05 to 0.95, found on the scored masks, in hindsight. The '
    'disc\'s radius, a share of the side, is too. Baselines: all ones marks '
    'everything, the disc knows that lesions are central, Otsu\'s threshold that '
    'they are dark.',
)


class Map(NamedTuple):
  """A row of the table: a map of a system; of no system if it is a baseline."""

  system: str
  name: str   # as in the names of scores
  label: str


def maps(estimates: estimates_lib.Estimates) -> list[Map]:
  """The maps that the group's runs have: systems' in order, then baselines."""
  found, baselines = [], {}
  for system in estimates.group.units:
    names = [metric.removeprefix('jaccard_')
             for metric in estimates.group.units[system][0].run.images.scores
             if metric.startswith('jaccard_')]
    for name in names:
      if not estimates.has(system, f'jaccard_{name}'):
        continue
      if name in _BASELINES:
        # No network has a part in them: the first system's are everyone's.
        baselines.setdefault(
            name, Map(system, name, _baseline(estimates, system, name)))
      else:
        found.append(Map(system, name, f'{system} {_title(name)}'))
  return found + [baselines[name] for name in _BASELINES if name in baselines]


def main(estimates: estimates_lib.Estimates | None, *,
         published: Mapping[str, Mapping[str, str]], complete: bool,
         head: table_lib.Head) -> table_lib.Table:
  """Jaccard index ours, published and their difference; mass, pointing, threshold.

  Args:
    estimates: of a group; None where there is no run.
    published: system -> map -> Jaccard index as printed; without any, no column is
      of it.
    complete: with the rows of the thesis that have no run.
    head: of the table.
  """
  own = maps(estimates) if estimates else []
  rows = []
  for entry in _in_order(own, published if complete else {}):
    present = entry in own
    printed = None
    if entry.name not in _BASELINES:
      printed = published.get(entry.system, {}).get(entry.name.removesuffix(_RELEASED))
    cells = [_cell(estimates, entry, kind) if present else table_lib.NO_RUN
             for kind in _KINDS]
    difference = table_lib.NOTHING
    if present and printed:
      estimate = estimates.values(entry.system, f'jaccard_{entry.name}')[0]
      difference = table_lib.number(estimate - float(printed), signed=True)
    beside = [table_lib.Cell(printed) if printed else table_lib.NOTHING, difference]
    rows.append([
        table_lib.Cell(entry.label), cells[0], *(beside if published else ()),
        *cells[1:], *(_best(estimates, entry) if present else [table_lib.NO_RUN] * 2)])
  columns = ('Jaccard published', 'Jaccard difference') if published else ()
  return table_lib.Table(
      head, ('map', 'Jaccard', *columns, 'mass inside', 'pointing game',
             'best threshold', 'Jaccard there'), rows)


def compare(estimates: estimates_lib.Estimates, reference: str, *,
            head: table_lib.Head) -> table_lib.Table | None:
  """Every map less the reference's: the same map, else its deepest.

  None where the reference has no map, or there is no other.
  """
  own = maps(estimates)
  theirs = {entry.name: entry for entry in own
            if entry.system == reference and entry.name not in _BASELINES}
  deepest = next((theirs[m] for m in _DEEPEST if m in theirs), None)
  if deepest is None:
    return None
  body = []
  for kind, title in _KINDS.items():
    differences, against = {}, {}
    for entry in own:
      opposite = theirs.get(entry.name, deepest)
      pair = [f'{kind}_{side.name}' for side in (entry, opposite)]
      if entry == opposite or not (estimates.has(entry.system, pair[0])
                                   and estimates.has(reference, pair[1])):
        continue
      against[entry.label] = opposite.label
      differences[entry.label] = paired.paired_difference(
          _values(estimates, entry, kind), _values(estimates, opposite, kind),
          level=score_summary.LEVEL)
    tests = dict.fromkeys(differences, comparison.NO_TEST)
    body += comparison.rows(title, against, differences, tests)
  if not body:
    return None
  return comparison.table(head, body)


def sweep(estimates: estimates_lib.Estimates, *, head: table_lib.Head
          ) -> table_lib.Table | None:
  """Mean Jaccard index at each threshold: a column for each map; None without any."""
  columns = {}
  thresholds: list[float] = []
  for entry in maps(estimates):
    found = _sweep(estimates, entry)
    if found is not None:
      thresholds, columns[entry.label] = found
  if not columns:
    return None
  rows = [[table_lib.number(value, signed=False) for value in values]
          for values in zip(thresholds, *columns.values(), strict=True)]
  return table_lib.Table(head, ('threshold', *columns), rows)


def _values(estimates: estimates_lib.Estimates, entry: Map, kind: str) -> np.ndarray:
  return estimates.values(entry.system, f'{kind}_{entry.name}')


def _cell(estimates: estimates_lib.Estimates, entry: Map, kind: str) -> table_lib.Cell:
  if not estimates.has(entry.system, f'{kind}_{entry.name}'):
    return table_lib.NOTHING
  return table_lib.interval(
      estimates.interval(entry.system, f'{kind}_{entry.name}'), signed=False)


def _in_order(own: Sequence[Map], published: Mapping[str, Mapping[str, str]]
              ) -> list[Map]:
  """Attention maps, CAM, baselines; those of Table 3.3 first, in its order."""
  thesis = [Map(system, name, f'{system} {_title(name)}')
            for system, names in published_lib.JACCARD.items() for name in names]
  kept = [entry for entry in thesis
          if entry in own or entry.name in published.get(entry.system, {})]
  kept += [entry for entry in own if entry not in thesis]

  def kind(entry):
    return (entry.name in _BASELINES, entry.name.startswith('cam'))

  return sorted(kept, key=kind)


def _title(name: str) -> str:
  """'pool3' -> 'pool-3', 'cam_released' -> 'CAM, released protocol'."""
  plain = name.removesuffix(_RELEASED)
  title = _TITLES.get(plain, plain)
  return title if plain == name else f'{title}, released protocol'


def _baseline(estimates: estimates_lib.Estimates, system: str, name: str) -> str:
  if name != 'disc':
    return _TITLES[name]
  radii = {member.scores.get('disc_radius')
           for unit in estimates.group.units[system] for member in unit.members}
  known = sorted(radius for radius in radii if radius is not None)
  radius = f' (radius {" or ".join(f"{r:.2f}" for r in known)})' if known else ''
  return _TITLES[name] + radius


def _sweep(estimates: estimates_lib.Estimates, entry: Map
           ) -> tuple[list[float], np.ndarray] | None:
  """Thresholds [T] and the mean over seeds, and over the images of the folds, [T]."""
  column = f'jaccard_{entry.name}'
  curves, weights = [], []
  thresholds: Mapping[str, list[float]] = {}
  for unit in estimates.group.units[entry.system]:
    for member in unit.members:
      found = member.scores.get('threshold_sweep') or {}
      if column not in found or None in found[column]:
        return None
      thresholds = found
      curves.append(found[column])
      weights.append(member.scores['n_annotated'])
  return thresholds['thresholds'], np.average(curves, axis=0, weights=weights)


def _best(estimates: estimates_lib.Estimates, entry: Map) -> list[table_lib.Cell]:
  """The threshold with the highest mean index, and that index."""
  found = _sweep(estimates, entry)
  if found is None:
    return [table_lib.NOTHING] * 2
  best = int(found[1].argmax())
  threshold = found[0][best]
  return [table_lib.Cell(f'{threshold:.2f}', (threshold,)),
          table_lib.number(float(found[1][best]), signed=False)]


def annotated(estimates: estimates_lib.Estimates) -> int:
  """Images with a lesion mask."""
  entry = maps(estimates)[0]
  images = estimates.group.units[entry.system][0].run.images
  return int(np.count_nonzero(~np.isnan(images.scores[f'jaccard_{entry.name}'])))
