"""Synthetic dermoscopy as official archives: for demos, tests and bias studies.

  generate.write_archives(
      pathlib.Path('phantom'), year=2017,
      counts={'train': 400, 'validation': 100, 'test': 200}, size=300, seed=0,
      artefact_bias={'train': {'sticker': 0.9}}, workers=2)

What a lesion looks like stands in `diagnoses`, how it is drawn in
`drawing`; here it is decided which cases there are and, by year, which
archives they go into.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import signal
import types

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import outputs
from attnmel_jax import progress
from attnmel_jax.phantom import artefacts
from attnmel_jax.phantom import diagnoses
from attnmel_jax.phantom import drawing
from attnmel_jax.phantom import isic2016
from attnmel_jax.phantom import isic2017
from attnmel_jax.phantom import isic2018
from attnmel_jax.phantom import zipping

SPLITS = ('train', 'validation', 'test', 'segmentation')
# A year is a module with CLASSES (rows of diagnoses.DIAGNOSES),
# OFFICIAL_COUNTS of its splits, LEAST, GROUPED, archive_names, encode, write_split.
YEARS: dict[int, types.ModuleType] = {
    2016: isic2016, 2017: isic2017, 2018: isic2018}
MARKER = 'PHANTOM.json'
CASES = 'PHANTOM_cases.csv'
VERSION = 2  # of the drawing: raised whenever the same seed draws another picture

_FIRST_ID = 9_000_000   # far above every id that the archive has given out
_MAX_SPLIT = 100_000    # ids of a split
_MIN_SIZE = 48
# Chances of 1, 2, 3 images of a lesion: 1.32 on average; 10,015 of 7,470 in 2018.
_LESION_SIZES = (0.74, 0.2, 0.06)


@dataclasses.dataclass(frozen=True)
class Row:
  """One image of a split."""

  image_id: str
  split: str
  case: drawing.Case
  lesion: str  # its id where several images may show one lesion, else ''


def splits(year: int) -> tuple[str, ...]:
  """The splits that the challenge of a year has.

  Raises:
    UserError: an unknown year.
  """
  errors.check_choice('year', year, YEARS)
  return tuple(YEARS[year].OFFICIAL_COUNTS)


def class_counts(year: int, split: str, total: int) -> dict[str, int]:
  """Images per class in the official proportions, none of them without images.

  Every class that the split has gets the year's least number of images, or an
  equal share where `total` does not reach.

  Raises:
    UserError: an unknown year or split, or fewer images than classes.
  """
  errors.check_choice('split', split, splits(year))
  official = np.array(YEARS[year].OFFICIAL_COUNTS[split])
  classes = tuple(np.array(YEARS[year].CLASSES)[official > 0].tolist())
  official = official[official > 0]
  if total == 0:
    return dict.fromkeys(classes, 0)
  if not len(classes) <= total <= _MAX_SPLIT:
    raise errors.UserError(
        f'{split}={total} images: {len(classes)} (one a class) to {_MAX_SPLIT}, or 0 '
        'to leave the split out')
  least = min(YEARS[year].LEAST, total // len(classes))
  counts = np.maximum(np.round(total * official / official.sum()).astype(int), least)
  counts[np.argmax(counts)] += total - counts.sum()
  return dict(zip(classes, counts.tolist(), strict=True))


def rows(*, year: int, split: str, total: int, size: int, seed: int,
         artefact_bias: Mapping[str, float]) -> list[Row]:
  """The images of a split, in the order of their ids.

  Args:
    year: of the challenge whose classes are drawn.
    split: one that the year has.
    total: number of images.
    size: shorter side in pixels; the longer is 4/3 of it.
    seed: of the whole data set. Neither the bias nor the other splits change
      an image's lesion and skin.
    artefact_bias: artefact -> how strongly it goes with the class in this split; see
      `artefacts.sample`.
  """
  counts = class_counts(year, split, total)
  place = SPLITS.index(split)
  names = np.repeat(list(counts), list(counts.values()))
  np.random.default_rng([seed, place]).shuffle(names)
  firsts = np.arange(total)
  if split in YEARS[year].GROUPED:
    firsts = _first_images(names, np.random.default_rng([seed, place, 0, 3]),
                           least=YEARS[year].LEAST)
  result = []
  for index, diagnosis in enumerate(names.tolist()):
    # A fourth number keeps this stream apart from the drawing's.
    present = artefacts.sample(
        np.random.default_rng([seed, place, index, 1]),
        malignant=diagnoses.DIAGNOSES[diagnosis].malignant, bias=artefact_bias)
    first = int(firsts[index])
    case = drawing.Case(diagnosis, (seed, place, first), size, round(size * 4 / 3),
                        present, view=int(np.sum(firsts[:index] == first)))
    image_id = f'ISIC_{_FIRST_ID + place * _MAX_SPLIT + index}'
    lesion = f'HAM_{_FIRST_ID + first}' if split in YEARS[year].GROUPED else ''
    result.append(Row(image_id, split, case, lesion))
  return result


def _first_images(names: np.ndarray, rng: np.random.Generator, *, least: int
                  ) -> np.ndarray:
  """[N] the first image of each image's lesion; `least` lesions a class or more."""
  firsts = np.arange(len(names))
  for diagnosis in np.unique(names):
    own = np.flatnonzero(names == diagnosis)
    spare = max(len(own) - least, 0)
    position = 0
    while position < len(own):
      further = int(min(rng.choice(len(_LESION_SIZES), p=_LESION_SIZES), spare,
                        len(own) - position - 1))
      firsts[own[position:position + 1 + further]] = own[position]
      spare -= further
      position += 1 + further
  return firsts


