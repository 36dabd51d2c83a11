"""Curves and pictures of a run for TensorBoard, in `tensorboard/` of its folder.

  events = Events(folder / 'tensorboard', step=0, learning_rate_at=rate)
  events.scalars(1, {'loss': 0.5})            # train/loss and train/learning_rate
  events.scalars(97, {'validation_auc': 0.8})  # validation/auc
  events.image(97, 'attention/validation', png)
  events.flush()

Every start writes its own file, which begins with the step that the run resumed from:
TensorBoard then drops what earlier files hold beyond it. It shows what metrics.jsonl
holds up to the last flush, each step once.
"""

from collections.abc import Callable
from collections.abc import Mapping
import io
import pathlib
import time

from PIL import Image
from tensorboardX import record_writer
from tensorboardX.proto import event_pb2
from tensorboardX.proto import summary_pb2

_PREFIX = 'validation_'
_NAME = 'events.out.tfevents.{:010d}.attnmel_jax'


class Events:
  """Appends to an event file of its own, which follows those of earlier starts."""

  def __init__(self, folder: pathlib.Path, step: int, *,
               learning_rate_at: Callable[[int], float]):
    """Opens a file for what follows the restored `step`.

    Args:
      folder: of the event files; it is made.
      step: after which the run resumes.
      learning_rate_at: learning rate of the step that follows so many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    self._learning_rate_at = learning_rate_at
    # TensorBoard reads the files by name, even where a clock was set back.
    number = max([int(time.time()), *(int(path.name.split('.')[3]) + 1 for path in
                                      folder.glob(_NAME.replace('{:010d}', '*')))])
    # Not a SummaryWriter, whose flush does not wait for its queue: a kill would lose
    # events of a state that is saved.
    self._file = record_writer.RecordWriter(str(folder / _NAME.format(number)))
    self._write(file_version='brain.Event:2')
    self._write(step=step + 1, session_log=event_pb2.SessionLog(
        status=event_pb2.SessionLog.START))  # all from this step on is replaced
    self.flush()

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Adds a line of metrics.jsonl: of a training step, or of a validation."""
    tags = {f'validation/{name.removeprefix(_PREFIX)}' if name.startswith(_PREFIX)
            else f'train/{name}': value for name, value in values.items()}
    if any(tag.startswith('train/') for tag in tags):
      tags['train/learning_rate'] = self._learning_rate_at(step - 1)
    self._add(step, [summary_pb2.Summary.Value(tag=tag, simple_value=value)
                     for tag, value in tags.items()])

  def image(self, step: int, tag: str, png: bytes) -> None:
    """Adds a picture, given as the content of a PNG file."""
    with Image.open(io.BytesIO(png), formats=['PNG']) as picture:
      width, height = picture.size
      channels = len(picture.getbands())
    self._add(step, [summary_pb2.Summary.Value(tag=tag, image=summary_pb2.Summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=png))])

  def _add(self, step, values):
    self._write(step=step, summary=summary_pb2.Summary(value=values))

  def _write(self, **event):
    self._file.write(
        event_pb2.Event(wall_time=time.time(), **event).SerializeToString())

  def flush(self) -> None:
    """Brings to disk what was added."""
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()
