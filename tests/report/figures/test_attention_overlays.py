import numpy as np
from PIL import Image
import pytest

from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import overlays
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.report.figures import attention_overlays
from tests.report import conftest
from tests.report import drawn


def _maps(ids, names=('pool3', 'pool4'), seed=0):
  rng = np.random.default_rng(seed)
  sides = {'pool3': 4, 'pool4': 2, 'cam': 1, 'cam_positive': 1}
  return {name: rng.random((len(ids), sides[name], sides[name])).astype(np.float32)
          for name in names}


@pytest.fixture
def rows(prepared):
  """Ids, labels and probabilities of the test images of `prepared`."""
  data = conftest.open_split(prepared, 'test')
  return (data.ids, (data.labels == 0).astype(int),
          np.tile([0.5, 0.5], (len(data), 1)))


@pytest.fixture
def all_systems(make_run, rows, prepared):
  """Runs of the systems of Table 3.2, five of them with maps."""
  for seed, (name, fields) in enumerate(conftest.SYSTEMS.items()):
    maps = {}
    if fields['model'] == 'attnmel_cnn':
      maps = _maps(rows[0], seed=seed)
    elif fields['model'] == 'vgg16_gap':
      maps = _maps(rows[0], ('cam', 'cam_positive'))
    make_run(name, rows, maps=maps, data_dir=str(prepared), synthetic=True, **fields)


@pytest.mark.usefixtures('all_systems')
def test_each_map_of_each_system_is_a_row(grouped, monkeypatch, tmp_path, prepared):
  drawn_with = {}
  original = overlays.attention_grid

  def spy(**arguments):
    drawn_with.update(arguments, figure=original(**arguments))
    return drawn_with['figure']

  monkeypatch.setattr(overlays, 'attention_grid', spy)
  text = conftest.text(attention_overlays.write(grouped(), tmp_path, None))
  assert '### Figure 3.3: attention maps: ISIC 2017, synthetic' in text
  assert 'No run of ISIC 2018 has attention maps.' in text
  figure = drawn_with['figure']
  drawn.check_texts(figure)
  drawn.check_files(tmp_path, 'figure_3_3_isic2017_melanoma_synthetic',
                    figure.get_size_inches())
  attention = [f'{name}\n{tap}' for name in list(conftest.SYSTEMS)[3:]
               for tap in ('pool3', 'pool4')]
  assert list(drawn_with['maps']) == ['VGG-16-GAP\nCAM', *attention]
  # The rule, in the open: two images of each of three classes, in the order of ids.
  data = conftest.open_split(prepared, 'test')
  chosen = np.concatenate([np.flatnonzero(data.labels == k)[:2] for k in range(3)])
  assert [title.split('\n')[0] for title in drawn_with['titles']] == list(
      data.ids[chosen])
  for column, row in enumerate(chosen):
    stored = data.load(int(row))
    np.testing.assert_array_equal(
        drawn_with['images'][column], stored['image'][2:-2, 2:-2])
    np.testing.assert_array_equal(
        drawn_with['lesion'][column], stored['lesion'][2:-2, 2:-2])
  np.testing.assert_array_equal(
      drawn_with['maps']['AttnMel-CNN\npool4'],
      _maps(data.ids, seed=3)['pool4'][chosen])


def test_one_system_alone_is_legible(make_run, rows, grouped, prepared, tmp_path):
  make_run('a', rows, maps=_maps(rows[0]), roi='lesion')
  text = conftest.text(attention_overlays.write(grouped(), tmp_path, prepared))
  assert 'Of each system seed 0.' in text
  with Image.open(tmp_path / 'figure_3_3_isic2017_melanoma.png') as picture:
    assert picture.width > 6 * overlays.COLUMN_INCHES * overlays.DPI


@pytest.mark.parametrize('systems, columns', [(1, 1), (5, 8)])
def test_few_and_many_images_are_legible(columns, systems):
  side = 16
  maps = {f'{name}\n{tap}': np.random.default_rng(0).random((columns, 2, 2))
          for name in ('AttnMel-CNN-Lesion*', 'AttnMel-CNN-Lesion #2', 'AttnMel-CNN',
                       'AttnMel-CNN-Dermo', 'own_model-background')[:systems]
          for tap in ('pool3', 'pool4')}
  figure = overlays.attention_grid(
      np.zeros((columns, side, side, 3), np.uint8), maps,
      np.zeros((columns, side, side), np.uint8), np.zeros(columns, bool),
      ['ISIC_0012345\nseborrheic keratosis'] * columns,
      heading='ISIC 2018, 5 folds', font=attention_overlays.font(columns))
  drawn.check_texts(figure)


@pytest.mark.parametrize('columns', [1, 8])
def test_a_single_map_leaves_room_for_the_label_of_its_colours(columns):
  figure = overlays.attention_grid(
      np.zeros((columns, 8, 8, 3), np.uint8),
      {'VGG-16-GAP\nCAM': np.ones((columns, 1, 1))}, None, None,
      ['a'] * columns, heading='', font=attention_overlays.font(columns))
  drawn.check_texts(figure)


def test_the_text_grows_with_the_picture_within_bounds():
  sizes = [attention_overlays.font(columns) for columns in (1, 6, 8, 40)]
  assert sizes[0] == overlays.FONT < sizes[1] < sizes[2] < sizes[3] == 12


def test_maps_of_other_images_are_left_out(make_run, rows, grouped):
  ids = rows[0]
  make_run('a', rows, maps=_maps(ids))
  make_run('b', rows, maps=_maps(ids), roi='lesion')
  folder = make_run('d', rows, maps=_maps(ids), roi='background')
  prediction_files.write_attention(
      folder / 'attention' / 'test.npz', ids[::-1], _maps(ids))
  maps, notes = attention_overlays.read(grouped()[0])
  assert [one.label for one in maps] == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']
  assert [note.split(' is')[0] for note in notes] == ['AttnMel-CNN-Bkg']


def test_missing_photographs_and_damaged_maps_are_lines(
    make_run, rows, grouped, tmp_path):
  make_run('a', rows, maps=_maps(rows[0]))
  folder = make_run('b', rows, maps=_maps(rows[0]), roi='lesion')
  (folder / 'attention' / 'test.npz').write_bytes(b'PK')
  text = conftest.text(
      attention_overlays.write(grouped(), tmp_path / 'out', None))
  assert 'Not drawn: ' in text and 'is not prepared in' in text
  assert 'AttnMel-CNN-Lesion is left out: ' in text
  assert '![' not in text and not (tmp_path / 'out').exists()


def test_no_run_with_maps_is_a_line(make_run, rows, grouped, tmp_path):
  make_run('a', rows, model='mel_cnn')
  lines = [one.text for one in
           attention_overlays.write(grouped(), tmp_path, None)]
  assert 'No run of ISIC 2017 has attention maps.' in lines
  assert 'No run of ISIC 2018 has attention maps.' in lines


def test_the_map_is_drawn_as_evaluation_thresholds_it():
  """The brightest pixel of a drawn map is the one that the pointing game takes."""
  values = np.zeros((1, 4, 4))
  values[0, 1, 2] = 3
  figure = overlays.attention_grid(
      np.full((1, 32, 32, 3), 128, np.uint8), {'pool3': values}, None, None, ['a'],
      heading='', font=8)
  shown = figure.axes[1].images[0].get_array().sum(axis=2)
  expected = attention_maps.rescale(attention_maps.upsample(values, 32))[0]
  np.testing.assert_array_equal(shown == shown.max(), expected == expected.max())
