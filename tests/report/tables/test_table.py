"""The three forms of a table."""

import csv
import io
import re
import shutil
import subprocess

import pytest

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.report.tables import table as table_lib

NAN = float('nan')


def _table():
  head = table_lib.Head(
      'table_x', 'A & B_c', ('50 % of {all}.', table_lib.Bold('Synthetic $data.')),
      ('Last*.',))
  return table_lib.Table(head, ('system', 'AUC', 'tick', 'p'), [
      [table_lib.Cell('A*-1_x|y'),
       table_lib.interval(bootstrap.Interval(0.75, 0.5, 0.875, 9), signed=False),
       table_lib.YES, table_lib.p_value(0.0001)],
      [table_lib.Cell('[b] ~^\\<'), table_lib.NO_RUN, table_lib.NO, table_lib.NOTHING],
      [table_lib.Cell('c'),
       table_lib.interval(bootstrap.Interval(-0.25, -0.5, 0.125, 9), signed=True),
       table_lib.NOTHING, table_lib.p_value(NAN)]])


def test_a_csv_has_all_digits_and_a_column_for_each_bound():
  text = table_lib.to_csv(_table())
  rows = list(csv.reader(io.StringIO(text)))
  assert rows == [
      ['system', 'AUC', 'AUC low', 'AUC high', 'tick', 'p'],
      ['A*-1_x|y', '0.75', '0.5', '0.875', 'yes', '0.0001'],
      ['[b] ~^\\<', 'no run', '', '', 'no', ''],
      ['c', '-0.25', '-0.5', '0.125', '', 'undefined']]


def test_a_csv_holds_stamps():
  head = _table().head._replace(context=(
      table_lib.Stamp('Do, not miss.'), table_lib.Bold('Miss.')))
  table = _table()._replace(head=head)
  rows = list(csv.reader(io.StringIO(table_lib.to_csv(table))))
  plain = list(csv.reader(io.StringIO(table_lib.to_csv(_table()))))
  assert rows == [row + [last] for row, last in zip(
      plain, ['warning', *['Do, not miss.'] * 3], strict=True)]
  assert '**Do, not miss.**' in table_lib.to_markdown(table)
  assert r'\textbf{Do, not miss.}' in table_lib.to_latex(table)


def test_markdown_shows_what_latex_and_a_reader_of_html_see():
  lines = table_lib.to_markdown(_table()).splitlines()
  assert lines[0] == 'A & B_c. 50 % of {all}. **Synthetic $data.** Last\\*.'
  assert lines[2:4] == ['| system | AUC | tick | p |', '| --- | --- | --- | --- |']
  assert lines[4] == r'| A\*-1_x\|y | 0.750 [0.500, 0.875] | ✓ | \<0.001 |'
  assert lines[5] == r'| [b] ~^\\\< | no run | ✗ | – |'
  assert lines[6] == '| c | −0.250 [−0.500, +0.125] | – | undefined |'


def test_latex_is_escaped_and_complete():
  table = _table()
  text = table_lib.to_latex(table)
  assert (r'\caption{A \& B\_c. 50 \% of \{all\}. \textbf{Synthetic \$data.} Last*.}'
          in text)
  assert r'\label{tab:table-x}' in text
  body = text[text.index(r'\toprule'):text.index(r'\bottomrule')].splitlines()
  rows = [line for line in body if line.endswith(r'\\')]
  assert rows[1] == (r'A*-1\_x\textbar{}y & 0.750 {[}0.500, 0.875{]} & $\checkmark$ & '
                     r'\textless{}0.001 \\')
  assert rows[2] == (r'{[}b{]} \textasciitilde{}\textasciicircum{}\textbackslash{}'
                     r'\textless{} & no run & $\times$ & -- \\')
  assert rows[3].startswith(r'c & $-$0.250 {[}$-$0.500, +0.125{]} & --')
  assert all(len(re.findall(r'(?<!\\)&', row)) == 3 for row in rows)
  assert r'\begin{tabular}{lccc}' in text
  named = table_lib.Table(table.head, ('a', 'b_c d'), [])
  assert r'\shortstack{a} & \shortstack{b\_c\\d} \\' in table_lib.to_latex(named)
  plain = re.sub(r'\\[{}]', '', text)
  assert plain.count('{') == plain.count('}')
  assert text.isascii()


@pytest.mark.skipif(shutil.which('pdflatex') is None, reason='needs pdflatex')
@pytest.mark.parametrize('repeated', [1, 4])
def test_latex_compiles_and_fits_its_page(tmp_path, repeated):
  table = _table()
  table = table_lib.Table(table.head, table.columns * repeated,
                          [row * repeated for row in table.rows])
  (tmp_path / 'x.tex').write_text(
      r'\documentclass{article}\usepackage{booktabs,amssymb,graphicx,rotating}'
      r'\begin{document}' + table_lib.to_latex(table) + r'\end{document}')
  done = subprocess.run(['pdflatex', '-interaction=nonstopmode', '-halt-on-error',
                         'x.tex'], cwd=tmp_path, capture_output=True, text=True,
                        check=False, timeout=60)
  assert done.returncode == 0, done.stdout
  assert 'Overfull' not in done.stdout


@pytest.mark.parametrize('value, text', [
    (0.0004, '<0.001'), (0.0005, '0.001'), (0.04951, '0.050'), (1.0, '1.000')])
def test_p_values(value, text):
  assert table_lib.p_value(value) == (text, (value,))


def test_undefined_scores_and_bounds():
  whole = bootstrap.Interval(NAN, NAN, NAN, 9)
  assert table_lib.interval(whole, signed=False).text == 'undefined'
  bounds = table_lib.interval(bootstrap.Interval(0.5, NAN, NAN, 9), signed=False)
  assert bounds.text == '0.500 [undefined]'
  head = table_lib.Head('x', 'X', (), ())
  text = table_lib.to_csv(table_lib.Table(head, ('a',), [[bounds]]))
  assert text == 'a,a low,a high\n0.5,,\n'
  assert table_lib.number(NAN, signed=True) == table_lib.UNDEFINED
