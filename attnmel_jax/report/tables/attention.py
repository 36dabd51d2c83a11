"""Table 3.3: attention maps, CAM and plain guesses against the lesion masks."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnmel_jax.evaluation import attention_scores
from attnmel_jax.evaluation import score_summary
from attnmel_jax.evaluation import significance
from attnmel_jax.report import groups
from attnmel_jax.report import names as names_lib
from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import comparison
from attnmel_jax.report.tables import published as published_lib
from attnmel_jax.report.tables import table as table_lib

_TITLE = 'Jaccard index of attention maps and CAM with the lesion masks'
_BASELINES = {'all_ones': 'all ones', 'disc': 'centred disc',
              'otsu': 'Otsu\'s threshold'}
# Ending of the name of a score by the released protocol.
_RELEASED = '_released'

_NOTES = (
    'Always against the lesion mask after the centre crop, whichever prior was used in '
    'training.',
    'Protocol: upsample the map, rescale it to [0, 1], cut at 0.5, mean Jaccard index '
    'over the annotated images; CAM is of the predicted class. The released protocol '
    'cuts CAM at its own few cells before upsampling, always for the positive class. '
    'Mass inside: share of the rescaled map on the lesion; pointing game: whether its '
    'highest pixel is.',
    'Best threshold: of 0.05 to 0.95, found on the scored masks, in hindsight. The '
    'disc\'s radius, a share of the side, is too. Baselines: all ones marks '
    'everything, the disc assumes that lesions are central, Otsu\'s threshold that '
    'they are dark.',
)


class _Map(NamedTuple):
  """A row of the table: a map of a system; of no system if it is a baseline."""

  system: str
  name: str   # as in the names of scores
  label: str


def scores(context: captions.Context) -> table_lib.Table | None:
  """Jaccard index ours, published and their difference; mass, pointing, threshold.

  None where no run of the group has maps.
  """
  group = context.group
  own = _maps(group) if group else []
  if group and not own:
    return None
  published = published_lib.JACCARD if context.task.systems else {}
  rows = []
  for entry in _in_order(own, published if context.is_first else {}):
    present = entry in own
    printed = None
    if entry.name not in _BASELINES:
      printed = published.get(entry.system, {}).get(entry.name.removesuffix(_RELEASED))
    cells = [_cell(group, entry, kind) if present else table_lib.NO_RUN
             for kind in attention_scores.SCORES]
    difference = table_lib.NOTHING
    if present and printed and not group.synthetic:
      difference = table_lib.number(
          _values(group, entry, 'jaccard')[0] - float(printed), signed=True)
    beside = [table_lib.Cell(printed) if printed else table_lib.NOTHING, difference]
    rows.append([
        table_lib.Cell(entry.label), cells[0], *(beside if published else ()),
        *cells[1:], *(_best(group, entry) if present else [table_lib.NO_RUN] * 2)])
  columns = ('Jaccard published', 'Jaccard difference') if published else ()
  annotated = [f'{_annotated(group, own[0])} images are annotated.'] if group else []
  head = context.head('', _TITLE, *annotated, *_NOTES, *context.on_published,
                      series=_series(context))
  first, *others = (score.title for score in attention_scores.SCORES.values())
  return table_lib.Table(
      head, ('map', first, *columns, *others, 'best threshold', 'Jaccard there'), rows)


def compared(context: captions.Context) -> table_lib.Table | None:
  """Every map less the reference's: the same map, else its deepest.

  None where the reference has no map, or there is no other.
  """
  group, reference = context.group, context.reference
  own = _maps(group)
  theirs = {entry.name: entry for entry in own
            if entry.system == reference and entry.name not in _BASELINES}
  deepest = theirs.get(max(filter(names_lib.is_tap, theirs), default='cam'))
  if deepest is None:
    return None
  body = []
  for kind, score in attention_scores.SCORES.items():
    differences, against = {}, {}
    for entry in own:
      opposite = theirs.get(entry.name, deepest)
      if entry == opposite or not (_has(group, entry, kind)
                                   and _has(group, opposite, kind)):
        continue
      against[entry.label] = opposite.label
      differences[entry.label] = significance.paired_difference(
          _values(group, entry, kind), _values(group, opposite, kind),
          level=score_summary.LEVEL)
    tests = dict.fromkeys(differences, comparison.NO_TEST)
    body += comparison.rows(score.title, against, differences, tests)
  head = context.head(
      'comparisons', f'All maps against those of {reference}', 'A map is compared with '
      'the same map of the reference; where it has none, with its deepest.',
      series=_series(context))
  return comparison.table(head, body) if body else None


def sweep(context: captions.Context) -> table_lib.Table | None:
  """Mean Jaccard index at each threshold: a column for each map; None without any."""
  columns = {}
  thresholds: list[float] = []
  for entry in _maps(context.group):
    found = _sweep(context.group, entry)
    if found is not None:
      thresholds, columns[entry.label] = found
  if not columns:
    return None
  rows = [[table_lib.number(value, signed=False) for value in values]
          for values in zip(thresholds, *columns.values(), strict=True)]
  head = context.head('thresholds', 'Mean Jaccard index at each threshold',
                      series=_series(context))
  return table_lib.Table(head, ('threshold', *columns), rows)


def _series(context: captions.Context) -> tuple[str, str]:
  """What the names of the files and the titles begin with."""
  if context.task.systems:
    return 'table_3_3', 'Table 3.3'
  return f'{context.task.stem}_attention', context.task.label


def _maps(group: groups.Group) -> list[_Map]:
  """The maps that the group's runs have: systems' in order, then baselines."""
  found, baselines = [], {}
  for system, units in group.units.items():
    for name in groups.maps(units[0].run):
      if not group.has(system, f'jaccard_{name}'):
        continue
      if name in _BASELINES:
        # No network has a part in them: the first system's are everyone's.
        baselines.setdefault(name, _Map(system, name, _baseline(group, system, name)))
      else:
        found.append(_Map(system, name, f'{system} {_title(name)}'))
  return found + [baselines[name] for name in _BASELINES if name in baselines]


def _has(group: groups.Group, entry: _Map, kind: str) -> bool:
  return group.has(entry.system, f'{kind}_{entry.name}')


def _values(group: groups.Group, entry: _Map, kind: str) -> np.ndarray:
  return group.values(entry.system, f'{kind}_{entry.name}')


def _cell(group: groups.Group, entry: _Map, kind: str) -> table_lib.Cell:
  if not _has(group, entry, kind):
    return table_lib.NOTHING
  return table_lib.interval(
      group.interval(entry.system, f'{kind}_{entry.name}'), signed=False)


def _in_order(own: Sequence[_Map], published: Mapping[str, Mapping[str, str]]
              ) -> list[_Map]:
  """Attention maps, CAM, baselines; those of Table 3.3 first, in its order."""
  thesis = [_Map(system, name, f'{system} {_title(name)}')
            for system, names in published_lib.JACCARD.items() for name in names]
  kept = [entry for entry in thesis
          if entry in own or entry.name in published.get(entry.system, {})]
  kept += [entry for entry in own if entry not in thesis]

  def kind(entry):
    return (entry.name in _BASELINES, entry.name.startswith('cam'))

  return sorted(kept, key=kind)


def _title(name: str) -> str:
  """'pool3' -> 'pool-3', 'cam_released' -> 'CAM, released protocol'."""
  title = names_lib.map_name(name.removesuffix(_RELEASED))
  return f'{title}, released protocol' if name.endswith(_RELEASED) else title


def _baseline(group: groups.Group, system: str, name: str) -> str:
  title = _BASELINES[name]
  if name != 'disc':
    return title
  radii = {member.scores.values['disc_radius'] for member in group.systems[system]}
  known = ' or '.join(f'{radius:.2f}' for radius in sorted(radii - {None}))
  return f'{title} (radius {known})' if known else title


def _sweep(group: groups.Group, entry: _Map) -> tuple[list[float], np.ndarray] | None:
  """Thresholds [T] and the mean over seeds, and over the images of the folds, [T]."""
  column = f'jaccard_{entry.name}'
  curves, weights = [], []
  thresholds: list[float] = []
  for member in group.systems[entry.system]:
    found = member.scores.values.get('threshold_sweep') or {}
    if column not in found or None in found[column]:
      return None
    thresholds = found['thresholds']
    curves.append(found[column])
    weights.append(member.scores.values['n_annotated'])
  return thresholds, np.average(curves, axis=0, weights=weights)


def _best(group: groups.Group, entry: _Map) -> list[table_lib.Cell]:
  """The threshold with the highest mean index, and that index."""
  found = _sweep(group, entry)
  if found is None:
    return [table_lib.NOTHING] * 2
  best = int(found[1].argmax())
  threshold = found[0][best]
  return [table_lib.Cell(f'{threshold:.2f}', (threshold,)),
          table_lib.number(float(found[1][best]), signed=False)]


def _annotated(group: groups.Group, entry: _Map) -> int:
  """Images with a lesion mask."""
  images = group.units[entry.system][0].run.images
  return int(np.count_nonzero(~np.isnan(images.scores[f'jaccard_{entry.name}'])))
