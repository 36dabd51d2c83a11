"""All tables and figures of a folder of runs, and the pages that hold them."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import hashlib
import os
import pathlib
import re
import tempfile
from typing import NamedTuple
import urllib.parse

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import outputs
from attnmel_jax.report import figures
from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report import page
from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.tables import overview as overview_lib
from attnmel_jax.report.tables import published
from attnmel_jax.report.tables import sections as sections_lib
from attnmel_jax.report.tables import table as table_lib

# Of what `outputs.MANIFEST` lists.
_KIND = 'a report'


class Report(NamedTuple):
  """What was written."""

  text: str            # of report.md
  files: list[str]     # names, in the order of the report
  overview: str        # the part of the text that lists all runs
  left_out: list[str]  # a line for each run that is in no table, and why


def write(found: run_reader.Found, out: pathlib.Path, plan: sections_lib.Plan
          ) -> Report:
  """Writes report.md, report.html, the figures, every table as .csv, .md and .tex.

  They replace those of an earlier report in the same folder. Where one run breaks the
  report in a way that nobody foresaw, it is named and left out.

  Args:
    found: the run folders.
    out: folder; it is made if it does not exist.
    plan: what is asked.

  Raises:
    UserError: the reference is no system of the thesis or of the runs, or no run
      has scores of the split.
  """
  trained = [names.system_name(run.config) for run in found.runs]
  errors.check_choice('--reference', plan.reference,
                      dict.fromkeys([*names.CLASSIFIERS, *trained]))
  _check_split(found.runs, plan.split)
  before = set((out / figures.FOLDER).glob('*'))
  try:
    return _write(found, out, plan)
  except Exception as error:
    bad = _bad_runs(found.runs, plan)
    whole = [run for run in found.runs if run.folder not in bad]
    for path in set((out / figures.FOLDER).glob('*')) - before:
      path.unlink()  # may show a bad run
    if len(bad) == len(found.runs) == 1 and not isinstance(error, errors.UserError):
      raise errors.UserError(*bad.values()) from error
    if not bad or not whole:
      raise
  return _write(
      found._replace(runs=whole, damaged=[*found.damaged, *bad.values()]), out, plan)


def _bad_runs(runs: Sequence[run_reader.FinishedRun], plan: sections_lib.Plan
              ) -> dict[pathlib.Path, str]:
  """The runs that no report can be made of, each alone: folder -> a line on why."""
  bad = {}
  for run in runs:
    with tempfile.TemporaryDirectory() as scratch:
      try:
        _write(run_reader.Found([run], [], []), pathlib.Path(scratch), plan)
      except errors.UserError as error:
        bad[run.folder] = f'{run.folder}: {error}'
      except Exception as error:  # of a file that nobody foresaw
        why = run_reader.unforeseen(error, text=plan.photographs)
        bad[run.folder] = f'{run.folder}: {why}'
  return bad


def _write(found: run_reader.Found, out: pathlib.Path, plan: sections_lib.Plan
           ) -> Report:
  """`write`, of runs that can all be read."""
  tasks, left_out = _gather(found.runs, plan)
  left_out = [*found.damaged, *(f'{folder} is not finished; run its command again'
                                for folder in found.unfinished), *left_out]
  all_groups = [group for _, own in tasks for group in own]
  sections = [*(section for task, own in tasks
                for section in sections_lib.of_task(task, own, plan)),
              *sections_lib.of_unets(found.runs, split=plan.split)]
  overview, texts = _overview(found.runs)
  lines = ['# Report', '', 'Tables of finished runs. Each is '
           'also a .csv, .md and .tex file.', '', *_pages(sections), *overview,
           '## What was run', '', *_what_was_run(found.runs, plan), '']
  if left_out:
    lines += ['## Left out', '',
              *(f'- {files.escaped(line)}' for line in left_out), '']
  with _claimed(out) as before:
    entries = figures.write(found.runs, all_groups, out, plan.data_dir,
                            photographs=plan.photographs)
    lines += ['## Figures', '', *plotting.to_markdown(entries)]
    if plan.photographs:
      lines += ['## Attention maps of each run', '', *_pictures(found.runs, out)]
    text = '\n'.join(lines).rstrip() + '\n'
    html = page.render(found.runs, sections, entries, all_groups, left_out, plan,
                       out / figures.FOLDER)
    texts = dict(_files(sections)) | texts | {'report.md': text, 'report.html': html}
    _write_all(out, texts, [f'{figures.FOLDER}/{name}' for entry in entries
                            for name in entry.files], before)
  return Report(text, list(texts), '\n'.join(overview), left_out)


def _check_split(runs: Sequence[run_reader.FinishedRun], split: str) -> None:
  """Raises UserError where the report would hold published numbers alone."""
  for run in runs:
    with contextlib.suppress(errors.UserError):
      run_reader.find_scores(run, split)
      return
  raise errors.UserError(
      f'--split={split}: none of the runs has such scores; leave the flag out, or make '
      'them with launch/evaluate.py')


def _gather(runs: Sequence[run_reader.FinishedRun], plan: sections_lib.Plan
            ) -> tuple[list[tuple[published.Published, list[groups.Group]]], list[str]]:
  """The tasks with their groups, and a line for each run that is in none."""
  found, left_out = [], []
  tasks = published.tasks(runs)
  # Runs of other tasks alone do not ask for the thesis's numbers.
  others = any(own and not task.systems for task, own in tasks) and not any(
      own and task.systems for task, own in tasks)
  for task, own in tasks:
    gathered = groups.gather(own, split=plan.split, defaults=plan.defaults)
    left_out += gathered.left_out
    if gathered.groups or task.systems and not others:
      found.append((task, gathered.groups))
  return found, left_out


def _pages(sections: Sequence[sections_lib.Section]) -> list[str]:
  """The sections as Markdown; what a group's tables share is said once."""
  lines = []
  for section in sections:
    lines += [f'## {files.escaped(section.title)}', '']
    for line in section.lines:
      lines += [files.escaped(line), '']
    for table, shared in sections_lib.said_once(section.tables):
      head = table.head
      lines += [f'### {table_lib.sentences([head.title])}', '',
                *(line for texts in (shared, head.notes) if texts
                  for line in (table_lib.sentences(texts), '')), table_lib.body(table)]
  return lines


