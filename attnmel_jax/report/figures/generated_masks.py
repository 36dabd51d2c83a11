"""Figure 3.4: lesion masks that a U-Net generated, beside the photographs."""

from collections.abc import Sequence
import pathlib

from matplotlib import colormaps
from matplotlib.figure import Figure
import numpy as np

from attnmel_jax import errors
from attnmel_jax.data import storage
from attnmel_jax.evaluation import attention_scores
from attnmel_jax.evaluation import overlays
from attnmel_jax.report import names
from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import attention_overlays
from attnmel_jax.report.figures import plotting
from attnmel_jax.report.figures import prepared_data

_TITLE = 'Figure 3.4: generated masks'
_COLOUR_MAP = 'gray'


def write(runs: Sequence[run_reader.FinishedRun], folder: pathlib.Path,
          data_dir: pathlib.Path | None) -> list[plotting.Entry]:
  """Writes a figure for each set of generated masks."""
  wanted = {(run.config['dataset'], run.config['generated_masks'])
            for run in runs if run.config['roi'] == 'generated'}
  folders = prepared_data.data_dirs(runs, data_dir)
  found: dict[tuple[str, str], prepared_data.SplitFolder] = {}
  for parent in folders:
    for one in prepared_data.split_folders(parent):
      # Of several splits the training images, which are what the masks are for.
      key = (one.dataset, one.masks)
      if one.masks and (key not in found or (
          one.split == 'train' and found[key].split != 'train')):
        found[key] = one
  entries = []
  for (dataset, name), one in sorted(found.items()):
    try:
      entries.append(_write(one, folder))
    except errors.UserError as error:
      entries.append(plotting.Entry(
          _TITLE, f'{name} of {names.dataset_name(dataset)} is not drawn: {error}.'))
  places = ' or '.join(map(str, folders))
  for dataset, name in sorted(wanted - set(found)):
    entries.append(plotting.Entry(
        _TITLE, f'The masks {name} of {names.dataset_name(dataset)} are not in '
        f'{places}.'))
  return entries or [plotting.Entry(
      _TITLE, 'No run of AttnMel-CNN-Lesion*, and no generated masks in '
      f'{places or "any folder"}.')]


def _write(one: prepared_data.SplitFolder, folder: pathlib.Path
           ) -> plotting.Entry:
  prepared = one.open()
  rows = prepared_data.choose(prepared.labels, prepared.has_lesion)
  maps = prepared_data.generated_maps(one, prepared, rows)
  stem = f'figure_3_4_{one.dataset}_{one.masks}'
  kind = ', synthetic' if prepared.synthetic else ''
  heading = f'{names.dataset_name(one.dataset)}{kind}, {one.split} images'
  plotting.save(figure(prepared, rows, maps, heading), folder, stem)
  return plotting.Entry(
      f'{_TITLE} ({one.masks}, {names.dataset_name(one.dataset)}{kind})',
      'The probability of lesion that a U-Net gave each pixel, and the Jaccard index '
      f'of the map at 0.5 with the annotated mask. {prepared_data.RULE}', stem)


def figure(prepared: storage.PreparedSplit, rows: np.ndarray, maps: np.ndarray,
           heading: str) -> Figure:
  """A column an image: photograph, annotated mask (if any has one), map.

  Args:
    prepared: the split of the images.
    rows: which of its images.
    maps: uint8 [N, S, S] of these rows.
    heading: a line above the whole.
  """
  shown = attention_overlays.pictures(prepared, rows, prepared.side)
  font = attention_overlays.font(len(rows))
  has_lesion, lesion = shown['has_lesion'], shown['lesion']
  masks = ['annotated mask'] if has_lesion.any() else []
  result, axes, bar = overlays.image_grid(
      ['photograph', *masks, 'generated map'], shown['titles'], heading=heading,
      font=font, rows_of_bar=1)
  indices = jaccard(maps, lesion, has_lesion)
  for i in range(len(rows)):
    column = [row[i] for row in axes]
    column[0].imshow(shown['images'][i])
    overlays.mark_lesion(column[:1], lesion[i], annotated=has_lesion[i], font=font)
    for axis, values in zip(column[1:], ([lesion[i]] if masks else []) + [maps[i]],
                            strict=True):
      axis.imshow(values, cmap=_COLOUR_MAP, vmin=0, vmax=255)
    if masks and not has_lesion[i]:
      column[1].set_visible(False)
    if has_lesion[i]:
      column[-1].text(
          0.5, 0.03, f'Jaccard {indices[i]:.2f}', transform=column[-1].transAxes,
          ha='center', va='bottom', fontsize=font, color='white',
          path_effects=overlays.halo(1.8))
  shades = colormaps[_COLOUR_MAP](np.linspace(0, 1, 256))[:, :3]
  overlays.colour_bar(result, bar, shades, 'probability', font=font)
  return result


def jaccard(maps: np.ndarray, lesion: np.ndarray, has_lesion: np.ndarray) -> np.ndarray:
  """Jaccard index of maps at 0.5 (128 of 255) with masks uint8 [N, S, S].

  nan where the image is not annotated.
  """
  indices = attention_scores.jaccard(maps > 127, lesion > 127)
  return np.where(has_lesion, indices, np.nan)
