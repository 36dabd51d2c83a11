import json
import pathlib

import pytest

from attnmel_jax import errors
from attnmel_jax.data import decode
from attnmel_jax.data import storage

TFDS = 'tensorflow_datasets.core.features.'


def test_the_folder_names_split_and_geometry():
  geometry = decode.Geometry(0.8, 256)
  assert geometry.folder('isic2017', 'train', pathlib.Path('/data')) == pathlib.Path(
      f'/data/isic2017/train-crop0.8-side256-bilinear/{storage.VERSION}')
  assert decode.Geometry(1, 256) != decode.Geometry(0.9, 256)
  assert decode.Geometry(1, 256).config_name('test') == 'test-crop1.0-side256-bilinear'


def _features(**feature) -> dict:
  """As TFDS writes them, with one feature more."""
  return {'pythonClassName': TFDS + 'features_dict.FeaturesDict', 'featuresDict': {
      'features': {
          'id': {'pythonClassName': TFDS + 'text_feature.Text', 'text': {}},
          'added': feature}}}


def test_features_of_tfds_pass(tmp_path):
  (tmp_path / 'features.json').write_text(json.dumps(_features(
      pythonClassName=TFDS + 'image_feature.Image',
      image={'shape': {'dimensions': ['4', '4', '1']}})))
  try:
    storage.check_features(tmp_path)
  except errors.UserError as error:
    pytest.fail(f'features that TFDS writes are refused: {error}')


@pytest.mark.parametrize('feature', [
    {'pythonClassName': 'evil.Feature'},
    {'pythonClassName': ['evil.Feature']},
    {'pythonClassName': TFDS + 'image_feature.Other'},
    {'python_class_name': 'evil.Feature'},
    {'type': 'evil.Feature', 'content': {}},
    {'jsonFeature': {'json': '{"type": "evil.Feature"}'}},
    {'json_feature': {'json': '{"type": "evil.Feature"}'}},
    {'sequence': [{'pythonClassName': 'evil.Feature'}]}])
def test_other_code_is_refused_in_every_spelling(tmp_path, feature):
  (tmp_path / 'features.json').write_text(json.dumps(_features(**feature)))
  with pytest.raises(errors.UserError, match='no feature of a prepared split'):
    storage.check_features(tmp_path)


@pytest.mark.parametrize('content', ['', '{', '\xff'])
def test_features_that_cannot_be_read(tmp_path, content):
  (tmp_path / 'features.json').write_bytes(content.encode('latin-1'))
  with pytest.raises(errors.UserError, match='is damaged'):
    storage.check_features(tmp_path)


@pytest.mark.parametrize('content, index', [
    ('{"ids": []}', {'ids': []}), ('[]', {}), ('{', {}), ('', {})])
def test_an_index_that_cannot_be_read_is_empty(tmp_path, content, index):
  (tmp_path / 'metadata.json').write_text(content)
  assert storage.read_index(tmp_path) == index
  assert storage.read_index(tmp_path / 'absent') == {}
