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
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import warnings

from absl import logging
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from attnmel_jax import errors
from attnmel_jax.data import archives
from attnmel_jax.data import progress
from attnmel_jax.data import records
from attnmel_jax.data import sources
from attnmel_jax.data import staging
from attnmel_jax.data import storage

_SHARD_RECORDS = 256  # TFDS keeps one shard in memory while it writes it
_MAPS = ('image', 'lesion', 'dermo')
_LISTED = 20          # bad files in the message; the text file has all


def resolve_data_dir(text: str) -> pathlib.Path:
  """The folder of prepared data: `text`, else $ATTNMEL_DATA, else ~/attnmel_data."""
  text = text or os.environ.get('ATTNMEL_DATA', '') or '~/attnmel_data'
  return pathlib.Path(text).expanduser().absolute()


class _BadFiles(Exception):
  """Ends the writing of a split; TFDS then removes what it has written."""


class SplitBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Writes one split as a TFDS data set, in the order of the ids.

  Shard by shard, because TFDS's generator builder holds all records in memory
  and, beyond a gigabyte, asks for TensorFlow.
  """

  VERSION = tfds.core.Version(storage.VERSION)

  def __init__(self, files: archives.SplitFiles, *, dataset: archives.Dataset,
               geometry: storage.Geometry, data_dir: pathlib.Path,
               read: Callable[[archives.Member], bytes], bar: progress.Progress):
    self.name = dataset.name
    self.problems: list[str] = []  # 'file: what is wrong'
    self.scaled: list[str] = []    # masks that held 0 and 1
    self._files, self._dataset, self._bar = files, dataset, bar
    self._side = geometry.resize_size
    self._make = functools.partial(
        records.make_record, read=read, attributes=dataset.attributes,
        crop_ratio=geometry.crop_ratio, resize_size=geometry.resize_size)
    self._rows: list[records.Record] = []  # those written, without pixels
    config = tfds.core.BuilderConfig(name=geometry.config_name(files.split))
    super().__init__(data_dir=data_dir, config=config, file_format='array_record')

  def _info(self) -> tfds.core.DatasetInfo:
    grey = (self._side, self._side, 1)
    features = tfds.features.FeaturesDict({
        'id': tfds.features.Text(),
        'image': tfds.features.Image(
            shape=(self._side, self._side, 3), encoding_format='png'),
        'lesion': tfds.features.Image(shape=grey, encoding_format='png'),
        'dermo': tfds.features.Image(shape=grey, encoding_format='png'),
        'label': tfds.features.ClassLabel(names=list(self._dataset.class_names)),
        'has_lesion': np.bool_,
        'has_dermo': np.bool_,
    })
    return tfds.core.DatasetInfo(
        builder=self, features=features, metadata=tfds.core.MetadataDict(),
        disable_shuffling=True)

  def _shard_iterators_per_split(self, dl_manager):
    del dl_manager  # the archives are at hand
    total = len(self._files.examples)
    decoded = records.in_order(self._make, self._files.examples)
    return {self._files.split: [
        functools.partial(self._shard, decoded, range(
            start, min(start + _SHARD_RECORDS, total)))
        for start in range(0, total, _SHARD_RECORDS)]}

  def _shard(self, decoded: Iterator[records.Record], rows: range
             ) -> Iterator[tuple[int, dict]]:
    for row in rows:
      record = next(decoded)
      self._bar.advance(1)
      self.problems += record.bad
      self.scaled += record.scaled
      self._rows.append(dataclasses.replace(record, encoded={}))
      if not self.problems:  # else read on, to report all bad files together
        yield row, {'id': record.id, 'label': record.label,
                    'has_lesion': record.has_lesion, 'has_dermo': record.has_dermo,
                    **record.encoded}
    if len(self._rows) == len(self._files.examples):
      if self.problems:
        raise _BadFiles
      self.info.metadata.update(self._index())

  def _index(self) -> dict:
    """What `open_split` needs without touching a record."""
    sha = hashlib.sha256(
        repr((self._dataset.class_names, self._dataset.attributes)).encode())
    for row in self._rows:
      sha.update(row.digest)
    return {
        'ids': [row.id for row in self._rows],
        'groups': [row.id for row in self._rows],
        'labels': [row.label for row in self._rows],
        'has_lesion': [row.has_lesion for row in self._rows],
        'has_dermo': [row.has_dermo for row in self._rows],
        'class_names': self._dataset.class_names,
        'dermo_attributes': self._dataset.attributes,
        'fingerprint': sha.hexdigest(),
        'synthetic': any(row.synthetic for row in self._rows),
        'archives': dict(self._files.digests),
    }

  def _log_download_bytes(self) -> None:
    pass  # TFDS would print sizes that it does not know

  def _log_download_done(self) -> None:
    pass


def prepare(dataset: str, *, source: pathlib.Path, data_dir: pathlib.Path,
            crop_ratio: float, resize_size: int) -> dict[str, int]:
  """Archives in `source` -> prepared splits in `data_dir`; prints what it does.

  All or nothing: where a file is bad, no split of this call is kept. A split
  that is prepared from the same content is left as it is.

  Args:
    dataset: a name in archives.DATASETS.
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
  errors.check_choice('dataset', dataset, archives.DATASETS)
  _check_geometry(crop_ratio, resize_size)
  spec = archives.DATASETS[dataset]
  geometry = storage.Geometry(crop_ratio, resize_size)
  archives.check_source(spec, source)
  root = data_dir / dataset
  with staging.folder(root) as stage, archives.Reader() as reader:
    splits = sources.read_splits(
        spec, source, reader, prepared=available_splits(
            dataset, data_dir=data_dir, crop_ratio=crop_ratio,
            resize_size=resize_size))
    problems = [note for files in splits.values() for note in files.bad]
    problems += sources.repeated_ids(splits)
    wanted = [
        files for split, files in splits.items() if sources.needs_writing(
            spec, files, geometry.folder(dataset, split, data_dir))]
    for files in wanted:
      problems += _write(files, spec, geometry, stage, reader)
    if problems:
      _refuse(problems, root / 'bad_files.txt')
    for files in wanted:
      staging.publish(geometry.folder(dataset, files.split, stage),
                      geometry.folder(dataset, files.split, data_dir))
    (root / 'bad_files.txt').unlink(missing_ok=True)
  return {split: len(files.examples) for split, files in splits.items()}


