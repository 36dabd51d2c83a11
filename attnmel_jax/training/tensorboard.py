"""Curves and pictures of a run for TensorBoard, in `tensorboard/` of its folder.

  events = Events(folder / 'tensorboard', step=0, learning_rate_at=rate)
  events.scalars(1, {'loss': 0.5})            # train/loss and train/learning_rate
  events.scalars(97, {'validation_auc': 0.8})  # validation/auc
  events.image(97, 'attention/validation', png)
  events.flush()

The file holds what metrics.jsonl holds up to the last flush. A run that goes on from
a step takes over what was written up to it, so nothing is lost or there twice.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import io
import pathlib
import struct
import time

from PIL import Image
from tensorboardX import record_writer
from tensorboardX.proto import event_pb2
from tensorboardX.proto import summary_pb2

_PREFIX = 'validation_'
_NAME = 'events.out.tfevents.{:010d}.attnmel_jax'


class Events:
  """Appends to an event file, which takes the place of those of earlier starts."""

  def __init__(self, folder: pathlib.Path, step: int, *,
               learning_rate_at: Callable[[int], float]):
    """Takes over what earlier starts wrote up to the restored `step`.

    Args:
      folder: of the event file; it is made.
      step: after which the run goes on.
      learning_rate_at: learning rate of the step that follows so many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    self._learning_rate_at = learning_rate_at
    earlier = sorted(folder.glob(_NAME.format(0).replace('0' * 10, '*')))
    # The newest holds all of those before it: a kill may have left them.
    kept = [event for path in earlier[-1:] for event in read(path)
            if event.step <= step and event.HasField('summary')]
    number = int(time.time())
    if earlier:
      number = max(number, int(earlier[-1].name.split('.')[3]) + 1)
    path = folder / _NAME.format(number)
    scratch = path.with_name('.unfinished')
    self._file = record_writer.RecordWriter(str(scratch))
    for event in (event_pb2.Event(wall_time=time.time(), file_version='brain.Event:2'),
                  *kept):
      self._file.write(event.SerializeToString())
    self.flush()
    scratch.rename(path)  # the open file goes with its new name
    for old in earlier:
      old.unlink()

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
    self._file.write(event_pb2.Event(
        wall_time=time.time(), step=step,
        summary=summary_pb2.Summary(value=values)).SerializeToString())

  def flush(self) -> None:
    """Brings to disk what was added."""
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def read(path: pathlib.Path) -> Iterator[event_pb2.Event]:
  """The events of a file, up to the first that a kill has cut short."""
  content, place = path.read_bytes(), 0
  while len(content) >= place + 12:
    (length,) = struct.unpack_from('<Q', content, place)
    data = content[place + 12:place + 12 + length]
    end = place + 16 + length
    if len(content) < end or struct.unpack_from(
        '<I', content, end - 4)[0] != record_writer.masked_crc32c(data):
      return
    yield event_pb2.Event.FromString(data)
    place = end
