import json

import pytest

from attnmel_jax import errors
from attnmel_jax.data import archives as archives_lib
from attnmel_jax.data import catalogue
from attnmel_jax.data import sources

ISIC2017 = catalogue.DATASETS['isic2017']
DATA = 'ISIC-2017_Training_Data.zip'
LESIONS = 'ISIC-2017_Training_Part1_GroundTruth.zip'


def _files(**digests) -> archives_lib.SplitFiles:
  named = {'data': DATA, 'lesions': LESIONS}
  return archives_lib.SplitFiles(
      'train', (), {named[key]: digest for key, digest in digests.items()}, ())


def _folder(tmp_path, **digests):
  """A prepared folder that was made from `digests`."""
  (tmp_path / 'metadata.json').write_text(json.dumps(
      {'archives': dict(_files(**digests).digests)}))
  return tmp_path


def test_what_is_not_prepared_is_written(tmp_path):
  assert sources.needs_writing(_files(data='a'), tmp_path / 'absent')


def test_absent_masks_are_named_with_where_they_come_from(source, capsys):
  for path in source.glob('ISIC-2017_Training_*'):
    if path.name not in (DATA, 'ISIC-2017_Training_Part3_GroundTruth.csv'):
      path.unlink()
  with archives_lib.Reader() as reader:
    sources.read_splits(ISIC2017, source, reader, prepared=('test',))
  assert capsys.readouterr().out.splitlines()[:2] == [
      f'train: no lesion masks, {LESIONS} is not in --source; to be had from '
      'https://isic-challenge-data.s3.amazonaws.com/2017/',
      'train: no dermo masks, ISIC-2017_Training_Part2_GroundTruth.zip or '
      'ISIC-2017_Training_AttributeMasks.zip is not in --source; to be had from '
      'https://isic-challenge-data.s3.amazonaws.com/2017/']


@pytest.mark.parametrize('before, now, expected', [
    ({'data': 'a'}, {'data': 'a'}, False),
    ({'data': 'a'}, {'data': 'b'}, True),
    ({'data': 'a'}, {'data': 'a', 'lesions': 'c'}, True),
    ({'data': 'a', 'lesions': 'c'}, {'data': 'a'}, False),
    ({}, {'data': 'a'}, True)])
def test_a_split_is_written_again_if_its_archives_changed(
    tmp_path, before, now, expected):
  folder = _folder(tmp_path, **before)
  assert sources.needs_writing(_files(**now), folder) == expected


def test_changed_and_absent_archives_are_a_contradiction(tmp_path):
  folder = _folder(tmp_path, data='a', lesions='c')
  with pytest.raises(errors.UserError, match=f'{LESIONS}, absent .* {DATA} changed'):
    sources.needs_writing(_files(data='b'), folder)


def test_left_out_splits_are_named(source, capsys):
  with archives_lib.Reader() as reader:
    splits = sources.read_splits(ISIC2017, source, reader, prepared=('test',))
  assert list(splits) == ['train', 'validation']
  assert capsys.readouterr().out == (
      'test: already prepared; ISIC-2017_Test_v2_Data.zip, '
      f'ISIC-2017_Test_v2_Part3_GroundTruth.csv are not in {source}\n')


def test_an_image_may_be_in_one_split_only():
  def files(split, *ids):
    return archives_lib.SplitFiles(split, tuple(
        archives_lib.Example(k, archives_lib.Member(None, f'{k}.jpg', 0, 0))
        for k in ids), {}, ())
  assert sources.repeated_ids(
      {'train': files('train', 'A', 'B'), 'test': files('test', 'C', 'A')}) == [
          'A.jpg: duplicate id A, in train and test']
