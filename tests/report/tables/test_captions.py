"""Sentences that say what numbers are of."""

from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import published
from attnmel_jax.report.tables import table as table_lib
from tests.report import run_folders


def _scored(runs):
  return captions.scored(run_folders.estimates(runs))


def test_images_lesions_classes_and_seeds_are_counted(tmp_path):
  own = run_folders.config('isic2017')
  runs = [run_folders.write(tmp_path / 'a', own, per_lesion=2, rows=30)]
  assert _scored(runs) == [
      'Ours: test split, 30 images of 15 lesions (other 16, melanoma 14).',
      'Intervals: 95 %, percentile bootstrap, 50 draws of lesions within their class; '
      'they hold test sampling only (1 seed a system).']


def test_three_seeds_are_in_the_interval_of_their_system_alone(tmp_path):
  runs = [run_folders.write(tmp_path / str(seed), run_folders.config(
      'isic2017', seed=seed)) for seed in range(3)]
  assert 'hold test sampling and seeds (3 seeds a system)' in _scored(runs)[1]
  runs.append(run_folders.write(
      tmp_path / 'm', run_folders.config('isic2017', model='mel_cnn')))
  assert _scored(runs)[1].endswith(
      'test sampling and seeds for AttnMel-CNN, test sampling only for the others.')


def test_validation_and_synthetic_images_are_called_so(tmp_path):
  runs = [run_folders.write(tmp_path / 'a', run_folders.config('isic2017'),
                            split='validation', synthetic=True)]
  sentences = _scored(runs)
  assert 'also chose checkpoint and threshold' in sentences[2]
  assert sentences[3].startswith('Synthetic data')
  assert isinstance(sentences[3], table_lib.Bold)
  assert captions.synthetic(False) == []


def test_folds_are_named_and_missing_ones_told(tmp_path):
  def write(fold, **more):
    return run_folders.write(
        tmp_path / f'{fold}{len(more)}',
        run_folders.config('isic2018_cv', fold=fold, **more), rows=70)

  sentences = _scored([write(fold) for fold in (0, 2)])
  assert 'all images of a lesion in one fold: folds 0, 2 (2 of 5)' in sentences[1]
  assert sentences[2] == 'Not a whole cross-validation: 2 of 5 folds.'
  assert isinstance(sentences[2], table_lib.Bold)
  assert 'within their class and fold' in sentences[3]
  whole = _scored([write(fold) for fold in range(5)])
  assert not [text for text in whole if 'Not a whole' in text]
  naive = _scored([write(1, group_folds=False)])
  assert 'folds of single images' in naive[1]
  assert 'fold 1 (1 of 5)' in naive[1]


def test_settings_are_told_against_the_experiment_file_and_the_first_table(tmp_path):
  def group(name, **more):
    options = {'fingerprint': more.pop('fingerprint', 'a'),
               'rows': more.pop('rows', 40)}
    return run_folders.estimates([run_folders.write(
        tmp_path / name, run_folders.config('isic2017', **more), **options)]).group

  def told(own):
    return captions.settings(own, experiment='configs/isic2017.py',
                             defaults=run_folders.config('isic2017'), first=first)

  first = group('a', image_size=96, pretrained='/my/own/vgg.pth', model='mel_cnn')
  assert told(first) == ['Settings that differ from configs/isic2017.py: '
                         "image_size=96, pretrained='vgg.pth'."]
  other = group('b', pretrained='/my/own/vgg.pth')
  assert 'other settings (image_size=224)' in told(other)[1]
  same = {'image_size': 96, 'pretrained': '/my/own/vgg.pth'}
  assert 'other images' in told(group('c', rows=20, **same))[1]
  assert 'other training' in told(group('d', fingerprint='b', **same))[1]


def test_what_published_numbers_are_of():
  same = captions.beside(published.TABLE_3_2, 'test')
  assert len(same) == 1
  assert '600' in same[0]
  assert 'two sets of images' in captions.beside(published.TABLE_3_2, 'validation')[1]
  fourth = captions.beside(published.TABLE_3_4, 'test')
  assert '999 test images (MEL 111, NV 670' in fourth[0]
  assert 'ignores lesions' in fourth[0]
  assert 'two sets of images' in fourth[1]


def test_leakage_is_a_stamp(tmp_path):
  lines = [('train and test share 1 lesions: x',), ('a',), (), ('b',), ('c', 'a'),
           ('d',)]
  runs = [run_folders.write(tmp_path / str(seed), run_folders.config(
      'isic2017', seed=seed), leakage=own) for seed, own in enumerate(lines)]
  stamp = _scored(runs)[-1]
  assert stamp == (
      'Leakage, which flatters scores, in 5 of 6 runs: train and test share 1 lesions: '
      'x; a; b; and 2 more.')
  assert isinstance(stamp, table_lib.Stamp)
  assert not [text for text in _scored(runs[2:3]) if 'Leakage' in text]


def test_runs_from_before_leakage_was_looked_for_are_not_called_clean(tmp_path):
  run = run_folders.write(tmp_path / 'a', run_folders.config('isic2017'))
  run.summary.pop('leakage')
  assert _scored([run])[-1].startswith(
      'Leakage, which flatters scores, in 1 of 1 runs: unknown, as the version')


def test_near_duplicates_are_told(tmp_path):
  own = run_folders.config('isic2017')
  runs = [run_folders.write(tmp_path / 'a', own),
          run_folders.write(tmp_path / 'b', own | {'seed': 1},
                            without_near_duplicates={'n': 38})]
  assert any(text.startswith('2 of these images look like one that')
             for text in _scored(runs))
  assert not [text for text in _scored(runs[:1]) if 'look' in text]
