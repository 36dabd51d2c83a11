"""Prepared data sets: TFDS folders of PNG records, written once and read often.

  builders.prepare('isic2017', source=folder, data_dir=data_dir,
                   crop_ratio=0.8, resize_size=256)
  split = builders.open_split('isic2017', 'train', data_dir=data_dir,
                              crop_ratio=0.8, resize_size=256)
  split.load(0)['image']   # uint8 [256, 256, 3]

A split is a TFDS data set of its own, in `<data_dir>/<dataset>/<split>-crop<ratio>-
side<side>-<resampling>/<version>`, so that a test set can arrive later.
"""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import dataclasses
import io
import os
import pathlib

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from attnmel_jax import errors
from attnmel_jax.data import archives
from attnmel_jax.data import catalogue
from attnmel_jax.data import folder
from attnmel_jax.data import generated as generated_lib
from attnmel_jax.data import sources
from attnmel_jax.data import staging
from attnmel_jax.data import storage
from attnmel_jax.data import writing

_MAPS = ('image', 'lesion', 'dermo')
_LISTED = 20          # bad files in the message; the text file has all


def resolve_data_dir(text: str) -> pathlib.Path:
  """The folder of prepared data: `text`, else $ATTNMEL_DATA, else ~/attnmel_data."""
  text = text or os.environ.get('ATTNMEL_DATA', '') or '~/attnmel_data'
  return errors.expanded(text).absolute()


def prepare(dataset: str, *, source: pathlib.Path, data_dir: pathlib.Path,
            crop_ratio: float, resize_size: int) -> dict[str, int]:
  """Archives in `source` -> prepared splits in `data_dir`; prints what it does.

  All or nothing: where a file is bad, no split of this call is kept. A split
  that is prepared from the same content is left as it is.

  Args:
    dataset: a name in catalogue.DATASETS.
    source: folder of the official zips, or of the folders they unpack to.
    data_dir: folder of prepared data sets.
    crop_ratio: side of the central square over the shorter side, in (0, 1].
    resize_size: side of the stored images in pixels.

  Returns:
    Prepared split -> number of images, of every split whose archives are there.

  Raises:
    UserError: no archive, bad files (named in the message), archives that
      contradict a prepared split, or a folder that cannot be written.
  """
  errors.check_choice('dataset', dataset, catalogue.DATASETS)
  geometry = _geometry(crop_ratio, resize_size)
  spec = catalogue.DATASETS[dataset]
  archives.check_source(spec, source)
  with archives.Reader() as reader:

    def read(prepared):
      files = sources.read_splits(spec, source, reader, prepared=prepared)
      return spec, files

    return _prepare(spec.name, read, data_dir, geometry, reader)


def prepare_folder(
    source: pathlib.Path, *, table: pathlib.Path, classes: Sequence[str],
    mask_kind: str, data_dir: pathlib.Path, crop_ratio: float, resize_size: int,
) -> dict[str, int]:
  """Photographs that a table lists -> prepared splits of the data set 'folder'.

  Args:
    source: the folder that the paths in the table start from.
    table: CSV with the columns of `folder.read_splits`.
    classes: names of the classes in the order of their labels; () sorts those
      that the table holds.
    mask_kind: one of folder.MASK_KINDS.
    data_dir: as in `prepare`, likewise what follows, what is returned and raised.
    crop_ratio: likewise.
    resize_size: likewise.
  """
  geometry = _geometry(crop_ratio, resize_size)
  with archives.Reader() as reader:
    return _prepare(
        catalogue.FOLDER,
        lambda prepared: folder.read_splits(
            source, table=table, classes=classes, mask_kind=mask_kind),
        data_dir, geometry, reader)


