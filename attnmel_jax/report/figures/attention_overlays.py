"""Figures 3.3 and 3.5: attention maps of all systems over the same photographs."""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
from typing import NamedTuple

import numpy as np

from attnmel_jax import errors
from attnmel_jax.data import storage
from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import overlays
from attnmel_jax.evaluation import predict
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.experiments import classification
from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.figures import prepared_data

_NUMBERS = {'isic2017': '3.3', 'isic2018': '3.5'}
_ROWS = {'cam': 'CAM'}
# Points of the font for an inch of width: the picture is shown at the page's width,
# whatever the number of its columns.
_SMALLEST, _LARGEST = overlays.FONT, 12.0


class Maps(NamedTuple):
  """Attention maps of one run of a system."""

  label: str
  one: groups.Member
  ids: np.ndarray               # str [N]
  maps: dict[str, np.ndarray]   # [N, h, w] by name


def write(all_groups: Sequence[groups.Group], folder: pathlib.Path,
          data_dir: pathlib.Path | None) -> list[plotting.Entry]:
  """Writes a figure for each group that has maps."""
  entries, drawn = [], set()
  for group in all_groups:
    number = _NUMBERS.get(group.settings['dataset'])
    title = f'Attention maps: {group.title}'
    if number:
      title = f'Figure {number}: a' + title[1:]
    found, notes = read(group)
    if not found:
      continue
    drawn.add(number)
    try:
      entries.append(_write(group, found, title, folder, data_dir))
    except errors.UserError as error:
      entries.append(plotting.Entry(title, f'Not drawn: {error}.'))
    entries += [plotting.Entry('', f'{note}.') for note in notes]
  for dataset, number in _NUMBERS.items():
    if number not in drawn:
      entries.append(plotting.Entry(
          f'Figure {number}: attention maps',
          f'No run of {names.dataset_name(dataset)} has attention maps.'))
  return entries


def read(group: groups.Group) -> tuple[list[Maps], list[str]]:
  """Maps of the first seed and fold of each system, and what is left out."""
  name = classification.FILE_NAMES[group.split]
  found, notes = [], []
  for label, runs in group.systems.items():
    path = runs[0].scores.folder / 'attention' / f'{name}.npz'
    if not path.exists():
      continue  # a system without gates or CAM
    try:
      ids, maps = prediction_files.read_attention(path)
    except errors.UserError as error:
      notes.append(f'{label} is left out: {error}')
      continue
    maps.pop(predict.POSITIVE_CAM, None)
    one = Maps(label, runs[0], ids, maps)
    if found and not np.array_equal(one.ids, found[0].ids):
      notes.append(f'{label} is left out: {path} holds maps of other images than that '
                   f'of {found[0].label}')
    elif maps:
      found.append(one)
  return found, notes


def _write(group: groups.Group, found: Sequence[Maps], title: str,
           folder: pathlib.Path, data_dir: pathlib.Path | None) -> plotting.Entry:
  first = found[0].one
  prepared, rows = photographs(found[0], group.split, data_dir)
  chosen = prepared_data.choose(prepared.labels[rows], prepared.has_lesion[rows])
  maps = {f'{one.label}\n{_ROWS.get(name, name)}': values[chosen]
          for one in found for name, values in one.maps.items()}
  stem = ('figure_' + _NUMBERS.get(group.settings['dataset'], 'attention')
          + f'_{group.stem}').replace('.', '_')
  heading = f'{group.title}, {group.split} images'
  figure = overlays.attention_grid(
      **pictures(prepared, rows[chosen], first.run.config['image_size']),
      maps=maps, heading=heading, font=font(len(chosen)))
  plotting.save(figure, folder, stem)
  return plotting.Entry(
      title, 'Maps upsampled and rescaled as they are before the Jaccard index '
      'thresholds them; the line is the annotated lesion. CAM is the class activation '
      f'map of the predicted class. {prepared_data.RULE} Of each system {first.label}.',
      stem)


def photographs(maps: Maps, split: str, data_dir: pathlib.Path | None
                ) -> tuple[storage.PreparedSplit, np.ndarray]:
  """The prepared split behind maps, and the row in it of each of their images.

  Raises:
    UserError: it is not found, or holds other images.
  """
  run = maps.one.run
  prepared = prepared_data.open_photographs(
      maps.one, split, prepared_data.data_dirs([run], data_dir))
  rows = np.searchsorted(prepared.ids, maps.ids)
  if not np.array_equal(prepared.ids[np.minimum(rows, len(prepared) - 1)], maps.ids):
    raise errors.UserError(f'{prepared.path} does not hold the images of {run.folder}')
  return prepared, rows


def font(columns: int) -> float:
  """Size of the text in points, larger where the page has to shrink the picture."""
  width = columns * overlays.COLUMN_INCHES
  return float(np.clip(overlays.FONT * width / plotting.PAGE_INCHES,
                       _SMALLEST, _LARGEST))


def pictures(prepared: storage.PreparedSplit, rows: np.ndarray, image_size: int
             ) -> Mapping[str, np.ndarray | list[str]]:
  """`images`, `lesion`, `has_lesion` and `titles` of rows, as the network saw them."""
  loaded = [prepared.load(int(row)) for row in rows]
  titles = [f'{prepared.ids[row]}\n'
            f'{names.class_name(prepared.class_names[prepared.labels[row]])}'
            if prepared.class_names else str(prepared.ids[row]) for row in rows]

  def seen(name):
    return attention_maps.central(np.stack([one[name] for one in loaded]), image_size)

  return {'images': seen('image'), 'lesion': seen('lesion'),
          'has_lesion': prepared.has_lesion[rows], 'titles': titles}
