"""A table once, and as CSV, Markdown and LaTeX.

People read a cell's text, programs its numbers: a CSV has a column for an estimate
and two for its bounds, with all digits.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import NamedTuple

from attnmel_jax import files
from attnmel_jax.evaluation import bootstrap


class Bold(str):
  """A sentence of a caption that must not be missed."""


class Stamp(Bold):
  """One that a CSV holds too, in a column of its own."""


class Cell(NamedTuple):
  """What stands in a table: for people, and for programs where they differ."""

  text: str
  values: tuple[float | str, ...] = ()  # one, or estimate and bounds


class Head(NamedTuple):
  """What a table is called, and the sentences that say what it holds."""

  name: str                 # of its files
  title: str                # a sentence without its full stop
  context: tuple[str, ...]  # on images, intervals, settings: the same for its group
  notes: tuple[str, ...]    # on this table alone

  def caption(self) -> list[str]:
    """All sentences."""
    return [f'{self.title}.', *self.context, *self.notes]


class Table(NamedTuple):
  """Rows of cells under the titles of their columns."""

  head: Head
  columns: tuple[str, ...]
  rows: Sequence[Sequence[Cell]]


NOTHING = Cell('–', ('',))
NO_RUN = Cell('no run')
YES = Cell('✓', ('yes',))
NO = Cell('✗', ('no',))
UNDEFINED = Cell('undefined')


def interval(found: bootstrap.Interval, *, signed: bool) -> Cell:
  """Estimate and bounds; `signed` for a difference."""
  if math.isnan(found.estimate):
    return UNDEFINED
  form = _signed if signed else _plain
  bounds = '[undefined]'
  if not math.isnan(found.low):
    bounds = f'[{form(found.low)}, {form(found.high)}]'
  return Cell(f'{form(found.estimate)} {bounds}',
              (found.estimate, found.low, found.high))


def score(found: Mapping[str, float | None]) -> Cell:
  """An interval of a summary, which holds None for what is undefined."""
  bounds = [math.nan if found[name] is None else found[name]
            for name in ('estimate', 'low', 'high')]
  return interval(bootstrap.Interval(*bounds, 0), signed=False)


def number(value: float, *, signed: bool) -> Cell:
  """With three decimals."""
  if math.isnan(value):
    return UNDEFINED
  return Cell((_signed if signed else _plain)(value), (value,))


def p_value(value: float) -> Cell:
  """With three decimals, down to '<0.001'."""
  if math.isnan(value):
    return UNDEFINED
  return Cell('<0.001' if value < 0.0005 else _plain(value), (value,))


def to_csv(table: Table) -> str:
  """A line a row; a column of intervals becomes three; stamps are the last."""
  stamp = ' '.join(text for text in table.head.caption() if isinstance(text, Stamp))
  wide = [any(len(row[j].values) == 3 for row in table.rows)
          for j in range(len(table.columns))]
  columns = [name + end for name, is_wide in zip(table.columns, wide, strict=True)
             for end in (('', ' low', ' high') if is_wide else ('',))]
  rows = []
  for row in table.rows:
    cells = []
    for cell, is_wide in zip(row, wide, strict=True):
      values = list(cell.values or (cell.text,))
      values += [''] * ((3 if is_wide else 1) - len(values))
      cells += ['' if isinstance(v, float) and math.isnan(v) else v for v in values]
    rows.append(cells + [stamp] * bool(stamp))
  return files.csv_text([columns + ['warning'] * bool(stamp), *rows])


def to_markdown(table: Table) -> str:
  """The caption, then the table in GitHub's syntax."""
  return f'{sentences(table.head.caption())}\n\n{body(table)}'


def sentences(texts: Sequence[str]) -> str:
  """A paragraph of Markdown."""
  return ' '.join(
      f'**{line}**' if isinstance(text, Bold) else line
      for text in texts for line in [files.escaped(text)])


def body(table: Table) -> str:
  """The table without its caption in GitHub's syntax."""
  lines = [table.columns, ['---'] * len(table.columns),
           *([cell.text for cell in row] for row in table.rows)]
  rows = ['| ' + ' | '.join(map(files.escaped, cells)) + ' |' for cells in lines]
  return '\n'.join(rows) + '\n'


_UPRIGHT_COLUMNS = 5  # more, with intervals, cannot be read on an upright page


def to_latex(table: Table) -> str:
  """A floating table no wider than the line, turned if it has many columns.

  It needs the packages booktabs, amssymb, graphicx and rotating.
  """
  caption = ' '.join(rf'\textbf{{{latex(text)}}}' if isinstance(text, Bold)
                     else latex(text) for text in table.head.caption())
  columns = 'l' + 'c' * (len(table.columns) - 1)
  floating = 'sidewaystable' if len(table.columns) > _UPRIGHT_COLUMNS else 'table'

  def line(texts):
    return ' & '.join(texts) + r' \\'

  def heading(text):  # a word a line: the numbers below are narrow
    return rf'\shortstack{{{latex(text)}}}'.replace(' ', r'\\')

  return '\n'.join([
      r'% \usepackage{booktabs,amssymb,graphicx,rotating}',
      rf'\begin{{{floating}}}[tbp]', r'\centering',
      r'\footnotesize', r'\setlength{\tabcolsep}{3pt}',
      rf'\caption{{{caption}}}', rf'\label{{tab:{table.head.name.replace("_", "-")}}}',
      r'\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%',
      rf'\begin{{tabular}}{{{columns}}}', r'\toprule',
      line(map(heading, table.columns)), r'\midrule',
      *(line(latex(cell.text) for cell in row) for row in table.rows),
      r'\bottomrule', r'\end{tabular}}', rf'\end{{{floating}}}']) + '\n'


_LATEX = {
    '\\': r'\textbackslash{}', '{': r'\{', '}': r'\}', '$': r'\$', '&': r'\&',
    '#': r'\#', '%': r'\%', '_': r'\_', '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}', '<': r'\textless{}', '>': r'\textgreater{}',
    '|': r'\textbar{}', '"': "''", '✓': r'$\checkmark$',
    '✗': r'$\times$', '–': '--', '−': '$-$', '×': r'$\times$', '[': '{[}', ']': '{]}',
}


def latex(text: str) -> str:
  """Text without any character that LaTeX takes for a command."""
  return ''.join(_LATEX.get(character, character) for character in text)


def _plain(value: float) -> str:
  return f'{value:.3f}'.replace('-', '−')


def _signed(value: float) -> str:
  return f'{value:+.3f}'.replace('-', '−')