def _prepare(
    name: str,
    read: Callable[[Sequence[str]],
                   tuple[archives.Schema, dict[str, archives.SplitFiles]]],
    data_dir: pathlib.Path, geometry: storage.Geometry, reader: archives.Reader,
) -> dict[str, int]:
  """Reads the files of all splits, then writes those that changed, or none."""
  root = data_dir / name
  with staging.folder(root) as stage:
    prepared = available_splits(
        name, data_dir=data_dir, crop_ratio=geometry.crop_ratio,
        resize_size=geometry.resize_size)
    schema, splits = read(prepared)
    problems = [note for files in splits.values() for note in files.bad]
    problems += sources.repeated_ids(splits)
    if name == catalogue.FOLDER:
      problems += sources.left_over(splits, {
          split: geometry.folder(name, split, data_dir) for split in prepared})
    wanted = [files for split, files in splits.items() if sources.needs_writing(
        files, geometry.folder(name, split, data_dir))]
    for files in wanted:
      problems += writing.write_split(files, schema, geometry, stage, reader.read)
    if problems:
      _refuse(problems, root / 'bad_files.txt')
    for files in wanted:
      staging.publish(geometry.folder(name, files.split, stage),
                      geometry.folder(name, files.split, data_dir))
    (root / 'bad_files.txt').unlink(missing_ok=True)
  return {split: len(files.examples) for split, files in splits.items()}


def _geometry(crop_ratio: float, resize_size: int) -> storage.Geometry:
  if not 0 < crop_ratio <= 1:
    raise errors.UserError(f'crop_ratio={crop_ratio} is not in (0, 1]; '
                           'it is a share of the shorter image side')
  if not 1 <= resize_size <= 4096:
    raise errors.UserError(f'resize_size={resize_size} is not in [1, 4096] pixels')
  return storage.Geometry(crop_ratio, resize_size)


def _refuse(problems: list[str], report: pathlib.Path) -> None:
  """Raises UserError that names the bad files; the full list goes to `report`."""
  problems = sorted({' '.join(note.split()) for note in problems})
  rest = len(problems) - _LISTED
  more = f'; and {rest} more' if rest > 0 else ''
  noun = '1 bad file' if len(problems) == 1 else f'{len(problems)} bad files'
  with contextlib.suppress(OSError):  # a full disk must not hide the message
    report.write_text('\n'.join(problems) + '\n', 'utf-8')
    more += f'; the full list is in {report}'
  raise errors.UserError(f'{noun}: {"; ".join(problems[:_LISTED])}{more}; mend or '
                         'remove them and prepare again')


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedSplit:
  """One split, opened for reading. Rows are in the order of `ids`."""

  dataset: str
  split: str
  path: pathlib.Path
  side: int
  class_names: tuple[str, ...]       # label = index; () without labels
  dermo_attributes: tuple[str, ...]  # bit order of the `dermo` map
  ids: np.ndarray                    # str, sorted
  labels: np.ndarray                 # int32; -1 without labels
  groups: np.ndarray                 # str; the id where no lesion ids exist
  has_lesion: np.ndarray             # bool
  has_dermo: np.ndarray              # bool
  fingerprint: str  # equal if and only if ids, labels, flags and pixels are
  synthetic: bool   # some were drawn: no result on them says anything of patients
  records: Sequence[dict] = dataclasses.field(repr=False)  # maps still encoded
  generated: generated_lib.Maps | None = None  # of a U-Net; see generated.attach

  def __len__(self) -> int:
    return len(self.ids)

  @property
  def has_generated(self) -> np.ndarray:
    """bool [N], like has_lesion: all of them, or none."""
    return np.full(len(self), self.generated is not None)

  def load(self, row: int) -> dict[str, np.ndarray]:
    """Decodes a row; may be called from several threads.

    Returns:
      `image` uint8 RGB [S, S, 3], `lesion` uint8 [S, S] of 0 and 255
      (any value between, where it is a probability), `dermo`
      uint8 [S, S], bit k set where attribute k is; zeros where not annotated. Where
      they are attached, `generated` uint8 [S, S], 255 for certain.

    Raises:
      UserError: the files are damaged.
    """
    try:
      record = self.records[row]
      # PNG alone: Pillow would start Ghostscript for PostScript in a foreign folder.
      arrays = {name: np.asarray(Image.open(io.BytesIO(record[name]), formats=('PNG',)))
                for name in _MAPS}
      _check_shapes(arrays, self.side)
    except Exception as error:  # array_record raises whatever it likes
      raise storage.damaged(self.path, f'{self.ids[row]}: {error}') from error
    indexed = {'label': self.labels, 'has_lesion': self.has_lesion,
               'has_dermo': self.has_dermo}
    if record['id'].decode() != self.ids[row] or any(
        record[name] != values[row] for name, values in indexed.items()):
      raise storage.damaged(
          self.path, f'{self.ids[row]}: its record and the index disagree')
    if self.generated is not None:
      arrays['generated'] = self.generated.load(row)
    return arrays


