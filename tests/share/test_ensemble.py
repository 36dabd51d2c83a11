"""Several runs as one predictor: means, calibration, maps."""

import dataclasses

import jax
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.data import decode
from attnmel_jax.evaluation import calibration
from attnmel_jax.share import ensemble
from attnmel_jax.share import trained


@pytest.fixture
def run(finished):
  run, = trained.open_runs([finished[0]], tta=None)
  return run


def _another(run, *, scale=1.5, **config):
  """A run with other weights and, if asked to, another config."""
  return dataclasses.replace(
      run, config={**run.config, **config},
      variables=jax.tree.map(lambda x: x * scale, run.variables))


def _squares(*geometries, count=4):
  rng = np.random.default_rng(0)
  return {g: rng.integers(0, 256, (count, g.resize_size, g.resize_size, 3), np.uint8)
          for g in geometries}


def test_probabilities_and_maps_are_means_over_the_runs(run):
  other = _another(run)
  squares = _squares(run.geometry)
  first, second, both = (ensemble.make_predictor(runs, calibrated=False)(squares)
                         for runs in ([run], [other], [run, other]))
  assert (abs(first.probabilities - second.probabilities) > 1e-3).any()
  np.testing.assert_allclose(
      both.probabilities, (first.probabilities + second.probabilities) / 2, rtol=1e-12)
  assert both.maps.keys() == {'pool3', 'pool4'}
  for name, values in both.maps.items():
    np.testing.assert_allclose(
        values, (first.maps[name] + second.maps[name]) / 2, rtol=1e-6)
  np.testing.assert_array_equal(both.seen, squares[run.geometry][:, 2:34, 2:34])


def test_each_run_sees_its_own_square_and_maps_of_other_views_are_left_out(run):
  other = _another(run, crop_ratio=1.0, normalisation='imagenet')
  squares = _squares(run.geometry, other.geometry)
  first, second, both = (ensemble.make_predictor(runs, calibrated=False)(squares)
                         for runs in ([run], [other], [run, other]))
  assert other.geometry == decode.Geometry(1.0, 36)
  np.testing.assert_allclose(
      both.probabilities, (first.probabilities + second.probabilities) / 2, rtol=1e-12)
  for name, values in both.maps.items():
    np.testing.assert_array_equal(values, first.maps[name])
    assert (values != second.maps[name]).any()


def test_calibration_softens_each_run_before_the_mean(run):
  hot = dataclasses.replace(run, summary={**run.summary, 'temperature': 3.0})
  cold = dataclasses.replace(_another(run), summary={**run.summary, 'temperature': 0.5})
  squares = _squares(run.geometry)
  plain = [ensemble.make_predictor([r], calibrated=False)(squares).probabilities
           for r in (hot, cold)]
  softened = ensemble.make_predictor([hot, cold], calibrated=True)(squares)
  np.testing.assert_allclose(
      softened.probabilities,
      (calibration.soften(plain[0], 3.0) + calibration.soften(plain[1], 0.5)) / 2)
  unknown = dataclasses.replace(run, summary={**run.summary, 'temperature': None})
  with pytest.raises(errors.UserError, match='has no temperature'):
    ensemble.make_predictor([run, unknown], calibrated=True)


def test_cam_is_of_the_class_that_the_ensemble_predicts():
  rng = np.random.default_rng(1)
  outputs = [{'attention': {}, 'cam': rng.normal(size=(3, 2, 2, 4))} for _ in range(2)]
  classes = np.array([2, 0, 3])
  maps = ensemble._maps([*outputs, {'attention': {}}], classes)
  for i, k in enumerate(classes):
    first, second = (output['cam'][i, ..., k] for output in outputs)
    np.testing.assert_allclose(maps['cam'][i], (first + second) / 2)


def test_a_diverged_run_is_named(run):
  broken = _another(run, scale=np.nan)
  with pytest.raises(errors.UserError, match='not finite'):
    ensemble.make_predictor([broken], calibrated=False)(_squares(run.geometry))
