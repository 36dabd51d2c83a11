"""Photographs -> a table of probabilities, a picture of each, and a page.

  predictions.csv   `image` and a column a class: the ISIC submission form
  index.html        what was predicted, with the pictures
  overlays/         <image>.png: photograph and heat maps
  predictions.json  which runs and options; written first, and `finished` last

Table and page are written once all is done: where they are, they are whole. Started
again, everything is made anew.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import itertools
import pathlib
from typing import Any

import jax
import numpy as np

from attnmel_jax import files
from attnmel_jax import outputs
from attnmel_jax import progress
from attnmel_jax import threads
from attnmel_jax.data import decode
from attnmel_jax.data import photographs as photographs_lib
from attnmel_jax.share import ensemble
from attnmel_jax.share import predictions_page
from attnmel_jax.share import trained

TABLE, PAGE, OVERLAYS = 'predictions.csv', 'index.html', 'overlays'
RECORD = 'predictions.json'
_LONGEST = 220  # bytes of a file's name: of 255, as it is longer while being written


@dataclasses.dataclass(frozen=True)
class Result:
  """What became of the photographs."""

  rows: list[predictions_page.Row]  # of those that could be read
  threshold: float | None  # see `ensemble.threshold`
  unreadable: list[tuple[str, str]]  # path and reason


def predict(runs: Sequence[trained.TrainedRun],
            photographs: Sequence[photographs_lib.Photograph], out: pathlib.Path, *,
            calibrated: bool, overlays: bool,
            passed_over: Sequence[str] = ()) -> Result:
  """Predicts every photograph and writes `out`, in memory for a few of them at a time.

  Args:
    runs: one, or the members of an ensemble.
    photographs: at least one.
    out: a new or empty folder, or one that an earlier call wrote; it changes when all
      is done.
    calibrated: see `ensemble.make_predictor`.
    overlays: draw the pictures.
    passed_over: files that are no photographs, for the record.

  Raises:
    UserError: `out` cannot be written or holds anything else, a run has no
      temperature, or a probability is not finite.
  """
  predictor = ensemble.make_predictor(runs, calibrated=calibrated)
  settings = describe(runs, calibrated=calibrated)
  with outputs.exchanged(out, photographs_lib.KIND) as staged:
    return _write(predictor, runs, photographs, staged, settings, overlays, passed_over)


def _write(predictor, runs, photographs, out: pathlib.Path, settings, overlays: bool,
           passed_over: Sequence[str]) -> Result:
  """Predicts into the empty folder `out`; see `predict`."""
  unreadable: list[tuple[str, str]] = []

  def finish(item: _Item) -> predictions_page.Row:
    row = predictions_page.Row(
        item.photograph.name, photographs_lib.printable(item.photograph.path),
        f'{OVERLAYS}/{_file_name(item.photograph.name)}.png' if overlays else '',
        tuple(item.probabilities.tolist()))
    if overlays:
      best = int(item.probabilities.argmax())
      caption = (f'{runs[0].class_names[best]}, '
                 f'probability {item.probabilities[best]:.3f}')
      predictions_page.draw(item.seen, item.maps, out / row.overlay, title=row.name,
                            caption=caption)
    return row

  rows = []
  with contextlib.ExitStack() as stack:
    stack.enter_context(decode.strict_warnings())
    bar = stack.enter_context(contextlib.closing(progress.Progress(
        'predict', len(photographs), unit='photographs')))
    items = stack.enter_context(contextlib.closing(
        _predictions(predictor, runs, photographs, unreadable)))
    done = stack.enter_context(contextlib.closing(threads.in_order(finish, items)))
    for row in done:
      rows.append(row)
      bar.advance(1)
    bar.advance(len(unreadable))
  _write_table(out / TABLE, rows, runs[0].class_names)
  predictions_page.write(out / PAGE, rows, unreadable, runs[0].class_names, settings)
  files.write_json(out / RECORD, {
      **settings, 'images': len(rows),
      'passed_over': list(passed_over),
      'unreadable': [{'file': path, 'reason': why} for path, why in unreadable]})
  return Result(rows, settings['threshold'], unreadable)


def _file_name(name: str) -> str:
  """The name, or where a file system would not take it, its beginning and a digest."""
  if all(len(part.encode()) <= _LONGEST for part in name.split('/')):
    return name
  digest = hashlib.sha256(name.encode()).hexdigest()[:16]
  return f'{name.rpartition("/")[2].encode()[:100].decode(errors="ignore")}-{digest}'


def describe(runs: Sequence[trained.TrainedRun], *, calibrated: bool
             ) -> dict[str, Any]:
  """What a reader of the results has to know, as JSON can hold it."""
  members = []
  for run in runs:
    fields = {name: run.config[name] for name in (
        'model', 'crop_ratio', 'resize_size', 'image_size', 'normalisation', 'tta',
        'roi', 'dataset')}
    members.append({'run': str(run.folder.resolve()), **fields,
                    'step': run.summary['best']['step'],
                    'temperature': run.summary['temperature']})
  return {'class_names': list(runs[0].class_names), 'calibrated': calibrated,
          'threshold': ensemble.threshold(runs, calibrated=calibrated),
          'synthetic': any(run.summary['synthetic'] for run in runs),
          'shared_maps': sum(ensemble.view(run) == ensemble.view(runs[0])
                             for run in runs), 'runs': members}



@dataclasses.dataclass(frozen=True)
class _Item:
  """A photograph's predictions, before they are drawn."""

  photograph: photographs_lib.Photograph
  probabilities: np.ndarray    # [K]
  seen: np.ndarray             # uint8 [s, s, 3]
  maps: dict[str, np.ndarray]  # [h, w]


