import dataclasses

import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.report.figures import prepared_data
from tests.report import conftest


@pytest.mark.parametrize('labels, annotated, chosen', [
    # The first annotated images of each class are shown.
    ([2, 0, 0, 1, 0, 2, 0, 1, 2], [0, 1, 0, 1, 1, 1, 1, 1, 1], [1, 4, 3, 7, 5, 8]),
    # A class with few images leaves its places to the others.
    ([0] + [1] * 9, [1] * 10, [0, *range(1, 8)]),
    # More classes than places have an image each.
    (np.repeat(np.arange(11), 2), [1] * 22, [*range(0, 22, 2)]),
    # Without annotations the first images of each class are shown.
    ([1, 1, 0], [0, 0, 0], [2, 0, 1])])
def test_which_images_are_shown(labels, annotated, chosen):
  found = prepared_data.choose(np.array(labels), np.array(annotated, bool))
  assert found.tolist() == chosen


def test_folders_are_looked_at_in_order_and_once(make_run, found, tmp_path):
  for name in ('x', 'y'):
    make_run(name, conftest.predictions(), data_dir=str(tmp_path / 'd'))
  asked = tmp_path / 'asked'
  assert prepared_data.data_dirs(found(), asked) == [asked, tmp_path / 'd']
  assert prepared_data.data_dirs(found(), None) == [tmp_path / 'd']


def test_prepared_splits_and_generated_masks_are_told_apart(prepared, tmp_path):
  found = list(prepared_data.split_folders(prepared))
  assert {one.split for one in found} == {'train', 'validation', 'test'}
  assert {one.masks for one in found} == {''}
  assert len(found[0].open()) == len(conftest.open_split(prepared, found[0].split))
  path = tmp_path / 'isic2018' / 'train-crop1.0-side256-bilinear-generated-my-unet'
  path.mkdir(parents=True)
  (tmp_path / 'isic2018' / 'bad_files.txt').touch()
  assert list(prepared_data.split_folders(tmp_path)) == [
      prepared_data.SplitFolder(path, 'isic2018', 'train', 1.0, 256, 'my-unet')]


@pytest.fixture
def member(make_run, grouped):
  """Writes a run with rows, and reads it."""

  def write(rows, **fields):
    make_run('a', rows, **fields)
    return grouped()[0].members[0]

  return write


def test_photographs_are_found_where_the_run_or_the_user_says(
    member, rows, prepared, tmp_path):
  one = member(rows)
  for candidates, message in (([tmp_path], 'is not prepared in'),
                              ([], 'no prepared data of a')):
    with pytest.raises(errors.UserError, match=message):
      prepared_data.open_photographs(one, 'test', candidates)
  opened = prepared_data.open_photographs(one, 'test', [tmp_path, prepared])
  assert opened.split == 'test'
  # A fold has its images from the training split.
  one = member(conftest.rows_of(prepared, 'train'), num_folds=2)
  assert prepared_data.open_photographs(one, 'test', [prepared]).split == 'train'


def test_data_of_another_fingerprint_are_refused(member, prepared):
  rows = conftest.rows_of(prepared, 'validation')
  right = {name: conftest.open_split(prepared, name).fingerprint
           for name in ('train', 'validation')}
  one = member(rows, split='validation', fingerprints=right)
  assert prepared_data.open_photographs(one, 'validation', [prepared])
  for split in right:
    one = member(rows, split='validation', fingerprints=right | {split: 'f' * 64})
    with pytest.raises(errors.UserError, match=f'the {split} data in .* are not those'):
      prepared_data.open_photographs(one, 'validation', [prepared])


def test_other_images_or_labels_are_refused(member, rows, prepared):
  ids, labels, probabilities = rows
  for other in ((ids, 1 - labels), (np.char.add(ids, 'x'), labels)):
    with pytest.raises(errors.UserError, match='does not hold the images and labels'):
      prepared_data.open_photographs(
          member((*other, probabilities)), 'test', [prepared])


def test_generated_maps_are_those_of_the_rows(prepared, tmp_path):
  root = conftest.with_generated(
      prepared, tmp_path / 'data', lambda row: np.full((36, 36), 20 * row, np.uint8))
  (one,) = [one for one in prepared_data.split_folders(root) if one.masks]
  data = one.open()
  found = prepared_data.generated_maps(one, data, np.array([3, 1]))
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found[:, 0, 0], [60, 20])
  (one.path / f'{data.ids[0]}.png').unlink()
  other = dataclasses.replace(data, fingerprint='f' * 64)
  for which, row, message in ((data, 0, f'{data.ids[0]}.png is missing'),
                              (other, 1, 'made for other images')):
    with pytest.raises(errors.UserError, match=message):
      prepared_data.generated_maps(one, which, np.array([row]))