def _files(sections: Sequence[sections_lib.Section]) -> Iterator[tuple[str, str]]:
  """Name and content of every table's files."""
  for section in sections:
    for table in (*section.tables, *section.files_alone):
      name = table.head.name
      yield f'{name}.csv', table_lib.to_csv(table)
      yield f'{name}.md', table_lib.to_markdown(table)
      yield f'{name}.tex', table_lib.to_latex(table)


def _overview(runs: Sequence[run_reader.FinishedRun]
              ) -> tuple[list[str], dict[str, str]]:
  """Lines on every run by itself, and their CSV files."""
  lines = ['## All runs', '', 'Each run by itself, 95 % intervals of its own test '
           'sampling; not the choice of seed.', '']
  synthetic = [name for name, run in zip(run_reader.run_names(runs), runs, strict=True)
               if run.summary['synthetic']]
  if synthetic:
    lines += ['**Synthetic data**: the images of '
              f'{files.escaped(", ".join(synthetic))} were drawn by a program. '
              'These scores show that the software works; they say nothing about '
              'patients.', '']
  for run in runs:
    if run.leakage:
      lines += [table_lib.sentences([table_lib.Bold(
          f'Leakage, which flatters scores, in {run.folder.name}: '
          f'{"; ".join(run.leakage)}.')]), '']
  texts = {}
  for split in ('test', 'validation'):
    found = overview_lib.overview(runs, split)
    if found:
      texts[f'{split}.csv'] = table_lib.to_csv(found.whole)
      lines += [f'### {split}', '', table_lib.body(found.shown)]
  return lines, texts


def _what_was_run(runs: Sequence[run_reader.FinishedRun], plan: sections_lib.Plan
                  ) -> Iterator[str]:
  """Each run's differences from the defaults, its best step and its machine."""
  for one in run_reader.describe(runs, plan.defaults):
    changed = ', '.join(f'{name}={value!r}' for name, value in one.changed.items())
    line = (f'{one.name}: best after step {one.best_step}; commit {one.commit[:12]}; '
            f'{one.devices}; differs from configs/common.py in {changed or "nothing"}')
    yield f'- {files.escaped(line)}'


def _pictures(runs: Sequence[run_reader.FinishedRun], out: pathlib.Path) -> list[str]:
  """Links from a page in `out` to the runs' pictures of attention maps."""
  lines = []
  for run in runs:
    for path in sorted((run.folder / 'attention').glob('*.png')):
      link = os.path.relpath(path, out)
      name = files.escaped(path.stem)
      lines += [f'{files.escaped(run.folder.name)}, {name}:', '',
                f'![{name}]({urllib.parse.quote(link)})', '']
  return lines or ['No run has attention maps.']


@contextlib.contextmanager
def _claimed(out: pathlib.Path) -> Iterator[dict[str, str]]:
  """Locks the folder; yields what an earlier report wrote, by name, as sha256.

  Raises:
    UserError: it is neither new nor empty nor a report's, or in use.
  """
  name, remedy = f'--out={out}', 'name a new or empty folder with --out'
  before = outputs.read_manifest(out, _KIND)
  if before is None:
    outputs.check_empty(out, name, _KIND, remedy=remedy)
  with files.locked(out, name=name, remedy=remedy):
    before = before or {}
    _write_manifest(out, before)  # so that a report that is killed is known as one
    yield before


def _write_all(out: pathlib.Path, texts: Mapping[str, str],
               figure_files: Sequence[str], before: Mapping[str, str]) -> None:
  """Writes the files, then removes those that only an earlier report had.

  What somebody has changed since stays.
  """
  ours = {name: hashlib.sha256(text.encode()).hexdigest()
          for name, text in texts.items()}
  ours |= {name: files.digest(out / name) for name in figure_files}
  _write_manifest(out, {**before, **ours})
  for name, text in texts.items():
    _write_text(out / name, text)
  own = re.compile(rf'({figures.FOLDER}/)?\w[\w.-]*')
  for name, digest in before.items():
    if name not in ours and own.fullmatch(name):
      with contextlib.suppress(OSError, errors.Unusable):  # gone, or none of ours
        if files.digest(out / name) == digest:
          (out / name).unlink()
  _write_manifest(out, ours)


def _write_manifest(out: pathlib.Path, written: Mapping[str, str]) -> None:
  files.write_json(out / outputs.MANIFEST, {
      'kind': _KIND, 'files': dict(sorted(written.items()))})


def _write_text(path: pathlib.Path, text: str) -> None:
  with files.replacing(path) as file:
    file.write(text.encode())