def batch_size(runs: Sequence[trained.TrainedRun], count: int) -> int:
  """That of the runs, or less where there are fewer photographs; devices divide it."""
  devices = jax.local_device_count()
  wanted = min(count, *(run.config['batch_size'] for run in runs))
  return -(-wanted // devices) * devices


def _predictions(predictor, runs: Sequence[trained.TrainedRun],
                 photographs: Sequence[photographs_lib.Photograph],
                 unreadable: list[tuple[str, str]]) -> Iterator[_Item]:
  """Reads ahead on all cores and predicts batch by batch; notes what is unreadable."""
  geometries = list(dict.fromkeys(run.geometry for run in runs))
  size = batch_size(runs, len(photographs))
  decoded = photographs_lib.read_all(photographs, geometries)
  with contextlib.closing(decoded):
    for batch in _batches(_readable(decoded, unreadable), size):
      padded = {}
      for geometry in geometries:
        squares = np.zeros((size, geometry.resize_size, geometry.resize_size, 3),
                           np.uint8)
        squares[:len(batch)] = [item.squares[geometry] for item in batch]
        padded[geometry] = squares
      predicted = predictor(padded)
      for i, item in enumerate(batch):
        yield _Item(item.photograph, predicted.probabilities[i], predicted.seen[i],
                    {name: values[i] for name, values in predicted.maps.items()})


def _readable(decoded: Iterable[photographs_lib.Decoded],
              unreadable: list[tuple[str, str]]) -> Iterator[photographs_lib.Decoded]:
  for item in decoded:
    if item.problem:
      unreadable.append((photographs_lib.printable(item.photograph.path), item.problem))
    else:
      yield item


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
  """Lists of `size` items, the last one of fewer."""
  items = iter(items)
  while batch := list(itertools.islice(items, size)):
    yield batch


def _write_table(path: pathlib.Path, rows: Sequence[predictions_page.Row],
                 class_names: Sequence[str]) -> None:
  """`image`, then a probability a class, which come back as the same float64."""
  text = files.csv_text([['image', *class_names], *(
      [row.name, *row.probabilities] for row in rows)])
  with files.replacing(path) as file:
    file.write(text.encode())
