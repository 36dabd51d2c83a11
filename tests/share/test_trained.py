"""Finished runs opened for use, and those that cannot be."""

import shutil

import jax
import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.data import decode
from attnmel_jax.share import trained
from attnmel_jax.training import checkpoint


@pytest.fixture
def copied(finished, tmp_path):
  """Copies the run, with some fields of its config and summary changed."""

  def copy(name, *, summary=None, **config):
    target = tmp_path / name
    shutil.copytree(finished[0], target)
    for file, changes in (('config.json', config), ('summary.json', summary or {})):
      files.write_json(target / file, files.read_json(target / file) | changes)
    return target
  return copy


def test_a_run_comes_with_its_best_variables_and_preprocessing(finished, run):
  folder, summary = finished
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


def test_what_cannot_be_opened_is_one_line(finished, copied, tmp_path):
  unfinished = copied('unfinished')
  (unfinished / 'summary.json').unlink()
  turned = copied('turned', summary={
      'class_names': ['melanoma', 'other'], 'validation': {'n': 16}, 'test': {'n': 20},
      'trained_on': {'n': 48, 'groups': 48, 'class_counts': {}}})
  later = copied('later', summary={'best': {'step': 1}})
  for folders, words in (
      ([tmp_path / 'nowhere'], 'nowhere/config.json does not exist'),
      ([unfinished], 'unfinished is not finished'),
      ([copied('unet', model='unet')], "model='unet', which does not classify"),
      ([later], 'a best state after step 3, summary.json scores of one after'),
      ([finished[0], turned], 'classes melanoma, other, .* other, melanoma'),
      ([finished[0], finished[0]], 'names a run twice')):
    with pytest.raises(errors.UserError, match=words):
      trained.open_runs(folders, tta=None)