def open_split(dataset: str, split: str, *, data_dir: pathlib.Path,
               crop_ratio: float, resize_size: int) -> PreparedSplit:
  """Opens a prepared split; no image is decoded.

  Raises:
    UserError: not prepared (with the command that does), damaged, or a folder
      that names code outside TFDS.
  """
  errors.check_choice('split', split, catalogue.splits(dataset))
  geometry = storage.Geometry(crop_ratio, resize_size)
  path = geometry.folder(dataset, split, data_dir)
  if not path.exists():
    raise errors.UserError(
        f'split {split!r} of {dataset} is not prepared in {data_dir} with '
        f'crop_ratio={crop_ratio} and resize_size={resize_size}; run python '
        f'launch/prepare.py --dataset={dataset} --source=DIR --data_dir={data_dir} '
        f'--crop_ratio={crop_ratio} --resize_size={resize_size}')
  storage.check_features(path)
  index = storage.read_index(path)
  try:
    storage.check_index(index)
    source = tfds.builder_from_directory(path).as_data_source(
        split, decoders={name: tfds.decode.SkipDecoding() for name in _MAPS})
    opened = PreparedSplit(
        dataset=dataset, split=split, path=path, side=resize_size, records=source,
        class_names=tuple(index['class_names']),
        dermo_attributes=tuple(index['dermo_attributes']),
        ids=np.array(index['ids']), labels=np.array(index['labels'], np.int32),
        groups=np.array(index['groups']),
        has_lesion=np.array(index['has_lesion'], bool),
        has_dermo=np.array(index['has_dermo'], bool),
        fingerprint=index['fingerprint'], synthetic=index['synthetic'])
  except Exception as error:  # TFDS raises whatever it likes
    raise storage.damaged(path, error) from error
  if len(source) != len(opened):
    raise storage.damaged(path, f'{len(source)} records, {len(opened)} ids')
  _check_index(opened)
  return opened


def _check_shapes(arrays: dict[str, np.ndarray], side: int) -> None:
  for name, array in arrays.items():
    shape = (side, side, 3) if name == 'image' else (side, side)
    if array.shape != shape or array.dtype != np.uint8:
      raise ValueError(f'{name} is {array.dtype} {array.shape}, not uint8 {shape}')


def _check_index(split: PreparedSplit) -> None:
  """Raises UserError where the columns do not fit each other."""
  for name in ('ids', 'labels', 'groups', 'has_lesion', 'has_dermo'):
    if getattr(split, name).shape != (len(split),):
      raise storage.damaged(split.path, f'{name} are not one for each image')
  if not -1 <= split.labels.min() <= split.labels.max() < max(
      len(split.class_names), 1):
    raise storage.damaged(split.path, f'labels are from {split.labels.min()} to '
                          f'{split.labels.max()}, of {len(split.class_names)} classes')


def available_splits(dataset: str, *, data_dir: pathlib.Path, crop_ratio: float,
                     resize_size: int) -> tuple[str, ...]:
  """Names of the prepared splits, in the data set's order."""
  geometry = storage.Geometry(crop_ratio, resize_size)
  return tuple(split for split in catalogue.splits(dataset)
               if geometry.folder(dataset, split, data_dir).exists())
