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
  """`old`, which occurs once in `module`, becomes `new`; `tests` have to fail."""

  name: str
  module: str
  old: str
  new: str
  other_tests: str = ''  # than those of the module

  @property
  def tests(self) -> str:
    """tests/data/test_splits.py of attnmel_jax/data/splits.py."""
    _, *rooms, name = pathlib.PurePath(self.module).parts
    return self.other_tests or '/'.join(('tests', *rooms, f'test_{name}'))


MUTATIONS = (
    Mutation('config-bounds-closed-below', 'attnmel_jax/config.py',
             'self.low < value if self.above else self.low <= value',
             'self.low <= value'),
    Mutation('config-finite-unchecked', 'attnmel_jax/config.py',
             'isinstance(item, float) and not math.isfinite(item)',
             'False'),
    Mutation('config-true-is-a-number', 'attnmel_jax/config.py',
             'isinstance(value, types) and isinstance(value, bool) == (kind is bool)',
             'isinstance(value, types)'),
    Mutation('config-fold-beyond', 'attnmel_jax/config.py',
             "config['fold'] >= config['num_folds']",
             "config['fold'] > config['num_folds']"),
    Mutation('config-accumulates-batch-norm', 'attnmel_jax/config.py',
             "and not config['accumulate_batch_norm']",
             'and False'),
    Mutation('config-lambda', 'attnmel_jax/config.py',
             '(0.001, 0.01), ',
             '(0.01, 0.001), ',
             'tests/test_configs.py'),
    Mutation('config-json-lists', 'attnmel_jax/config.py',
             'tuple(value) if isinstance(value, list) else value',
             'value'),
    Mutation('config-free-field', 'attnmel_jax/experiments/run_folder.py',
             'if name not in _FREE_FIELDS}',
             '}'),
    Mutation('one-run-ends-the-report', 'attnmel_jax/report/document.py',
             'run for run in found.runs if run.folder not in bad]',
             'run for run in found.runs if bad]'),
    Mutation('results-exchanged-without-a-word',
             'attnmel_jax/experiments/run_folder.py',
             'if found.get(path, digest) != digest:',
             'if path not in found:'),
    Mutation('finished-run-answers-for-other-test-data',
             'attnmel_jax/experiments/run.py',
             'if before and after and before != after:',
             'if before and not after:'),
    Mutation('evaluation-forgets-the-training-data',
             'attnmel_jax/experiments/evaluate.py',
             'leaks = _compare(run, own, part,',
             'leaks = _compare(run, config, part,'),
    Mutation('phantom-overwrites-real', 'attnmel_jax/phantom/generate.py',
             'if not (out / name).exists():',
             'if True:'),
    Mutation('mask-threshold-at-a-quarter', 'attnmel_jax/data/decode.py',
             'lowest[depth] = (low + high) / 2',
             'lowest[depth] = (low + high) / 4'),
    Mutation('mask-inside-is-the-lower-value', 'attnmel_jax/data/decode.py',
             'lowest[depth] = max(high, 1)',
             'lowest[depth] = max(low, 1)'),
    Mutation('formulas-in-tables', 'attnmel_jax/files.py',
             '''f"'{cell}" if isinstance(cell, str) and''',
             '''f"'{cell}" if isinstance(cell, float) and'''),
    Mutation('crop-offset-from-the-wrong-side', 'attnmel_jax/data/decode.py',
             'left, top = (size[0] - side) // 2, (size[1] - side) // 2',
             'left, top = (size[1] - side) // 2, (size[0] - side) // 2'),
    Mutation('label-of-neither-is-melanoma', 'attnmel_jax/data/catalogue.py',
             'labels[image_id] = values.index(1) if any(values) else neither',
             'labels[image_id] = values.index(1) if any(values) else 0'),
    Mutation('dermo-bit-shifted', 'attnmel_jax/data/writing.py',
             'bit = np.uint8(1 << attributes.index(name))',
             'bit = np.uint8(2 << attributes.index(name))',
             'tests/data/test_storage.py'),
    Mutation('fingerprint-ignores-flags', 'attnmel_jax/data/writing.py',
             "head = f'{example.id} {example.label} {has_lesion} {has_dermo}'",
             "head = f'{example.id} {example.label}'"),
    Mutation('not-annotated-is-trained-on', 'attnmel_jax/data/pipeline.py',
             'roi[~annotated] = 0',
             'roi[annotated] = 0'),
    Mutation('padding-counts-as-valid', 'attnmel_jax/data/pipeline.py',
             "batch['index'][-padding:] = -1",
             "batch['index'][-padding:] = 0"),
    Mutation('pass-order-without-the-pass', 'attnmel_jax/data/pipeline.py',
             'return np.random.default_rng([seed, pass_number]).permutation(rows)',
             'return np.random.default_rng([seed]).permutation(rows)'),
    Mutation('lesions-split-apart', 'attnmel_jax/data/splits.py',
             'names = np.asarray(groups, str)[order] if group_folds else ids[order]',
             'names = ids[order]'),
    Mutation('hold-out-draws-as-folds-do', 'attnmel_jax/data/splits.py',
             'np.random.default_rng([seed, _HOLD_OUT])',
             'np.random.default_rng([0, _HOLD_OUT])'),
    Mutation('positive-class-inverted', 'attnmel_jax/data/splits.py',
             'np.isin(labels, indices).astype(np.int32)',
             '(~np.isin(labels, indices)).astype(np.int32)'),
    Mutation('near-duplicates-without-their-detail', 'attnmel_jax/data/near_duplicates.py',
             'values[rows[laid.detail < enough]] = 0',
             'values[rows[laid.detail < -1]] = 0'),
    Mutation('record-and-index-not-compared', 'attnmel_jax/data/storage.py',
             "record['id'].decode() != self.ids[row] or any(",
             'False and any('),
    Mutation('ids-may-lead-out-of-the-folder', 'attnmel_jax/data/storage.py',
             'if not files.is_name(name):',
             'if False:'),
    Mutation('bad-files-are-prepared', 'attnmel_jax/data/prepare.py',
             '    if problems:\n',
             '    if False:\n'),
    Mutation('masks-for-other-images-accepted', 'attnmel_jax/data/generated.py',
             'if prepared != split.fingerprint:',
             'if False:'),
    Mutation('U-Net-leakage-unseen', 'attnmel_jax/data/generated.py',
             "shared = splits.shared_groups(unet['trained_on'], ids)\n  if shared:",
             "shared = splits.shared_groups(unet['trained_on'], ids)\n  if False:"),
    Mutation('an-id-twice-in-a-table', 'attnmel_jax/data/folder.py',
             'if image_id in origins:',
             'if False:'),
    Mutation('redirection-unchecked', 'attnmel_jax/data/download.py',
             '      _check_url(newurl)\n',
             ''),
    Mutation('lock-not-held', 'attnmel_jax/files.py',
             'fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)',
             'pass'),
    Mutation('leakage-copies-in-own-split-pass', 'attnmel_jax/experiments/leakage.py',
             "return 'official' if official else 'own'",
             "return 'official'"),
    Mutation('leakage-lesions-of-naive-folds-unsaid', 'attnmel_jax/experiments/leakage.py',
             "'found': stops + found + unknown,",
             "'found': stops + unknown,"),
    Mutation('leakage-file-of-other-images-is-taken', 'attnmel_jax/experiments/leakage.py',
             "if before['identity'] == identity:",
             "if before['identity']:"),
    Mutation('grid-continues-a-foreign-folder', 'attnmel_jax/experiments/grid.py',
             "  if run_folder.binding(before) != run_folder.binding(run.config):\n    return 'foreign'\n",
             ''),
    Mutation('grid-two-runs-in-one-folder', 'attnmel_jax/experiments/grid.py',
             'if times > 1:',
             'if times > 2:'),
    Mutation('exchange-before-the-new-is-whole', 'attnmel_jax/outputs.py',
             '      yield staged\n',
             '      shutil.rmtree(out, ignore_errors=True)\n      yield staged\n'),
    Mutation('run-folder-sweeps-strangers', 'attnmel_jax/experiments/run_folder.py',
             '  check_own(folder)\n  with',
             '  with'),
    Mutation('locks-missing-are-locks-held', 'attnmel_jax/files.py',
             '  except BlockingIOError:\n',
             '  except OSError:\n'),
    Mutation('run-folder-data-may-vanish', 'attnmel_jax/experiments/run_folder.py',
             'for split in sorted(bound.keys() | fingerprints.keys()):',
             'for split in sorted(fingerprints.keys()):'),
    Mutation('run-folder-seed-binds-nothing', 'attnmel_jax/experiments/run_folder.py',
             "_FREE_FIELDS = ('data_dir', ",
             "_FREE_FIELDS = ('data_dir', 'seed', "),
    Mutation('ensemble-softens-after-the-mean-not', 'attnmel_jax/share/ensemble.py',
             "return calibration.soften(values, run.summary['temperature'])",
             'return values'),
    Mutation('profiles-ignored', 'attnmel_jax/data/decode.py',
             "image.info.get('icc_profile')",
             'False'),
    Mutation('two-files-of-one-name', 'attnmel_jax/data/photographs.py',
             ".replace(b'\\\\', b'\\\\\\\\').decode(",
             '.decode('),
    Mutation('masks-are-photographs', 'attnmel_jax/data/photographs.py',
             'if decode.looks_like_mask(image):',
             'if False:'),
    Mutation('ensemble-mixes-views', 'attnmel_jax/share/ensemble.py',
             'if view(run) == view(runs[0])]',
             'if view(run)]'),
    Mutation('page-threshold-is-outside', 'attnmel_jax/share/predictions_page.py',
             'self.probabilities[1] >= threshold',
             'self.probabilities[1] > threshold'),
    Mutation('page-best-is-the-last-class', 'attnmel_jax/share/predictions_page.py',
             'return self.probabilities.index(max(self.probabilities))',
             'return self.probabilities.index(min(self.probabilities))'),
    Mutation('card-names-unescaped', 'attnmel_jax/share/model_card.py',
             'finalize=lambda value: files.escaped(str(value)),',
             'finalize=str,'),
    Mutation('gate-pools-by-sum', 'attnmel_jax/models/attention.py',
             'pooled = (attention[..., None] * feature).mean((1, 2))',
             'pooled = (attention[..., None] * feature).sum((1, 2))'),
    Mutation('running-variance-momentum', 'attnmel_jax/models/layers.py',
             'running_var.value = 0.9 * running_var.value + 0.1 * var',
             'running_var.value = 0.1 * running_var.value + 0.9 * var'),
    Mutation('exported-kernel-axes', 'attnmel_jax/models/torch_names.py',
             'return value.transpose(3, 2, 0, 1)  # HWIO -> OIHW',
             'return value.transpose(3, 2, 1, 0)  # HWIO -> OIHW'),
    Mutation('dense-input-order', 'attnmel_jax/models/vgg.py',
             'return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)',
             'return x.transpose(0, 3, 2, 1).reshape(x.shape[0], -1)'),
    Mutation('inverse-reflection', 'attnmel_jax/images.py',
             'return jnp.where(element >= 4, element, -element % 4)',
             'return jnp.where(element > 4, element, -element % 4)'),
    Mutation('accumulation-divides-share', 'attnmel_jax/parallel.py',
             'if share % accumulate_steps:',
             'if batch_size % (2 * accumulate_steps) and False:'),
    Mutation('negative-variance-accepted', 'attnmel_jax/models/pretrained.py',
             "if path[-1] == 'var' and (value < 0).any():",
             "if path[-1] == 'mean' and (value < 0).all():",
             'tests/models/test_bad_weights.py'),
    Mutation('background-is-lesion', 'attnmel_jax/data/pipeline.py',
             'return 255 - maps',
             'return maps'),
    Mutation('report-leakage-names-images', 'attnmel_jax/report/run_reader.py',
             'lines if self.names else map(_without_names, lines)',
             'lines',
             'tests/report/test_document.py'),
    Mutation('progress-perfect-dice', 'attnmel_jax/training/loop.py',
             "if value or not name.startswith('dice_loss')",
             'if True'),
    Mutation('report-fold-apart', 'attnmel_jax/report/groups.py',
             "_OWN = ('model', 'roi', 'generated_masks', 'seed', 'fold')",
             "_OWN = ('model', 'roi', 'generated_masks', 'seed')"),
    Mutation('report-other-data-together', 'attnmel_jax/report/groups.py',
             "data.get('train'), data.get('validation'),",
             'None, None,'),
    Mutation('report-other-images-together', 'attnmel_jax/report/groups.py',
             'if other == key and _same_images(group.example, unit.run):',
             'if other == key:'),
    Mutation('report-taps-unsorted', 'attnmel_jax/report/groups.py',
             'return sorted(filter(names.is_tap, found))',
             'return sorted(filter(names.is_tap, found), reverse=True)'),
    Mutation('report-difference-sign', 'attnmel_jax/report/tables/classification.py',
             'found.estimate - float(row.scores[metric]), signed=True)',
             'float(row.scores[metric]) - found.estimate, signed=True)'),
    Mutation('report-sweep-unweighted', 'attnmel_jax/report/tables/attention.py',
             'np.average(curves, axis=0, weights=weights)',
             'np.average(curves, axis=0)'),
    Mutation('report-csv-bounds-lost', 'attnmel_jax/report/tables/table.py',
             'len(row[j].values) == 3',
             'len(row[j].values) > 3'),
    Mutation('report-specificity-axis', 'attnmel_jax/report/figures/curves.py',
             '1 - point.specificity',
             'point.specificity'),
    Mutation('focal-exponent-sign', 'attnmel_jax/training/losses.py',
             'jnp.exp(-gamma * jax.nn.softplus(-z))',
             'jnp.exp(-gamma * jax.nn.softplus(z))'),
    Mutation('losses-labels-unchecked', 'attnmel_jax/training/losses.py',
             'labels.shape != logits.shape[:1]',
             'len(labels) != len(logits)'),
    Mutation('dice-ignores-annotation', 'attnmel_jax/training/losses.py',
             'jnp.sum(weight * attention * reference)',
             'jnp.sum(attention * reference)'),
    Mutation('threshold-excluded', 'attnmel_jax/evaluation/metrics.py',
             'called = scores >= threshold',
             'called = scores > threshold'),
    Mutation('specificity-inverted', 'attnmel_jax/evaluation/metrics.py',
             '_share(~called[~labels])',
             '_share(called[~labels])'),
    Mutation('empty-union-scores-zero', 'attnmel_jax/evaluation/attention_scores.py',
             'return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)',
             'return np.where(union > 0, intersection / np.maximum(union, 1), 0.0)'),
    Mutation('sensitivity-at-lower-specificity', 'attnmel_jax/evaluation/bootstrap.py',
             'np.where(kept >= specificity, true, 0)',
             'np.where(kept <= specificity, true, 0)'),
    Mutation('closed-pipe-fails-again-at-exit',
             'launch/streams.py',
             'os.dup2(nothing, self._stream.fileno())',
             'pass',
             'tests/test_streams.py'),
    Mutation('command-fault-is-a-partial-result',
             'launch/command.py',
             'report it with the lines above\', 70)',
             'report it with the lines above\', 1)',
             'tests/test_command.py'),
    Mutation('closed-stream-left-open-to-files',
             'launch/start.py',
             'while number <= 2:',
             'while number < 0:',
             'tests/test_start.py'),
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
