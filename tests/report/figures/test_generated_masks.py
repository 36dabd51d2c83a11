import dataclasses

import numpy as np
from PIL import Image
import pytest
import sklearn.metrics

from attnmel_jax.report.figures import generated_masks
from attnmel_jax.report.figures import prepared_data
from tests.report import conftest
from tests.report import drawn

pytestmark = pytest.mark.usefixtures('undrawn')


@pytest.fixture
def with_masks(prepared, tmp_path):
  """Folder of prepared data in which the training images have generated maps."""
  rng = np.random.default_rng(0)
  return conftest.with_generated(
      prepared, tmp_path / 'data',
      lambda row: rng.integers(0, 256, (conftest.SIDE,) * 2, np.uint8))


def test_the_jaccard_index_is_scikit_learns_at_half():
  maps = np.random.default_rng(1).integers(0, 256, (2, 8, 8), np.uint8)
  maps[0, 0, :2] = 127, 128
  lesion = np.zeros((2, 8, 8), np.uint8)
  lesion[:, 2:5, 1:6] = 255
  found = generated_masks.jaccard(maps, lesion, np.array([True, False]))
  expected = sklearn.metrics.jaccard_score(
      lesion[0].ravel() > 0, maps[0].ravel() / 255 >= 0.5)
  assert found[0] == pytest.approx(expected) and np.isnan(found[1])


def test_photograph_reference_and_map_stand_below_each_other(with_masks, tmp_path):
  entries = generated_masks.write([], tmp_path / 'figures', with_masks)
  assert entries[0].title == 'Figure 3.4: generated masks (unet, ISIC 2017, synthetic)'
  assert (tmp_path / 'figures' / 'figure_3_4_isic2017_unet.png').exists()
  (one,) = [one for one in prepared_data.split_folders(with_masks) if one.masks]
  prepared = one.open()
  rows = prepared_data.choose(prepared.labels, prepared.has_lesion)
  maps = prepared_data.generated_maps(one, prepared, rows)
  figure = generated_masks.figure(prepared, rows, maps, 'Heading')
  drawn.check_texts(figure)
  second = [figure.axes[1 + row * len(rows)].images[0].get_array() for row in range(3)]
  stored = prepared.load(int(rows[1]))
  for values, expected in zip(
      second, (stored['image'], stored['lesion'], maps[1]), strict=True):
    np.testing.assert_array_equal(values, expected)
  (index,) = generated_masks.jaccard(maps[1:2], stored['lesion'][None], np.array(True))
  assert f'Jaccard {index:.2f}' in [text for text, _ in drawn.texts(figure)]


def test_without_any_annotation_there_is_no_row_of_references(prepared, monkeypatch):
  whole = conftest.open_split(prepared, 'train')
  data = dataclasses.replace(whole, has_lesion=np.zeros(len(whole), bool))
  load = type(whole).load  # which finds that record and index disagree
  monkeypatch.setattr(type(whole), 'load', lambda _, row: load(whole, row))
  maps = np.zeros((2, conftest.SIDE, conftest.SIDE), np.uint8)
  figure = generated_masks.figure(data, np.array([0, 1]), maps, 'Heading')
  drawn.check_texts(figure)
  assert len(figure.axes) == 2 * 2 + 1
  assert not [text for text, _ in drawn.texts(figure) if 'Jaccard' in text]


def test_what_is_missing_or_damaged_is_a_line(with_masks, make_run, found, tmp_path):
  make_run('a', conftest.predictions(), roi='generated', generated_masks='other')
  for path in (with_masks / 'isic2017').glob('*-generated-unet/*.png'):
    Image.new('L', (5, 5)).save(path)
  text = conftest.text(generated_masks.write(found(), tmp_path / 'figures', with_masks))
  assert 'unet of ISIC 2017 is not drawn: ' in text and ' is missing or damaged' in text
  assert 'The masks other of ISIC 2017 are not in' in text
  (entry,) = generated_masks.write([], tmp_path / 'figures', tmp_path)
  assert entry.text.startswith('No run of AttnMel-CNN-Lesion*')
  assert not (tmp_path / 'figures').exists()
