"""Which runs may stand in one table."""

import json
import shutil

import numpy as np

from attnmel_jax.report import groups
from configs import common
from tests.report import run_folders

DEFAULTS = common.get_config().to_dict()


def _gather(runs, split='auto'):
  return groups.gather(runs, split=split, defaults=DEFAULTS)


def _write(folder, *, experiment='isic2017', model='attnmel_cnn', roi='none', seed=0,
           fold=0, more=None, **options):
  own = run_folders.config(experiment, model=model, roi=roi, seed=seed, fold=fold,
                           **(more or {}))
  return run_folders.write(folder, own, **options)


def test_seeds_and_systems_share_a_group(tmp_path):
  runs = [_write(tmp_path / f'{model}{seed}', model=model, seed=seed,
                 more={'data_dir': f'/{seed}', 'log_every_steps': seed + 1,
                       'allow_leakage': seed == 0})
          for model in ('mel_cnn', 'attnmel_cnn') for seed in (2, 0)]
  found = _gather(runs)
  assert not found.left_out
  (group,) = found.groups
  assert {name: [unit.seed for unit in own] for name, own in group.units.items()} == {
      'Mel-CNN': [0, 2], 'AttnMel-CNN': [0, 2]}
  assert list(group.units) == ['Mel-CNN', 'AttnMel-CNN']
  assert group.split == 'test'
  assert not group.synthetic
  assert len(group.members) == 4


def test_another_budget_data_or_images_make_another_group(tmp_path):
  runs = [
      _write(tmp_path / 'a'), _write(tmp_path / 'b', model='mel_cnn'),
      _write(tmp_path / 'budget', more={'num_epochs': 2}),
      _write(tmp_path / 'learnt', model='vgg16', fingerprint='b'),
      _write(tmp_path / 'images', model='vgg16', rows=38),
      _write(tmp_path / 'drawn', model='vgg16', synthetic=True),
      _write(tmp_path / 'validation', model='vgg16', split='validation')]
  found = _gather(runs)
  assert not found.left_out
  folders = [{member.run.folder.name for member in group.members}
             for group in found.groups]
  assert folders[0] == {'a', 'b'}  # most systems
  assert folders[-1] == {'drawn'}  # whatever their number, drawn images come last
  assert sorted(map(len, folders)) == [1, 1, 1, 1, 1, 2]
  first = found.groups[0]
  by_name = {min(names): group for names, group in
             zip(folders, found.groups, strict=True)}
  assert list(groups.differing(by_name['budget'].settings, first.settings)) == [
      'num_epochs=2']
  assert groups.images_differ(by_name['images'], first)
  assert not groups.images_differ(by_name['learnt'], first)


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
  # Fold 1 alone has other images than folds 0, 1 and 3; the naive fold other settings.
  assert len(found.groups) == 3


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
  assert all('\n' not in line for line in found.left_out)


def test_of_two_runs_of_one_config_the_whole_one_is_taken(tmp_path):
  run = _write(tmp_path / 'a', model='vgg16')
  shutil.copytree(tmp_path / 'a', tmp_path / 'b')
  (tmp_path / 'a' / 'predictions' / 'test.csv').write_text('image,label\n')
  found = _gather([run, run_folders.read(tmp_path / 'b')])
  (group,) = found.groups
  assert [member.folder.name for member in group.members] == ['b']
  assert len(found.left_out) == 1 and 'a: ' in found.left_out[0]


def test_one_split_can_be_asked_for(tmp_path):
  runs = [_write(tmp_path / 'a', split='validation')]
  assert _gather(runs, 'validation').groups[0].split == 'validation'
  found = _gather(runs, 'test')
  assert not found.groups
  assert 'has no test scores' in found.left_out[0]
  fold = _write(tmp_path / 'b', experiment='isic2018_cv', split='validation')
  assert "validation images overlap" in _gather([fold], 'validation').left_out[0]


def test_a_test_set_that_arrived_later_is_found(tmp_path):
  run = _write(tmp_path / 'run', split='validation')
  later = tmp_path / 'run' / 'evaluations' / 'isic2017-test'
  tested = _write(tmp_path / 'other', rows=20)
  shutil.copytree(tmp_path / 'other' / 'predictions', later / 'predictions')
  (later / 'summary.json').write_text(json.dumps(
      dict(tested.summary) | {'leakage': {'found': ['b', 'a']}}))
  run.summary['leakage']['found'] = ['a']
  (group,) = _gather([run]).groups
  assert group.members[0].leakage == ('a', 'b')
  assert group.split == 'test'
  assert len(group.example.folds) == 20
  assert group.members[0].scores['n'] == 20
  (later / 'summary.json').write_text('{}')
  assert 'is damaged (class_names is missing); delete' in _gather([run]).left_out[0]