def write_archives(out: pathlib.Path, *, year: int, counts: Mapping[str, int],
                   size: int, seed: int, artefact_bias: artefacts.Bias,
                   workers: int) -> dict[str, dict[str, int]]:
  """Draws a data set and writes its official archives into `out`.

  Equal arguments write equal bytes, whatever `workers`. What an interrupted
  call left is completed by the same call; finished archives stay untouched.

  Args:
    out: folder; new, empty, or of an earlier call with the same arguments.
    year: a key of YEARS.
    counts: split -> number of images; 0 leaves a split out.
    size: shorter image side in pixels.
    seed: of all randomness, 0 or more.
    artefact_bias: of each split; see `artefacts.parse_bias`.
    workers: processes that draw; 1 draws in this process.

  Returns:
    split -> class -> number of images.

  Raises:
    UserError: an argument out of range; `out` holds archives that this function
      did not write, or has written with other arguments.
  """
  check(year=year, counts=counts, size=size, seed=seed, artefact_bias=artefact_bias,
        workers=workers)
  totals = {split: counts.get(split, 0) for split in splits(year)}
  parameters = {
      'year': year, 'counts': totals, 'size': size, 'seed': seed,
      'artefact_bias': {split: dict(artefact_bias.get(split, {})) for split in totals},
      'version': VERSION}
  table = {split: rows(year=year, split=split, total=total, size=size, seed=seed,
                       artefact_bias=artefact_bias.get(split, {}))
           for split, total in totals.items() if total}
  try:
    marker = _open_folder(out, parameters, YEARS[year])
    for split, split_rows in table.items():
      _write_split(out, marker, YEARS[year], split, split_rows, workers)
    with files.replacing(out / CASES) as file:
      file.write(_case_table(table).encode())
  except OSError as error:
    raise errors.UserError(f'cannot write to {out}: {error.strerror or error}; choose '
                           'another --out') from error
  return {split: class_counts(year, split, total)
          for split, total in totals.items() if total}


def check(*, year: int, counts: Mapping[str, int], size: int, seed: int,
          artefact_bias: artefacts.Bias, workers: int) -> None:
  """Raises UserError for an argument out of range."""
  for split in counts:
    errors.check_choice('split', split, splits(year))
  if not any(counts.values()):
    raise errors.UserError(f'no images asked for; give {" or ".join(splits(year))}')
  if size < _MIN_SIZE:
    raise errors.UserError(f'size={size} pixels is too small; {_MIN_SIZE} or more')
  if seed < 0:
    raise errors.UserError(f'seed={seed}: choose 0 or more')
  for split, strengths in artefact_bias.items():
    errors.check_choice('artefact_bias', split, splits(year))
    for name in strengths:
      errors.check_choice('artefact_bias', name, artefacts.ARTEFACTS)
  if workers < 1:
    raise errors.UserError(f'workers={workers}: choose 1 or more')


