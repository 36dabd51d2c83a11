"""report.html: the whole report in one file that needs no network.

  text = page.render(runs, sections, entries, all_groups, left_out, plan, folder)

Tables, charts and galleries are those that the report has made already. What comes
from outside (names of runs, classes and images) is escaped by Jinja2; the only script
that a browser runs is the page's own, by its hash in the content security policy.
"""

import base64
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import hashlib
import importlib.resources
import io
import pathlib
import re
from typing import Any

import jinja2
from matplotlib import colormaps
import numpy as np
from PIL import Image

from attnmel_jax import errors
from attnmel_jax.report import gallery
from attnmel_jax.report import groups
from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.tables import overview
from attnmel_jax.report.tables import sections as sections_lib
from attnmel_jax.report.tables import table as table_lib

LIMIT = 10_000_000     # bytes of a page
_GALLERY = 6_000_000   # bytes of it that galleries take at most
_ROOM = 200_000        # bytes that are not counted exactly
_CHART = 400_000       # a larger SVG is shown as PNG
_WIDE = 400            # points; a wider chart has several panels
_PICTURES = 2_000_000  # bytes of figures of photographs; others lie beside the page
_PICTURE_WIDTH = 1600  # pixels of one: sharp on a screen of twice the page's width

# Ordered in lightness, so it reads in grey and with any colour blindness.
_COLOUR_MAP = 'viridis'

_NO_PHOTOGRAPHS = ('Left out, as all photographs were: with them go their attention '
                   'maps, outlines and names.')


def render(runs: Sequence[run_reader.FinishedRun],
           sections: Sequence[sections_lib.Section],
           entries: Sequence[plotting.Entry], all_groups: Sequence[groups.Group],
           left_out: Sequence[str], plan: sections_lib.Plan, folder: pathlib.Path
           ) -> str:
  """The page as HTML.

  Args:
    runs: all finished runs.
    sections: the tables.
    entries: the figures, whose charts lie in `folder`.
    all_groups: of classifiers, whose maps the attention gallery shows.
    left_out: a line for each run that is in no table.
    plan: what is asked of the report.
    folder: of the figures' files.
  """
  views = {
      'count': len(runs),
      'synthetic': [name for name, run in zip(run_reader.run_names(runs), runs,
                                              strict=True) if run.summary['synthetic']],
      'sections': [_section(section) for section in sections],
      'charts': [_chart(entry, folder) for entry in entries if entry.chart],
      'pictures': [],
      'words': [f'{entry.title}: {entry.text}' if entry.title else entry.text
                for entry in entries if not entry.stem],
      'overview': list(_overview(runs)),
      'left_out': left_out, **_what_was_run(runs, plan)}
  if not plan.photographs:
    return _html(views, {'lines': [_NO_PHOTOGRAPHS], 'sets': []})
  bare = len(_html(views, {'lines': [], 'sets': []}).encode())
  views['pictures'] = list(_pictures(entries, folder, LIMIT - _ROOM - bare))
  bare = len(_html(views, {'lines': [], 'sets': []}).encode())
  budget = min(_GALLERY, LIMIT - _ROOM - bare)
  return _html(views, _gallery(all_groups, plan.data_dir, budget))


def _overview(runs: Sequence[run_reader.FinishedRun]
              ) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
  """Title, columns and rows of a table of every run by itself."""
  for split in ('test', 'validation'):
    if found := overview.overview(runs, split):
      yield split, found.shown.columns, _rows(found.shown)


