"""The phantom's archives are official, reproducible and not a matter of colour."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
from PIL import Image
import pytest
from scipy import ndimage
from sklearn import linear_model
from sklearn import metrics
from sklearn import model_selection
from sklearn import pipeline
from sklearn import preprocessing

from attnmel_jax import errors
from attnmel_jax.data import prepare
from attnmel_jax.data import storage
from attnmel_jax.phantom import artefacts
from attnmel_jax.phantom import canvas
from attnmel_jax.phantom import diagnoses
from attnmel_jax.phantom import drawing
from attnmel_jax.phantom import generate
from attnmel_jax.phantom import isic2017
from attnmel_jax.phantom import own_folder
from attnmel_jax.phantom import structures

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTS = {'train': 8, 'validation': 3, 'test': 6}


def write(out, **changes):
  arguments = {'year': 2017, 'counts': COUNTS, 'size': 64, 'seed': 3,
               'artefact_bias': {}, 'workers': 1} | changes
  return generate.write_archives(out, **arguments)


def draw(diagnosis, *seed, shown=(), height=96):
  return drawing.draw(drawing.Case(
      diagnosis, seed, height, round(height * 4 / 3), tuple(shown)))


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope='module')
def archives(tmp_path_factory):
  out = tmp_path_factory.mktemp('phantom')
  write(out)
  return out


@pytest.fixture(scope='module')
def population():
  """300 small cases with their drawings, in the official proportions."""
  rows = generate.rows(year=2017, split='train', total=300, size=64, seed=1,
                      artefact_bias={})
  drawings = [drawing.draw(row.case) for row in rows]
  return np.array([row.case.diagnosis for row in rows]), drawings


def auc(features, positive):
  """Cross-validated AUC of a logistic regression."""
  model = pipeline.make_pipeline(
      preprocessing.StandardScaler(), linear_model.LogisticRegression())
  scores = model_selection.cross_val_predict(
      model, features, positive, cv=5, method='decision_function')
  return metrics.roc_auc_score(positive, scores)


# --- archives ---


def test_archives_have_the_official_names_and_entries(archives):
  stems = {'train': 'ISIC-2017_Training', 'validation': 'ISIC-2017_Validation',
           'test': 'ISIC-2017_Test_v2'}
  expected = {'PHANTOM.json', 'PHANTOM_cases.csv'}
  for split, stem in stems.items():
    expected |= {f'{stem}_Data.zip', f'{stem}_Part1_GroundTruth.zip',
                 f'{stem}_Part2_GroundTruth.zip', f'{stem}_Part3_GroundTruth.csv'}
    with open(archives / f'{stem}_Part3_GroundTruth.csv', newline='') as file:
      header, *rows = csv.reader(file)
    assert header == ['image_id', 'melanoma', 'seborrheic_keratosis']
    assert {value for row in rows for value in row[1:]} <= {'0.0', '1.0'}
    ids = [row[0] for row in rows]
    assert len(set(ids)) == COUNTS[split] and ids == sorted(ids)
    assert all(len(name) == 12 and name.startswith('ISIC_9') for name in ids)
    with zipfile.ZipFile(archives / f'{stem}_Data.zip') as file:
      assert set(file.namelist()) == {
          f'{stem}_Data/{name}{end}' for name in ids
          for end in ('.jpg', '_superpixels.png')}
    with zipfile.ZipFile(archives / f'{stem}_Part1_GroundTruth.zip') as file:
      assert set(file.namelist()) == {
          f'{stem}_Part1_GroundTruth/{name}_segmentation.png' for name in ids}
    with zipfile.ZipFile(archives / f'{stem}_Part2_GroundTruth.zip') as file:
      assert set(file.namelist()) <= {
          f'{stem}_Part2_GroundTruth/{name}_features.json' for name in ids}
  assert set(contents(archives)) == expected


def test_zip_entries_unpack_readable_and_carry_no_clock(archives):
  for path in archives.glob('*.zip'):
    with zipfile.ZipFile(path) as file:
      assert {entry.external_attr >> 16 for entry in file.infolist()} == {0o644}
      assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_labels_in_the_table_are_those_of_the_drawn_cases(archives):
  rows = generate.rows(year=2017, split='train', total=8, size=64, seed=3,
                      artefact_bias={})
  table = (archives / 'ISIC-2017_Training_Part3_GroundTruth.csv').read_text()
  columns = {'melanoma': '1.0,0.0', 'seborrheic_keratosis': '0.0,1.0',
             'nevus': '0.0,0.0'}
  assert table.splitlines()[1:] == [
      f'{row.image_id},{columns[row.case.diagnosis]}' for row in rows]


def test_files_hold_what_was_drawn():
  # The first milia, streaks and networks among these cases are enough.
  seen = set()
  for diagnosis, index in (('melanoma', 1), ('seborrheic_keratosis', 2),
                           ('melanoma', 4), ('nevus', 5)):
    case = drawing.Case(diagnosis, (0, 0, index), 80, 107, ())
    drawn = drawing.draw(case)
    data, mask, features = isic2017.encode('ISIC_9000000', case)
    image = Image.open(io.BytesIO(data['ISIC_9000000.jpg']))
    assert image.format == 'JPEG' and image.size == (107, 80)
    difference = np.asarray(image, float) - drawn.image
    assert np.abs(difference).mean() < 4
    mask = Image.open(io.BytesIO(mask['ISIC_9000000_segmentation.png']))
    assert mask.mode == 'L'
    np.testing.assert_array_equal(np.asarray(mask), drawn.lesion * np.uint8(255))
    code = np.asarray(Image.open(io.BytesIO(data['ISIC_9000000_superpixels.png'])),
                      np.int64)
    regions = code @ [1, 256, 65536]
    np.testing.assert_array_equal(np.unique(regions), np.arange(regions.max() + 1))
    assert 200 < regions.max() < 1000
    present = json.loads(features['ISIC_9000000_features.json'])
    assert list(present) == list(isic2017.FEATURES)
    for name, flags in present.items():
      assert len(flags) == regions.max() + 1 and set(flags) <= {0, 1}
      union = np.array(flags, bool)[regions]
      attribute = drawn.attributes[name]
      assert not (attribute & ~union).any()
      # Every marked superpixel holds some of it.
      assert set(regions[attribute]) == set(np.flatnonzero(flags))
      seen |= {name} if attribute.any() else set()
  assert {'pigment_network', 'milia_like_cyst', 'streaks'} <= seen


def test_a_twentieth_of_the_images_has_no_features(monkeypatch):
  blank = drawing.Drawing(
      np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), bool),
      dict.fromkeys(structures.ATTRIBUTES, np.zeros((48, 64), bool)), {}, {})
  monkeypatch.setattr(drawing, 'draw', lambda case: blank)
  missing = sum(
      not isic2017.encode(
          'x', drawing.Case('nevus', (0, 0, index), 48, 64, ()))[2]
      for index in range(400))
  assert 8 <= missing <= 36  # 20 expected, 4.4 the standard deviation


def test_same_seed_same_bytes_whatever_the_number_of_workers(archives, tmp_path):
  write(tmp_path / 'two', workers=2)
  assert contents(tmp_path / 'two') == contents(archives)
  write(tmp_path / 'other', seed=4, counts={'validation': 3})
  name = 'ISIC-2017_Validation_Data.zip'
  assert (tmp_path / 'other' / name).read_bytes() != (archives / name).read_bytes()


def test_nothing_is_written_among_the_files_of_others(tmp_path):
  (tmp_path / 'PHANTOM_cases.csv').write_text('mine')
  with pytest.raises(errors.UserError, match='other than archives, such as PHANTOM_'):
    write(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['PHANTOM_cases.csv']


def test_archives_can_be_drawn_again(archives, tmp_path):
  cases = generate.read_cases(archives)
  table = (archives / generate.CASES).read_text().splitlines()[1:]
  assert list(cases) == [line.split(',')[0] for line in table]
  image_id, case = list(cases.items())[0]
  with zipfile.ZipFile(archives / 'ISIC-2017_Training_Data.zip') as archive:
    name, = [name for name in archive.namelist() if name.endswith(f'{image_id}.jpg')]
    stored = np.asarray(Image.open(io.BytesIO(archive.read(name))))
  assert np.abs(stored.astype(int) - drawing.draw(case).image).mean() < 8
  with pytest.raises(errors.UserError, match='holds no archives'):
    generate.read_cases(tmp_path)


def test_splits_differ_and_do_not_depend_on_each_other(archives, tmp_path):
  write(tmp_path, counts={'test': 6})
  name = 'ISIC-2017_Test_v2_Data.zip'
  assert (tmp_path / name).read_bytes() == (archives / name).read_bytes()
  seeds = [row.case.seed for split in generate.splits(2017) for row in generate.rows(
      year=2017, split=split, total=6, size=64, seed=3, artefact_bias={})]
  assert len(set(seeds)) == 18


def test_a_second_call_completes_and_leaves_finished_archives(tmp_path, capsys):
  write(tmp_path)
  before = contents(tmp_path)
  times = {path: path.stat().st_mtime_ns for path in tmp_path.glob('*Training*')}
  (tmp_path / 'ISIC-2017_Validation_Data.zip').unlink()
  (tmp_path / '.partial-test').mkdir()
  capsys.readouterr()
  write(tmp_path)
  assert 'train: 8 images are there already' in capsys.readouterr().out
  assert {path: path.stat().st_mtime_ns for path in times} == times
  (tmp_path / '.partial-test').rmdir()  # the test split was finished: not touched
  assert contents(tmp_path) == before


def test_an_interrupted_split_leaves_no_archive(tmp_path, monkeypatch):
  encode = isic2017.encode

  def interrupted(image_id, case):
    if image_id.endswith('5'):
      raise KeyboardInterrupt
    return encode(image_id, case)

  monkeypatch.setattr(isic2017, 'encode', interrupted)
  with pytest.raises(KeyboardInterrupt):
    write(tmp_path, counts={'train': 8})
  assert os.listdir(tmp_path) == ['PHANTOM.json']
  monkeypatch.undo()
  write(tmp_path, counts={'train': 8})
  assert (tmp_path / 'ISIC-2017_Training_Data.zip').is_file()


def test_marker_says_that_the_data_are_synthetic(archives):
  marker = json.loads((archives / 'PHANTOM.json').read_text())
  assert 'SYNTHETIC' in marker['note']
  assert marker['parameters']['seed'] == 3
  assert marker['parameters']['version'] == generate.VERSION
  lines = (archives / 'PHANTOM_cases.csv').read_text().splitlines()
  assert lines[0] == 'image_id,split,diagnosis,' + ','.join(artefacts.ARTEFACTS)
  assert len(lines) == 1 + sum(COUNTS.values())


# --- refusals ---


def test_real_archives_are_never_overwritten(tmp_path):
  real = tmp_path / 'ISIC-2017_Validation_Data.zip'
  real.write_bytes(b'real')
  with pytest.raises(errors.UserError, match='ISIC-2017_Validation_Data.zip'):
    write(tmp_path)
  assert contents(tmp_path) == {real.name: b'real'}


def test_a_real_archive_beside_the_marker_is_kept_too(tmp_path):
  write(tmp_path, counts={'train': 3})
  real = tmp_path / 'ISIC-2017_Training_Data.zip'
  real.write_bytes(b'real')
  write(tmp_path, counts={'train': 3})
  assert real.read_bytes() == b'real'
  labels = tmp_path / 'ISIC-2017_Training_Part3_GroundTruth.csv'
  labels.unlink()
  write(tmp_path, counts={'train': 3})
  assert real.read_bytes() == b'real' and labels.is_file()
  (tmp_path / 'ISIC-2017_Test_v2_Data.zip').write_bytes(b'real')
  with pytest.raises(errors.UserError, match='did not write'):
    write(tmp_path, counts={'train': 3})


def test_other_parameters_are_refused_by_name(archives):
  before = contents(archives)
  with pytest.raises(errors.UserError, match=r'another size \(64 there, 80 asked\)'):
    write(archives, size=80)
  with pytest.raises(errors.UserError, match='another seed.*, artefact_bias'):
    write(archives, seed=4, artefact_bias={'test': {'ruler': 1.0}})
  assert contents(archives) == before


@pytest.mark.parametrize(('changes', 'message'), [
    ({'year': 2019}, 'year=2019 is unknown; choose one of 2016, 2017, 2018'),
    ({'year': 2016, 'counts': {'validation': 9}},
     "split='validation' is unknown; choose one of 'train', 'test'"),
    ({'counts': {'train': 2}}, 'train=2 images: 3 .one a class.'),
    ({'counts': {'train': -1}}, 'train=-1 images'),
    ({'counts': {'train': 0}}, 'no images'),
    ({'counts': {'dev': 3}}, "split='dev' is unknown"),
    ({'size': 10}, 'size=10 pixels is too small'),
    ({'seed': -1}, 'seed=-1'),
    ({'workers': 0}, 'workers=0'),
    ({'artefact_bias': {'ruler': {}}}, "artefact_bias='ruler' is unknown"),
    ({'artefact_bias': {'train': {'snow': 1.0}}}, "artefact_bias='snow' is unknown"),
])
def test_arguments_out_of_range_are_refused(tmp_path, changes, message):
  with pytest.raises(errors.UserError, match=message):
    write(tmp_path / 'new', **changes)
  assert not (tmp_path / 'new').exists()


def test_out_that_is_a_file_or_damaged_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='is a file'):
    write(tmp_path / 'file')
  (tmp_path / 'PHANTOM.json').write_text('{')
  with pytest.raises(errors.UserError, match='is damaged'):
    write(tmp_path)


# --- classes and artefacts ---


def test_class_counts_follow_the_challenge():
  assert generate.class_counts(2017, 'train', 2000) == {
      'melanoma': 374, 'seborrheic_keratosis': 254, 'nevus': 1372}
  assert generate.class_counts(2017, 'test', 600) == {
      'melanoma': 117, 'seborrheic_keratosis': 90, 'nevus': 393}
  for total in (3, 4, 6, 7, 11, 50):
    counts = generate.class_counts(2017, 'train', total)
    assert sum(counts.values()) == total
    assert min(counts.values()) >= (1 if total < 6 else 2)


def test_bias_is_parsed_and_checked():
  splits = ('train', 'test')
  def parse(*settings):
    return {split: {name: value for name, value in strengths.items() if value}
            for split, strengths in artefacts.parse_bias(settings, splits).items()}
  assert parse() == {'train': {}, 'test': {}}
  assert parse('sticker=0.9,ruler=0.5', 'test:sticker=-0.9') == {
      'train': {'sticker': 0.9, 'ruler': 0.5}, 'test': {'sticker': -0.9, 'ruler': 0.5}}
  # One value for all is for those that lean to a side; what names more goes first.
  sided = [name for name, artefact in artefacts.ARTEFACTS.items() if artefact.side]
  assert parse('0.3,test:ink=1,test:-0.2') == {
      'train': dict.fromkeys(sided, 0.3),
      'test': dict.fromkeys(sided, -0.2) | {'ink': 1.0}}
  assert parse('gel_bubbles=0.4')['test'] == {'gel_bubbles': 0.4}
  for wrong, message in ((['stiker=1'], "'stiker' is unknown; choose one of 'ink'"),
                         (['dev:ink=1'], "'dev' is unknown; choose one of 'train'"),
                         (['ink=1.5'], 'from -1 to 1'), (['ink=much'], 'from -1 to 1'),
                         (['ink'], 'from -1 to 1'), (['ink=nan'], 'from -1 to 1'),
                         (['ink=1', 'ink=0'], 'ink twice')):
    with pytest.raises(errors.UserError, match=message):
      artefacts.parse_bias(wrong, splits)


def test_artefacts_go_with_the_class_as_strongly_as_asked():
  for bias in (-1.0, -0.5, 0.0, 0.5, 1.0):
    # All artefacts at once: each has draws of its own.
    rows = generate.rows(year=2017, split='train', total=2000, size=64, seed=0,
                         artefact_bias=dict.fromkeys(artefacts.ARTEFACTS, bias))
    malignant = np.array([row.case.diagnosis == 'melanoma' for row in rows])
    for name, artefact in artefacts.ARTEFACTS.items():
      shown = np.array([name in row.case.artefacts for row in rows])
      with_malignant = (artefact.side or 1) * bias > 0
      expected = np.array([with_malignant, not with_malignant]) * abs(bias) + (
          1 - abs(bias)) * artefact.prevalence
      # 374 melanomas: the standard deviation of a share is at most 0.026.
      np.testing.assert_allclose(
          [shown[malignant].mean(), shown[~malignant].mean()], expected,
          atol=0.09 if abs(bias) < 1 else 0, err_msg=f'{name} {bias}')


def test_sides_are_those_of_real_data():
  # Conditional odds ratios of malignant lesions, Bissoto et al. 2019.
  ratios = {'sticker': 0.04, 'gel_border': 0.52, 'ink': 0.62, 'hair': 0.68,
            'gel_bubbles': None, 'dark_corner': 1.53, 'ruler': 1.66}
  assert {name: artefact.side for name, artefact in artefacts.ARTEFACTS.items()} == {
      name: 0 if ratio is None else int(np.sign(np.log(ratio)))
      for name, ratio in ratios.items()}


def test_bias_changes_artefacts_but_not_lesion_and_skin():
  plain, other = draw('nevus', 0, 0, 3), draw('nevus', 0, 0, 3, shown=['sticker'])
  np.testing.assert_array_equal(plain.lesion, other.lesion)
  differing = (plain.image != other.image).any(axis=-1)
  assert 0.01 < differing.mean() < 0.6
  assert plain.artefacts == {} and list(other.artefacts) == ['sticker']
  assert differing[other.artefacts['sticker']].mean() > 0.95


def test_an_artefact_is_added_to_any_photograph():
  photograph = np.full((96, 128, 3), (215, 160, 130), np.uint8)
  for name in artefacts.ARTEFACTS:
    for seed in range(4):
      added, mask = artefacts.add(np.random.default_rng(seed), photograph, name)
      assert added.dtype == np.uint8 and added.shape == photograph.shape
      assert mask.dtype == bool and mask.shape == (96, 128)
      changed = np.abs(added.astype(int) - photograph).max(axis=-1) > 12
      assert 0.001 < changed.mean() < 0.9
      assert changed[mask].mean() > 0.7, name
      again, _ = artefacts.add(np.random.default_rng(seed), photograph, name)
      np.testing.assert_array_equal(added, again)
  assert (photograph == (215, 160, 130)).all()
  with pytest.raises(errors.UserError, match="'snow' is unknown; choose one of 'ink'"):
    artefacts.add(np.random.default_rng(0), photograph, 'snow')
  with pytest.raises(ValueError, match='not uint8'):
    artefacts.add(np.random.default_rng(0), photograph / 255, 'ink')


# --- drawing ---


@pytest.mark.parametrize('diagnosis', diagnoses.DIAGNOSES)
def test_drawing_is_a_function_of_the_case(diagnosis):
  first, second = draw(diagnosis, 0, 7), draw(diagnosis, 0, 7)
  np.testing.assert_array_equal(first.image, second.image)
  assert first.image.dtype == np.uint8 and first.image.shape == (96, 128, 3)
  assert first.lesion.dtype == bool and first.lesion.shape == (96, 128)
  assert set(first.attributes) == set(structures.ATTRIBUTES)
  for attribute in first.attributes.values():
    assert not (attribute & ~first.lesion).any()
  assert (draw(diagnosis, 0, 8).image != first.image).any()


def test_a_twin_without_a_structure_differs_only_there():
  seen = set()
  for diagnosis, seed in (('melanoma', 0), ('melanoma', 10), ('nevus', 1),
                          ('seborrheic_keratosis', 1), ('dermatofibroma', 10)):
    case = drawing.Case(diagnosis, (5, 0, seed), 96, 128, ('hair', 'gel_border'))
    whole = drawing.draw(case)
    for name, mask in whole.structures.items():
      twin = drawing.draw(dataclasses.replace(case, without=(name,)))
      assert not twin.structures[name].any()
      difference = np.abs(whole.image.astype(int) - twin.image).max(axis=-1)
      near = ndimage.binary_dilation(mask, iterations=3)
      assert difference[~near].max(initial=0) <= 2, (diagnosis, name)
      if mask.sum() > 50:
        assert difference[mask].max() > 4
        seen.add(name)
  assert seen == set(structures.DRAWN)


def test_lesions_are_one_region_darker_than_the_skin(population):
  _, drawings = population
  areas = np.array([drawn.lesion.mean() for drawn in drawings])
  assert 0.14 < np.median(areas) < 0.28
  assert areas.min() > 0.03 and areas.max() < 0.6
  contrast = []
  for drawn in drawings:
    assert ndimage.label(drawn.lesion, np.ones((3, 3)))[1] == 1
    assert (ndimage.binary_fill_holes(drawn.lesion) == drawn.lesion).all()
    around = ndimage.binary_dilation(drawn.lesion, iterations=6) & ~drawn.lesion
    contrast.append(drawn.image[around].mean() - drawn.image[drawn.lesion].mean())
  assert np.mean(np.array(contrast) > 5) > 0.97


def test_mean_colour_does_not_tell_the_class(population):
  names, drawings = population
  whole = np.array([drawn.image.mean(axis=(0, 1)) for drawn in drawings])
  lesion = np.array([drawn.image[drawn.lesion].mean(axis=0) for drawn in drawings])
  area = np.array([[drawn.lesion.mean()] for drawn in drawings])
  two = names != 'seborrheic_keratosis'
  for features in (whole, lesion, area):
    assert auc(features, names == 'melanoma') < 0.65
    assert auc(features[two], names[two] == 'melanoma') < 0.65


def asymmetry(mask):
  """Share of the mask that its half turn about the centroid does not cover."""
  rows, columns = np.nonzero(mask)
  centre = np.rint([2 * rows.mean(), 2 * columns.mean()]).astype(int)
  points = set(zip(rows.tolist(), columns.tolist(), strict=True))
  turned = {(centre[0] - r, centre[1] - c) for r, c in points}
  return len(points - turned) / len(points)


def border_irregularity(mask):
  """Perimeter squared over area."""
  perimeter = (mask & ~ndimage.binary_erosion(mask)).sum()
  return perimeter ** 2 / mask.sum()


def colour_spread(drawn):
  """Standard deviation of smoothed colour inside the lesion."""
  smooth = ndimage.uniform_filter(drawn.image.astype(float), (5, 5, 1))
  return smooth[ndimage.binary_erosion(drawn.lesion, iterations=2)].std(axis=0).mean()


def test_asymmetry_border_and_colours_tell_melanoma_from_nevus(population):
  names, drawings = population
  two = names != 'seborrheic_keratosis'
  positive = names[two] == 'melanoma'
  for score in (lambda drawn: asymmetry(drawn.lesion),
                lambda drawn: border_irregularity(drawn.lesion), colour_spread):
    values = np.array([score(drawn) for drawn in drawings])[two]
    # Above chance each, yet none of them gives the class away.
    assert 0.62 < metrics.roc_auc_score(positive, values) < 0.95


def test_structures_go_with_their_diagnosis(population):
  names, drawings = population
  share = {
      (diagnosis, name): np.mean([
          drawn.attributes[name].any() for drawn, own in
          zip(drawings, names, strict=True) if own == diagnosis])
      for diagnosis in isic2017.CLASSES
      for name in structures.ATTRIBUTES}
  assert share['seborrheic_keratosis', 'milia_like_cyst'] > 0.5
  assert share['nevus', 'milia_like_cyst'] < 0.2
  assert share['melanoma', 'streaks'] > 0.3 > share['nevus', 'streaks']
  assert share['nevus', 'pigment_network'] > 0.5
  assert share['seborrheic_keratosis', 'pigment_network'] < 0.3
  assert all(share['melanoma', name] > 0 for name in structures.ATTRIBUTES)


def test_brushes():
  rng = np.random.default_rng(0)
  field = canvas.noise(rng, (90, 120), scale=0.05, smoothness=1.5)
  assert field.shape == (90, 120)
  np.testing.assert_allclose([field.mean(), field.std()], [0, 1], atol=1e-4)
  smoother = canvas.noise(rng, (90, 120), scale=0.2, smoothness=2.5)
  assert np.diff(smoother).std() < np.diff(field).std() / 2
  # Half-way between two centres the gap is 0, at a centre their distance.
  centres = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
  gap = canvas.mesh(np.array([[0.2, 0.5], [0.0, 0.0]]), centres)
  np.testing.assert_allclose(gap, [0, 1], atol=1e-6)
  cover = canvas.spots(np.array([[0.0, 0.1], [0.0, 0.2], [0.0, 0.5]]),
                               centres, np.array([0.2, 0.3, 0.1]), 0.02)
  np.testing.assert_allclose(cover, [1, 0.5, 0], atol=1e-6)
  line = canvas.strokes((30, 40), [np.array([[0.5, 0.0], [0.5, 4 / 3]])], [0.1])
  np.testing.assert_allclose(line[:, 5:35].sum(axis=0), 3, atol=0.5)


def test_superpixels_follow_an_edge():
  image = np.full((96, 128, 3), 200, np.uint8)
  image[:, 61:] = 40
  regions = isic2017.superpixels(image)
  for region in np.unique(regions[:, [59, 62]]):
    columns = np.nonzero(regions == region)[1]
    assert columns.max() <= 61 or columns.min() >= 60


# --- command ---


def run_command(*arguments, cwd):
  return subprocess.run(
      [sys.executable, str(ROOT / 'launch' / 'phantom.py'), *arguments],
      cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_command_writes_archives(tmp_path):
  done = run_command('--year=2017', '--out=made', '--train=6', '--validation=0',
                     '--test=0', '--size=48', '--workers=1',
                     '--artefact_bias=sticker=1,ruler=0.5', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert 'train: 2 melanoma, 2 seborrheic_keratosis, 2 nevus' in done.stdout
  assert (tmp_path / 'made' / 'ISIC-2017_Training_Data.zip').is_file()
  assert not (tmp_path / 'made' / 'ISIC-2017_Test_v2_Data.zip').exists()


def test_command_answers_mistakes_in_one_line(tmp_path):
  for arguments, message in (
      (['--year=2019', '--out=made'], 'year=2019 is unknown; choose one of 2016'),
      ([], '--out is missing'),
      (['--out=made', '--artefact_bias=snow=1'], "artefact_bias='snow' is unknown")):
    done = run_command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
  assert not (tmp_path / 'made').exists()


# --- other years ---


def test_isic2016_is_benign_or_malignant(tmp_path):
  counts = {'train': 8, 'test': 6}
  written = write(tmp_path, year=2016, counts=counts)
  assert written == {'train': {'nevus': 6, 'melanoma': 2},
                     'test': {'nevus': 4, 'melanoma': 2}}
  assert prepare.from_archives('isic2016', source=tmp_path, data_dir=tmp_path / 'data',
                          crop_ratio=0.8, resize_size=32) == counts
  for split, total in counts.items():
    rows = generate.rows(year=2016, split=split, total=total, size=64, seed=3,
                        artefact_bias={})
    prepared = storage.open_split('isic2016', split, data_dir=tmp_path / 'data',
                                   crop_ratio=0.8, resize_size=32)
    assert prepared.synthetic and prepared.has_lesion.all()
    assert prepared.ids.tolist() == [row.image_id for row in rows]
    assert [prepared.class_names[label] for label in prepared.labels] == [
        'malignant' if row.case.diagnosis == 'melanoma' else 'benign' for row in rows]


@pytest.fixture(scope='module')
def archives2018(tmp_path_factory):
  out = tmp_path_factory.mktemp('phantom2018')
  write(out, year=2018, counts={'train': 90, 'test': 7, 'segmentation': 5}, size=48)
  return out


def test_isic2018_has_lesions_of_several_images(archives2018, tmp_path):
  assert prepare.from_archives('isic2018', source=archives2018, data_dir=tmp_path,
                          crop_ratio=1.0, resize_size=32) == {'train': 90, 'test': 7}
  train, test = (storage.open_split('isic2018', split, data_dir=tmp_path,
                                     crop_ratio=1.0, resize_size=32)
                 for split in ('train', 'test'))
  assert train.has_lesion.all() and not test.has_lesion.any()
  assert test.groups.tolist() == test.ids.tolist()
  groups, counts = np.unique(train.groups, return_counts=True)
  assert 0.6 < len(groups) / 90 < 0.95 and counts.max() in (2, 3)
  for label in range(7):
    # Enough lesions of each class for five folds with a validation set each.
    assert len(set(train.groups[train.labels == label])) >= 8
  for group in groups[counts > 1]:
    assert len(set(train.labels[train.groups == group])) == 1
  rows = generate.rows(year=2018, split='train', total=90, size=48, seed=3,
                      artefact_bias={})
  assert [row.lesion for row in rows] == train.groups.tolist()


def test_images_of_a_lesion_mirror_each_other():
  first, second, third = (
      drawing.draw(drawing.Case('melanoma', (0, 0, 1), 96, 128, (),
                                                view=view)) for view in range(3))
  np.testing.assert_array_equal(second.lesion, first.lesion[:, ::-1])
  np.testing.assert_array_equal(third.lesion, first.lesion[::-1])
  mirrored = first.image[:, ::-1].astype(float)
  assert np.corrcoef(second.image.ravel(), mirrored.ravel())[0, 1] > 0.95
  assert (second.image != mirrored).mean() > 0.5  # another exposure


def test_lesions_have_the_published_number_of_images():
  rows = generate.rows(year=2018, split='train', total=10_015, size=48, seed=0,
                      artefact_bias={})
  assert abs(len({row.lesion for row in rows}) - 7470) < 150


def test_isic2018_tasks_1_and_2_have_masks_and_attributes(archives2018, tmp_path):
  assert prepare.from_archives('isic2018_task1', source=archives2018, data_dir=tmp_path,
                          crop_ratio=1.0, resize_size=48) == {'train': 5}
  split = storage.open_split('isic2018_task1', 'train', data_dir=tmp_path,
                              crop_ratio=1.0, resize_size=48)
  assert split.has_lesion.all() and split.has_dermo.all()
  rows = generate.rows(year=2018, split='segmentation', total=5, size=48, seed=3,
                      artefact_bias={})
  for index, row in enumerate(rows):
    drawn, loaded = drawing.draw(row.case), split.load(index)
    square = slice(8, 56)  # of 64 columns
    np.testing.assert_array_equal(loaded['lesion'] == 255, drawn.lesion[:, square])
    for bit, name in enumerate(split.dermo_attributes):
      np.testing.assert_array_equal(loaded['dermo'] >> bit & 1,
                                    drawn.attributes[name][:, square])


def test_the_seven_diagnoses_of_2018_differ_in_structure():
  def share(diagnosis, attribute):
    return np.mean([draw(diagnosis, 1, k, height=64).attributes[attribute].any()
                    for k in range(24)])
  assert share('vascular_lesion', 'globules') > 0.5 > share(
      'actinic_keratosis', 'globules')
  assert share('dermatofibroma', 'pigment_network') > 0.4 > share(
      'basal_cell_carcinoma', 'pigment_network')


def test_photographs_are_a_folder_that_is_prepared_as_ones_own(tmp_path):
  drawn = {'year': 2017, 'counts': {'train': 8, 'test': 3}, 'size': 64, 'seed': 3,
           'artefact_bias': {}}
  written = own_folder.write(tmp_path / 'own', **drawn)
  assert {split: sum(n.values()) for split, n in written.items()} == drawn['counts']
  prepare.from_table(
      tmp_path / 'own', table=tmp_path / 'own' / 'labels.csv', classes=(),
      mask_kind='binary', data_dir=tmp_path / 'data', crop_ratio=1.0, resize_size=64)
  train = storage.open_split('folder', 'train', data_dir=tmp_path / 'data',
                              crop_ratio=1.0, resize_size=64)
  assert train.synthetic
  assert train.has_lesion.all()
  counts = np.bincount(train.labels)
  assert dict(zip(train.class_names, counts.tolist(), strict=True)) == written['train']
  rows = generate.rows(split='train', total=8, **{
      name: drawn[name] for name in ('year', 'size', 'seed', 'artefact_bias')})
  for row in rows:  # each its own picture and mask, at 64 of 64 x 85 pixels
    picture = drawing.draw(row.case)
    stored = train.load(train.ids.tolist().index(row.image_id))
    assert np.array_equal(stored['lesion'] > 127, picture.lesion[:, 10:74])
    assert np.abs(stored['image'] - picture.image[:, 10:74].astype(int)).mean() < 8
  with pytest.raises(errors.UserError, match='own holds files'):
    own_folder.write(tmp_path / 'own', **drawn)
