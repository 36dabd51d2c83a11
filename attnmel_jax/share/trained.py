"""Finished runs opened for use: their models, for images of any origin."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

from attnmel_jax import config as config_lib
from attnmel_jax import errors
from attnmel_jax.data import decode
from attnmel_jax.experiments import build
from attnmel_jax.experiments import run_folder
from attnmel_jax.training import checkpoint

# What decides how a network is built and how it is shown an image.
_PROGRAM = ('model', 'backbone', 'width', 'taps', 'gate_width', 'gate_norm',
            'dropout_rate', 'dtype', 'image_size', 'normalisation', 'tta')


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """A finished run's classifier."""

  folder: pathlib.Path
  config: Mapping[str, Any]   # of its config.json
  summary: Mapping[str, Any]  # of its summary.json
  variables: Any              # of its best checkpoint

  @property
  def class_names(self) -> tuple[str, ...]:
    """In the order of the logits."""
    return tuple(self.summary['class_names'])

  @property
  def geometry(self) -> decode.Geometry:
    """Central square and side that the images were prepared with."""
    return decode.Geometry(self.config['crop_ratio'], self.config['resize_size'])

  @property
  def program(self) -> str:
    """Equal for runs whose prediction step is the same program."""
    return json.dumps([self.class_names, *(self.config[name] for name in _PROGRAM)])


def open_runs(folders: Sequence[pathlib.Path], *, tta: bool | None) -> list[TrainedRun]:
  """Opens the best checkpoint of each run; all have the same classes.

  Args:
    folders: of the runs.
    tta: whether to average over flips and quarter turns; None: as each run did.

  Raises:
    UserError: a run does not exist, is not finished, does not classify, has other
      classes than the first, or is named twice.
  """
  read = [_read(folder) for folder in folders]
  first = read[0][1]['class_names']
  for folder, (_, summary) in zip(folders, read, strict=True):
    if summary['class_names'] != first:
      raise errors.UserError(
          f'{folder} has the classes {", ".join(summary["class_names"])}, {folders[0]} '
          f'{", ".join(first)}; the runs of an ensemble need the same in one order')
  if len({folder.resolve() for folder in folders}) < len(folders):
    raise errors.UserError(f'--run={",".join(map(str, folders))} names a run twice')
  wide = any(config['dtype'] == 'float64' for config, _ in read)
  build.enable_float64({'dtype': 'float64' if wide else 'float32'})
  runs = []
  for folder, (config, summary) in zip(folders, read, strict=True):
    variables = _restore(folder, config, summary)
    chosen = config if tta is None else config | {'tta': tta}
    runs.append(TrainedRun(folder, chosen, summary, variables))
  return runs


def _read(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Config and summary of a run that can be opened."""
  config = run_folder.read_config(folder)
  if config['model'] not in config_lib.CLASSIFIERS:
    raise errors.UserError(
        f'{folder} is a run of model={config["model"]!r}, which does not classify; '
        f'choose a run of {", ".join(config_lib.CLASSIFIERS)}')
  return config, run_folder.read_summary(folder)


def _restore(folder: pathlib.Path, config: Mapping[str, Any],
             summary: Mapping[str, Any]) -> Any:
  with checkpoint.Checkpoints(folder / 'checkpoints', create=False) as checkpoints:
    variables, best = checkpoints.restore_best(build.state_template(
        config, len(summary['class_names'])).variables())
  run_folder.check_best(folder, summary, best)
  return variables
