"""One split's files -> a TFDS data set of PNG records, shard by shard."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import hashlib
import pathlib

from absl import logging
import numpy as np
import tensorflow_datasets as tfds

from attnmel_jax import errors
from attnmel_jax import progress
from attnmel_jax import threads
from attnmel_jax.data import archives
from attnmel_jax.data import decode
from attnmel_jax.data import records
from attnmel_jax.data import storage

_SHARD_RECORDS = 256  # TFDS keeps one shard in memory while it writes it


class _BadFiles(Exception):
  """Ends the writing of a split; TFDS then removes what it has written."""


class SplitBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Writes one split as a TFDS data set, in the order of the ids.

  Shard by shard, because TFDS's generator builder holds all records in memory
  and, beyond a gigabyte, asks for TensorFlow.
  """

  VERSION = tfds.core.Version(storage.VERSION)

  def __init__(self, files: archives.SplitFiles, *, schema: archives.Schema,
               geometry: storage.Geometry, data_dir: pathlib.Path,
               read: Callable[[archives.Member], bytes], bar: progress.Progress):
    self.name = schema.name
    self.problems: list[str] = []  # 'file: what is wrong'
    self.odd: list[tuple[str, str]] = []  # (what is odd, name) of a mask
    self._files, self._schema, self._bar = files, schema, bar
    self._side = geometry.resize_size
    self._make = functools.partial(
        records.make_record, read=read, attributes=schema.attributes,
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
        'label': (tfds.features.ClassLabel(names=list(self._schema.class_names))
                  if self._schema.class_names else np.int32),
        'has_lesion': np.bool_,
        'has_dermo': np.bool_,
    })
    return tfds.core.DatasetInfo(
        builder=self, features=features, metadata=tfds.core.MetadataDict(),
        disable_shuffling=True)

  def _shard_iterators_per_split(self, dl_manager):
    del dl_manager  # the archives are at hand
    total = len(self._files.examples)
    decoded = threads.in_order(self._make, self._files.examples)
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
      self.odd += record.odd
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
        repr((self._schema.class_names, self._schema.attributes)).encode())
    for row in self._rows:
      sha.update(row.digest)
    return {
        'ids': [row.id for row in self._rows],
        'groups': [row.group for row in self._rows],
        'labels': [row.label for row in self._rows],
        'has_lesion': [row.has_lesion for row in self._rows],
        'has_dermo': [row.has_dermo for row in self._rows],
        'class_names': self._schema.class_names,
        'dermo_attributes': self._schema.attributes,
        'fingerprint': sha.hexdigest(),
        'synthetic': any(row.synthetic for row in self._rows),
        'archives': dict(self._files.digests),
    }

  def _log_download_bytes(self) -> None:
    pass  # TFDS would print sizes that it does not know

  def _log_download_done(self) -> None:
    pass


def write_split(files: archives.SplitFiles, schema: archives.Schema,
                geometry: storage.Geometry, stage: pathlib.Path,
                read: Callable[[archives.Member], bytes]) -> list[str]:
  """Writes one split below `stage`; returns what is wrong with its files.

  Raises:
    UserError: it cannot be written.
  """
  if not files.examples:
    return [] if files.bad else [f'{next(iter(files.digests))}: holds no image']
  bar = progress.Progress(files.split, len(files.examples), unit='images')
  with contextlib.closing(bar), _quiet_libraries():
    builder = SplitBuilder(files, schema=schema, geometry=geometry, data_dir=stage,
                           read=read, bar=bar)
    try:
      builder.download_and_prepare(
          download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except _BadFiles:
      pass
    except (OSError, RuntimeError) as error:  # array_record raises the latter
      raise errors.UserError(
          f'{files.split} cannot be written to {stage.parent} ({error}); free some '
          'space or choose another --data_dir') from error
  for what in (records.SCALED, records.ON_BORDERS, records.EMPTY):
    names = [name for found, name in builder.odd if found == what]
    if names:
      print(f'{files.split}: {what}: {len(names)}, for example {names[0]}')
  return builder.problems


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
  """No notes of TFDS, and Pillow's warnings as `decode.strict_warnings` has them."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  tfds.disable_progress_bar()
  with decode.strict_warnings():
    try:
      yield
    finally:
      logging.set_verbosity(verbosity)
