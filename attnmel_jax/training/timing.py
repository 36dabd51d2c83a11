"""timing.jsonl: where the time of a training run went.

  timing = Timing(folder / 'timing.jsonl', step=0)
  timing.first_step(1, batch_size, metrics)
  timing.steps(11, batch_size)  # seconds since the line before
  timing.lap('validation', 194)
  summary = summarise(folder / 'timing.jsonl')

A line {"step": 10, "what": "steps", "seconds": 0.2, "images": 320} holds the
seconds since the line before it: `first_step` those of the first step after a
start, most of them compilation; `steps` of the steps up to `step`; `validation`
and `saving` (checkpoints) what they say.
"""

import json
import os
import pathlib
import time
from typing import Any

import jax

from attnmel_jax import files
from attnmel_jax import parallel


class Timing:
  """Appends to timing.jsonl; the clock starts when it is made."""

  def __init__(self, path: pathlib.Path, step: int):
    """Opens `path` at a run that has done `step` steps.

    In a process that does not write, the lines go nowhere.
    """
    path = path if parallel.is_main_process() else pathlib.Path(os.devnull)
    self._file = path.open('a')
    if not _ends_whole(path):  # a kill or a full disk cut the last line short
      self._file.write('\n')
    self._step, self._since = step, time.perf_counter()
    self.images_per_second = 0.  # of the last line that holds images

  def first_step(self, step: int, batch_size: int, outputs: Any) -> None:
    """The first step after a start took until its `outputs` are there."""
    jax.block_until_ready(outputs)
    self._images('first_step', step, batch_size)

  def steps(self, step: int, batch_size: int) -> None:
    """The steps since the last such line took until now; nothing if there are none."""
    if step > self._step:
      self._images('steps', step, batch_size)

  def _images(self, what, step, batch_size):
    images = (step - self._step) * batch_size
    self._step = step
    self.images_per_second = images / self._write(what, step, {'images': images})

  def lap(self, what: str, step: int) -> None:
    """What came after `step` steps took until now."""
    self._write(what, step, {})

  def _write(self, what, step, more):
    now = time.perf_counter()
    seconds, self._since = now - self._since, now
    line = {'step': step, 'what': what, 'seconds': seconds, **more}
    self._file.write(json.dumps(line) + '\n')
    self._file.flush()
    return seconds

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _ends_whole(path: pathlib.Path) -> bool:
  """Whether a file is empty or ends with a whole line."""
  with path.open('rb') as file:
    if file.seek(0, os.SEEK_END) == 0:
      return True
    file.seek(-1, os.SEEK_END)
    return file.read() == b'\n'


def summarise(path: pathlib.Path) -> dict[str, Any]:
  """Seconds of a run by kind, over all its starts.

  Returns:
    starts; first_step_seconds, steps_seconds, validation_seconds and
    saving_seconds; steps, the highest step that was done; images, those that
    steps_seconds were spent on; images_per_second, None without any.
  """
  seconds = dict.fromkeys(('first_step', 'steps', 'validation', 'saving'), 0.)
  steps = images = starts = 0
  for text in path.read_text(errors='replace').splitlines():
    try:
      line = files.parse_json(text)
    except ValueError:  # cut short
      continue
    seconds[line['what']] += line['seconds']
    starts += line['what'] == 'first_step'
    images += line['images'] if line['what'] == 'steps' else 0
    steps = max(steps, line['step'])
  return {'starts': starts, 'steps': steps, 'images': images,
          'images_per_second': images / seconds['steps'] if images else None,
          **{f'{what}_seconds': spent for what, spent in seconds.items()}}
