import numpy as np
import pytest

from attnmel_jax.evaluation import attention_maps
from attnmel_jax.evaluation import overlays
from attnmel_jax.evaluation import prediction_files
from attnmel_jax.report.figures import attention_overlays
from tests.report import conftest
from tests.report import drawn


@pytest.fixture
def all_systems(make_run, rows, prepared):
  """Runs of the systems of Table 3.2, five of them with maps."""
  for seed, (name, fields) in enumerate(conftest.SYSTEMS.items()):
    names = {'attnmel_cnn': ('pool3', 'pool4'), 'vgg16_gap': ('cam', 'cam_positive')}
    own = names.get(fields['model'])
    make_run(name, rows, maps=own and conftest.maps(9, *own, seed=seed),
             data_dir=str(prepared), synthetic=True, **fields)


@pytest.mark.usefixtures('all_systems', 'undrawn')
def test_each_map_of_each_system_is_a_row(grouped, monkeypatch, tmp_path, prepared):
  shown = {}
  original = overlays.attention_grid

  def spy(**arguments):
    shown.update(arguments, figure=original(**arguments))
    return shown['figure']

  monkeypatch.setattr(overlays, 'attention_grid', spy)
  text = conftest.text(attention_overlays.write(grouped(), tmp_path, None))
  assert '### Figure 3.3: attention maps: ISIC 2017, synthetic' in text
  assert 'Of each system seed 0.' in text
  assert 'No run of ISIC 2018 has attention maps.' in text
  assert (tmp_path / 'figure_3_3_isic2017_melanoma_synthetic.png').exists()
  drawn.check_texts(shown['figure'])
  attention = [f'{name}\n{tap}' for name in list(conftest.SYSTEMS)[3:]
               for tap in ('pool3', 'pool4')]
  assert list(shown['maps']) == ['VGG-16-GAP\nCAM', *attention]
  # The rule, in the open: two images of each of three classes, in the order of ids.
  data = conftest.open_split(prepared, 'test')
  chosen = np.concatenate([np.flatnonzero(data.labels == k)[:2] for k in range(3)])
  assert [title.split('\n')[0] for title in shown['titles']] == list(data.ids[chosen])
  for column, row in enumerate(chosen):
    stored = data.load(int(row))
    for name, part in (('images', 'image'), ('lesion', 'lesion')):
      np.testing.assert_array_equal(shown[name][column], stored[part][2:-2, 2:-2])
  np.testing.assert_array_equal(shown['maps']['AttnMel-CNN\npool4'],
                                conftest.maps(9, seed=3)['pool4'][chosen])


@pytest.mark.parametrize('columns', [1, 8])
@pytest.mark.parametrize('names', [
    ['VGG-16-GAP\nCAM'],  # the label of the colours has little room
    ['AttnMel-CNN-Lesion #2\npool3', 'own_model-background\npool4']])
def test_few_and_many_images_are_legible(columns, names):
  figure = overlays.attention_grid(
      np.zeros((columns, 8, 8, 3), np.uint8),
      {name: np.ones((columns, 2, 2)) for name in names},
      np.zeros((columns, 8, 8), np.uint8), np.zeros(columns, bool),
      ['ISIC_0012345\nseborrheic keratosis'] * columns,
      heading='ISIC 2018, 5 folds', font=attention_overlays.font(columns))
  drawn.check_texts(figure)


def test_the_text_grows_with_the_picture_within_bounds():
  sizes = [attention_overlays.font(columns) for columns in (1, 6, 8, 40)]
  assert sizes[0] == overlays.FONT < sizes[1] < sizes[2] < sizes[3] == 12


def test_damaged_maps_those_of_other_images_and_missing_photographs(
    make_run, rows, grouped, tmp_path):
  for roi in ('none', 'lesion', 'dermo', 'background'):
    make_run(roi, rows, maps=conftest.maps(9), roi=roi)
  attention = [tmp_path / 'runs' / roi / 'attention' / 'test.npz'
               for roi in ('dermo', 'background')]
  attention[0].write_bytes(b'PK')
  prediction_files.write_attention(attention[1], rows[0][::-1], conftest.maps(9))
  maps, notes = attention_overlays.read(grouped()[0])
  assert [one.label for one in maps] == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']
  assert sorted(note.partition(' is left out: ')[0] for note in notes) == [
      'AttnMel-CNN-Bkg', 'AttnMel-CNN-Dermo']
  text = conftest.text(attention_overlays.write(grouped(), tmp_path / 'out', None))
  assert 'Not drawn: ' in text and 'is not prepared in' in text
  assert all(note in text for note in notes)
  assert '![' not in text and not (tmp_path / 'out').exists()


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
