"""The attention gallery of report.html: photographs, maps, outlines and decisions.

  found = gallery.of_group(group, data_dir, budget=4_000_000)
  json.dumps(found.content)

Everything is small enough to lie in the page: a photograph as JPEG, a map as its own
few cells, which the page enlarges and colours, an outline as a path.
"""

import base64
from collections.abc import Mapping
from collections.abc import Sequence
import io
import pathlib
from typing import Any
from typing import NamedTuple

import contourpy
import numpy as np
from PIL import Image

from attnmel_jax.data import storage
from attnmel_jax.evaluation import attention_maps
from attnmel_jax.report import groups
from attnmel_jax.report import names
from attnmel_jax.report.figures import attention_overlays
from attnmel_jax.report.figures import curve_values

RULE = ('First those that most systems get wrong, then by their ids, until the page '
        'is full.')

_LARGEST = 256  # side of a photograph, in pixels
_QUALITY = 80   # of JPEG
# An outline has about so many points for the side of an image.
_OUTLINE = 64


class Kind(NamedTuple):
  """A choice of images by how a system decided; see `decision_codes`."""

  title: str
  codes: tuple[int, ...]


def kinds(class_names: Sequence[str]) -> list[Kind]:
  """All choices for a task, the first of everything."""
  shown = [names.class_name(name) for name in class_names]
  number = len(shown)
  right, wrong = tuple(range(number)), tuple(range(number, 2 * number))
  if number == 2:
    apart = [Kind(f'missed {shown[1]}', (3,)), Kind('false alarm', (2,)),
             Kind(f'found {shown[1]}', (1,)), Kind(f'rightly {shown[0]}', (0,))]
  else:
    apart = [Kind(f'misclassified {name}', (number + k,))
             for k, name in enumerate(shown)] + [Kind('rightly classified', right)]
  return [Kind('all images', right + wrong), Kind('all errors', wrong), *apart]


def decision_codes(labels: np.ndarray, decided: np.ndarray, num_classes: int
                   ) -> np.ndarray:
  """The true class k where it was found, K + k where it was not: int [N]."""
  return labels + num_classes * (labels != decided)


class Gallery(NamedTuple):
  """One group's part of the gallery."""

  title: str
  content: dict[str, Any]  # for JSON
  total: int               # images that the systems were scored with and have maps
  notes: list[str]         # a line for each system that is left out

  @property
  def shown(self) -> int:
    """Number of images in the page."""
    return len(self.content['images'])


class _System(NamedTuple):
  """Maps and decisions of a system on the same N images."""

  label: str
  which: str
  threshold: float | None
  codes: np.ndarray               # int [N]
  decided: np.ndarray             # int [N]
  probabilities: np.ndarray       # [N, K]
  maps: Mapping[str, np.ndarray]  # [N, h, w]
  jaccard: Mapping[str, np.ndarray]  # [N] by map, nan where not annotated


def of_group(group: groups.Group, data_dir: pathlib.Path | None, *, budget: int
             ) -> Gallery | None:
  """The gallery of a group; None where no system has maps.

  Args:
    group: of runs.
    data_dir: folder of prepared data to look in before that of the runs.
    budget: bytes of JSON that the images may take, about.

  Raises:
    UserError: the photographs are not found.
  """
  found, notes = attention_overlays.read(group)
  if not found:
    return None
  prepared, rows = attention_overlays.photographs(found[0], group.split, data_dir)
  kept = np.isin(found[0].ids, found[0].one.table.ids)  # without the unscored image
  systems = [_system(one, kept, group) for one in found]
  labels = _aligned(found[0], kept, found[0].one.table.labels)
  errors = sum((one.codes >= len(group.class_names)).astype(int) for one in systems)
  order = np.lexsort((found[0].ids[kept], -errors))
  size = found[0].one.run.config['image_size']
  images, chosen = [], []
  for row in order:
    image = _image(prepared, int(rows[kept][row]), int(labels[row]), size)
    own = [_encode(values[row]) for one in systems for values in one.maps.values()]
    budget -= sum(map(len, [image['photo'], image['outline'], *own])) + 200
    if budget < 0 and images:
      break
    images.append(image)
    chosen.append(row)
  # In the order of their ids they are found again.
  by_id = np.argsort([image['id'] for image in images], kind='stable')
  chosen = np.array(chosen)[by_id]
  shown = [names.class_name(name) for name in group.class_names]
  binary = len(shown) == 2
  title = (f'{group.heading}, '
           + (f'{shown[1]} against {shown[0]}' if binary else f'{len(shown)} classes'))
  content = {
      'title': title, 'side': size, 'classes': shown,
      'kinds': [kind._asdict() for kind in kinds(group.class_names)],
      'images': [images[i] for i in by_id],
      'systems': [_content(one, chosen) for one in systems]}
  return Gallery(title, content, int(kept.sum()), notes)


