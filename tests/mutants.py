"""One-line faults that the fast tests have to find.

  python -m tests.mutants
  python -m tests.mutants --only=gate-pools-by-sum
  python -m tests.mutants --list

Each fault is put into a copy of the source, and the named tests are run there. Prints
which faults survive; exits with 1 if one does, or if its text does not occur exactly
once in its module.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
_SURVIVED, _KILLED = 0, 1  # what pytest ends with


class Mutation(NamedTuple):
  """`old`, which occurs once in `module`, becomes `new`; `tests` has to fail."""

  name: str
  module: str
  old: str
  new: str
  tests: str


MUTATIONS = (
    Mutation('config-bounds-closed-below',
             'attnmel_jax/config.py',
             'self.low < value if self.above else self.low <= value',
             'self.low <= value',
             'tests/test_config.py'),
    Mutation('config-finite-unchecked',
             'attnmel_jax/config.py',
             'isinstance(item, float) and not math.isfinite(item)',
             'False',
             'tests/test_config.py'),
    Mutation('config-true-is-a-number',
             'attnmel_jax/config.py',
             'isinstance(value, types) and isinstance(value, bool) == (kind is bool)',
             'isinstance(value, types)',
             'tests/test_config.py'),
    Mutation('config-fold-beyond',
             'attnmel_jax/config.py',
             "config['fold'] >= config['num_folds']",
             "config['fold'] > config['num_folds']",
             'tests/test_config.py'),
    Mutation('config-accumulates-batch-norm',
             'attnmel_jax/config.py',
             "and not config['accumulate_batch_norm']",
             'and False',
             'tests/test_config.py'),
    Mutation('config-lambda',
             'attnmel_jax/config.py',
             '(0.001, 0.01), ',
             '(0.01, 0.001), ',
             'tests/test_configs.py'),
    Mutation('config-json-lists',
             'attnmel_jax/config.py',
             'tuple(value) if isinstance(value, list) else value',
             'value',
             'tests/test_config.py'),
    Mutation('config-free-field',
             'attnmel_jax/experiments/run_folder.py',
             'if name not in _FREE_FIELDS}',
             '}',
             'tests/experiments/test_run_folder.py'),
    Mutation('phantom-overwrites-real',
             'attnmel_jax/phantom/generate.py',
             'if not (out / name).exists():',
             'if True:',
             'tests/phantom/test_generate.py'),
    Mutation('mask-threshold-at-127',
             'attnmel_jax/data/decode.py',
             'inside = grey >= (1 if scaled else 128)',
             'inside = grey >= (1 if scaled else 127)',
             'tests/data/test_decode.py'),
    Mutation('crop-offset-from-the-wrong-side',
             'attnmel_jax/data/decode.py',
             'left, top = (size[0] - side) // 2, (size[1] - side) // 2',
             'left, top = (size[1] - side) // 2, (size[0] - side) // 2',
             'tests/data/test_decode.py'),
    Mutation('label-of-neither-is-melanoma',
             'attnmel_jax/data/catalogue.py',
             'labels[image_id] = values.index(1) if any(values) else neither',
             'labels[image_id] = values.index(1) if any(values) else 0',
             'tests/data/test_catalogue.py'),
    Mutation('dermo-bit-shifted',
             'attnmel_jax/data/writing.py',
             'bit = np.uint8(1 << attributes.index(name))',
             'bit = np.uint8(2 << attributes.index(name))',
             'tests/data/test_storage.py'),
    Mutation('fingerprint-ignores-flags',
             'attnmel_jax/data/writing.py',
             "head = f'{example.id} {example.label} {has_lesion} {has_dermo}'",
             "head = f'{example.id} {example.label}'",
             'tests/data/test_writing.py'),
    Mutation('not-annotated-is-trained-on',
             'attnmel_jax/data/pipeline.py',
             'roi[~annotated] = 0',
             'roi[annotated] = 0',
             'tests/data/test_pipeline.py'),
    Mutation('padding-counts-as-valid',
             'attnmel_jax/data/pipeline.py',
             "batch['index'][-padding:] = -1",
             "batch['index'][-padding:] = 0",
             'tests/data/test_pipeline.py'),
    Mutation('pass-order-without-the-pass',
             'attnmel_jax/data/pipeline.py',
             'return np.random.default_rng([seed, pass_number]).permutation(rows)',
             'return np.random.default_rng([seed]).permutation(rows)',
             'tests/data/test_pipeline.py'),
    Mutation('lesions-split-apart',
             'attnmel_jax/data/splits.py',
             'names = np.asarray(groups, str)[order] if group_folds else ids[order]',
             'names = ids[order]',
             'tests/data/test_splits.py'),
    Mutation('hold-out-draws-as-folds-do',
             'attnmel_jax/data/splits.py',
             'np.random.default_rng([seed, _HOLD_OUT])',
             'np.random.default_rng([0, _HOLD_OUT])',
             'tests/data/test_splits.py'),
    Mutation('positive-class-inverted',
             'attnmel_jax/data/splits.py',
             'np.isin(labels, indices).astype(np.int32)',
             '(~np.isin(labels, indices)).astype(np.int32)',
             'tests/data/test_splits.py'),
    Mutation('near-duplicates-without-their-detail',
             'attnmel_jax/data/near_duplicates.py',
             'values[rows[laid.detail < enough]] = 0',
             'values[rows[laid.detail < -1]] = 0',
             'tests/data/test_near_duplicates.py'),
    Mutation('record-and-index-not-compared',
             'attnmel_jax/data/storage.py',
             "record['id'].decode() != self.ids[row] or any(",
             'False and any(',
             'tests/data/test_storage.py'),
    Mutation('ids-may-lead-out-of-the-folder',
             'attnmel_jax/data/storage.py',
             'if not files.is_name(name):',
             'if False:',
             'tests/data/test_storage.py'),
    Mutation('bad-files-are-prepared',
             'attnmel_jax/data/prepare.py',
             '    if problems:\n',
             '    if False:\n',
             'tests/data/test_prepare.py'),
    Mutation('masks-for-other-images-accepted',
             'attnmel_jax/data/generated.py',
             'if prepared != split.fingerprint:',
             'if False:',
             'tests/data/test_generated.py'),
    Mutation('U-Net-leakage-unseen',
             'attnmel_jax/data/generated.py',
             "shared = splits.shared_groups(unet['trained_on'], ids)\n  if shared:",
             "shared = splits.shared_groups(unet['trained_on'], ids)\n  if False:",
             'tests/data/test_generated.py'),
    Mutation('an-id-twice-in-a-table',
             'attnmel_jax/data/folder.py',
             'if image_id in origins:',
             'if False:',
             'tests/data/test_folder.py'),
    Mutation('redirection-unchecked',
             'attnmel_jax/data/download.py',
             '      _check_url(newurl)\n',
             '',
             'tests/data/test_download.py'),
    Mutation('lock-not-held',
             'attnmel_jax/files.py',
             'fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)',
             'pass',
             'tests/test_files.py'),
    Mutation('leakage-copies-in-own-split-pass',
             'attnmel_jax/experiments/leakage.py',
             "return 'official' if official else 'own'",
             "return 'official'",
             'tests/experiments/test_leakage.py'),
    Mutation('leakage-lesions-of-naive-folds-unsaid',
             'attnmel_jax/experiments/leakage.py',
             "'found': stops + found + unknown,",
             "'found': stops + unknown,",
             'tests/experiments/test_leakage.py'),
    Mutation('leakage-file-of-other-images-is-taken',
             'attnmel_jax/experiments/leakage.py',
             "if before['identity'] == identity:",
             "if before['identity']:",
             'tests/experiments/test_leakage.py'),
    Mutation('grid-continues-a-foreign-folder',
             'attnmel_jax/experiments/grid.py',
             "  if run_folder.binding(before) != run_folder.binding(run.config):\n    return 'foreign'\n",
             '',
             'tests/experiments/test_grid.py'),
    Mutation('grid-two-runs-in-one-folder',
             'attnmel_jax/experiments/grid.py',
             'if times > 1:',
             'if times > 2:',
             'tests/experiments/test_grid.py'),
    Mutation('run-folder-data-may-vanish',
             'attnmel_jax/experiments/run_folder.py',
             'for split in sorted(bound.keys() | fingerprints.keys()):',
             'for split in sorted(fingerprints.keys()):',
             'tests/experiments/test_run_folder.py'),
    Mutation('run-folder-seed-binds-nothing',
             'attnmel_jax/experiments/run_folder.py',
             "_FREE_FIELDS = ('data_dir', ",
             "_FREE_FIELDS = ('data_dir', 'seed', ",
             'tests/experiments/test_run_folder.py'),
    Mutation('ensemble-softens-after-the-mean-not',
             'attnmel_jax/share/ensemble.py',
             "return calibration.soften(values, run.summary['temperature'])",
             'return values',
             'tests/share/test_ensemble.py'),
    Mutation('ensemble-mixes-views',
             'attnmel_jax/share/ensemble.py',
             'if view(run) == view(runs[0])]',
             'if view(run)]',
             'tests/share/test_ensemble.py'),
    Mutation('page-best-is-the-last-class',
             'attnmel_jax/share/predictions_page.py',
             'return self.probabilities.index(max(self.probabilities))',
             'return self.probabilities.index(min(self.probabilities))',
             'tests/share/test_predictions_page.py'),
    Mutation('card-names-unescaped',
             'attnmel_jax/share/model_card.py',
             'finalize=lambda value: files.escaped(str(value)),',
             'finalize=str,',
             'tests/share/test_model_card.py'),
    Mutation('gate-pools-by-sum',
             'attnmel_jax/models/attention.py',
             'pooled = (attention[..., None] * feature).mean((1, 2))',
             'pooled = (attention[..., None] * feature).sum((1, 2))',
             'tests/models/test_attention.py'),
    Mutation('running-variance-momentum',
             'attnmel_jax/models/layers.py',
             'running_var.value = 0.9 * running_var.value + 0.1 * var',
             'running_var.value = 0.1 * running_var.value + 0.9 * var',
             'tests/models/test_layers.py'),
    Mutation('exported-kernel-axes',
             'attnmel_jax/models/torch_names.py',
             'return value.transpose(3, 2, 0, 1)  # HWIO -> OIHW',
             'return value.transpose(3, 2, 1, 0)  # HWIO -> OIHW',
             'tests/models/test_torch_names.py'),
    Mutation('dense-input-order',
             'attnmel_jax/models/vgg.py',
             'return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)',
             'return x.transpose(0, 3, 2, 1).reshape(x.shape[0], -1)',
             'tests/models/test_vgg.py'),
    Mutation('inverse-reflection',
             'attnmel_jax/images.py',
             'return jnp.where(element >= 4, element, -element % 4)',
             'return jnp.where(element > 4, element, -element % 4)',
             'tests/test_images.py'),
    Mutation('accumulation-divides-share',
             'attnmel_jax/parallel.py',
             'if share % accumulate_steps:',
             'if batch_size % (2 * accumulate_steps) and False:',
             'tests/test_parallel.py'),
    Mutation('negative-variance-accepted',
             'attnmel_jax/models/pretrained.py',
             "if path[-1] == 'var' and (value < 0).any():",
             "if path[-1] == 'mean' and (value < 0).all():",
             'tests/models/test_bad_weights.py'),
    Mutation('background-is-lesion',
             'attnmel_jax/data/pipeline.py',
             'return 255 - maps',
             'return maps',
             'tests/data/test_pipeline.py'),
    Mutation('report-fold-apart',
             'attnmel_jax/report/groups.py',
             "_OWN = ('model', 'roi', 'generated_masks', 'seed', 'fold')",
             "_OWN = ('model', 'roi', 'generated_masks', 'seed')",
             'tests/report/test_groups.py'),
    Mutation('report-other-data-together',
             'attnmel_jax/report/groups.py',
             "data.get('train'), data.get('validation'),",
             'None, None,',
             'tests/report/test_groups.py'),
    Mutation('report-other-images-together',
             'attnmel_jax/report/groups.py',
             'if other == key and _same_images(group.example, unit.run):',
             'if other == key:',
             'tests/report/test_groups.py'),
    Mutation('report-taps-unsorted',
             'attnmel_jax/report/groups.py',
             'return sorted(filter(names.is_tap, found))',
             'return sorted(filter(names.is_tap, found), reverse=True)',
             'tests/report/test_groups.py'),
    Mutation('report-difference-sign',
             'attnmel_jax/report/tables/classification.py',
             'found.estimate - float(row.scores[metric]), signed=True)',
             'float(row.scores[metric]) - found.estimate, signed=True)',
             'tests/report/tables/test_classification.py'),
    Mutation('report-sweep-unweighted',
             'attnmel_jax/report/tables/attention.py',
             'np.average(curves, axis=0, weights=weights)',
             'np.average(curves, axis=0)',
             'tests/report/tables/test_attention.py'),
    Mutation('report-csv-bounds-lost',
             'attnmel_jax/report/tables/table.py',
             'len(row[j].values) == 3',
             'len(row[j].values) > 3',
             'tests/report/tables/test_table.py'),
    Mutation('report-specificity-axis',
             'attnmel_jax/report/figures/curves.py',
             '1 - point.specificity',
             'point.specificity',
             'tests/report/figures/test_curves.py'),
    Mutation('focal-exponent-sign',
             'attnmel_jax/training/losses.py',
             'jnp.exp(-gamma * jax.nn.softplus(-z))',
             'jnp.exp(-gamma * jax.nn.softplus(z))',
             'tests/training/test_losses.py'),
    Mutation('dice-ignores-annotation',
             'attnmel_jax/training/losses.py',
             'jnp.sum(weight * attention * reference)',
             'jnp.sum(attention * reference)',
             'tests/training/test_losses.py'),
    Mutation('threshold-excluded',
             'attnmel_jax/evaluation/metrics.py',
             'called = scores >= threshold',
             'called = scores > threshold',
             'tests/evaluation/test_metrics.py'),
    Mutation('specificity-inverted',
             'attnmel_jax/evaluation/metrics.py',
             '_share(~called[~labels])',
             '_share(called[~labels])',
             'tests/evaluation/test_metrics.py'),
    Mutation('empty-union-scores-zero',
             'attnmel_jax/evaluation/attention_scores.py',
             'return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)',
             'return np.where(union > 0, intersection / np.maximum(union, 1), 0.0)',
             'tests/evaluation/test_attention_scores.py'),
    Mutation('sensitivity-at-lower-specificity',
             'attnmel_jax/evaluation/bootstrap.py',
             'np.where(kept >= specificity, true, 0)',
             'np.where(kept <= specificity, true, 0)',
             'tests/evaluation/test_bootstrap.py'),
)


def misplaced(mutations: tuple[Mutation, ...] = MUTATIONS) -> list[str]:
  """Names of those whose text does not occur exactly once in its module."""
  return [mutation.name for mutation in mutations
          if not (ROOT / mutation.module).is_file()
          or (ROOT / mutation.module).read_text().count(mutation.old) != 1]


def survives(mutation: Mutation, folder: pathlib.Path) -> bool:
  """Whether the tests pass in `folder`, a copy of the source, in spite of it."""
  module = folder / mutation.module
  before = module.read_text()
  module.write_text(before.replace(mutation.old, mutation.new))
  try:
    done = subprocess.run(
        [sys.executable, '-B', '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider',
         '-m', 'not slow and not matrix', mutation.tests], cwd=folder, check=False,
        capture_output=True, text=True)
  finally:
    module.write_text(before)
  if done.returncode not in (_SURVIVED, _KILLED):
    raise RuntimeError(f'{mutation.name}: the tests did not run: {done.stdout}')
  return done.returncode == _SURVIVED


def main(argv: list[str]) -> int:
  """Tries all, or those of --only; 0 if none survives."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--list', action='store_true', help='print them and end')
  parser.add_argument('--only', default='', help='names, separated by commas')
  options = parser.parse_args(argv)
  chosen = [mutation for mutation in MUTATIONS
            if not options.only or mutation.name in options.only.split(',')]
  if options.list:
    print(*(f'{mutation.name}: {mutation.module}' for mutation in chosen), sep='\n')
    return 0
  bad = misplaced(tuple(chosen))
  for name in bad:
    print(f'{name}: its text does not occur exactly once')
  with tempfile.TemporaryDirectory(prefix='mutants-') as scratch:
    folder = pathlib.Path(scratch) / 'source'
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(
        '.*', '__pycache__', 'demo', 'runs'))
    for mutation in chosen:
      if mutation.name not in bad:
        survived = survives(mutation, folder)
        print(f'{mutation.name}: {"SURVIVES" if survived else "killed"}', flush=True)
        bad += [mutation.name] * survived
  print(f'{len(chosen)} mutations, {len(bad)} survive or are misplaced')
  return int(bool(bad))


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