def _open_folder(out: pathlib.Path, parameters: dict, layout) -> dict:
  """Returns the marker of `out`; refuses a folder that is not this phantom's."""
  if out.exists() and not out.is_dir():
    raise errors.UserError(f'{out} is a file; --out names a folder')
  out.mkdir(parents=True, exist_ok=True)
  marker_path = out / MARKER
  if marker_path.is_file():
    try:
      marker = files.read_json(marker_path)
      before = marker['parameters']
      written = marker['archives']
      files.check_types(marker, {'archives': list[str]})
    except (ValueError, KeyError, TypeError) as error:
      raise errors.UserError(f'{marker_path} is damaged; choose another --out, or '
                             'delete the folder if it is synthetic') from error
    differing = [f'{name} ({before.get(name)!r} there, {value!r} asked)'
                 for name, value in parameters.items() if before.get(name) != value]
    if differing:
      raise errors.UserError(
          f'{out} holds a phantom with another {", ".join(differing)}; choose another '
          '--out or delete that folder')
  else:
    marker, written = {
        'note': 'SYNTHETIC DATA. Every image, mask and label listed here was drawn by '
                'a program; none shows a person. Not for clinical use.',
        'parameters': parameters, 'archives': []}, []
  official = {name for split in layout.OFFICIAL_COUNTS
              for name in layout.archive_names(split)}
  foreign = sorted(
      path.name for path in out.iterdir()
      if path.name.upper().startswith(('ISIC', 'ISBI', 'HAM10000'))
      and not (path.name in official and path.name in written))
  if foreign:
    raise errors.UserError(
        f'{out} holds {foreign[0]}, which this command did not write; choose another '
        '--out, so that no real data are overwritten')
  if not written and not marker_path.is_file():
    outputs.check_empty(out, f'--out={out}', 'archives',
                        remedy='name a new or empty folder')
  files.write_json(marker_path, marker)
  return marker


def _write_split(out, marker, layout, split, split_rows, workers) -> None:
  """Writes a split's archives under temporary names, then moves them in place."""
  names = layout.archive_names(split)
  if all((out / name).is_file() for name in names):
    print(f'{split}: {len(split_rows)} images are there already', flush=True)
    return
  folder = out / f'.partial-{split}'
  shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed
  folder.mkdir()
  try:
    with contextlib.closing(_encode(layout, split_rows, workers)) as encoded:
      layout.write_split(folder, split, (
          zipping.Labelled(row.image_id, row.case.diagnosis, row.lesion, content)
          for row, content in zip(split_rows, encoded, strict=True)))
    # Noted before they are moved: an interruption never leaves an archive that
    # the next call would take for a stranger's.
    marker['archives'] = sorted({*marker['archives'], *names})
    files.write_json(out / MARKER, marker)
    for name in names:
      if not (out / name).exists():
        os.replace(folder / name, out / name)
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _encode(layout, split_rows: list[Row], workers: int) -> Iterator[list]:
  """Draws and encodes in `workers` processes; yields in order, with progress."""
  ids = [row.image_id for row in split_rows]
  cases = [row.case for row in split_rows]
  with contextlib.ExitStack() as stack:
    if workers == 1:
      results = map(layout.encode, ids, cases)
    else:
      # Spawned: a forked child would inherit JAX's threads where it is loaded.
      pool = concurrent.futures.ProcessPoolExecutor(
          min(workers, len(cases)), multiprocessing.get_context('spawn'),
          # Ctrl-C is for this process, which then ends the others in order.
          initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
      stack.callback(pool.shutdown, wait=True, cancel_futures=True)
      results = pool.map(layout.encode, ids, cases, chunksize=4)
    bar = stack.enter_context(contextlib.closing(progress.Progress(
        split_rows[0].split, len(cases), unit='images drawn')))
    for result in results:
      bar.advance(1)
      yield result


def read_cases(out: pathlib.Path) -> dict[str, drawing.Case]:
  """Image id -> case of the archives in `out`, so that images can be drawn again.

  A drawing holds what the archives do not: the masks of structures and artefacts.

  Raises:
    UserError: `out` holds no archives of `write_archives`, or another version's.
  """
  try:
    parameters = files.read_json(out / MARKER)['parameters']
    if parameters.pop('version') != VERSION:
      raise ValueError('another version drew it')
    counts = parameters.pop('counts')
    bias = parameters.pop('artefact_bias')
    return {row.image_id: row.case for split, total in counts.items() if total
            for row in rows(split=split, total=total, artefact_bias=bias[split],
                            **parameters)}
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise errors.UserError(f'{out} holds no archives of launch/phantom.py that can be '
                           f'drawn again: {error}; draw them anew') from error


def _case_table(table: Mapping[str, list[Row]]) -> str:
  """What was drawn, image by image: to study the effect of an artefact."""
  lines = [','.join(('image_id', 'split', 'diagnosis', *artefacts.ARTEFACTS))]
  for split_rows in table.values():
    for row in split_rows:
      shown = (str(int(name in row.case.artefacts)) for name in artefacts.ARTEFACTS)
      lines.append(','.join((row.image_id, row.split, row.case.diagnosis, *shown)))
  return '\n'.join(lines) + '\n'
