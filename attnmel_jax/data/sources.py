"""What a folder of archives holds, against what is prepared already."""

from collections.abc import Collection
from collections.abc import Mapping
import pathlib

from attnmel_jax import errors
from attnmel_jax.data import archives
from attnmel_jax.data import storage


def read_splits(spec: archives.Dataset, source: pathlib.Path,
                reader: archives.Reader, *, prepared: Collection[str]
                ) -> dict[str, archives.SplitFiles]:
  """Every split with images and labels; prints which are left out, and why.

  Args:
    spec: the data set.
    source: folder of its archives.
    reader: stays open as long as the files are read.
    prepared: splits that are there already; one without archives now is kept.

  Raises:
    UserError: there is none.
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
        f'--source={source} holds no complete split of {spec.name}; a split '
        f'needs {required}, where {{split}} is one of '
        f'{", ".join(spec.splits.values())}{spec.places(spec.required)}')
  return splits


def _print_unannotated(spec: archives.Dataset, split: str,
                       found: Collection[str]) -> None:
  """Says which kinds of maps no image of the split will have."""
  for kind, of_kind in archives.ANNOTATIONS.items():
    roles = [role for role in of_kind if role in spec.roles(split)]
    if roles and not set(roles) & set(found):
      names = ' or '.join(spec.file(role, split) for role in roles)
      print(f'{split}: no {kind} masks, {names} is not in --source'
            f'{spec.places(roles)}')


def repeated_ids(splits: Mapping[str, archives.SplitFiles]) -> list[str]:
  """Notes on images that are in two splits: trained on and scored."""
  first: dict[str, tuple[str, str]] = {}
  notes = []
  for split, files in splits.items():
    for example in files.examples:
      origin = example.origin or example.image.name
      if example.id in first:
        before, there = first[example.id]
        notes.append(f'{origin}: duplicate id {example.id}, in {before} and {split}'
                     + (f', also in {there}' if example.origin else ''))
      first.setdefault(example.id, (split, origin))
  return notes


def left_over(splits: Mapping[str, archives.SplitFiles],
              before: Mapping[str, pathlib.Path]) -> list[str]:
  """Notes on images that are in a split of an earlier table, too.

  Prints which earlier splits stay.

  Args:
    splits: of the table.
    before: prepared split -> its folder.
  """
  notes = []
  for split, path in before.items():
    if split in splits:
      continue
    known = set(storage.read_index(path).get('ids', ()))
    shared = [example for files in splits.values() for example in files.examples
              if example.id in known]
    if shared:
      notes.append(
          f'{shared[0].origin}: {len(shared)} images, such as {shared[0].id}, are in '
          f'the {split} split of an earlier table, of which this one has no row; '
          f'delete {path}, or prepare into another --data_dir')
    else:
      print(f'{split}: kept from an earlier table; if it is not meant, delete {path}')
  return notes


def needs_writing(files: archives.SplitFiles, folder: pathlib.Path) -> bool:
  """Whether a split has to be written, for the first time or again; says so.

  Raises:
    UserError: some archives it was prepared from changed, others are absent.
  """
  split, before = files.split, {}
  if folder.exists():
    before = storage.read_index(folder).get('archives', {})
    if not before:
      print(f'{split}: {folder} is damaged; preparing it again')
  gone = sorted(set(before) - set(files.digests))
  changed = [name for name, digest in files.digests.items()
             if before.get(name) != digest]
  if not changed:
    kept = f'; {_listed(gone)} not in --source now' if gone else ''
    print(f'{split}: already prepared{kept}')
    return False
  if gone:
    raise errors.UserError(
        f'{split} was prepared with {", ".join(gone)}, absent from --source now, '
        f'while {", ".join(changed)} changed; put back what is absent, or delete '
        f'{folder} to prepare it without')
  if before:
    print(f'{split}: {", ".join(changed)} changed; preparing it again')
  return True


def _listed(names: list[str]) -> str:
  return ', '.join(names) + (' is' if len(names) == 1 else ' are')
