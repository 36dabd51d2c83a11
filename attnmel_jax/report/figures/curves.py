"""Figure 3.2: ROC curves; beside it precision and recall, and reliability."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import Any
from typing import Protocol

from matplotlib import lines as mpl_lines
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from attnmel_jax.evaluation import metrics
from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report.figures import curve_values
from attnmel_jax.report.figures import plotting

# In inches.
_PANEL = 3.6
_LEFT, _GAP, _RIGHT, _TOP, _BOTTOM = 0.6, 0.7, 0.1, 0.42, 0.05
_LABELS = 0.5                   # tick labels and the label of the x axis
_STRIP, _STRIP_GAP = 0.6, 0.12  # how many images the bins of a reliability curve hold

THIN = {'linewidth': 0.5, 'alpha': 0.45, 'zorder': 2}
BOLD = {'linewidth': 1.6, 'zorder': 3}

_BRACKETS = ('In brackets 95 % bootstrap intervals over lesions, over images where '
             'lesions are not known; with three or more seeds, over seeds too.')
# Of the tables behind the curves.
HEADER = ('experiment', 'split', 'class', 'system', 'seed', 'fold')
PRECISION_RECALL_COLUMNS = ('recall', 'precision', 'threshold')
ROC_COLUMNS = ('false_positive_rate', 'true_positive_rate', 'threshold')

# Draws a panel into its axes (and its strip, if it has one) and returns what the
# legend says of each system.
_Draw = Callable[..., dict[str, str]]


class HasSystems(Protocol):
  """A group, or what else has a legend of systems."""

  @property
  def systems(self) -> Mapping[str, Sequence[Any]]:
    """By name."""


def write(all_groups: Sequence[groups.Group], folder: pathlib.Path
          ) -> list[plotting.Entry]:
  """Writes the figures into `folder`.

  ROC and precision-recall curves are those of tasks with two classes.
  """
  binary = [group for group in all_groups if group.is_binary]
  entries = []
  if binary:
    average = several(binary)
    entries.append(_write(
        'Figure 3.2: ROC curves', 'figure_3_2_roc', figure(binary, roc, strip=False),
        f'Area under the curve. {_BRACKETS}{average} Markers stand at the threshold '
        'that validation images chose, at 0.5 where there are none; on validation '
        'images themselves they flatter.', roc_table(binary),
        ROC_COLUMNS, folder))
    entries.append(_write(
        'Precision and recall', 'figure_3_2_precision_recall',
        figure(binary, precision_recall, strip=False),
        f'Average precision. {_BRACKETS}{average} Dotted: the share of positive '
        'images, which is the precision of guessing.', precision_recall_table(binary),
        PRECISION_RECALL_COLUMNS, folder))
  elif not all_groups:
    entries.append(plotting.Entry(
        'Figure 3.2: ROC curves', 'No run has predictions.'))
  if all_groups:
    entries.append(_write(
        'Reliability', 'figure_3_2_reliability',
        figure(all_groups, reliability, strip=True),
        'Expected calibration error (ECE), before any temperature: of the positive '
        'class in a binary task, of the likeliest class with more. '
        f'{several(all_groups, "all rows together")} Below: the share of images in '
        'each bin.', reliability_table(all_groups),
        ('bin_from', 'bin_to', 'images', 'mean_probability', 'share_right'), folder))
  return entries


def _write(title: str, stem: str, drawn: Figure, caption: str,
           rows: Iterator[Sequence[Any]], columns: Sequence[str], folder: pathlib.Path
           ) -> plotting.Entry:
  plotting.save_chart(drawn, folder, stem)
  plotting.save_table((*HEADER, *columns), rows, folder, stem)
  return plotting.Entry(
      title, ' '.join(caption.split()), stem, chart=True)


def several(panels: Sequence[HasSystems], what: str = 'the vertical average'
            ) -> str:
  """What bold and thin lines are; empty where every system has one run."""
  if all(len(runs) == 1 for panel in panels for runs in panel.systems.values()):
    return ''
  return (f' Bold: {what} of seeds and folds, whose number stands behind the name; '
          'thin: each of them.')


def figure(panels: Sequence[HasSystems], draw: _Draw, *, strip: bool) -> Figure:
  """Two panels a row, each with its legend below."""
  columns = min(2, len(panels))
  below = _LABELS + (_STRIP + _STRIP_GAP if strip else 0)
  legends = []  # inches below each row
  for first in range(0, len(panels), columns):
    entries = max(len(panel.systems) for panel in panels[first:first + columns])
    legends.append(entries * plotting.line_height(plotting.FONT) + 0.15)
  heights = [_TOP + _PANEL + below + legend for legend in legends]
  result = plotting.blank(
      _LEFT + columns * (_PANEL + _GAP) - _GAP + _RIGHT, sum(heights) + _BOTTOM)
  for i, panel in enumerate(panels):
    left = _LEFT + (i % columns) * (_PANEL + _GAP)
    base = sum(heights[i // columns + 1:]) + _BOTTOM
    legend = legends[i // columns]
    axis = plotting.place(result, left, base + legend + below, _PANEL, _PANEL)
    lower = [plotting.place(result, left, base + legend + _LABELS, _PANEL, _STRIP)
             ] if strip else []
    says = draw(panel, axis, *lower)
    _legend(result, says, left + _PANEL / 2, base + legend)
  return result


def _legend(result: Figure, says: Mapping[str, str], x: float, y: float) -> None:
  """Puts it below that point, in inches."""
  styles = plotting.styles(list(says))
  handles = [mpl_lines.Line2D([], [], color=style.colour, linestyle=style.dashes,
                              marker=style.marker, markersize=5, linewidth=1.6)
             for style in styles.values()]
  width, height = result.get_size_inches()
  result.legend(
      handles, list(says.values()),
      loc='upper center', bbox_to_anchor=(x / width, y / height),
      fontsize=plotting.FONT, frameon=False, handlelength=3.2, borderpad=0,
      borderaxespad=0, labelspacing=0.2)


def roc(group: groups.Group, axis: Axes) -> dict[str, str]:
  """ROC curves of the positive class, with the operating points."""
  plotting.unit_square(axis, 'false positive rate (1 − specificity)',
                       'true positive rate (sensitivity)')
  _title(axis, group)
  axis.plot([0, 1], [0, 1], **plotting.CHANCE)
  says = {}
  for label, style in plotting.styles(list(group.systems)).items():
    runs = group.systems[label]
    draw_curves(axis, curve_values.roc_curves(runs, 1), draw_roc, style, **BOLD)
    for point in curve_values.operating_points(runs):
      axis.plot(1 - point.specificity, point.sensitivity, color=style.colour,
                marker=style.marker, markersize=6, markeredgecolor='white',
                markeredgewidth=0.6, zorder=4)
    area = _interval(group, label, 'auc')
    says[label] = f'{_called(label, runs)}  AUC {area}'
  return says


def precision_recall(group: groups.Group, axis: Axes) -> dict[str, str]:
  """Precision-recall curves of the positive class, as the steps that AP sums."""
  plotting.unit_square(axis, 'recall (sensitivity)', 'precision')
  _title(axis, group)
  axis.axhline(group.counts[1] / sum(group.counts), **plotting.CHANCE)
  says = {}
  for label, style in plotting.styles(list(group.systems)).items():
    runs = group.systems[label]
    draw_curves(axis, curve_values.precision_recall_curves(runs, 1),
                draw_precision_recall, style, **BOLD)
    area = _interval(group, label, 'ap')
    says[label] = f'{_called(label, runs)}  AP {area}'
  return says


def draw_curves(axis: Axes, found: Sequence[Any], draw: Callable[..., mpl_lines.Line2D],
                style: plotting.Style, **bold: Any) -> list[mpl_lines.Line2D]:
  """A thin line for each of several curves and a bold one, which it returns.

  Args:
    axis: to draw into.
    found: curves of one system; none draws nothing.
    draw: `draw_roc` or `draw_precision_recall`.
    style: of the system.
    **bold: how Matplotlib draws the bold line.
  """
  for curve in found if len(found) > 1 else ():
    draw(axis, [curve], color=style.colour, **THIN)
  return [draw(axis, found, color=style.colour, linestyle=style.dashes, **bold)
          ] if found else []


def draw_roc(axis: Axes, found: Sequence[metrics.RocCurve], **how: Any
             ) -> mpl_lines.Line2D:
  """One curve, the vertical average of several."""
  line, = axis.plot(*curve_values.average_roc(found), **how)
  return line


def draw_precision_recall(axis: Axes, found: Sequence[metrics.PrecisionRecallCurve],
                          **how: Any) -> mpl_lines.Line2D:
  """One curve, the average of several, as the steps that AP sums."""
  curve = curve_values.average_precision_recall(found)
  # The first step begins at recall 0.
  line, = axis.plot(np.r_[0, curve.x], np.r_[curve.y[0], curve.y],
                    drawstyle='steps-pre', **how)
  return line


def reliability(group: groups.Group, axis: Axes, strip: Axes) -> dict[str, str]:
  """Reliability curves, and in the strip how many images each bin holds."""
  plotting.unit_square(axis, '', _share_right(group))
  _title(axis, group)
  axis.plot([0, 1], [0, 1], **plotting.CHANCE)
  says = {}
  for label, style in plotting.styles(list(group.systems)).items():
    runs = group.systems[label]
    for one in runs if len(runs) > 1 else ():
      own = curve_values.reliability([one])
      filled = own.counts > 0
      axis.plot(own.confidence[filled], own.accuracy[filled], color=style.colour,
                **THIN)
    curve = curve_values.reliability(runs)
    filled = curve.counts > 0
    axis.plot(curve.confidence[filled], curve.accuracy[filled], color=style.colour,
              linestyle=style.dashes, marker=style.marker, markersize=4, **BOLD)
    strip.stairs(100 * curve.counts / curve.counts.sum(), curve.edges,
                 color=style.colour, linestyle=style.dashes, linewidth=1.1)
    error = np.mean(curve_values.expected_errors(runs))
    says[label] = f'{_called(label, runs)}  ECE {_short(error)}'
  strip.set(xlim=axis.get_xlim(), xticks=axis.get_xticks(), ylim=(0, None),
            xticklabels=[tick.get_text() for tick in axis.get_xticklabels()])
  strip.locator_params(axis='y', nbins=2)
  strip.set_xlabel('predicted probability, mean of each bin',
                   fontsize=plotting.FONT)
  strip.set_ylabel('images, %', fontsize=plotting.FONT)
  axis.set_xticklabels([])
  return says


def _share_right(group: groups.Group) -> str:
  if group.is_binary:
    return f'share of {names.class_name(group.class_names[1])}'
  return 'share of correct answers'


def _title(axis: Axes, group: groups.Group) -> None:
  title = group.heading
  if group.is_binary:
    title += (f'\n{names.class_name(group.class_names[1])} ({group.counts[1]}) against '
              f'{names.class_name(group.class_names[0])}')
  axis.set_title(title, fontsize=plotting.FONT)


def _interval(group: groups.Group, system: str, metric: str) -> str:
  found = group.interval(system, metric)
  if np.isnan(found.estimate):
    return 'undefined'
  if np.isnan(found.low):
    return _short(found.estimate)
  return f'{_short(found.estimate)} [{_short(found.low)}, {_short(found.high)}]'


def _short(share: float) -> str:
  """0.8312 -> '.831'."""
  return f'{share:.3f}'.removeprefix('0')


def _called(label: str, runs: Sequence[groups.Member]) -> str:
  """A system and how many runs it has, unless it is one."""
  return f'{label} ×{len(runs)}' if len(runs) > 1 else label


def roc_table(all_groups: Sequence[groups.Group]) -> Iterator[Sequence[Any]]:
  """Rows of the corners of all curves of all classes.

  The vertical average of several curves has no seed, fold or threshold.
  """
  return _of_classes(all_groups, _roc_points)


def precision_recall_table(all_groups: Sequence[groups.Group]
                           ) -> Iterator[Sequence[Any]]:
  """Rows of all points of the positive class, or of all classes of more than two."""
  return _of_classes(all_groups, _precision_recall_points)


def _of_classes(all_groups: Sequence[groups.Group],
                points: Callable[..., Iterator[Sequence[Any]]]
                ) -> Iterator[Sequence[Any]]:
  """What `points(runs, k)` yields of each system and each class k that counts."""
  for group in all_groups:
    for label, runs in group.systems.items():
      # Of two classes only the positive one.
      for k in [1] if group.is_binary else range(len(group.class_names)):
        for point in points(runs, k):
          yield (group.title, group.split, group.class_names[k], label, *point)


def _roc_points(runs: Sequence[groups.Member], k: int) -> Iterator[Sequence[Any]]:
  for one in runs:
    for curve in curve_values.roc_curves([one], k):
      kept = curve_values.corners(*curve[:2])
      for x, y, t in zip(*(c[kept].tolist() for c in curve), strict=True):
        yield (*one.place, x, y, '' if np.isinf(t) else t)
  found = curve_values.roc_curves(runs, k)
  if len(found) > 1:
    average = curve_values.average_roc(found)
    for x, y in np.stack(average, 1)[curve_values.corners(*average)].tolist():
      yield ('', '', x, y, '')


def _precision_recall_points(runs: Sequence[groups.Member], k: int
                             ) -> Iterator[Sequence[Any]]:
  for one in runs:
    for curve in curve_values.precision_recall_curves([one], k):
      for point in zip(*(c.tolist() for c in curve), strict=True):
        yield (*one.place, *point)


def reliability_table(all_groups: Sequence[groups.Group]) -> Iterator[Sequence[Any]]:
  """Rows of all bins that hold an image."""
  for group in all_groups:
    event = group.class_names[1] if group.is_binary else 'likeliest'
    for label, runs in group.systems.items():
      for one in runs:
        curve = curve_values.reliability([one])
        for i in np.flatnonzero(curve.counts):
          yield (group.title, group.split, event, label, *one.place,
                 float(curve.edges[i]), float(curve.edges[i + 1]),
                 int(curve.counts[i]), float(curve.confidence[i]),
                 float(curve.accuracy[i]))
