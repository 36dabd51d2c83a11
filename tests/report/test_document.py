"""The whole report: its page, its files, and a second one over the first."""

import json
import os
import shutil

import pytest

from attnmel_jax import errors
from attnmel_jax import files
from attnmel_jax.report import document
from attnmel_jax.report import figures
from attnmel_jax.report import run_reader
from attnmel_jax.report.figures import training_curves
from tests.report import run_folders

pytestmark = pytest.mark.usefixtures('undrawn')


@pytest.fixture
def runs(tmp_path):
  """Three systems of Table 3.2, a fold of Table 3.4, a U-Net, one damaged run."""
  root = tmp_path / 'runs'
  for model in ('attnmel_cnn', 'mel_cnn', 'vgg16'):
    run_folders.write(root / 'isic2017' / model,
                      run_folders.config('isic2017', model=model))
  run_folders.write(root / 'isic2018_cv' / 'fold', run_folders.config('isic2018_cv'),
                    rows=350, synthetic=True)
  unet = root / 'isic2018_task1' / 'unet'
  run_folders.write(unet, run_folders.config('isic2018', model='unet'))
  (unet / 'summary.json').unlink()
  score = {'estimate': 0.625, 'low': 0.5, 'high': 0.75}
  files.write_json(unet / 'summary.json', {
      'best': {'step': 9}, 'synthetic': False, 'class_names': [], 'threshold': 0.5,
      'temperature': None,
      'leakage': {'found': []}, 'fingerprints': {},
      'trained_on': {'n': 1, 'groups': 1, 'class_counts': {}},
      'validation': {'n': 5, 'jaccard': score, 'thresholded_jaccard': score}})
  run_folders.write(root / 'other', run_folders.config('isic2017'),
                    split='validation')
  run_folders.change(root / 'other', 'summary', class_names=['a', 'b', 'c'])
  (root / 'isic2017' / 'vgg16' / 'predictions' / 'test.csv').unlink()
  (root / 'begun').mkdir()
  (root / 'begun' / 'config.json').write_text('{}')
  return root


def _write(root, out, **asked):
  found = run_reader.find_runs(root, names=asked.get('photographs', True))
  return document.write(found, out, run_folders.plan(**asked))


def test_the_page_and_its_files(runs, tmp_path):
  out = tmp_path / 'out'
  report = _write(runs, out)
  text = (out / 'report.md').read_text()
  assert text == report.text
  titles = [line for line in text.splitlines() if line.startswith('## ')]
  assert titles == ['## Table 3.1', '## Table 3.2', '## Table 3.3', '## Table 3.4',
                    '## U-Net', '## All runs', '## What was run', '## Left out',
                    '## Figures', '## Attention maps of each run']
  for name in ('table_3_1', 'table_3_2', 'table_3_2_operating_points',
               'table_3_2_comparisons', 'table_3_3', 'table_3_3_comparisons',
               'table_3_4', 'table_3_4_auc', 'segmentation'):
    for ending in ('csv', 'md', 'tex'):
      assert (out / f'{name}.{ending}').stat().st_size, name
  assert {path.name for path in out.iterdir()} == {
      *report.files, 'written.json', '.lock', 'figures'}
  assert '| VGG-16 | no run | 0.600 |' in text
  assert '| fold | 70 |' in report.overview and '0.625' in report.overview
  # What the tables of a group share is said once on the page, and in each file.
  shared = 'Ours: test split, 40 images of 40 lesions'
  assert text.count(shared) == 2  # Tables 3.2 and 3.3
  for name in ('table_3_2', 'table_3_2_operating_points', 'table_3_2_comparisons'):
    assert shared in (out / f'{name}.md').read_text()
  assert '**Synthetic data: a program drew' in (out / 'table_3_4.md').read_text()
  assert r'\textbf{Synthetic data: ' in (out / 'table_3_4.tex').read_text()
  assert 'Synthetic' not in (out / 'table_3_2.md').read_text()
  assert len(report.left_out) == 3
  for words in ('begun is not finished', 'vgg16: ',
                'holds 20 other, 20 melanoma, summary.json scores of 40 images'):
    (line,) = [line for line in report.left_out if words in line]
    assert f'- {line}' in text
  html = (out / 'report.html').read_text()
  for words in ('<h3>Table 3.4</h3>', '0.625', 'Figure 3.2: ROC curves',
                'begun is not finished', 'no system has attention maps'):
    assert words in html, words


def test_leakage_is_on_every_table_of_the_run(runs, tmp_path):
  line = 'train and test share 2 lesions: a, b'
  for path in (runs / 'isic2017' / 'mel_cnn', runs / 'isic2018_task1' / 'unet'):
    run_folders.change(path, 'summary', leakage={'allowed': True, 'found': [line]})
  out = tmp_path / 'out'
  report = _write(runs, out)
  made_from = ('table_3_2', 'table_3_3', 'segmentation', 'test.csv', 'validation.csv')
  for name in report.files:
    leaky = name.startswith(made_from) or name in ('report.md', 'report.html')
    assert (line in (out / name).read_text()) == leaky, name
  assert f'**Leakage, which flatters scores, in 1 of 2 runs: {line}.**' in report.text
  assert f'**Leakage, which flatters scores, in mel_cnn: {line}.**' in report.overview


