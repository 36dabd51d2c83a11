"""Several runs as one predictor: means, calibration, maps."""

import dataclasses

import jax
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.evaluation import calibration
from attnmel_jax.share import ensemble


def _another(run, *, scale=1.5, **config):
  """A run with other weights and, where the test asks for it, another config."""
  return dataclasses.replace(
      run, config={**run.config, **config},
      variables=jax.tree.map(lambda x: x * scale, run.variables))


def _predict(runs, *, calibrated=False):
  rng = np.random.default_rng(0)
  squares = {geometry: rng.integers(0, 256, (4, 36, 36, 3), np.uint8) for geometry in
             sorted({run.geometry for run in runs}, key=lambda g: g.crop_ratio)}
  return ensemble.make_predictor(runs, calibrated=calibrated)(squares), squares


def test_probabilities_and_maps_are_means_over_the_runs(run):
  other = _another(run)
  first, second, both = (_predict(runs)[0] for runs in ([run], [other], [run, other]))
  assert (abs(first.probabilities - second.probabilities) > 1e-3).any()
  assert both.maps.keys() == {'pool3', 'pool4'}
  for name, values in both.maps.items():
    np.testing.assert_allclose(
        values, (first.maps[name] + second.maps[name]) / 2, rtol=1e-6)


def test_each_run_sees_its_own_square_and_maps_of_other_views_are_left_out(run):
  other = _another(run, crop_ratio=1.0)
  both, squares = _predict([run, other])
  first, second = (ensemble.make_predictor([one], calibrated=False)(squares)
                   for one in (run, other))
  np.testing.assert_array_equal(both.seen, squares[run.geometry][:, 2:34, 2:34])
  np.testing.assert_allclose(
      both.probabilities, (first.probabilities + second.probabilities) / 2, rtol=1e-12)
  jax.tree.map(np.testing.assert_array_equal, both.maps, first.maps)
  assert (both.maps['pool3'] != second.maps['pool3']).any()


def test_calibration_softens_each_run_before_the_mean(run):
  hot = dataclasses.replace(run, summary={**run.summary, 'temperature': 3.0})
  cold = dataclasses.replace(_another(run), summary={**run.summary, 'temperature': 0.5})
  plain = [_predict([one])[0].probabilities for one in (hot, cold)]
  softened, _ = _predict([hot, cold], calibrated=True)
  np.testing.assert_allclose(
      softened.probabilities,
      (calibration.soften(plain[0], 3.0) + calibration.soften(plain[1], 0.5)) / 2)
  unknown = dataclasses.replace(run, summary={**run.summary, 'temperature': None})
  with pytest.raises(errors.UserError, match='has no temperature'):
    ensemble.make_predictor([run, unknown], calibrated=True)


def test_cam_is_of_the_class_that_the_ensemble_predicts():
  first, second = np.random.default_rng(1).normal(size=(2, 3, 2, 2, 4))
  maps = ensemble._maps([{'attention': {}, 'cam': first}, {'attention': {}},
                         {'attention': {}, 'cam': second}], np.array([2, 0, 3]))
  for i, k in enumerate((2, 0, 3)):
    np.testing.assert_allclose(maps['cam'][i], (first + second)[i, ..., k] / 2)


def test_a_diverged_run_is_named(run):
  with pytest.raises(errors.UserError, match=f'{run.folder} predicts .* not finite'):
    _predict([_another(run, scale=np.nan)])
