"""Cells: which, where they are kept, how they are shown; and the command itself."""

import contextlib
import json

import pytest

from attnmel_jax import errors
from benchmarks import matrix
from benchmarks import speed
from configs import common
from tests import commands

TRAINED = ('step_seconds', 'images_per_second', 'input_wait_share', 'others_cores',
           'process_peak_bytes', 'device_peak_bytes', 'step_temporary_bytes')


def _spread(median):
  return {'median': median, 'lower_quartile': 0.9 * median,
          'upper_quartile': 1.1 * median, 'measurements': 5}


@pytest.fixture
def config():
  """The default, as it is measured."""
  return matrix.without_data(common.get_config().to_dict())


@pytest.fixture
def cell(config):
  """Made-up numbers on a quiet machine."""
  return {
      'machine': matrix.machine(), 'devices': '1 x cpu', 'config': config,
      'compile_seconds': 12., 'first_step_cold_seconds': 20.,
      'first_step_warm_seconds': 3., 'step_seconds': _spread(2.),
      'images_per_second': 16., 'input_wait_share': 0.001, 'others_cores': 0.,
      'process_peak_bytes': 3 * 2**30, 'device_peak_bytes': None,
      'step_temporary_bytes': 2**29, 'inference_seconds_per_image': _spread(0.02),
      'flops_per_step': 2e11, 'flops_per_second': 1e11, 'peak_flops_per_second': 2e11,
      'share_of_peak': 0.5, 'torch': None}


@pytest.fixture
def compared(cell):
  """The same with PyTorch's."""
  return cell | {'torch': {
      'description': 'torch 9', 'output_difference': 1e-6, 'others_cores': 0.,
      'ours_step_seconds': _spread(2.), 'torch_step_seconds': _spread(2.5),
      'ours_inference_seconds': _spread(0.5), 'torch_inference_seconds': _spread(0.4),
      'step_ratio': _spread(0.8), 'inference_ratio': _spread(1.25)}}


def test_cells_are_small_or_swept_and_ask_for_neither_weights_nor_data(config):
  cells = matrix.sweep(config)
  names = ('image_size', 'batch_size', 'backbone', 'dtype')
  assert len({tuple(c[name] for name in names) for c in cells}) == len(cells) == 16
  assert {c['image_size']: c['resize_size'] for c in cells} == {128: 146, 224: 256}
  for c in cells:
    assert matrix.without_data(c) == c  # all pass the checks
  small = matrix.without_data(matrix.quick(config))
  assert (small['image_size'], small['width']) == (96, 0.25)
  config = common.get_config().to_dict() | {
      'backbone': 'vgg16', 'rescale_pretrained': True, 'data_dir': '/nowhere'}
  measured = matrix.without_data(config)
  assert [measured[k] for k in ('pretrained', 'rescale_pretrained', 'data_dir')] == [
      '', False, '']
  with pytest.raises(errors.UserError, match="model='unet'"):
    matrix.without_data(config | {'model': 'unet', 'roi': 'lesion'})


def test_cells_survive_the_file(cell, compared, config, tmp_path):
  path = tmp_path / 'cells.json'
  assert matrix.read_cells(path) == []
  matrix.write_cell(path, cell)
  other = config | {'batch_size': 8}
  matrix.write_cell(path, cell | {'config': other})
  cells = matrix.read_cells(path)
  assert len(cells) == 2
  # JSON has no tuples; the config is the same still.
  assert matrix.find_cell(cells, config, against_torch=False) == cells[0]
  assert matrix.find_cell(cells, other, against_torch=False) == cells[1]
  third = config | {'width': 0.5}
  assert matrix.find_cell(cells, third, against_torch=False) is None
  # A comparison is asked for that was not made; once made, it takes the place.
  assert matrix.find_cell(cells, config, against_torch=True) is None
  matrix.write_cell(path, compared)
  cells = matrix.read_cells(path)
  assert len(cells) == 2
  assert matrix.find_cell(cells, config, against_torch=True)['torch']
  assert matrix.find_cell(cells, config, against_torch=False)


def test_another_machine_or_commit_is_measured_anew(cell, config, monkeypatch):
  for name in ('cpu', 'cores', 'commit', 'versions'):
    changed = cell | {'machine': cell['machine'] | {name: 'other'}}
    assert matrix.find_cell([changed], config, against_torch=False) is None
  monkeypatch.setenv('JAX_PLATFORMS', 'tpu')  # so are other variables or plugins
  assert matrix.machine() != cell['machine']


def test_a_file_of_another_kind_is_refused(cell, tmp_path):
  path = tmp_path / 'summary.json'
  for text in ('{"auc": 0.5}', '[]', '{'):
    path.write_text(text)
    with pytest.raises(errors.UserError, match='summary'):
      matrix.write_cell(path, cell)
    assert path.read_text() == text


