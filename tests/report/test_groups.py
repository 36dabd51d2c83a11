"""Which runs may stand side by side, and how a group scores."""

import shutil

import numpy as np
import pytest
import sklearn.metrics

from attnmel_jax.evaluation import bootstrap
from attnmel_jax.report import groups
from tests.report import run_folders


def _gather(runs, split='auto'):
  return groups.gather(runs, split=split, defaults=run_folders.plan().defaults)


def _write(folder, *, experiment='isic2017', more=None, **options):
  fields = {name: options.pop(name) for name in ('model', 'roi', 'seed', 'fold')
            if name in options}
  own = run_folders.config(experiment, **fields, **(more or {}))
  return run_folders.write(folder, own, **options)


def test_seeds_and_systems_share_a_group_in_the_order_of_the_thesis(tmp_path):
  runs = [_write(tmp_path / f'{model}{seed}', model=model, seed=seed,
                 more={'data_dir': f'/{seed}', 'log_every_steps': seed + 1,
                       'allow_leakage': seed == 0})
          for model in ('attnmel_cnn', 'mel_cnn') for seed in (2, 0)]
  found = _gather(runs)
  assert not found.left_out
  (group,) = found.groups
  assert list(group.units) == ['Mel-CNN', 'AttnMel-CNN']
  assert {name: [one.place for one in own] for name, own in group.systems.items()} == {
      'Mel-CNN': [(0, 0), (2, 0)], 'AttnMel-CNN': [(0, 0), (2, 0)]}
  assert (group.title, group.heading, group.stem) == (
      'ISIC 2017', 'ISIC 2017: 40 test images', 'isic2017_melanoma')
  assert (group.counts, group.synthetic, group.apart) == ([20, 20], False, '')


def test_another_budget_data_or_images_make_another_group(tmp_path):
  runs = [
      _write(tmp_path / 'a'), _write(tmp_path / 'b', model='mel_cnn'),
      _write(tmp_path / 'budget', more={'num_epochs': 2}),
      _write(tmp_path / 'trained', model='vgg16', fingerprints={'train': 'b'}),
      _write(tmp_path / 'images', model='vgg16', rows=38),
      _write(tmp_path / 'drawn', model='vgg16', synthetic=True),
      _write(tmp_path / 'validation', model='vgg16', split='validation')]
  found = _gather(runs)
  assert not found.left_out
  folders = [[member.run.folder.name for member in group.members]
             for group in found.groups]
  assert folders[0] == ['b', 'a']  # most systems
  assert folders[-1] == ['drawn']  # however many they are, drawn images come last
  assert [group.number for group in found.groups] == [1, 2, 3, 4, 5, 6]
  assert found.groups[1].title == 'ISIC 2017, group 2'
  assert found.groups[5].stem == 'isic2017_melanoma_synthetic_group6'
  assert {names[0]: group.apart for names, group in
          zip(folders[1:], found.groups[1:], strict=True)} == {
      'budget': 'other settings (num_epochs=2)',
      'trained': 'other data (by their fingerprints)',
      'images': 'other images, or other folds of them',
      'drawn': 'other images (drawn by a program)',
      'validation': 'other images (validation instead of test)'}


def test_folds_of_a_seed_are_pooled_and_grouped_folds_kept_apart(tmp_path):
  options = {'experiment': 'isic2018_cv', 'rows': 105, 'per_lesion': 3}
  runs = [_write(tmp_path / f'g{fold}', fold=fold, **options) for fold in (0, 1, 3)]
  runs += [_write(tmp_path / 'naive', more={'group_folds': False}, **options),
           _write(tmp_path / 'fewer', model='mel_cnn', fold=1, **options)]
  found = _gather(runs)
  assert not found.left_out
  by_size = {len(group.members): group for group in found.groups}
  unit = by_size[3].units['AttnMel-CNN'][0]
  np.testing.assert_array_equal(np.unique(unit.run.folds), [0, 1, 3])
  expected = [f'ISIC_{row:07d}' for row in range(105) if row // 3 % 5 in (0, 1, 3)]
  assert unit.run.predictions.ids.tolist() == expected
  assert unit.members[2].label == 'seed 0, fold 3'
  # Fold 1 alone has other images than folds 0, 1 and 3; the naive fold other settings.
  assert len(found.groups) == 3
  assert {group.title.partition(', group')[0] for group in found.groups} == {
      'ISIC 2018, 5 folds by lesion', 'ISIC 2018, 5 folds by image'}


def test_what_is_left_out_is_named(tmp_path):
  runs = [_write(tmp_path / name, model=name)
          for name in ('vgg16', 'mel_cnn', 'vgg16_gap')]
  shutil.copytree(tmp_path / 'vgg16', tmp_path / 'twin')
  runs.append(run_folders.read(tmp_path / 'twin'))
  (tmp_path / 'mel_cnn' / 'predictions' / 'test.csv').write_text('image,label\n')
  (tmp_path / 'vgg16_gap' / 'predictions' / 'test_images.csv').unlink()
  found = _gather(runs)
  assert [list(group.units) for group in found.groups] == [['VGG-16']]
  by_folder = {line.partition(':')[0].rpartition('/')[2]: line
               for line in found.left_out}
  assert 'test.csv, line 1' in by_folder['mel_cnn']
  assert 'test_images.csv cannot be read' in by_folder['vgg16_gap']
  assert f'the same config as {tmp_path / "vgg16"}' in by_folder['twin']
  # Of two runs of one config the whole one is taken.
  (tmp_path / 'vgg16' / 'predictions' / 'test.csv').write_text('')
  (group,) = _gather(runs).groups
  assert [member.run.folder.name for member in group.members] == ['twin']


def test_seeds_are_averaged_and_draws_shared(tmp_path):
  runs = [_write(tmp_path / str(seed), seed=seed) for seed in range(3)]
  runs.append(_write(tmp_path / 'm', model='mel_cnn'))
  group = run_folders.group(runs)
  labels = group.example.predictions.labels
  expected = [sklearn.metrics.roc_auc_score(labels, one.table.probabilities[:, 1])
              for one in group.systems['AttnMel-CNN']]
  interval = group.interval('AttnMel-CNN', 'auc')
  assert interval.estimate == pytest.approx(np.mean(expected))
  assert interval.low < interval.estimate < interval.high
  assert group.has('AttnMel-CNN', 'jaccard_pool3')
  assert not group.has('Mel-CNN', 'jaccard_pool3')
  assert not group.has('VGG-16', 'auc')
  # The draws are those of the rows in the order of their ids.
  probabilities = group.systems['Mel-CNN'][0].table.probabilities[:, 1]
  draws = bootstrap.resample(
      labels, group.example.images.groups, num_draws=50, seed=0)
  rows = [np.repeat(np.arange(40), draw) for draw in draws]
  np.testing.assert_allclose(group.values('Mel-CNN', 'auc')[1:], [
      sklearn.metrics.roc_auc_score(labels[taken], probabilities[taken])
      for taken in rows])


def test_any_tap_is_found_in_its_order(tmp_path):
  runs = [_write(tmp_path / 'a', scored=('pool4', 'cam', 'pool1')),
          _write(tmp_path / 'b', roi='lesion', scored=('pool2', 'pool4'))]
  group = run_folders.group(runs)
  assert groups.maps(group.example)[:3] == ['pool1', 'pool4', 'cam']
  assert groups.taps(group) == ['pool1', 'pool2', 'pool4']