def _aligned(maps: attention_overlays.Maps, kept: np.ndarray, values: np.ndarray
             ) -> np.ndarray:
  """Rows of a run's table in the order of the ids of its maps."""
  ids = maps.one.table.ids
  order = np.argsort(ids)
  return values[order[np.searchsorted(ids, maps.ids[kept], sorter=order)]]


def _system(maps: attention_overlays.Maps, kept: np.ndarray, group: groups.Group
            ) -> _System:
  one = maps.one
  labels, decided, probabilities = (_aligned(maps, kept, values) for values in (
      one.table.labels, curve_values.predicted(one), one.table.probabilities))
  scored = one.network.images.scores
  return _System(
      maps.label, one.label, one.threshold,
      decision_codes(labels, decided, len(group.class_names)), decided, probabilities,
      {name: values[kept] for name, values in maps.maps.items()},
      {name: _aligned(maps, kept, scored[f'jaccard_{name}']) for name in maps.maps
       if f'jaccard_{name}' in scored})


def _content(one: _System, chosen: np.ndarray) -> dict[str, Any]:
  """A system's part of the JSON."""
  maps = []
  for name, values in one.maps.items():
    scores = one.jaccard.get(name, np.full(len(values), np.nan))[chosen]
    maps.append({
        'name': names.map_name(name), 'height': values.shape[1],
        'width': values.shape[2], 'values': [_encode(values[row]) for row in chosen],
        'jaccard': [None if np.isnan(score) else round(float(score), 3)
                    for score in scores]})
  threshold = one.threshold
  if threshold is not None:
    threshold = None if np.isnan(threshold) else round(float(threshold), 4)
  return {'name': one.label, 'which': one.which, 'threshold': threshold,
          'codes': one.codes[chosen].tolist(), 'decided': one.decided[chosen].tolist(),
          'probabilities': one.probabilities[chosen].round(4).tolist(), 'maps': maps}


def _encode(values: np.ndarray) -> str:
  """A map [h, w] rescaled to 0 ... 255, row by row, in base64."""
  cells = np.rint(255 * attention_maps.rescale(values[None])[0]).astype(np.uint8)
  return base64.b64encode(cells.tobytes()).decode()


def _image(prepared: storage.PreparedSplit, row: int, label: int, size: int
           ) -> dict[str, Any]:
  """An image's part of the JSON: what the network saw of it."""
  loaded = prepared.load(row)
  annotated = bool(prepared.has_lesion[row])
  mask = attention_maps.central(loaded['lesion'][None], size)[0]
  return {'id': str(prepared.ids[row]), 'label': label, 'annotated': annotated,
          'photo': photograph(attention_maps.central(loaded['image'][None], size)[0]),
          'outline': outline(mask) if annotated else ''}


def photograph(image: np.ndarray) -> str:
  """uint8 [S, S, 3] as a data URI, made smaller where it is larger than a thumbnail."""
  picture = Image.fromarray(np.ascontiguousarray(image))
  if picture.width > _LARGEST:
    picture = picture.resize((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
  file = io.BytesIO()
  picture.save(file, 'JPEG', quality=_QUALITY, optimize=True)
  return 'data:image/jpeg;base64,' + base64.b64encode(file.getvalue()).decode()


def outline(mask: np.ndarray) -> str:
  """The border of a mask [S, S], 128 and above lesion, as the data of an SVG path.

  In half pixels: the image is 2 S wide. Empty where nothing is marked.
  """
  # The margin of background closes the outline of a lesion that is cut off.
  inside = np.pad((mask > 127).astype(float), 1)
  step = max(1, len(mask) // _OUTLINE)
  parts = []
  for line in contourpy.contour_generator(z=inside).lines(0.5):
    # Pixel i of the padded mask has its centre at i - 1/2 of the image.
    points = np.rint(2 * line - 1).astype(int)
    kept = points[:-1][::step] if len(points) > 4 * step else points[:-1]
    parts.append('M' + 'L'.join(f'{x} {y}' for x, y in kept) + 'Z')
  return ''.join(parts)