def test_a_cell_is_shown_with_units(cell, compared):
  text = '\n'.join(matrix.lines(cell))
  assert text.startswith('attnmel_cnn on vgg16_bn, 224 px, batch 32, float32\n')
  for shown in ('2 s (quartiles 1.8 to 2.2 s, 5 measurements)', '16 images/s',
                '20 ms (quartiles 18 to 22 ms', '100 GFLOP/s, 50% of the peak',
                '3.00 GiB', '0.50 GiB of temporaries', '0.10% of the training time',
                '3.0 s, 1.0 s of them before the step'):
    assert shown in text
  assert 'ratio' not in text
  assert matrix.lines(compared)[-2:] == [
      'ratio ours/torch step=0.80', 'ratio ours/torch inference=1.25']


def test_numbers_of_a_busy_machine_carry_a_warning(cell, compared):
  assert not any('warning' in line for line in matrix.lines(compared))
  cores = cell['machine']['cores']
  busy = cell | {'others_cores': 0.2 * cores}
  assert any('unfit to quote' in line for line in matrix.lines(busy))
  disturbed = compared | {'torch': compared['torch'] | {'others_cores': 0.2 * cores}}
  assert any('above all the ratios' in line for line in matrix.lines(disturbed))
  unknown = cell | {'others_cores': None}
  text = '\n'.join(matrix.lines(unknown))
  assert 'unknown' in text and 'warning' not in text


def test_missing_torch_is_one_line(monkeypatch):
  monkeypatch.setattr(matrix.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(errors.UserError, match='pip install torch'):
    matrix.check_torch()


def test_a_cell_is_put_together_from_a_cold_and_a_warm_process(
    cell, config, monkeypatch):
  caches = []

  class Process(contextlib.nullcontext):
    def __init__(self, cls, config, cache, *, shared):
      super().__init__(self)
      caches.append(cache)
      self._start = {'compile_seconds': 12., 'devices': '1 x cpu', 'backend': 'cpu',
                     'first_step_seconds': 20. if len(caches) == 1 else 3.}

    def call(self, method, *arguments):
      return {'start': self._start, 'train': {name: cell[name] for name in cell if
                                              name in TRAINED},
              'infer': cell['inference_seconds_per_image'], 'flops_per_step': 2e11,
              'peak_flops_per_second': 2e11}[method]

  monkeypatch.setattr(matrix.apart, 'Process', Process)
  measured = matrix.measure(config, speed.Limits(3, 0.), against_torch=False,
                            say=lambda _: None)
  assert measured == cell
  assert caches == caches[:1] * 2


@pytest.mark.slow
def test_the_command_measures_and_writes(tmp_path):
  commands.check(
      tmp_path, 'benchmark', '--config.width=0.0625', '--config.gate_width=8',
      '--steps=3', '--config.image_size=32', '--config.resize_size=36',
      '--config.batch_size=4', '--config.model=vgg16_gap',
      '--config.backbone=vgg16', '--json=cells.json')
  cell, = json.loads((tmp_path / 'cells.json').read_text())['cells']
  # The second start finds what the first has compiled.
  assert cell['first_step_warm_seconds'] < cell['first_step_cold_seconds']
  assert cell['compile_seconds'] < cell['first_step_cold_seconds']
  # Nor does it touch the user's own cache.
  assert not (tmp_path / '.cache' / 'attnmel_jax').exists()


def test_flags_that_would_be_ignored_are_refused(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for arguments, said in [
      (['--sweep', '--quick'], '--sweep and --quick exclude each other'),
      (['--quick', '--steps=5'], '--quick and --steps exclude each other'),
      (['--input', '--json=x'], '--input and --json exclude each other'),
      (['--scaling', '--input'], '--scaling and --input exclude each other'),
      (['--images_per_second=5'], '--images_per_second works only with --input'),
      # The default config is no default of the flag: a typo is a line here too.
      (['--config.batchsize=8'], 'Did you mean "batch_size"')]:
    refused = commands.in_process('benchmark', *arguments)
    assert (refused.returncode, refused.stdout) == (2, ''), arguments
    assert refused.stderr.count('\n') == 1 and said in refused.stderr


class _Steady:
  """A process whose calls take so long, but for the first of each turn."""

  def __init__(self, seconds):
    self.seconds, self.calls = seconds, 0

  def call(self, method):
    if method == 'cpu_seconds':
      return 0.
    self.calls += 1
    return 100. if self.calls % 2 else self.seconds


def test_turns_leave_out_the_first_call_and_divide_ours_by_theirs():
  ours, other = _Steady(2.), _Steady(4.)
  measured = matrix._in_turns(ours, other, speed.Limits(3, 0.), say=lambda _: None)
  for name in ('step', 'inference'):
    assert measured[f'ours_{name}_seconds']['median'] == 2.
    assert measured[f'torch_{name}_seconds']['upper_quartile'] == 4.
    assert measured[f'{name}_ratio']['median'] == 0.5
  assert ours.calls == other.calls == 2 * 2 * 3