def _check_geometry(crop_ratio: float, resize_size: int) -> None:
  if not 0 < crop_ratio <= 1:
    raise errors.UserError(f'crop_ratio={crop_ratio} is not in (0, 1]; '
                           'it is a share of the shorter image side')
  if not 1 <= resize_size <= 4096:
    raise errors.UserError(f'resize_size={resize_size} is not in [1, 4096] pixels')


def _write(files: archives.SplitFiles, spec: archives.Dataset,
           geometry: storage.Geometry, stage: pathlib.Path, reader: archives.Reader
           ) -> list[str]:
  """Writes one split below `stage`; returns what is wrong with its files."""
  if not files.examples:
    images = spec.file('images', files.split)
    return [] if files.bad else [f'{images}: holds no image']
  bar = progress.Progress(files.split, len(files.examples), unit='images')
  with contextlib.closing(bar), _quiet_libraries():
    builder = SplitBuilder(files, dataset=spec, geometry=geometry, data_dir=stage,
                           read=reader.read, bar=bar)
    try:
      builder.download_and_prepare(
          download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except _BadFiles:
      pass
    except (OSError, RuntimeError) as error:  # array_record raises the latter
      raise errors.UserError(
          f'{files.split} cannot be written to {stage.parent} ({error}); free some '
          'space or choose another --data_dir') from error
  if builder.scaled:
    print(f'{files.split}: masks of 0 and 1, scaled to 0 and 255: '
          f'{len(builder.scaled)}, for example {builder.scaled[0]}')
  return builder.problems


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
  """No notes of TFDS; Pillow's warning of an enormous image is an error."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  tfds.disable_progress_bar()
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', module='PIL')  # of odd metadata
    warnings.simplefilter('error', Image.DecompressionBombWarning)
    try:
      yield
    finally:
      logging.set_verbosity(verbosity)


def _refuse(problems: list[str], report: pathlib.Path) -> None:
  """Raises UserError that names the bad files; the full list goes to `report`."""
  problems = sorted(set(problems))
  rest = len(problems) - _LISTED
  more = f'; and {rest} more' if rest > 0 else ''
  noun = '1 bad file' if len(problems) == 1 else f'{len(problems)} bad files'
  with contextlib.suppress(OSError):  # a full disk must not hide the message
    report.write_text('\n'.join(problems) + '\n')
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
  class_names: tuple[str, ...]       # label = index
  dermo_attributes: tuple[str, ...]  # bit order of the `dermo` map
  ids: np.ndarray                    # str, sorted
  labels: np.ndarray                 # int32
  groups: np.ndarray                 # str; the id where no lesion ids exist
  has_lesion: np.ndarray             # bool
  has_dermo: np.ndarray              # bool
  fingerprint: str  # equal if and only if ids, labels, flags and pixels are
  synthetic: bool   # some were drawn: no result on them says anything of patients
  records: Sequence[dict] = dataclasses.field(repr=False)  # maps still encoded

  def __len__(self) -> int:
    return len(self.ids)

  def load(self, row: int) -> dict[str, np.ndarray]:
    """Decodes a row; may be called from several threads.

    Returns:
      `image` uint8 RGB [S, S, 3], `lesion` uint8 [S, S] of 0 and 255, `dermo`
      uint8 [S, S], bit k set where attribute k is; zeros where not annotated.

    Raises:
      UserError: the files are damaged.
    """
    try:
      record = self.records[row]
      arrays = {name: np.asarray(Image.open(io.BytesIO(record[name])))
                for name in _MAPS}
    except Exception as error:  # array_record raises whatever it likes
      raise storage.damaged(self.path, error) from error
    if record['id'].decode() != self.ids[row]:
      raise storage.damaged(self.path, 'records and index disagree')
    return arrays


def open_split(dataset: str, split: str, *, data_dir: pathlib.Path,
               crop_ratio: float, resize_size: int) -> PreparedSplit:
  """Opens a prepared split; no image is decoded.

  Raises:
    UserError: not prepared (with the command that does), damaged, or a folder
      that names code outside TFDS.
  """
  errors.check_choice('dataset', dataset, archives.DATASETS)
  errors.check_choice('split', split, archives.DATASETS[dataset].splits)
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
  return opened


def available_splits(dataset: str, *, data_dir: pathlib.Path, crop_ratio: float,
                     resize_size: int) -> tuple[str, ...]:
  """Names of the prepared splits, in the data set's order."""
  errors.check_choice('dataset', dataset, archives.DATASETS)
  geometry = storage.Geometry(crop_ratio, resize_size)
  return tuple(split for split in archives.DATASETS[dataset].splits
               if geometry.folder(dataset, split, data_dir).exists())
