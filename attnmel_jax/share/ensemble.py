"""One or several trained runs as one predictor of decoded photographs.

Probabilities are averaged after the softmax. Each run sees the squares that it was
trained on; heat maps are the mean of those runs that see a photograph as the first one
does.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from attnmel_jax import errors
from attnmel_jax.data import decode
from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import calibration
from attnmel_jax.evaluation import predict as predict_lib
from attnmel_jax.experiments import build
from attnmel_jax.share import trained

# From [B, S, S, 3] of each geometry; B divides among the devices.
Squares = Mapping[decode.Geometry, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Predicted:
  """What the runs make of B photographs."""

  probabilities: np.ndarray    # float64 [B, K]
  seen: np.ndarray             # uint8 [B, s, s, 3], the first run's input
  maps: dict[str, np.ndarray]  # [B, h, w] by tap or 'cam', over `seen`


def view(run: trained.TrainedRun) -> tuple[decode.Geometry, int]:
  """Which part of a photograph a run sees, and at what size."""
  return run.geometry, run.config['image_size']


def make_predictor(runs: Sequence[trained.TrainedRun], *, calibrated: bool
                   ) -> Callable[[Squares], Predicted]:
  """Compiles nothing yet; runs of one program share its compilation.

  Args:
    runs: at least one, with the same classes.
    calibrated: adjust the probabilities of each run by the temperature of its
      summary.

  Returns:
    A function of the squares. It raises UserError where a probability is not finite.

  Raises:
    UserError: a run has no temperature.
  """
  if calibrated:
    for run in runs:
      if run.summary['temperature'] is None:
        raise errors.UserError(
            f'{run.folder} has no temperature: it had no validation set; leave out '
            '--calibrated')
  steps = {run.program: build.prediction_step(run.config, len(run.class_names))
           for run in runs}

  def predict(squares: Squares) -> Predicted:
    outputs = [predict_lib.on_batch(
        steps[run.program], run.variables, squares[run.geometry]) for run in runs]
    probabilities = np.mean(
        [_probabilities(run, output, calibrated=calibrated)
         for run, output in zip(runs, outputs, strict=True)], axis=0)
    alike = [output for run, output in zip(runs, outputs, strict=True)
             if view(run) == view(runs[0])]
    seen = attention_maps.central(squares[runs[0].geometry],
                                  runs[0].config['image_size'])
    return Predicted(probabilities, seen, _maps(alike, probabilities.argmax(axis=1)))

  return predict


def threshold(runs: Sequence[trained.TrainedRun], *, calibrated: bool) -> float | None:
  """From which probability of the second class on a run calls it.

  The run chose it on its validation images; calibration moves it as it does the
  probabilities. None of an ensemble, for which none was chosen, or of more classes.
  """
  chosen = runs[0].summary['threshold']
  if len(runs) > 1 or len(runs[0].class_names) != 2 or chosen is None:
    return None
  if calibrated:
    pair = np.array([[1 - chosen, chosen]])
    return float(calibration.soften(pair, runs[0].summary['temperature'])[0, 1])
  return chosen


def _probabilities(run: trained.TrainedRun, output: Mapping[str, Any], *,
                   calibrated: bool) -> np.ndarray:
  """float64 [B, K] of one run."""
  values = np.asarray(output['probabilities'], np.float64)
  if not np.isfinite(values).all():
    raise errors.UserError(
        f'{run.folder} predicts probabilities that are not finite: its training '
        'diverged; train it again with a lower learning_rate')
  if calibrated:
    return calibration.soften(values, run.summary['temperature'])
  return values


def _maps(outputs: Sequence[Mapping[str, Any]], classes: np.ndarray
          ) -> dict[str, np.ndarray]:
  """Each kind of map, averaged over the runs that have it; CAM of `classes`."""
  found: dict[str, list[np.ndarray]] = {}
  for output in outputs:
    for name, values in output['attention'].items():
      found.setdefault(name, []).append(values)
  for output in outputs:
    if 'cam' in output:
      found.setdefault('cam', []).append(
          attention_maps.of_classes(output['cam'], classes))
  return {name: np.mean(values, axis=0) for name, values in found.items()}
