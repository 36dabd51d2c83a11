"""Sentences that say what numbers are of."""

from attnmel_jax.report.tables import captions
from attnmel_jax.report.tables import published
from attnmel_jax.report.tables import table as table_lib
from tests.report import run_folders

ISIC2017 = run_folders.config('isic2017')


def _shared(runs, defaults=ISIC2017):
  return captions.shared(run_folders.group(runs), experiment='configs/isic2017.py',
                         defaults=defaults)


def _write(folder, *, seed=0, **options):
  return run_folders.write(folder, ISIC2017 | {'seed': seed}, **options)


def test_images_lesions_classes_and_seeds_are_counted(tmp_path):
  assert list(_shared([_write(tmp_path / 'a', per_lesion=2, rows=30)])) == [
      'Ours: test split, 30 images of 15 lesions (other 16, melanoma 14).',
      'Intervals: 95 %, percentile bootstrap, 50 draws of lesions within their class; '
      'they cover test sampling only (1 seed a system).',
      'Settings that differ from configs/isic2017.py: none.']


def test_three_seeds_are_in_the_interval_of_their_system_alone(tmp_path):
  runs = [_write(tmp_path / str(seed), seed=seed) for seed in range(3)]
  assert 'cover test sampling and seeds (3 seeds a system)' in _shared(runs)[1]
  runs.append(run_folders.write(tmp_path / 'm', ISIC2017 | {'model': 'mel_cnn'}))
  assert _shared(runs)[1].endswith(
      'test sampling and seeds for AttnMel-CNN, test sampling only for the others.')


def test_validation_and_synthetic_images_are_called_so(tmp_path):
  sentences = _shared([_write(tmp_path / 'a', split='validation', synthetic=True)])
  assert 'also chose checkpoint and threshold' in sentences[2]
  assert sentences[3].startswith('Synthetic data')
  assert isinstance(sentences[3], table_lib.Bold)


def test_folds_are_named_and_missing_ones_counted(tmp_path):
  def write(fold, **more):
    return run_folders.write(
        tmp_path / f'{fold}{len(more)}',
        run_folders.config('isic2018_cv', fold=fold, **more), rows=70)

  sentences = _shared([write(fold) for fold in (0, 2)])
  assert 'all images of a lesion in one fold: folds 0, 2 (2 of 5)' in sentences[1]
  assert sentences[2] == 'Not a whole cross-validation: 2 of 5 folds.'
  assert isinstance(sentences[2], table_lib.Bold)
  assert 'lesions within their class and fold' in sentences[3]
  naive = _shared([write(1, group_folds=False)])
  assert 'folds of single images' in naive[1]


def test_settings_are_compared_with_the_experiment_file(tmp_path):
  run = run_folders.write(tmp_path / 'a', ISIC2017 | {'image_size': 96})
  assert _shared([run])[-1] == (
      'Settings that differ from configs/isic2017.py: image_size=96.')


def test_what_published_numbers_are_of(tmp_path):
  (same,) = run_folders.context([]).on_published
  assert '600' in same
  run = _write(tmp_path / 'a', split='validation')
  assert 'two sets of images' in run_folders.context([run]).on_published[1]
  fourth = run_folders.context([], published.TABLE_3_4).on_published
  assert '999 test images (MEL 111, NV 670' in fourth[0]
  assert 'two sets of images' in fourth[1]


def test_leakage_and_near_duplicates_are_sentences(tmp_path):
  lines = [('train and test share 1 lesions: x',), ('a',), (), ('b',), ('c', 'a'),
           ('d',)]
  runs = [_write(tmp_path / str(seed), seed=seed, leakage=own)
          for seed, own in enumerate(lines)]
  stamp = _shared(runs)[-2]
  assert stamp == (
      'Leakage, which flatters scores, in 5 of 6 runs: train and test share 1 lesions: '
      'x; a; b; and 2 more.')
  assert isinstance(stamp, table_lib.Stamp)
  clean = _shared(runs[2:3])
  assert not [text for text in clean if 'Leakage' in text or 'look' in text]
  doubled = _write(tmp_path / 'x', summary={'without_near_duplicates': {'n': 38}})
  assert _shared([doubled])[2].startswith('2 of these images look like one that a run')
