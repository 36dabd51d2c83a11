"""Finished runs opened for use, and those that cannot be."""

import json
import shutil

import jax
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import decode
from attnmel_jax.share import trained
from attnmel_jax.training import checkpoint
from configs import common


@pytest.fixture
def copied(finished, tmp_path):
  """Copies the run, with some fields of its config and summary changed."""
  folder, _ = finished

  def copy(name, *, summary=None, drop=(), **config):
    target = tmp_path / name
    shutil.copytree(folder, target)
    for file, changes in (('config.json', config), ('summary.json', summary or {})):
      content = json.loads((target / file).read_text()) | changes
      content = {key: value for key, value in content.items() if key not in drop}
      files.write_json(target / file, content)
    return target
  return copy


def test_a_run_comes_with_its_best_variables_and_preprocessing(finished):
  folder, summary = finished
  run, = trained.open_runs([folder], tta=None)
  assert run.class_names == ('other', 'melanoma')
  assert run.geometry == decode.Geometry(0.8, 36)
  assert run.config['tta'] is False
  with checkpoint.Checkpoints(folder / 'checkpoints', create=False) as checkpoints:
    best, meta = checkpoints.restore_best(run.variables)
  assert meta['step'] == summary['best']['step']
  jax.tree.map(np.testing.assert_array_equal, run.variables, best)
  assert trained.open_runs([folder], tta=True)[0].config['tta'] is True


def test_runs_that_differ_in_no_layer_share_a_program(copied):
  runs = trained.open_runs(
      [copied('a'), copied('b', seed=1, batch_size=4), copied('c', normalisation=
                                                              'imagenet')], tta=None)
  assert runs[0].program == runs[1].program != runs[2].program


@pytest.mark.parametrize(('changes', 'words'), [
    ({'model': 'unet'}, "model='unet', which does not classify"),
    ({'drop': ('tta', 'dtype')}, 'before configs had dtype, tta'),
    ({'summary': {'class_names': ['melanoma', 'other']}},
     'classes melanoma, other, .* other, melanoma')])
def test_what_cannot_be_opened_is_told(finished, copied, changes, words):
  with pytest.raises(errors.UserError, match=words):
    trained.open_runs([finished[0], copied('changed', **changes)], tta=None)


def test_absent_unfinished_and_repeated_runs_are_told(finished, copied, tmp_path):
  unfinished = copied('unfinished')
  (unfinished / 'summary.json').unlink()
  for folders, words in (
      ([tmp_path / 'nowhere'], 'nowhere/config.json does not exist'),
      ([unfinished], 'unfinished is not finished'),
      ([finished[0], finished[0]], 'names a run twice')):
    with pytest.raises(errors.UserError, match=words):
      trained.open_runs(folders, tta=None)


def test_the_config_is_read_from_the_run_not_from_defaults(finished, config):
  # The fixture's config differs from configs/common.py; so do the variables' shapes.
  assert common.get_config().width != config['width']
  run, = trained.open_runs([finished[0]], tta=None)
  assert run.config['width'] == config['width']
