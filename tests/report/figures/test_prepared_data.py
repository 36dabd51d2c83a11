import dataclasses

import numpy as np
from PIL import Image
import pytest

from attnmel_jax import errors
from attnmel_jax.report.figures import prepared_data
from tests.report import conftest


def _rows(prepared, split):
  data = conftest.open_split(prepared, split)
  labels = (data.labels == 0).astype(int)
  return data.ids, labels, np.tile([0.5, 0.5], (len(data), 1))


def _member(make_run, grouped, rows, **fields):
  make_run('a', rows, **fields)
  return grouped()[0].members[0]


def test_the_first_annotated_images_of_each_class_are_shown():
  labels = np.array([2, 0, 0, 1, 0, 2, 0, 1, 2])
  annotated = np.array([0, 1, 0, 1, 1, 1, 1, 1, 1], bool)
  assert prepared_data.choose(labels, annotated).tolist() == [1, 4, 3, 7, 5, 8]


def test_a_class_with_few_images_leaves_its_places_to_the_others():
  labels = np.array([0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
  assert prepared_data.choose(labels, labels >= 0).tolist() == [0, *range(1, 8)]


def test_more_classes_than_places_have_an_image_each():
  labels = np.repeat(np.arange(11), 2)
  assert prepared_data.choose(labels, labels >= 0).tolist() == list(range(0, 22, 2))


def test_without_annotations_the_first_images_of_each_class_are_shown():
  labels = np.array([1, 1, 0])
  assert prepared_data.choose(labels, np.zeros(3, bool)).tolist() == [2, 0, 1]


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
  path = tmp_path / 'isic2018' / 'train-crop1.0-side256-bilinear-generated-my-unet'
  path.mkdir(parents=True)
  (tmp_path / 'isic2018' / 'bad_files.txt').touch()
  assert list(prepared_data.split_folders(tmp_path)) == [
      prepared_data.SplitFolder(path, 'isic2018', 'train', 1.0, 256, 'my-unet')]
  assert len(found[0].open()) == len(conftest.open_split(prepared, found[0].split))


def test_photographs_are_found_where_the_run_or_the_user_says(
    make_run, grouped, prepared, tmp_path):
  one = _member(make_run, grouped, _rows(prepared, 'test'))
  with pytest.raises(errors.UserError, match='is not prepared in'):
    prepared_data.open_photographs(one, 'test', [tmp_path])
  opened = prepared_data.open_photographs(one, 'test', [tmp_path, prepared])
  assert opened.split == 'test'
  with pytest.raises(errors.UserError, match='no prepared data of a'):
    prepared_data.open_photographs(one, 'test', [])


def test_a_fold_has_its_images_from_the_training_split(make_run, grouped, prepared):
  one = _member(make_run, grouped, _rows(prepared, 'train'), num_folds=2)
  assert prepared_data.open_photographs(one, 'test', [prepared]).split == 'train'


def test_data_of_another_fingerprint_are_refused(make_run, grouped, prepared):
  rows = _rows(prepared, 'validation')
  right = {name: conftest.open_split(prepared, name).fingerprint
           for name in ('train', 'validation')}
  make_run('a', rows, split='validation', fingerprints=right)
  one = grouped()[0].members[0]
  assert prepared_data.open_photographs(one, 'validation', [prepared])
  for split in right:
    make_run('a', rows, split='validation', fingerprints=right | {split: 'f' * 64})
    one = grouped()[0].members[0]
    with pytest.raises(errors.UserError, match=f'the {split} data in .* are not those'):
      prepared_data.open_photographs(one, 'validation', [prepared])


def test_other_images_or_labels_are_refused(make_run, grouped, prepared):
  ids, labels, probabilities = _rows(prepared, 'test')
  for rows in ((ids, 1 - labels, probabilities), (np.char.add(ids, 'x'), labels,
                                                  probabilities)):
    one = _member(make_run, grouped, rows)
    with pytest.raises(errors.UserError, match='does not hold the images and labels'):
      prepared_data.open_photographs(one, 'test', [prepared])


@pytest.fixture
def masks(prepared, tmp_path):
  """Generated maps of the training split, the number of the row in each."""
  root = conftest.with_generated(
      prepared, tmp_path / 'data', lambda row: np.full((36, 36), 20 * row, np.uint8))
  one = [one for one in prepared_data.split_folders(root) if one.masks][0]
  return one, one.open()


def test_generated_maps_are_those_of_the_rows(masks):
  one, data = masks
  found = prepared_data.generated_maps(one, data, np.array([3, 1]))
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found[:, 0, 0], [60, 20])


def test_generated_maps_that_are_missing_damaged_or_foreign_are_refused(masks):
  one, data = masks
  (one.path / f'{data.ids[0]}.png').unlink()
  (one.path / f'{data.ids[2]}.png').write_bytes(b'no picture')
  Image.new('L', (36, 35)).save(one.path / f'{data.ids[3]}.png')
  for row in (0, 2, 3):
    with pytest.raises(errors.UserError, match=f'{data.ids[row]}.png is missing or'):
      prepared_data.generated_maps(one, data, np.array([row]))
  other = dataclasses.replace(data, fingerprint='f' * 64)
  with pytest.raises(errors.UserError, match='made for other images'):
    prepared_data.generated_maps(one, other, np.array([1]))
  (one.path / 'index.json').unlink()
  with pytest.raises(errors.UserError, match='are incomplete'):
    prepared_data.generated_maps(one, data, np.array([1]))
