"""Reads event files as TensorBoard does, from the bytes of TFRecord."""

import pathlib

from tensorboardX.proto import event_pb2


def read(folder: pathlib.Path) -> list[event_pb2.Event]:
  """The events of all starts that TensorBoard shows, in their order."""
  shown = []
  for path in sorted(folder.iterdir()):
    for number, event in enumerate(_records(path)):
      if number == 0:
        assert event.file_version == 'brain.Event:2'
      elif event.session_log.status == event_pb2.SessionLog.START:
        shown = [earlier for earlier in shown if earlier.step < event.step]
      else:
        shown.append(event)
  return shown


def _records(path):
  content = path.read_bytes()
  while len(content) >= 12:
    length = int.from_bytes(content[:8], 'little')
    if len(content) < 16 + length:
      return  # a kill cut it short
    yield event_pb2.Event.FromString(content[12:12 + length])
    content = content[16 + length:]
