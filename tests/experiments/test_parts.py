"""Which image is in which part, written down and read again."""

import types

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.experiments import parts as parts_lib


def _part(rows):
  prepared = types.SimpleNamespace(
      ids=np.array(['c', 'a', 'd', 'b']), groups=np.array(['x', 'y', 'x', 'z']))
  return parts_lib.Part(
      prepared, np.array(rows), np.array([0, 1, 1, 0], np.int32), ('other', 'melanoma'))


def test_the_division_is_written_image_by_image(tmp_path):
  path = tmp_path / 'split.csv'
  parts_lib.write_split(path, {'train': _part([0, 2]), 'test': _part([3, 1])})
  assert path.read_text().splitlines() == [
      'image,group,part', 'a,y,test', 'b,z,test', 'c,x,train', 'd,x,train']
  assert parts_lib.read_split(path) == {
      'train': ['c', 'd'], 'validation': [], 'test': ['a', 'b']}


@pytest.mark.parametrize('text', [None, 'image,group\na,y\n', 'image,part\na,other\n'])
def test_a_split_that_cannot_be_read_is_one_line(tmp_path, text):
  path = tmp_path / 'split.csv'
  if text is not None:
    path.write_text(text)
  with pytest.raises(errors.UserError, match='is missing or damaged'):
    parts_lib.read_split(path)


def test_rows_are_chosen_and_counted():
  part = _part([3, 0, 2])
  assert part.choose(np.array([1, 2])).ids.tolist() == ['c', 'd']
  assert parts_lib.counts(part) == {
      'n': 3, 'groups': 2, 'class_counts': {'other': 2, 'melanoma': 1}}


def test_classes_with_few_images_are_named():
  part = _part([0] * 10 + [1] * 9)
  assert parts_lib.few('validation', part) == [
      'warning: validation has 9 of melanoma; fewer than 10 images choose checkpoint '
      'and threshold almost by chance']
  assert len(parts_lib.few('test', part.choose(np.arange(3)))) == 2
