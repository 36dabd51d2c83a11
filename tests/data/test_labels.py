import functools

import pytest

from attnmel_jax.data import labels

COLUMNS = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
HEADER = 'image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n'
isic2018 = functools.partial(labels.isic2018, columns=COLUMNS)


def _read(reader, text):
  bad: list[str] = []
  return reader(text, bad), bad


def test_isic2016_has_words_in_training_and_numbers_in_test():
  assert _read(labels.isic2016, 'A,benign\nB,malignant\n') == ({'A': 0, 'B': 1}, [])
  assert _read(labels.isic2016, 'A,0.0\r\nB,1.0\r\n\r\n') == ({'A': 0, 'B': 1}, [])


@pytest.mark.parametrize('text, expected, note', [
    ('A,Malign\n', {'A': -1}, "unknown label 'malign' of A"),
    ('A\n', {'A': -1}, "unknown label '' of A"),
    ('A,2\n', {'A': -1}, "unknown label '2' of A"),
    (',benign\n', {}, 'line 1 has no image id'),
    ('NaN,benign\n', {}, 'line 1 has no image id'),
    ('A,benign,1\n', {'A': -1}, 'line 1 has 3 cells, not 2'),
    ('A,benign\nA,malignant\n', {'A': 0}, 'duplicate id A')])
def test_isic2016_names_what_is_wrong(text, expected, note):
  values, (found,) = _read(labels.isic2016, text)
  assert values == expected
  assert note in found


def test_isic2018_takes_the_place_of_the_one():
  rows = ''.join(f'{name},' + ','.join(str(float(k == i)) for k in range(7)) + '\n'
                 for i, name in enumerate('ABCDEFG'))
  assert _read(isic2018, HEADER + rows) == (
      {name: i for i, name in enumerate('ABCDEFG')}, [])


def test_isic2018_finds_columns_by_name_and_passes_over_weights():
  text = 'image,NV,MEL,BCC,AKIEC,BKL,DF,VASC,score_weight\nA,0,1,0,0,0,0,0,0.5\n'
  assert _read(isic2018, text) == ({'A': 0}, [])


@pytest.mark.parametrize('row, note', [
    ('A,0,0,0,0,0,0,0', 'A is none of MEL, NV, BCC, AKIEC, BKL, DF, VASC'),
    ('A,1,0,0,0,1,0,0', 'A is both MEL and BKL'),
    ('A,1,0,x,0,0,0,0', "unknown label BCC='x' of A")])
def test_isic2018_names_what_is_wrong(row, note):
  values, (found,) = _read(isic2018, HEADER + row + '\n')
  assert values == {'A': -1}
  assert note in found


def test_isic2017_without_either_is_a_nevus():
  text = 'image_id,melanoma,seborrheic_keratosis\nA,1.0,0.0\nB,0.0,1.0\nC,0.0,0.0\n'
  assert _read(labels.isic2017, text) == ({'A': 0, 'B': 1, 'C': 2}, [])


def test_lesions_of_isic2018():
  text = 'image,lesion_id,diagnosis_confirm_type\nA,HAM_1,histo\nB,HAM_1,follow_up\n'
  assert _read(labels.isic2018_lesions, text) == ({'A': 'HAM_1', 'B': 'HAM_1'}, [])
  assert _read(labels.isic2018_lesions, 'image,lesion\nA,1\n') == (
      {}, ['has no column lesion_id'])


@pytest.mark.parametrize('row', ['A', 'A,', 'A, ,histo', 'A,NaN,histo'])
def test_an_image_without_a_lesion_is_named(row):
  text = f'image,lesion_id,diagnosis_confirm_type\n{row}\nB,HAM_1,histo\n'
  assert _read(labels.isic2018_lesions, text) == (
      {'A': '', 'B': 'HAM_1'}, ['no lesion_id of A'])


def test_cells_are_cleaned_and_names_composed():
  assert [labels.clean(cell) for cell in (' a ', None, 'NaN', 'nan ', 'nano')] == [
      'a', '', '', '', 'nano']
  assert labels.composed('a\u0308') == '\xe4'
