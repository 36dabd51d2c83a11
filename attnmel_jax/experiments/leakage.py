"""Whether a run trains on what it is scored with, or on copies of it.

Images are compared once, before training: all parts of a run with each other, and in
launch/evaluate.py what the run was trained on with what is scored. --dry_run reads no
image and compares their names. Shared images and shared lesions abort. So do
near-duplicates where the run divided the images itself, in your own table, and across
data sets. Inside an official split, which nobody can change, they are listed, and
scores are given with and without them. Where `group_folds=False` divides lesions, to
show what that inflates, neither lesions nor near-duplicates abort.
Whatever flatters the scores and did not abort is `found`: every table reports it.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import itertools
import json
import pathlib
from typing import Any

import numpy as np

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax import progress
from attnmel_jax.data import catalogue
from attnmel_jax.data import generated
from attnmel_jax.data import near_duplicates
from attnmel_jax.data import pipeline
from attnmel_jax.experiments import batches
from attnmel_jax.experiments import parts as parts_lib
from attnmel_jax.experiments import run_folder
from attnmel_jax.experiments import task as task_lib
from attnmel_jax.models import pretrained

# In a run folder, or that of an evaluation: what was compared, and all that is shared.
FILE = 'leakage.json'

_UNET = 'the U-Net of the masks'


@dataclasses.dataclass(frozen=True)
class Meeting:
  """Two sets of images that should share nothing; the first teaches."""

  first: str   # names for a message
  second: str
  parts: tuple[parts_lib.Part, parts_lib.Part]

  def kind(self, group_folds: bool) -> str:
    """'official', 'naive' or 'own': who divided the images, and how."""
    a, b = (part.prepared for part in self.parts)
    if (a.dataset, a.split) == (b.dataset, b.split):
      return 'own' if group_folds else 'naive'
    official = a.dataset == b.dataset != catalogue.FOLDER
    return 'official' if official else 'own'


def of_run(config: Mapping[str, Any], task: task_lib.Task,
           stores: Mapping[str, pipeline.ImageStore], folder: pathlib.Path
           ) -> dict[str, Any]:
  """Compares the parts of a run; what an earlier start found is taken from `folder`.

  Args:
    config: of the run.
    task: its parts.
    stores: their images.
    folder: the run folder.

  Returns:
    For summary.json: `allowed`, whether leakage was; `found`, lines on what flatters
    the scores; `near_duplicates`, part -> ids of images that look like some of a part
    before it, where scores without them are to be given.

  Raises:
    UserError: parts share what they must not, and `allow_leakage` is not set.
  """
  meetings, learnt, unknown = _meetings(config, task)
  parts = [*((part, stores[name]) for name, part in task.parts.items()),
           *((part, batches.undecoded(part)) for part in learnt)]
  return _judge_run(config, meetings, _shared(meetings, parts, folder), unknown)


def check_names(config: Mapping[str, Any], task: task_lib.Task) -> None:
  """The part of `of_run` that needs no image: the names of images and lesions.

  Raises:
    UserError: parts share some, and `allow_leakage` is not set.
  """
  meetings, _, unknown = _meetings(config, task)
  _judge_run(config, meetings, [near_duplicates.shared_names(
      one.ids, one.groups, other.ids, other.groups)
      for one, other in (meeting.parts for meeting in meetings)], unknown)


def _meetings(config: Mapping[str, Any], task: task_lib.Task
              ) -> tuple[list[Meeting], list[parts_lib.Part], list[str]]:
  """What has to be compared, what of it taught a U-Net, and lines on what cannot be."""
  meetings = [Meeting(first, second, (task.parts[first], task.parts[second]))
              for first, second in itertools.combinations(task.parts, 2)]
  unknown = _of_weights(config['pretrained'])
  if task.generated is None or 'test' not in task.parts:
    return meetings, [], unknown
  learnt, of_masks = _of_unet(task.generated.unet, [config['data_dir']],
                              task.parts.values())
  meetings += [Meeting(_UNET, 'test', (part, task.parts['test'])) for part in learnt]
  return meetings, learnt, unknown + of_masks


def of_evaluation(learnt: task_lib.Task, part: parts_lib.Part, out: pathlib.Path, *,
                  unet: generated.Identity | None, pretrained_from: str,
                  data_dirs: Sequence[str], allowed: bool) -> dict[str, Any]:
  """Compares what a run was trained on with a split that is to be scored.

  Args:
    learnt: of the run.
    part: the whole split.
    out: folder of the evaluation.
    unet: the one whose masks the run was trained on, if it was.
    pretrained_from: `pretrained` of the run's config.
    data_dirs: where the images that it was trained on may be prepared.
    allowed: report what is shared instead of raising.

  Returns:
    As `of_run`; the part is the split's name. The run's own training images are scored
    if that is asked for: it is `found`.

  Raises:
    UserError: they share what they must not, and that is not allowed.
  """
  scored = part.prepared
  name = f'{scored.dataset} {scored.split}'
  teachers = {key: own for key, own in learnt.parts.items() if key != 'test'}
  if teachers['train'].prepared.fingerprint == scored.fingerprint:
    return {'allowed': allowed, 'near_duplicates': {}, 'found': [
        f'the run was trained on {name}, or on a part of it']}
  meetings = [Meeting(f'{own.prepared.dataset} {key}', name, (own, part))
              for key, own in teachers.items()
              if own.prepared.fingerprint != scored.fingerprint]
  unknown = _of_weights(pretrained_from)
  if unet is not None:
    masks_of, of_masks = _of_unet(unet, data_dirs, [*learnt.parts.values(), part])
    unknown += of_masks
    meetings += [Meeting(_UNET, name, (own, part)) for own in masks_of]
  parts = [(own, batches.undecoded(own))
           for meeting in meetings for own in meeting.parts]
  result = _judge(meetings, _shared(meetings, parts, out), unknown, group_folds=True,
                  allowed=allowed, remedy='--allow_leakage')
  alike = result['near_duplicates'].pop(name, None)
  return result | {'near_duplicates': {scored.split: alike} if alike else {}}


def not_compared(why: str, allowed: bool) -> dict[str, Any]:
  """As `of_evaluation`, where the training images of a run are not available."""
  return {'allowed': allowed, 'near_duplicates': {}, 'found': [
      f'unknown, as the training images of the run are not available ({why})']}


def lines(leaks: Mapping[str, Any]) -> list[str]:
  """The lines that report a result of `of_run` or `of_evaluation`."""
  return [*(f'leakage: {line}' for line in leaks['found']),
          *(f'{name}: {len(ids)} near-duplicates of images of another part, scored '
            f'with and without them: {", ".join(ids)}'
            for name, ids in leaks['near_duplicates'].items())]


def _of_unet(unet: generated.Identity, data_dirs: Sequence[str],
             tested: Iterable[parts_lib.Part]
             ) -> tuple[list[parts_lib.Part], list[str]]:
  """What a U-Net was trained on, or a line on why that cannot be compared.

  Its data set may not know the lesions of images that the parts `tested` know.
  """
  lesions = {name: lesion for part in tested for name, lesion in zip(
      part.prepared.ids.tolist(), part.prepared.groups.tolist(), strict=True)}
  why = ''
  for place in dict.fromkeys(data_dirs):
    try:
      return task_lib.open_learnt(unet, place, lesions), []
    except errors.UserError as error:
      why = why or str(error)
  return [], [f'unknown for copies of the images of {_UNET}: {why}']


def _of_weights(name: str) -> list[str]:
  """A line where training began from a network that was trained on lesions."""
  if name in ('', 'imagenet'):
    return []
  path = errors.expanded(name)
  try:
    dataset = pretrained.dataset_behind(path)
  except OSError:
    return [f'unknown for the images behind pretrained={path.name}, which cannot be '
            'read']
  return [f'unknown for copies of the {dataset} images behind pretrained={path.name}'
          ] if dataset else []


def _judge_run(config: Mapping[str, Any], meetings: list[Meeting],
               shared: list[near_duplicates.Common], unknown: list[str]
               ) -> dict[str, Any]:
  return _judge(meetings, shared, unknown, group_folds=config['group_folds'],
                allowed=config['allow_leakage'], remedy='--config.allow_leakage=True')


def _judge(meetings: list[Meeting], shared: list[near_duplicates.Common],
           unknown: list[str], *, group_folds: bool, allowed: bool, remedy: str
           ) -> dict[str, Any]:
  stops, found = [], []
  alike: dict[str, set[str]] = {}
  for meeting, common in zip(meetings, shared, strict=True):
    kind = meeting.kind(group_folds)
    if common.pairs and kind != 'naive':
      alike.setdefault(meeting.second, set()).update(
          pair.second for pair in common.pairs)
    counted = dataclasses.replace(common, pairs=()) if kind == 'official' else common
    if not counted:
      continue
    line = counted.line(meeting.first, meeting.second)
    if kind == 'naive' and not counted.ids:
      found.append(f'{line} (group_folds=False)')
    else:
      stops.append(line)
  if stops and not allowed:
    raise errors.UserError(
        f'{"; ".join(stops)}: the run would be scored on images that it trains on. '
        'Leave them out, or give copies of an image one lesion (group), and prepare '
        f'again; or accept it with {remedy}, which every table will report')
  return {'allowed': allowed, 'found': stops + found + unknown,
          'near_duplicates': {name: sorted(ids) for name, ids in alike.items()}}


def _shared(meetings: list[Meeting],
            parts: list[tuple[parts_lib.Part, pipeline.ImageStore]],
            folder: pathlib.Path) -> list[near_duplicates.Common]:
  """What each two sets share, from the file if it is about these images."""
  identity = _identity(meetings)
  try:
    before = run_folder.read_json(folder / FILE)
    if before['identity'] == identity:
      return [_common(item) for item in before['shared']]
  except (errors.UserError, KeyError, TypeError):
    pass  # none yet, or damaged: it is made again
  looks = {}
  for part, store in parts:
    if id(part) not in looks:
      looks[id(part)] = _look(part, store)
  shared = []
  with contextlib.closing(progress.Progress(
      'compare images', len(meetings), unit='pairs of parts')) as bar:
    for meeting in meetings:
      shared.append(near_duplicates.compare(
          *(looks[id(part)] for part in meeting.parts),
          min_correlation=near_duplicates.MIN_CORRELATION))
      bar.advance(1)
  files.write_json(folder / FILE, {
      'identity': identity, 'min_correlation': near_duplicates.MIN_CORRELATION,
      'shared': [{'parts': [meeting.first, meeting.second],
                  **dataclasses.asdict(common)}
                 for meeting, common in zip(meetings, shared, strict=True)]})
  return shared


def _common(item: Mapping[str, Any]) -> near_duplicates.Common:
  return near_duplicates.Common(tuple(item['ids']), tuple(item['groups']),
                        tuple(near_duplicates.Pair(**pair) for pair in item['pairs']))


def _identity(meetings: list[Meeting]) -> str:
  """sha256 of how images are compared, and of the names, data, ids and lesions."""
  said = [near_duplicates.SETTINGS, [
      [meeting.first, meeting.second,
       *([part.prepared.fingerprint, part.ids.tolist(), part.groups.tolist()]
         for part in meeting.parts)]
      for meeting in meetings]]
  return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _look(part: parts_lib.Part, store: pipeline.ImageStore) -> near_duplicates.Images:
  prepared = part.prepared

  def images() -> Iterator:
    label = f'look at {prepared.dataset} {prepared.split}'
    with contextlib.closing(progress.Progress(
        label, len(part.rows), unit='images')) as bar:
      for row in part.rows:
        yield store.read(np.array([row]))['image'][0]
        bar.advance(1)

  return near_duplicates.look(part.ids, part.groups, images())
