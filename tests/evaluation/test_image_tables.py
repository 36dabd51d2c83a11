import numpy as np
import pytest

from attnmel_jax import errors
from attnmel_jax.evaluation import image_tables


def test_what_was_written_comes_back(tmp_path):
  path = tmp_path / 'test_images.csv'
  scores = {'jaccard_pool4': np.array([1 / 3, np.nan, 1.0]),
            'mass_pool4': np.array([0.1, np.nan, np.nan])}
  image_tables.write(path, ['a', 'b', 'c'], ['x', 'x', 'c'], scores)
  assert path.read_text() == (
      'image,lesion_id,jaccard_pool4,mass_pool4\n'
      'a,x,0.3333333333333333,0.1\nb,x,,\nc,c,1.0,\n')
  table = image_tables.read(path)
  assert table.ids.tolist() == ['a', 'b', 'c']
  assert table.groups.tolist() == ['x', 'x', 'c']
  assert list(table.scores) == list(scores)
  for name, values in scores.items():
    np.testing.assert_array_equal(table.scores[name], values)


def test_images_without_scores_have_lesions(tmp_path):
  path = tmp_path / 'val_images.csv'
  image_tables.write(path, ['a', 'b'], ['a', 'b'], {})
  table = image_tables.read(path)
  assert (table.groups.tolist(), table.scores) == (['a', 'b'], {})


@pytest.mark.parametrize('text, message', [
    ('', 'holds no images'),
    ('image,label\na,b\n', 'holds no images'),
    ('image,lesion_id\n', 'holds no images'),
    ('image,lesion_id,x\na,b\n', 'different lengths'),
    ('image,lesion_id,x\na,b,high\n', "'high'"),
    ('image,lesion_id\na,b\na,c\n', 'twice')])
def test_a_damaged_file_says_so_in_one_line(tmp_path, text, message):
  path = tmp_path / 'images.csv'
  path.write_text(text)
  with pytest.raises(errors.UserError, match=message) as caught:
    image_tables.read(path)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


def test_an_absent_file_says_how_to_get_it(tmp_path):
  with pytest.raises(errors.UserError, match='No such file.*launch/evaluate.py'):
    image_tables.read(tmp_path / 'none.csv')


def test_what_does_not_fit_is_not_written(tmp_path):
  path = tmp_path / 'images.csv'
  for groups, scores in ((['a'], {}), (['a', 'b'], {'x': np.zeros(3)}),
                         (['a', 'b'], {'image': np.zeros(2)})):
    with pytest.raises(ValueError):
      image_tables.write(path, ['a', 'b'], groups, scores)
  assert not path.exists()
