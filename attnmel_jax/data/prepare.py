"""Official archives, or a table of photographs -> prepared splits, written once.

  prepare.from_archives('isic2017', source=folder, data_dir=data_dir,
                        crop_ratio=0.8, resize_size=256)

What the splits are and how they are opened is in `storage`.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import pathlib
import shutil
import tempfile

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import archives
from attnmel_jax.data import catalogue
from attnmel_jax.data import decode
from attnmel_jax.data import folder
from attnmel_jax.data import storage
from attnmel_jax.data import writing

_LISTED = 20  # bad files in the message; the text file has all
_STAGE = '.incomplete-'
# Schema and files of every split whose archives are there.
_Content = tuple[catalogue.Schema, Mapping[str, archives.SplitFiles]]


def from_archives(dataset: str, *, source: pathlib.Path, data_dir: pathlib.Path,
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
    return _prepare(
        dataset, lambda prepared: (spec, _read_splits(spec, source, reader, prepared)),
        data_dir, geometry, reader)


def from_table(
    source: pathlib.Path, *, table: pathlib.Path, classes: Sequence[str],
    mask_kind: str, data_dir: pathlib.Path, crop_ratio: float, resize_size: int,
) -> dict[str, int]:
  """Photographs that a table lists -> prepared splits of the data set 'folder'.

  The remaining arguments, the return value and the errors are those of
  `from_archives`.

  Args:
    source: the folder that the paths in the table start from.
    table: CSV with the columns of `folder.read_splits`.
    classes: names of the classes in the order of their labels; () sorts those
      that the table holds.
    mask_kind: one of folder.MASK_KINDS.
  """
  geometry = _geometry(crop_ratio, resize_size)

  def read(prepared: Sequence[str]) -> _Content:
    schema, splits = folder.read_splits(
        source, table=table, classes=classes, mask_kind=mask_kind)
    for split in prepared:
      if split not in splits:
        path = storage.folder(catalogue.FOLDER, split, data_dir, geometry)
        print(f'{split}: kept from an earlier table; delete {path} if unwanted')
    return schema, splits

  with archives.Reader() as reader:
    return _prepare(catalogue.FOLDER, read, data_dir, geometry, reader)


def _prepare(name: str, read: Callable[[Sequence[str]], _Content],
             data_dir: pathlib.Path, geometry: decode.Geometry,
             reader: archives.Reader) -> dict[str, int]:
  """Reads the files of all splits, then writes those that changed, or none."""
  root = data_dir / name
  with staged(root) as stage:
    prepared = storage.available_splits(
        name, data_dir=data_dir, crop_ratio=geometry.crop_ratio,
        resize_size=geometry.resize_size)
    schema, splits = read(prepared)
    problems = [note for split in splits.values() for note in split.bad]
    # Without digests the photographs could not even be listed: that is in `bad`.
    wanted = [split for split in splits.values() if split.digests and _needs_writing(
        split, storage.folder(name, split.split, data_dir, geometry))]
    for split in wanted:
      problems += writing.write_split(split, schema, geometry, stage, reader.read)
    if problems:
      _refuse(problems, root / 'bad_files.txt')
    for split in wanted:
      files.publish(*(storage.folder(name, split.split, place, geometry)
                      for place in (stage, data_dir)))
    (root / 'bad_files.txt').unlink(missing_ok=True)
  return {name: len(split.examples) for name, split in splits.items()}


def _geometry(crop_ratio: float, resize_size: int) -> decode.Geometry:
  if not 0 < crop_ratio <= 1:
    raise errors.UserError(f'crop_ratio={crop_ratio} is not in (0, 1]; '
                           'it is a share of the shorter image side')
  if not 1 <= resize_size <= 4096:
    raise errors.UserError(f'resize_size={resize_size} is not in [1, 4096] pixels')
  return decode.Geometry(crop_ratio, resize_size)


def _refuse(problems: list[str], report: pathlib.Path) -> None:
  """Raises UserError that names the bad files; the full list goes to `report`."""
  problems = sorted({' '.join(note.split()) for note in problems})
  rest = len(problems) - _LISTED
  more = f'; and {rest} more' if rest > 0 else ''
  noun = '1 bad file' if len(problems) == 1 else f'{len(problems)} bad files'
  with contextlib.suppress(OSError):  # a full disk must not hide the message
    report.write_text('\n'.join(problems) + '\n', 'utf-8')
    more += f'; the full list is in {report}'
  raise errors.UserError(f'{noun}: {"; ".join(problems[:_LISTED])}{more}; correct or '
                         'remove them and prepare again')


def _read_splits(spec: catalogue.Dataset, source: pathlib.Path,
                 reader: archives.Reader, prepared: Collection[str]
                 ) -> dict[str, archives.SplitFiles]:
  """Every split with images and labels; prints which are left out, and why.

  Args:
    spec: the data set.
    source: folder of its archives.
    reader: stays open as long as the files are read.
    prepared: splits that are prepared already; one without archives now is kept.

  Raises:
    UserError: no split is complete.
  """
  splits = {}
  for split in spec.splits:
    found = archives.find(spec, split, source)
    roles = [role for role in spec.required_of(split) if role not in found]
    if roles:
      absent = _listed([spec.file(role, split) for role in roles])
      if split in prepared:
        print(f'{split}: already prepared; {absent} not in {source}')
      else:
        print(f'{split}: left out, {absent} not in {source}{spec.places(roles)}')
      continue
    splits[split] = archives.read_split(spec, split, found, reader)
    if split not in prepared:
      _print_unannotated(spec, split, found)
  if not splits:
    required = ' and '.join(spec.files[role] for role in spec.required_of('train'))
    raise errors.UserError(
        f'--source={source} holds no complete split of {spec.name}'
        f'{archives.lookalikes(spec, source)}; a split '
        f'needs {required}, where {{split}} is one of '
        f'{", ".join(spec.splits.values())}{spec.places(spec.required)}')
  return splits


def _print_unannotated(spec: catalogue.Dataset, split: str,
                       found: Collection[str]) -> None:
  """Prints which kinds of maps no image of the split will have."""
  for kind, of_kind in archives.ANNOTATIONS.items():
    roles = [role for role in of_kind if role in spec.roles(split)]
    if roles and not set(roles) & set(found):
      names = ' or '.join(spec.file(role, split) for role in roles)
      print(f'{split}: no {kind} masks, {names} is not in --source'
            f'{spec.places(roles)}')


def _needs_writing(split: archives.SplitFiles, path: pathlib.Path) -> bool:
  """Whether a split has to be written, for the first time or again; prints why.

  Raises:
    UserError: some archives it was prepared from changed, others are absent.
  """
  name, before = split.split, {}
  if path.exists():
    before = storage.read_index(path).get('archives', {})
    if not before:
      print(f'{name}: {path} is damaged; preparing it again')
  gone = sorted(set(before) - set(split.digests))
  changed = [archive for archive, digest in split.digests.items()
             if before.get(archive) != digest]
  if not changed:
    kept = f'; {_listed(gone)} not in --source now' if gone else ''
    print(f'{name}: already prepared{kept}')
    return False
  if gone:
    raise errors.UserError(
        f'{name} was prepared with {", ".join(gone)}, absent from --source now, '
        f'while {", ".join(changed)} changed; put back what is absent, or delete '
        f'{path} to prepare it without')
  if before:
    print(f'{name}: {", ".join(changed)} changed; preparing it again')
  return True


def _listed(names: list[str]) -> str:
  return ', '.join(names) + (' is' if len(names) == 1 else ' are')


@contextlib.contextmanager
def staged(root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields an empty folder below `root`, which it locks; removed when the block ends.

  Also removes what a killed process left behind.
  """
  with storage.locked(root):
    for left_over in root.glob(f'{_STAGE}*'):
      shutil.rmtree(left_over, ignore_errors=True)
    stage = pathlib.Path(tempfile.mkdtemp(prefix=_STAGE, dir=root))
    try:
      yield stage
    finally:
      shutil.rmtree(stage, ignore_errors=True)