def test_a_run_that_breaks_the_report_is_named_and_left_out(tmp_path, monkeypatch):
  root, out = tmp_path / 'runs', tmp_path / 'out'
  for name, roi in (('a', 'none'), ('b', 'lesion')):
    run_folders.write(root / name, run_folders.config('isic2017', roi=roi))
  read = training_curves.read

  def breaking(run):
    return 1 // 0 if run.folder.name == 'b' else read(run)

  monkeypatch.setattr(training_curves, 'read', breaking)
  report = _write(root, out)
  assert any(line.startswith(f'{root / "b"}: ZeroDivisionError: ')
             for line in report.left_out)
  table = (out / 'test.csv').read_text()
  assert '\na,' in table and '\nb,' not in table
  shutil.rmtree(root / 'a')
  with pytest.raises(errors.UserError, match='ZeroDivisionError'):
    _write(root, tmp_path / 'alone')


def test_without_images_no_error_and_no_leakage_names_one(runs, tmp_path, monkeypatch):
  monkeypatch.setattr(figures, 'write', lambda *_, **__: [])
  monkeypatch.setattr(run_reader.run_folder, 'read_environment', _unforeseen(
      run_reader.run_folder.read_environment))
  leaky, twice, headless = (runs / 'isic2017' / name for name in (
      'mel_cnn', 'attnmel_cnn', 'headless'))
  shutil.copytree(twice, headless)
  run_folders.change(leaky, 'summary', leakage={'allowed': True, 'found': [
      'train and test share 1 images: ISIC_7; 2 near-duplicate pairs: ISIC_1 = ISIC_2 '
      '(correlation 0.999), ISIC_3 = ISIC_4 (correlation 1.000, turned)']})
  table = twice / 'predictions' / 'test.csv'
  header, *rows = table.read_text().splitlines(keepends=True)
  table.write_text(''.join([header, *rows, rows[0]]))
  (headless / 'predictions' / 'test.csv').write_text(''.join(rows))
  report = _write(runs, tmp_path / 'out', photographs=False)
  for words in ('test.csv, line 42: its image occurs in an earlier line',
                'test.csv, line 1: these are no names', 'vgg16: KeyError (in '):
    assert [line for line in report.left_out if words in line], words
  assert ('Leakage, which flatters scores, in mel_cnn: train and test share 1 images; '
          '2 near-duplicate pairs.') in report.text
  for text in (*report.left_out, *((tmp_path / 'out' / name).read_text()
                                   for name in report.files)):
    assert 'ISIC_' not in text


def _unforeseen(read):
  def failing(folder):
    if folder.name == 'vgg16':
      raise KeyError('ISIC_0000001')
    return read(folder)
  return failing


def test_a_second_report_replaces_the_first(runs, tmp_path):
  out = tmp_path / 'out'
  _write(runs, out)
  first = {path: path.read_bytes() for path in out.glob('*.*')}
  _write(runs, out)
  for path, content in first.items():
    assert path.read_bytes() == content, path
  for folder in (out, out / 'figures'):
    (folder / 'notes.md').write_text('mine')
  drawn = {path.name for path in (out / 'figures').iterdir()}
  (runs / 'isic2018_task1' / 'unet' / 'summary.json').unlink()
  for name in ('isic2017/mel_cnn', 'isic2018_cv'):
    os.renames(runs / name, tmp_path / 'away' / name)
  report = _write(runs, out)
  assert not (out / 'segmentation.csv').exists()
  assert not (out / 'table_3_2_comparisons.tex').exists()
  assert (out / 'notes.md').read_text() == 'mine'
  assert (out / 'table_3_1.csv').read_bytes() == first[out / 'table_3_1.csv']
  assert {path.name for path in out.iterdir()} == {
      *report.files, 'written.json', '.lock', 'notes.md', 'figures'}
  left = {path.name for path in (out / 'figures').iterdir()}
  assert 'notes.md' in left and left < drawn


def test_nothing_of_others_is_written_over_or_removed(runs, tmp_path, monkeypatch):
  monkeypatch.setattr(figures, 'write', lambda *_, **__: [])
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'thesis.docx').write_text('mine')
  for manifest in (json.dumps(['thesis.docx']), '{"', '{}'):
    (out / 'written.json').write_text(manifest)
    with pytest.raises(errors.UserError, match='something other than a report, such'):
      _write(runs, out)
    assert {path.name for path in out.iterdir()} == {'thesis.docx', 'written.json'}
  # Ours, of a report that had written other content by these names.
  (out / 'old.csv').write_text('old')
  (out / 'written.json').write_text(json.dumps({'kind': 'a report', 'files': {
      '../old.csv': files.digest(out / 'old.csv'), 'thesis.docx': 'f' * 64,
      'old.csv': files.digest(out / 'old.csv'), 'gone.csv': 'f'}}))
  _write(runs, out)
  assert (out / 'thesis.docx').read_text() == 'mine'
  assert not (out / 'old.csv').exists() and (out / 'report.md').exists()


@pytest.mark.parametrize('asked, message', [
    ({'reference': 'Attn'}, "--reference='Attn'.*'AttnMel-CNN'"),
    ({'split': 'validation'}, '--split=validation: none of the runs')])
def test_what_no_run_has_is_refused(runs, tmp_path, asked, message):
  with pytest.raises(errors.UserError, match=message):
    _write(runs / 'isic2017', tmp_path / 'out', **asked)
  assert not (tmp_path / 'out').exists()


def test_pictures_of_attention_maps_are_linked(runs, tmp_path, monkeypatch):
  monkeypatch.setattr(figures, 'write', lambda *_, **__: [])
  (runs / 'isic2017' / 'mel_cnn' / 'attention').mkdir()
  (runs / 'isic2017' / 'mel_cnn' / 'attention' / 'test.png').write_bytes(b'')
  text = _write(runs, tmp_path / 'out').text
  assert '![test](../runs/isic2017/mel_cnn/attention/test.png)' in text
  assert '- mel_cnn: best after step 7; commit cccccccccccc; cpu: x; differs' in text
