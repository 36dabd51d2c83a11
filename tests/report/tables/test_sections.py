"""What stands beside each table, and what is said of what does not."""

from attnmel_jax.report import groups
from attnmel_jax.report.tables import published
from attnmel_jax.report.tables import sections
from tests.report import run_folders


def _sections(task, runs, **asked):
  plan = run_folders.plan(**asked)
  gathered = groups.gather(runs, split='auto', defaults=plan.defaults).groups
  return list(sections.of_task(task, gathered, plan))


def _write(folder, experiment, **fields):
  options = {name: fields.pop(name) for name in ('summary', 'rows', 'classes')
             if name in fields}
  return run_folders.write(folder, run_folders.config(experiment, **fields), **options)


def _names(section):
  return [table.head.name for table in section.tables]


CALIBRATION = {'expected_error': 0.1, 'log_loss': 0.5, 'tempered': None}


def test_a_binary_task_has_thresholds_calibration_and_comparisons(tmp_path):
  runs = [_write(tmp_path / model, 'isic2016', model=model,
                 summary={'calibration': CALIBRATION})
          for model in ('attnmel_cnn', 'mel_cnn')]
  runs.append(_write(tmp_path / 'b', 'isic2016', model='mel_cnn', num_epochs=1))
  (section,) = _sections(published.TABLE_3_1, runs)
  assert _names(section) == [
      'table_3_1', 'table_3_1_operating_points', 'table_3_1_calibration',
      'table_3_1_comparisons', 'table_3_1_group2', 'table_3_1_group2_operating_points']
  assert len(section.tables[0].rows) == 7
  assert len(section.tables[4].rows) == 1
  assert section.tables[4].head.title == (
      'Table 3.1, group 2. ISIC 2016: malignant against benign')
  assert 'num_epochs=1' in ' '.join(section.tables[4].head.context)
  assert section.lines == [
      'table_3_1_group2 has no comparisons: AttnMel-CNN (--reference) has no run among '
      'its systems, which are Mel-CNN.']
  scores = {row['score'] for row in run_folders.texts(section.tables[3])}
  assert scores == {'AP', 'AUC', 'balanced accuracy', 'sensitivity', 'specificity'}


def test_table_3_3_is_of_the_runs_of_table_3_2(tmp_path):
  runs = [_write(tmp_path / roi, 'isic2017', roi=roi) for roi in ('none', 'lesion')]
  second, third = _sections(published.TABLE_3_2, runs)
  assert _names(second) == [
      'table_3_2', 'table_3_2_operating_points', 'table_3_2_comparisons']
  assert 'Jaccard pool-4' not in {
      row['score'] for row in run_folders.texts(second.tables[2])}
  assert third.title == 'Table 3.3'
  assert _names(third) == ['table_3_3', 'table_3_3_comparisons']
  assert third.tables[0].head.notes[0] == '39 images are annotated.'
  assert third.tables[0].head.context == second.tables[0].head.context
  _, other = _sections(published.TABLE_3_2, runs, reference='VGG-16')
  assert 'no comparisons: VGG-16 (--reference)' in other.lines[0]


def test_seven_classes(tmp_path):
  for experiment in ('isic2018', 'isic2018_cv'):
    runs = [_write(tmp_path / experiment / model, experiment, model=model, rows=350)
            for model in ('attnmel_cnn', 'mel_cnn')]
    (section,) = _sections(published.TABLE_3_4, runs, num_draws=5)
    assert _names(section) == ['table_3_4', 'table_3_4_auc', 'table_3_4_comparisons']
    context = ' '.join(section.tables[0].head.context)
    assert f'differ from configs/{experiment}.py: none' in context
    assert ('1 of 5' in context) == (experiment == 'isic2018_cv')
    rows = run_folders.texts(section.tables[2])
    assert len(rows) == 9  # balanced accuracy, AUC and seven recalls
    assert 'binary tasks alone' in ' '.join(section.tables[2].head.notes)


def test_without_runs_the_published_numbers_are_a_file():
  second, third = _sections(published.TABLE_3_2, [])
  assert not second.tables
  assert second.files_alone[0].head.name == 'table_3_2'
  assert second.lines == ['No run: table_3_2 holds the published numbers alone.']
  assert third.files_alone[0].head.name == 'table_3_3'
  assert third.lines == [
      'No run with maps: table_3_3 holds the published numbers alone.']


def test_other_tasks_have_tables_of_their_own_without_published_numbers(tmp_path):
  runs = [_write(tmp_path / f'{classes}-{roi}', 'folder', roi=roi, classes=classes,
                 rows=60) for classes in (('other', 'wart'), ('a', 'b', 'c'))
          for roi in ('none', 'lesion')]
  runs.append(_write(tmp_path / 'nevus', 'isic2017', classes=('other', 'nevus')))
  runs.append(_write(tmp_path / 'thesis', 'isic2017'))
  runs.append(_write(tmp_path / 'masks', 'isic2017', model='unet'))
  tasks = published.tasks(runs)
  assert [(task.label, task.stem, [run.folder.name for run in own])
          for task, own in tasks] == [
      ('Table 3.1', 'table_3_1', []), ('Table 3.2', 'table_3_2', ['thesis']),
      ('Table 3.4', 'table_3_4', []),
      ('Own photographs, 3 classes (a, b, c)', 'table_folder', [
          "('a', 'b', 'c')-none", "('a', 'b', 'c')-lesion"]),
      ('Own photographs, wart against the rest', 'table_folder_task2', [
          "('other', 'wart')-none", "('other', 'wart')-lesion"]),
      ('ISIC 2017, nevus against the rest', 'table_isic2017', ['nevus'])]
  three, = _sections(*tasks[3], num_draws=5)
  assert _names(three) == [
      'table_folder', 'table_folder_auc', 'table_folder_comparisons',
      'table_folder_attention', 'table_folder_attention_comparisons']
  assert three.tables[0].columns == (
      'system', 'a', 'b', 'c', 'AVG', 'AUC, mean of classes', 'seeds')
  two, = _sections(*tasks[4])
  assert two.title == 'Own photographs, wart against the rest'
  assert _names(two) == [f'table_folder_task2{kind}' for kind in (
      '', '_operating_points', '_comparisons', '_attention', '_attention_comparisons')]
  main = two.tables[0]
  assert main.columns == ('system', 'AP', 'AUC', 'seeds')
  assert main.head.title == 'Own photographs, wart against the rest. Scores'
  assert 'differ from configs/folder.py: none' in ' '.join(main.head.context)
  assert [row['system'] for row in run_folders.texts(main)] == [
      'AttnMel-CNN', 'AttnMel-CNN-Lesion']
  assert not any('ublished' in sentence for table in (*three.tables, *two.tables)
                 for sentence in (*table.columns, *table.head.caption()))