def _html(views: dict[str, Any], shown: dict[str, Any]) -> str:
  style, script = _part('report.css'), _part('report.js')
  policy = (f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
            f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'")
  return _template().render(
      **views, gallery=shown, policy=policy, style=style, script=script)


def _part(name: str) -> str:
  return (importlib.resources.files('attnmel_jax.report') / 'templates' / name
          ).read_text('utf-8')


def _hash(text: str) -> str:
  digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
  return f"'sha256-{digest}'"


@functools.cache
def _template() -> jinja2.Template:
  environment = jinja2.Environment(
      autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
  # `tojson` writes <, >, &, ' and all but ASCII as escapes, so no text ends a script.
  environment.policies['json.dumps_kwargs'] = {
      'allow_nan': False, 'separators': (',', ':')}
  return environment.from_string(_part('report.html'))


def _section(section: sections_lib.Section) -> dict[str, Any]:
  tables = [{'title': table.head.title, 'shared': _sentences(shared),
             'notes': _sentences(table.head.notes), 'columns': table.columns,
             'rows': _rows(table)}
            for table, shared in sections_lib.said_once(section.tables)]
  return {'title': section.title, 'lines': section.lines, 'tables': tables}


def _rows(table: table_lib.Table) -> list[list[str]]:
  """The texts of the cells; no line break divides an interval."""
  return [[re.sub(r'\[.*?\]',
                  lambda found: found[0].replace(' ', '\N{NO-BREAK SPACE}'), cell.text)
           for cell in row] for row in table.rows]


def _sentences(texts: Sequence[str]) -> list[tuple[str, bool]]:
  """Each with whether it must not be missed."""
  return [(text, isinstance(text, table_lib.Bold)) for text in texts]


def _chart(entry: plotting.Entry, folder: pathlib.Path) -> dict[str, Any]:
  kind, content = 'svg+xml', (folder / f'{entry.stem}.svg').read_bytes()
  points = re.search(rb'<svg [^>]*width="([\d.]+)pt"', content)
  if len(content) > _CHART:
    kind, content = 'png', (folder / f'{entry.stem}.png').read_bytes()
  return {'title': entry.title, 'text': entry.text,
          'numbers': f'figures/{entry.stem}.csv',
          'wide': points is not None and float(points[1]) > _WIDE,
          'uri': f'data:image/{kind};base64,{base64.b64encode(content).decode()}'}


def _pictures(entries: Sequence[plotting.Entry], folder: pathlib.Path, room: int
              ) -> Iterator[dict[str, Any]]:
  """Figures of photographs as JPEG while they fit; of the others where they are."""
  left = min(_PICTURES, room // 2)
  for entry in entries:
    if entry.chart or not entry.stem:
      continue
    with Image.open(folder / f'{entry.stem}.png', formats=('PNG',)) as picture:
      small = picture.convert('RGB')
    small.thumbnail((_PICTURE_WIDTH, small.height))
    content = io.BytesIO()
    small.save(content, 'JPEG', quality=85)
    uri = f'data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}'
    shown = len(uri) <= left
    left -= len(uri) * shown
    yield {'title': entry.title, 'text': entry.text, 'uri': uri if shown else '',
           'file': f'figures/{entry.stem}.png', 'wide': small.width > 2 * _WIDE}


def _what_was_run(runs: Sequence[run_reader.FinishedRun], plan: sections_lib.Plan
                  ) -> dict[str, Any]:
  """What all configs have besides the defaults, a row a run, a row a fingerprint."""
  described = run_reader.describe(runs, plan.defaults)
  first = described[0].changed
  shared = {name: value for name, value in first.items() if len(described) > 1 and all(
      one.changed.get(name, one) == value for one in described)}
  rows = [[one.name, ', '.join(f'{name}={value!r}' for name, value in
                               one.changed.items() if name not in shared) or 'nothing',
           str(one.best_step), one.commit[:12], one.devices] for one in described]
  columns = ['run', 'differs in' if shared else 'differs from the defaults in',
             'best step', 'commit', 'devices']
  return {'shared': [(name, repr(value)) for name, value in shared.items()],
          'run_columns': columns, 'run_rows': rows,
          'fingerprints': list(_fingerprints(described))}


def _fingerprints(described: Sequence[run_reader.Description]) -> Iterator[list[str]]:
  """Split, fingerprint and the runs that have it."""
  found: dict[tuple[str, str], list[str]] = {}
  for one in described:
    for split, fingerprint in one.fingerprints.items():
      found.setdefault((fingerprint, split), []).append(one.name)
  for (fingerprint, split), names in found.items():
    yield [split, fingerprint, 'all' if len(names) == len(described)
           else ', '.join(names)]


def _gallery(all_groups: Sequence[groups.Group], data_dir: pathlib.Path | None,
             budget: int) -> dict[str, Any]:
  """The galleries of all all_groups, each with its share of the bytes."""
  lines, sets = [], []
  for group in all_groups:
    try:
      found = gallery.of_group(group, data_dir, budget=budget // len(all_groups))
    except errors.UserError as error:
      lines.append(f'{group.heading}: the photographs are missing ({error}).')
      continue
    if found is None:
      lines.append(f'{group.heading}: no system has attention maps.')
      continue
    sets.append(found.content)
    chosen = '' if found.shown == found.total else f' {gallery.RULE}'
    lines.append(f'{found.title}: {found.shown} of {found.total} are shown.{chosen}')
    lines += [f'{note}.' for note in found.notes]
  shades = np.rint(255 * colormaps[_COLOUR_MAP](np.arange(256))[:, :3]).astype(int)
  return {'lines': lines or ['No run has predictions.'], 'sets': sets,
          'shades': shades.tolist() if sets else []}
